"""The same run with several seeds, and their losses side by side."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import write_json

from .finetune import train
from .loss_curve import losses
from .profile_stage import RUN_FILE
from .recipe import Recipe

SEEDS_FILE = "seeds.json"


def train_seeds(
    data: Path, graph: Path | None, out: Path, recipe: Recipe, seeds: Sequence[int], resume: bool = False
) -> dict[str, Any]:
    """Trains one run a seed into `out/seed-N`, all around one backbone, and writes `out/seeds.json`.

    Args:
        data: dataset folder with explanations.
        graph: folder that `encode` left for this dataset; None for a model that needs none.
        out: folder of the runs.
        recipe: see `Recipe`; its trainer's seed gives way.
        seeds: of the runs, all different.
        resume: leave finished runs as they are and go on with the rest.

    Returns:
        What `seeds.json` holds: `runs` (each with `seed`, `folder`, `loss`, `eval_loss`, the last of its log; None where there
        is none) and for both losses `mean` and `sd` (None for a single run).

    Raises:
        DataError: seeds that repeat, or as `train`.
    """
    if len(set(seeds)) != len(seeds):
        raise DataError(f"expected different --seeds, found {' '.join(map(str, seeds))}; leave the repeated ones out")
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        folder = out / f"seed-{seed}"
        if not (resume and (folder / RUN_FILE).is_file()):
            own = dataclasses.replace(recipe, trainer={**recipe.trainer, "seed": seed})
            train(data, graph, folder, own, resume, backbone_place=out.with_name(f"{out.name}-backbone"))
        log = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["log"]
        runs.append({"seed": seed, "folder": folder.name, "loss": _last(log, "loss"), "eval_loss": _last(log, "eval_loss")})
    result = {"runs": runs} | {key: _spread([run[key] for run in runs]) for key in ("loss", "eval_loss")}
    write_json(result, out / SEEDS_FILE)
    return result


def seeds_table(result: Mapping[str, Any]) -> str:
    """The runs of `train_seeds`, one a line, and their mean and standard deviation."""
    lines = [f"{'seed':<8}{'training loss':>16}{'validation loss':>18}"]
    for run in result["runs"]:
        lines.append(f"{run['seed']:<8}{_shown(run['loss']):>16}{_shown(run['eval_loss']):>18}")
    for name in ("mean", "sd"):
        lines.append(f"{name:<8}{_shown(result['loss'][name]):>16}{_shown(result['eval_loss'][name]):>18}")
    return "\n".join(lines) + "\n"


def _last(log: Sequence[Mapping[str, Any]], key: str) -> float | None:
    found = losses(log, key)
    return found[-1][1] if found else None


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
    }


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
