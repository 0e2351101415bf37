"""What each objective of `xrec encode` is worth and costs, beside other recommenders at the same width; prints JSON.

Reads tables of interactions (Parquet: user_id, item_id, split). Figures are users' means at 20 with training items masked, on
validation and test. Every training runs in a process of its own, whose memory is measured from before the first tensor.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from interactions import read_interactions
from measuring import machine, report

from xrec_training.compare import METHODS, held_out_metrics, popularity_metrics
from xrec_training.encode import EncodeOptions, graph_metrics
from xrec_training.fitting import fit

OBJECTIVES = ("softmax", "bpr")
REQUIRED: dict[tuple[str, int], dict[str, float]] = {
    ("yelp", 64): {"recall@20": 0.140, "ndcg@20": 0.073},
    ("google", 64): {"recall@20": 0.148, "ndcg@20": 0.078},
    ("yelp", 256): {"recall@20": 0.143},
    ("google", 256): {"recall@20": 0.164},
}
GOALS: dict[tuple[str, int], dict[str, float]] = {
    ("yelp", 64): {"recall@20": 0.145},
    ("google", 64): {"recall@20": 0.157},
    ("yelp", 256): {"recall@20": 0.148},
    ("google", 256): {"recall@20": 0.170},
}
"""Of the default objective on the published splits, test, mean of the seeds."""


def train_once(path: Path, options: EncodeOptions, threads: int) -> dict[str, float]:
    """One training: its figures, `epochs`, `best_epoch`, `wall_seconds`, `cpu_seconds` and `peak_megabytes` of the process."""
    torch.set_num_threads(threads)
    edges, catalogue = read_interactions(path)
    wall, cpu = time.perf_counter(), time.process_time()
    model, history = fit(edges["train"], edges["validation"], catalogue, options, progress=False)
    seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    epochs = {"epochs": len(history), "best_epoch": history.index(max(history)) + 1}
    return graph_metrics(model, edges) | seconds | epochs | {"peak_megabytes": peak}


def floor_once(path: Path, method: str, dim: int, seed: int, threads: int) -> dict[str, float]:
    """One training of a method that `--compare` prints, measured like `train_once`."""
    torch.set_num_threads(threads)
    edges, catalogue = read_interactions(path)
    shape = (catalogue.users.height, catalogue.items.height)
    wall, cpu = time.perf_counter(), time.process_time()
    score = METHODS[method](edges["train"], shape, dim, seed)
    seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return held_out_metrics(score, edges, shape) | seconds | {"peak_megabytes": peak}


def alone(call: Any, *arguments: Any) -> Any:
    """The result of a call in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means over seeds, the standard deviation of the test figures, and the runs themselves."""
    means: dict[str, Any] = {name: statistics.fmean(run[name] for run in runs) for name in runs[0]}
    spread = {name: statistics.stdev(run[name] for run in runs) if len(runs) > 1 else 0.0 for name in runs[0]}
    return means | {"deviation": {name: spread[name] for name in spread if name.startswith("test_")}, "runs": list(runs)}


def verdicts(name: str, dim: int, default: Mapping[str, Any], floors: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The default objective beside what is required of it, the goal, and the floors."""
    found: dict[str, Any] = {}
    for kind, table in (("required", REQUIRED), ("goal", GOALS)):
        for metric, value in table.get((name, dim), {}).items():
            mean = default[f"test_{metric}"]
            found[f"{kind}_{metric}"] = {"expected": value, "found": mean, "met": mean >= value}
    better = [
        method
        for method, figures in floors.items()
        if figures["test_recall@20"] > default["test_recall@20"] and figures["cpu_seconds"] < default["cpu_seconds"]
    ]
    return found | {"methods_better_and_faster": better}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All figures, as they are printed."""
    figures: dict[str, Any] = {"machine": machine("cpu") | {"torch_threads": given.threads}, "seeds": given.seeds, "data": {}}
    for path in given.data:
        name = path.parent.name if path.stem == "interactions" else path.stem
        edges, catalogue = read_interactions(path)
        counts = {split: rows.shape[1] for split, rows in edges.items()}
        result: dict[str, Any] = {"users": catalogue.users.height, "items": catalogue.items.height, "interactions": counts}
        result["popularity"] = popularity_metrics(edges, (result["users"], result["items"]))
        for dim in given.dims:
            row: dict[str, Any] = {}
            for objective in given.objectives:
                options = [EncodeOptions(dim=dim, objective=objective, seed=seed) for seed in given.seeds]
                row[objective] = summary([alone(train_once, path, each, given.threads) for each in options])
            floors = {} if given.no_floors else METHODS
            row["floors"] = {method: alone(floor_once, path, method, dim, given.seeds[0], given.threads) for method in floors}
            row["verdicts"] = verdicts(name, dim, row[given.objectives[0]], row["floors"])
            result[f"dim_{dim}"] = row
        figures["data"][name] = result
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="interactions: user_id, item_id, split")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 256], help="widths of an embedding")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="each is one training of each objective")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES), help="the first is judged")
    parser.add_argument("--threads", type=int, default=2, help="of every training")
    parser.add_argument("--no-floors", action="store_true", help="leave the other recommenders out; they need `xrec[compare]`")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    given = parser.parse_args(argv)
    report(measure(given), given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
