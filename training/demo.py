"""`xrec demo`: the whole flow on the built-in world, by the commands a user would type, and what it shows."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import DatasetFolder, refuse_existing

EXAMPLES = 5
PERMUTED, INPUT_ONLY, NO_SIGNAL = "permuted embeddings", "input only", "no signal"
"""Names of the systems in the report: the model with permuted embeddings, and two models trained beside it."""


def demo_steps(out: Path, seed: int, pairs: int) -> list[tuple[str, list[str]]]:
    """The demo's commands, each with what it is for.

    Args:
        out: folder that everything goes to.
        seed: of the world and of all training.
        pairs: held-out pairs to explain.
    """
    data, graph, model, report = (str(out / name) for name in ("data", "graph", "model", "report"))
    train = ["train", data, "--graph", graph, "--recipe", "demo", "--seed", str(seed), "--scratch.seed", str(seed)]
    again = [*train, "--backbone", f"{model}-backbone", "--out"]
    ablations = {INPUT_ONLY: str(out / "model-input-only"), NO_SIGNAL: str(out / "model-no-signal")}
    compare = [f"{name}={folder}" for name, folder in ablations.items()]
    return [
        ("a world of users, items and reviews", ["build", "synthetic", "--seed", str(seed), "--out", data]),
        ("profiles and explanations from the reviews", ["distill", data, "--profile-sentences", "1"]),
        ("the graph: LightGCN on the training interactions", ["encode", data, "--out", graph, "--seed", str(seed)]),
        ("a small backbone on the text alone, then the adapters around it, frozen", [*train, "--out", model]),
        ("the ablation without injection into the layers", [*again, ablations[INPUT_ONLY], "--injection", "input"]),
        ("the ablation without any signal", [*again, ablations[NO_SIGNAL], "--signal", "zero"]),
        (
            "held-out pairs, explained and scored",
            [
                "evaluate",
                model,
                "--data",
                data,
                "--out",
                report,
                "--limit",
                str(pairs),
                "--compare",
                *compare,
            ],
        ),
        (
            "the audit: does the text depend on the graph?",
            ["audit", model, "--data", data, "--out", report, "--rows", str(max(pairs, 2))],
        ),
    ]


def run_demo(out: Path, seed: int, pairs: int, run: Callable[[Sequence[str]], int]) -> str:
    """Runs the demo.

    Args:
        out: folder to make: `data`, `graph`, `model`, its backbone and ablations, `report`.
        seed: of the world and of all training.
        pairs: held-out pairs to explain.
        run: runs one command line of `xrec` and returns its exit code.

    Returns:
        Five explanations beside the truth, the table, and what to try next, as text.

    Raises:
        DataError: `out` is in use, or a step failed.
    """
    refuse_existing(out)
    started = time.monotonic()
    steps = demo_steps(out, seed, pairs)
    for number, (purpose, command) in enumerate(steps, 1):
        sys.stdout.write(f"\n[{number}/{len(steps)}] {purpose}\n$ xrec {shlex.join(command)}\n")
        sys.stdout.flush()
        begun = time.monotonic()
        if run(command) != 0:
            raise DataError(f"the demo stopped at step {number}, `xrec {command[0]}`; its message is above")
        sys.stdout.write(f"({time.monotonic() - begun:.0f} s)\n")
    result = json.loads((out / "report" / "metrics.json").read_text(encoding="utf-8"))
    rows = pl.read_parquet(out / "report" / "predictions.parquet")
    minutes = (time.monotonic() - started) / 60
    audit = json.loads((out / "report" / "audit.json").read_text(encoding="utf-8"))
    answer = audit["verdicts"]["depends_on_vector"]["text"]
    return "\n".join([_examples(rows, out / "data"), summary(result), f"{answer}\n", _closing(out, rows, minutes)])


def summary(result: Mapping) -> str:
    """The demo's table and what it says.

    Args:
        result: `metrics.json` of a report with the demo's systems and the truth's ceilings.

    Returns:
        Aspect-F1 of the oracle, the model, its ablations and the copied profile, in percent, and how much of the gap between
        no signal and the oracle the graph closes.
    """
    figures = {name: system["metrics"]["aspect_f1"] for name, system in result["systems"].items()}
    oracle = result["ceilings"]["oracle"]["aspect_f1"]
    rows = {
        "oracle (knows the hidden tastes)": {"value": oracle},
        "XRec with the graph": figures["model"],
        "the same model, embeddings permuted": figures[PERMUTED],
        "XRec trained with injection 'input'": figures[INPUT_ONLY],
        "XRec trained with no signal": figures[NO_SIGNAL],
        "the item's profile, copied": figures["copied_profile"],
    }
    lines = ["Aspect-F1 on held-out pairs, in percent (95 % interval)"]
    for name, figure in rows.items():
        span = f"  ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})" if "low" in figure else ""
        lines.append(f"  {name:<38}{100 * figure['value']:5.1f}{span}")
    none = figures[NO_SIGNAL]["value"]
    closed = (figures["model"]["value"] - none) / (oracle - none)
    lines.append(f"The graph closes {100 * closed:.0f} % of the gap between no signal and the oracle.")
    return "\n".join(lines) + "\n"


def _examples(rows: pl.DataFrame, data: Path) -> str:
    """A few explanations beside the aspects that user and item really share."""
    folder = DatasetFolder(data)
    forms = json.loads(folder.truth_json.read_text(encoding="utf-8"))["aspects"]
    joined = rows.join(pl.read_parquet(folder.truth_pairs).drop("split"), on=["user_id", "item_id"], maintain_order="left")
    joined = joined.join(pl.read_parquet(folder.items), on="item_id", maintain_order="left")
    lines = []
    for row in joined.gather_every(max(1, rows.height // EXAMPLES)).head(EXAMPLES).iter_rows(named=True):
        truth = "; ".join(f"{aspect}: {', '.join(forms[aspect])}" for aspect in row["shared_aspects"])
        lines += [
            f"Why {row['title']} for {row['user_id']}?",
            f"  XRec:   {row['prediction']}",
            f"  truth:  {truth}",
            "",
        ]
    return "\n".join(["", *lines])


def _closing(out: Path, rows: pl.DataFrame, minutes: float) -> str:
    user, item = rows.row(0)[:2]
    return (
        f"Finished in {minutes:.1f} minutes. Report: {out / 'report' / 'report.html'}\n"
        f"Ask for another: xrec explain {out / 'model'} --user {user} --item {item}\n"
        f"See it in a browser: xrec serve {out}\n"
    )
