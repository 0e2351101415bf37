"""Does the graph matter, on real data? One command trains the grid, or what is missing of it, and prints its figures as JSON.

    python benchmarks/signal/grid.py OUT --data yelp=FOLDER google=FOLDER

Every model, score and text is kept in OUT and taken up by the next call, so the grid can grow over days, and cells can be run
side by side. Levers are compared on validation rows; test rows are read with `--test` alone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import polars as pl
import torch
from backbones import ABOUT, SIZES, backbone_folder, prepare_backbone
from cells import CONDITIONS, GRAPH, INJECTIONS, LEVERS, PLAIN, Cell, grid, trained
from figures import task_figures, text_figures
from measuring import machine, report
from plotting import plot
from scoring import TEST, VALIDATION, kept_scores, scores, texts
from side_by_side import side_by_side
from worlds import PROFILE, TASKS, Sizes, World, prepare_graph, prepare_world

from xrec_dataset_builder.schema import ITEMS, USERS, DatasetFolder, read_table
from xrec_training.tables import read_explanations


@dataclass(frozen=True)
class Options:
    """What is run.

    Args:
        out: folder of all that is kept.
        data: source folder of each dataset by name.
        size: of the backbone, a name among `SIZES`.
        tasks: which of `TASKS`.
        conditions: which of `CONDITIONS`.
        injections: which of `INJECTIONS`; beyond the first for the full prompt alone.
        seeds: of training.
        levers: names among `LEVERS`, or several joined by `+`.
        test: whether test rows are scored; else validation rows are.
        texts: whether test rows are explained too, by the first seed's models.
        workers: cells trained side by side.
        seconds: after which no cell is begun; what is missing then stays out of the figures. None for no limit.
        sizes: of the parts.
    """

    out: Path
    data: dict[str, Path]
    size: str = "15m"
    tasks: Sequence[str] = TASKS
    conditions: Sequence[str] = CONDITIONS
    injections: Sequence[str] = INJECTIONS
    seeds: Sequence[int] = (0, 1, 2)
    levers: Sequence[str] = (PLAIN,)
    test: bool = False
    texts: bool = False
    workers: int = 1
    seconds: float | None = None
    sizes: Sizes = field(default_factory=Sizes)


def run(options: Options) -> dict[str, Any]:
    """Trains what is missing and gives the figures of every dataset."""
    parts = options.tasks, options.conditions, options.injections, options.seeds, options.levers
    cells = list(grid(*(tuple(part) for part in parts)))
    worlds = {name: prepare_world(source, options.out / name, options.sizes) for name, source in options.data.items()}
    for world in worlds.values():
        for task, changed in {(cell.task, cell.encoding) for cell in cells}:
            prepare_graph(world, task, options.sizes, changed)
    given = [(world, options.size, tuple(other for other in worlds.values() if other != world)) for world in worlds.values()]
    workers = 1 if all(backbone_folder(*one[:2]).is_dir() for one in given) else options.workers
    backbones = dict(zip(worlds, side_by_side(prepare_backbone, given, workers, "backbones"), strict=True))
    split = TEST if options.test else VALIDATION
    jobs = [(cell, world, backbones[name], options.size, split) for cell in cells for name, world in worlds.items()]
    missing = [job for job in jobs if not kept_scores(_run(job[0], job[1], options.size), split).is_file()]
    side_by_side(_scored, missing, options.workers, "cells", options.seconds)
    figures: dict[str, Any] = {}
    for name, world in worlds.items():
        kept = {cell: kept_scores(_run(cell, world, options.size), split) for cell in cells}
        scored = {cell: pl.read_parquet(file) for cell, file in kept.items() if file.is_file()}  # what was done in time
        figures[name] = {task: {"cells": task_figures(task, scored)} for task in options.tasks}
        for task in options.tasks if options.texts else ():
            if task != PROFILE:
                figures[name][task]["texts"] = _texts(task, list(scored), world, options)
    about = {name: json.loads((place / ABOUT).read_text(encoding="utf-8")) for name, place in backbones.items()}
    return {
        "machine": machine("cuda" if torch.cuda.is_available() else "cpu"),
        "backbone": asdict(SIZES[options.size]),
        "prompt_gains": {name: entry["prompt_gains"] for name, entry in about.items()},
        "rows": split,
        "datasets": figures,
    }


def _run(cell: Cell, world: World, size: str) -> Path:
    return world.root / f"runs-{size}" / cell.name


def _scored(cell: Cell, world: World, backbone: Path, size: str, split: str) -> None:
    runs = _run(cell, world, size).parent
    runs.mkdir(exist_ok=True)
    scores(cell, world, trained(cell, world, backbone, runs), split)


def _texts(task: str, cells: Sequence[Cell], world: World, options: Options) -> dict[str, Any]:
    """Text figures of the first seed's cells of a task; the graph's first, since the floors are made of its texts."""
    chosen = [cell for cell in cells if cell.task == task and cell.seed == min(one.seed for one in cells)]
    chosen.sort(key=lambda cell: cell.condition != GRAPH)
    given = [(cell, world, _run(cell, world, options.size)) for cell in chosen]
    tables = side_by_side(texts, given, options.workers, "texts")
    found = {cell.name: table for cell, table in zip(chosen, tables, strict=True)}
    folder = DatasetFolder(world.task(task))
    pairs = next(iter(found.values())).select("user_id", "item_id")
    rows = pairs.join(read_table(folder.users, USERS), on="user_id", how="left", maintain_order="left")
    rows = rows.join(read_table(folder.items, ITEMS), on="item_id", how="left", maintain_order="left")
    return text_figures(found, read_explanations(world.task(task), "train"), rows.with_columns(pl.all().fill_null("")))


def _levers(text: str) -> str:
    unknown = [name for name in text.split("+") if name not in LEVERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected levers among {', '.join(LEVERS)}, found {', '.join(unknown)}")
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures, and writes and draws them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of all that is kept")
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=FOLDER", help="datasets and where they lie")
    parser.add_argument("--size", choices=list(SIZES), default="15m", help="of the backbone (default: 15m)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=CONDITIONS)
    parser.add_argument("--injections", nargs="+", choices=INJECTIONS, default=INJECTIONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--levers", type=_levers, nargs="+", default=[PLAIN], help="names in cells.py; a+b is both at once")
    parser.add_argument("--test", action="store_true", help="read the test rows")
    parser.add_argument("--texts", action="store_true", help="have test rows explained, and measure the texts")
    parser.add_argument("--workers", type=int, default=1, help="cells trained side by side (default: 1)")
    parser.add_argument("--seconds", type=float, help="begin no cell after this many (default: no limit)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--plot", type=Path, help="write a picture here")
    given = parser.parse_args(argv)
    data = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in given.data)}
    names = (
        "size", "tasks", "conditions", "injections", "seeds", "levers", "test", "texts", "workers", "seconds"
    )  # fmt: skip
    figures = run(Options(given.folder, data, **{name: getattr(given, name) for name in names}))
    report(figures, given.out)
    if given.plot:
        plot(figures["datasets"], given.plot, given.levers)


if __name__ == "__main__":
    main()
