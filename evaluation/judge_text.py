"""A judge's figures for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from .judge import MODEL
from .judge_calibration import FAULTS


def table_text(document: Mapping[str, Any], name: str) -> str:
    """Lay out one judge's figures, and the agreement of all.

    Args:
        document: What `judges.json` holds.
        name: The judge.

    Returns:
        Lines, the last one ending in a line break.
    """
    entry = document["judges"][name]
    lines = [f"{name}: {entry['rows']} rows", entry["verdict"], *entry["notes"], ""]
    lines += _columns(_systems(entry)) if entry["systems"] else []
    lines += _differences(entry) + _preferences(entry) + _calibration(entry) + _agreement(document["agreement"])
    return "\n".join(lines) + "\n"


def _systems(entry: Mapping[str, Any]) -> list[list[str]]:
    criteria = [one for one in entry["criteria"] if any(one in figures for figures in entry["systems"].values())]
    rows = [["system (1 to 5)", *criteria]]
    return rows + [[system, *(_figure(figures[one]) for one in criteria)] for system, figures in entry["systems"].items()]


def _differences(entry: Mapping[str, Any]) -> list[str]:
    if not entry["differences"]:
        return []
    criteria = list(next(iter(entry["differences"].values())))
    rows = [[f"{MODEL} minus", *criteria]]
    rows += [[one, *(_figure(found[name], "+") for name in criteria)] for one, found in entry["differences"].items()]
    return ["", *_columns(rows)]


def _preferences(entry: Mapping[str, Any]) -> list[str]:
    if not entry["preferences"]:
        return []
    rows = [[f"{MODEL} against", "wins", "ties", "losses", "first text chosen", "changed with the order"]]
    for other, one in entry["preferences"].items():
        counts = [str(one[name]) for name in ("wins", "ties", "losses")]
        rows.append([other, *counts, _figure(one["first_chosen"]), f"{100 * one['changed_with_order']:.0f} %"])
    return ["", *_columns(rows)]


def _calibration(entry: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for criterion, found in entry["calibration"].items():
        if not found["rows"]:
            continue
        rows = [[f"{criterion}, {found['rows']} rows", "mean", "AUC against the reference"]]
        for kind, mean in found["means"].items():
            rows.append(
                [FAULTS.get(kind, "the reference"), _figure(mean), _figure(found["auc"][kind]) if kind in FAULTS else ""]
            )
        lines += ["", *_columns(rows)]
        if (own := found.get("model_against_shuffled")) is not None:
            lines.append(f"The model's own texts against the same texts shuffled: AUC {_figure(own)}")
    return lines


def _agreement(agreed: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for criterion, found in agreed.items():
        rows = [[f"agreement in {criterion}, {found['items']} texts", "Spearman", "Kendall"]]
        rows += [[" and ".join(one["judges"]), _figure(one["spearman"]), _figure(one["kendall"])] for one in found["pairs"]]
        rows.append(["Krippendorff's alpha of all", _figure(found["alpha"]), ""])
        lines += ["", *_columns(rows)]
        if found["same_order"] is not None and len(next(iter(found["order"].values()))) > 1:
            lines.append(f"They order the systems {'alike' if found['same_order'] else 'differently'}.")
    return lines


def _figure(found: Mapping[str, float | None], sign: str = "") -> str:
    if found["value"] is None:
        return "not defined"
    value = f"{found['value']:{sign}.2f}"
    return value if found["low"] is None else f"{value} ({found['low']:{sign}.2f} to {found['high']:{sign}.2f})"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
