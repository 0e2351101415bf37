"""Does the graph matter, on real data? One command trains the grid, or what is missing of it, and prints its figures as JSON.

    python benchmarks/signal/grid.py OUT --data yelp=FOLDER google=FOLDER

Every model, score and text is kept in OUT and taken up by the next call, so the grid can grow over days, and cells can be run
side by side. Levers are compared on validation rows; test rows are read with `--test` alone. `--backbone FOLDER` takes a
pre-trained language model in place of one trained from scratch; `--learning_rate`, `--batch_size` and `--passes` are its own.
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
from cells import CONDITIONS, GRAPH, INJECTIONS, LEVERS, PLAIN, Cell, Setting, grid, trained
from figures import task_figures, text_figures
from measuring import machine, report
from plotting import plot
from scoring import TEST, VALIDATION, kept_scores, scores, texts
from side_by_side import side_by_side
from worlds import PROFILE, TASKS, Sizes, World, prepare_graph, prepare_world

from xrec_dataset_builder.schema import ITEMS, USERS, DatasetFolder, read_table, write_json
from xrec_training.tables import read_explanations


@dataclass(frozen=True)
class Options:
    """What is run.

    Args:
        out: folder of all that is kept.
        data: source folder of each dataset by name.
        size: of the backbone from scratch, a name among `SIZES`.
        backbone: folder of a pre-trained one, for all datasets; None for those from scratch.
        setting: how its cells are trained.
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
    backbone: Path | None = None
    setting: Setting = field(default_factory=Setting)
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

    @property
    def on(self) -> str:
        """Name of the backbone; what is trained on it is kept under it."""
        return self.size if self.backbone is None else self.backbone.name


def run(options: Options) -> dict[str, Any]:
    """Trains what is missing and gives the figures of every dataset."""
    parts = options.tasks, options.conditions, options.injections, options.seeds, options.levers
    cells = list(grid(*(tuple(part) for part in parts)))
    worlds = {name: prepare_world(source, options.out / name, options.sizes) for name, source in options.data.items()}
    for world in worlds.values():
        for task, changed in {(cell.task, cell.encoding) for cell in cells}:
            prepare_graph(world, task, options.sizes, changed)
    backbones = _backbones(worlds, options)
    split = TEST if options.test else VALIDATION
    runs = {name: _runs(world, options) for name, world in worlds.items()}
    jobs = [
        (cell, world, backbones[name], runs[name], options.setting, split) for cell in cells for name, world in worlds.items()
    ]
    missing = [job for job in jobs if not kept_scores(job[3] / job[0].name, split).is_file()]
    side_by_side(_scored, missing, options.workers, "cells", options.seconds)
    figures: dict[str, Any] = {}
    for name, world in worlds.items():
        kept = {cell: kept_scores(runs[name] / cell.name, split) for cell in cells}
        scored = {cell: pl.read_parquet(file) for cell, file in kept.items() if file.is_file()}  # what was done in time
        figures[name] = {task: {"cells": task_figures(task, scored)} for task in options.tasks}
        for task in options.tasks if options.texts else ():
            if task != PROFILE:
                figures[name][task]["texts"] = _texts(task, list(scored), world, runs[name], options.workers)
    about: dict[str, Any] = {"backbone": options.on}
    if options.backbone is None:
        kept_about = {name: json.loads((place / ABOUT).read_text(encoding="utf-8")) for name, place in backbones.items()}
        about = {"backbone": asdict(SIZES[options.size])}
        about["prompt_gains"] = {name: entry["prompt_gains"] for name, entry in kept_about.items()}
    return {
        "machine": machine("cuda" if torch.cuda.is_available() else "cpu"),
        **about,
        "setting": asdict(options.setting),
        "rows": split,
        "datasets": figures,
    }


def _backbones(worlds: dict[str, World], options: Options) -> dict[str, Path]:
    """The backbone of each world, trained from scratch where none is given."""
    if options.backbone is not None:
        return dict.fromkeys(worlds, options.backbone)
    given = [(world, options.size, tuple(other for other in worlds.values() if other != world)) for world in worlds.values()]
    workers = 1 if all(backbone_folder(*one[:2]).is_dir() for one in given) else options.workers
    return dict(zip(worlds, side_by_side(prepare_backbone, given, workers, "backbones"), strict=True))


def _runs(world: World, options: Options) -> Path:
    """Where the models and scores of a backbone are kept.

    Raises:
        RuntimeError: those that are there were trained with another setting.
    """
    runs = world.root / f"runs-{options.on}"
    runs.mkdir(exist_ok=True)
    about, setting = runs / "setting.json", asdict(options.setting)
    if about.is_file() and json.loads(about.read_text(encoding="utf-8")) != setting:
        raise RuntimeError(f"{runs} was trained with {about.read_text(encoding='utf-8').strip()}, found {setting}; remove it")
    write_json(setting, about)
    return runs


def _scored(cell: Cell, world: World, backbone: Path, runs: Path, setting: Setting, split: str) -> None:
    scores(cell, world, trained(cell, world, backbone, runs, setting), split)


def _texts(task: str, cells: Sequence[Cell], world: World, runs: Path, workers: int) -> dict[str, Any]:
    """Text figures of the first seed's cells of a task; the graph's first, since the floors are made of its texts."""
    chosen = [cell for cell in cells if cell.task == task and cell.seed == min(one.seed for one in cells)]
    chosen.sort(key=lambda cell: cell.condition != GRAPH)
    given = [(cell, world, runs / cell.name) for cell in chosen]
    tables = side_by_side(texts, given, workers, "texts")
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
    parser.add_argument("--size", choices=list(SIZES), default="15m", help="of the backbone from scratch (default: 15m)")
    parser.add_argument("--backbone", type=Path, help="folder of a pre-trained one instead")
    defaults = Setting()
    parser.add_argument("--learning_rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--batch_size", type=int, default=defaults.batch_size)
    parser.add_argument("--passes", type=float, help="over the training rows (default: 3 for profiles, 4 for explanations)")
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
        "size", "backbone", "tasks", "conditions", "injections", "seeds", "levers", "test", "texts", "workers", "seconds"
    )  # fmt: skip
    setting = Setting(given.learning_rate, given.batch_size, given.passes)
    figures = run(Options(given.folder, data, setting=setting, **{name: getattr(given, name) for name in names}))
    report(figures, given.out)
    if given.plot:
        plot(figures["datasets"], given.plot, given.levers)


if __name__ == "__main__":
    main()
