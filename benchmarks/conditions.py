"""Does the graph matter, and what do the baselines reach? On the built-in world, whose truth is known, with several seeds.

Every system trains through `xrec train` and explains the same held-out pairs. Differences are paired by row: a row's score is
the mean over a system's seeds, and rows are resampled. What was trained before is taken up again, so the table can grow.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measuring import machine, report

from xrec_evaluation.aspect_f1 import load_truth
from xrec_evaluation.bootstrap import mean_intervals, paired_differences
from xrec_evaluation.explain import explain_split
from xrec_evaluation.metrics import measure
from xrec_training.cli import main as xrec
from xrec_training.finetune import train
from xrec_training.model_table import MODELS
from xrec_training.recipe import read_recipe

GRAPH = "graph"
SYSTEMS: dict[str, dict[str, Any]] = {
    GRAPH: {},
    "permuted": {"signal": "permuted"},
    "random-fixed": {"signal": "random-fixed"},
    "random-fresh": {"signal": "random-fresh"},
    "zero": {"signal": "zero"},
    "soft-prompt": {"model": "soft-prompt"},
    "prompt": {"model": "prompt"},
    "injection input": {"injection": "input"},
    "att2seq": {"model": "att2seq"},
    "nrt": {"model": "nrt"},
    "peter": {"model": "peter"},
    "pepler": {"model": "pepler"},
}
"""What each system's recipe changes."""
ONE_SEED = {"prompt"}
"""Nothing is trained, so no seed changes anything."""
SHOWN = ("aspect_f1", "rouge_l", "usr")
BEATEN = ("permuted", "random-fixed", "random-fresh", "zero", "soft-prompt", "prompt")
"""What the graph has to beat: the signal conditions and what hears no graph."""


@dataclass(frozen=True)
class Options:
    """What is run.

    Args:
        out: folder of the world, the runs and the texts; kept.
        seeds: of training.
        pairs: test pairs explained.
        systems: which of `SYSTEMS`.
    """

    out: Path
    seeds: Sequence[int] = (0, 1, 2)
    pairs: int = 500
    systems: Sequence[str] = field(default_factory=lambda: list(SYSTEMS))


def prepare_world(out: Path) -> tuple[Path, Path]:
    """The demo's dataset and graph, made once."""
    data, graph = out / "data", out / "graph"
    if not graph.is_dir():
        for command in (
            ["build", "synthetic", "--seed", "0", "--out", str(data)],
            ["distill", str(data), "--profile-sentences", "1"],
            ["encode", str(data), "--out", str(graph), "--seed", "0"],
        ):
            if xrec(command):
                raise RuntimeError(f"xrec {' '.join(command)} failed")
    return data, graph


def texts_of(name: str, seed: int, options: Options, data: Path, graph: Path) -> pl.DataFrame:
    """Texts of one system trained with one seed: `user_id, item_id, prediction, reference`."""
    folder = options.out / "runs" / f"{name.replace(' ', '-')}-{seed}"
    if not folder.is_dir():
        recipe = read_recipe(None, {"disable_tqdm": True} | SYSTEMS[name] | {"seed": seed})
        # A baseline's own recipe may want another backbone than XRec's.
        place = options.out / ("backbone" if MODELS[recipe.model].needs_graph else f"backbone-{name}")
        train(data, graph, folder, recipe, resume=True, backbone_place=place)
    table = folder.with_suffix(f".{options.pairs}.parquet")
    if not table.is_file():
        explain_split(folder, data, limit=options.pairs).write_parquet(table)
    return pl.read_parquet(table)


def scores_of(texts: pl.DataFrame, data: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Scores by row, and those of the whole."""
    truth = load_truth(data)
    if truth is None:
        raise ValueError(f"{data} has no truth; it is not the built-in world")
    shared = truth.shared(texts["user_id"].to_list(), texts["item_id"].to_list())
    measured = measure(texts["prediction"].to_list(), texts["reference"].to_list(), truth, shared)
    return dict(measured.per_row), dict(measured.corpus)


def table_of(rows: dict[str, list[dict[str, np.ndarray]]], corpus: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Figures of every system beside the graph's, with 95 % intervals over rows."""
    means = {name: {key: np.mean([one[key] for one in runs], axis=0) for key in runs[0]} for name, runs in rows.items()}
    table: dict[str, Any] = {}
    for name, found in means.items():
        entry: dict[str, Any] = {"seeds": len(rows[name])}
        keys = [key for key in SHOWN if key in found]
        for key, interval in zip(keys, mean_intervals(np.column_stack([found[key] for key in keys])), strict=True):
            by_seed = [float(one[key].mean()) for one in rows[name]]
            entry[key] = {"value": interval.mean, "low": interval.low, "high": interval.high, "by_seed": by_seed}
        entry |= {key: float(np.mean([one[key] for one in corpus[name]])) for key in SHOWN if key in corpus[name][0]}
        if name != GRAPH and GRAPH in means:
            pair = [np.column_stack([of[key] for key in keys]) for of in (means[GRAPH], found)]
            differences = paired_differences(*pair)
            entry["graph_minus_this"] = {
                key: {"value": one.mean, "low": one.low, "high": one.high} for key, one in zip(keys, differences, strict=True)
            }
        table[name] = entry
    return table


def run(options: Options) -> dict[str, Any]:
    """Trains, explains and compares; a table and whether the graph beats all that it has to."""
    data, graph = prepare_world(options.out)
    rows: dict[str, list] = {}
    corpus: dict[str, list] = {}
    for name in options.systems:
        seeds = options.seeds[:1] if name in ONE_SEED else options.seeds
        scored = [scores_of(texts_of(name, seed, options, data, graph), data) for seed in seeds]
        rows[name], corpus[name] = [one for one, _ in scored], [whole for _, whole in scored]
    table = table_of(rows, corpus)
    beaten = {name: table[name]["graph_minus_this"]["aspect_f1"]["low"] > 0 for name in BEATEN if name in table}
    return {
        "machine": machine("cpu"),
        "pairs": options.pairs,
        "seeds": list(options.seeds),
        "systems": table,
        "beaten": beaten,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the world and the runs; kept, and taken up by the next call")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    given = parser.parse_args(argv)
    report(run(Options(given.folder, given.seeds, given.pairs, given.systems)), given.out)


if __name__ == "__main__":
    main()
