"""A picture of the grid: bits that the graph gives over each other condition, by task and dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import CONDITIONS, GRAPH, PLAIN
from worlds import TASKS

NAMES = {
    "profile": "T1: item's profile\nfrom its embedding",
    "full": "T2: explanation,\nfull prompt",
    "bare": "T3: explanation,\nwithout profiles",
    "history": "T4: explanation,\nuser by history",
}
COLOURS = {"permuted": "#3b6ea8", "random-fixed": "#c8763a", "soft-prompt": "#5d8f5a"}


def plot(worlds: Mapping[str, Any], out: Path, levers: Sequence[str] = (PLAIN,)) -> None:
    """Writes the picture.

    Args:
        worlds: figures by dataset, then by task and cell, as `grid.py` prints them.
        out: PNG file.
        levers: of each task the last of these that it has is shown.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(4.2 * len(worlds) + 1, 4.2), layout="constrained")
    axes = picture.subplots(1, len(worlds), sharey=True, squeeze=False)[0]
    others = [condition for condition in CONDITIONS if condition != GRAPH]
    for axis, (world, tasks) in zip(axes, worlds.items(), strict=True):
        for place, other in enumerate(others):
            found = [
                (number, _shown(tasks[task]["cells"], task, levers).get("over", {}).get(other))
                for number, task in enumerate(TASKS)
                if task in tasks
            ]
            shown = [(number + (place - 1) * 0.22, entry["all"]) for number, entry in found if entry]
            if not shown:
                continue
            heights = [entry["value"] for _, entry in shown]
            errors = [
                [entry["value"] - entry["low"] for _, entry in shown],
                [entry["high"] - entry["value"] for _, entry in shown],
            ]
            where = [x for x, _ in shown]
            axis.errorbar(where, heights, errors, fmt="o", color=COLOURS[other], capsize=3, label=f"over {other}")
        axis.axhline(0, color="0.4", linewidth=0.8)
        axis.set_xticks(range(len(TASKS)), [NAMES[task] for task in TASKS], fontsize=8)
        axis.set_title(world)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("bits a text, with 95 % intervals over rows")
    handles, labels = axes[0].get_legend_handles_labels()
    if labels:
        axes[0].legend(handles, labels, fontsize=8)
    picture.suptitle("What the graph gives (likelihood of the reference, held-out rows)")
    picture.savefig(out, dpi=150)


def _shown(cells: Mapping[str, Any], task: str, levers: Sequence[str]) -> Mapping[str, Any]:
    found = [cells[name] for lever in levers if (name := f"{task}.{GRAPH}.qkv.{lever}") in cells]
    return found[-1] if found else {}
