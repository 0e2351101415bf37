"""One epoch of `fit` on a large made-up graph: seconds and memory of every phase, and recall beside popularity; prints JSON.

The graph has something to learn and something to be misled by. Users and items belong to groups; most interactions of a user
are with items of its group, the others with whatever is popular everywhere, and both choose by a power law. Ids are shuffled,
so that no neighbourhood lies together in memory. A sample of users has a part of its interactions held out.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from measuring import machine, report
from torch.optim.optimizer import register_optimizer_step_post_hook

from modeling_xrec.lightgcn import LightGCN
from xrec_training import fitting
from xrec_training.encode_options import EncodeOptions
from xrec_training.ranking import ranking_metrics
from xrec_training.tables import Catalogue

REQUIRED = {"seconds": 1200, "peak_mb": 12_000, "steps": 30}
TRAINING = ("prepare", "adjacency", "start", "epoch", "settle")
CLOCKED = (
    ("normalized_adjacency", "adjacency", "prepare"),
    ("start_from_spectrum", "start", "epoch"),
    ("start_at_random", "start", "epoch"),
)
"""What `fit` calls, the phase that its call is, and the one that follows."""
USERS_AT_A_TIME = 50_000


@dataclass(frozen=True)
class Options:
    """What is made and how it is trained.

    Args:
        users: number of users.
        items: number of items.
        edges: number of training edges.
        groups: of users and items.
        loyalty: share of interactions that stay in the user's group.
        evaluated: users with held-out interactions.
        held_out: share of their interactions that is held out.
        dim: width of an embedding.
        batch_size: users a step.
        negatives: items drawn every step for the softmax.
        start: `spectral` or `random`.
        threads: of torch.
        seed: of the graph and the training.
    """

    users: int = 1_000_000
    items: int = 300_000
    edges: int = 30_000_000
    groups: int = 300
    loyalty: float = 0.7
    evaluated: int = 20_000
    held_out: float = 0.2
    dim: int = 64
    batch_size: int = 32_768
    negatives: int = 4_096
    start: str = "spectral"
    threads: int = 2
    seed: int = 0


class Phases:
    """Wall and CPU seconds and peak memory of phases that follow one another; one that comes again adds up."""

    def __init__(self, first: str) -> None:
        self.figures: dict[str, dict[str, float]] = {}
        self._begin(first)

    def enter(self, name: str) -> None:
        """Ends the phase that is on and begins another."""
        row = self.figures.setdefault(self.name, {"wall_s": 0.0, "cpu_s": 0.0, "peak_mb": 0.0})
        row["wall_s"] += time.perf_counter() - self.wall
        row["cpu_s"] += time.process_time() - self.cpu
        row["peak_mb"] = max(row["peak_mb"], _peak_mb())
        self._begin(name)

    def within(self, name: str, function: Callable, then: str) -> Callable:
        """A function whose calls are a phase of their own, and after which another begins."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.enter(then)

        return call

    def _begin(self, name: str) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak starts anew
        self.name, self.wall, self.cpu = name, time.perf_counter(), time.process_time()


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def make_edges(options: Options) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct training edges `(2, edges)` and held-out edges of the evaluated users `(2, held out)`.

    Raises:
        ValueError: so many edges are not to be had from so few users, items and groups.
    """
    rng = np.random.default_rng(options.seed)
    group_of = rng.integers(options.groups, size=options.users)
    activity = rng.lognormal(sigma=1.0, size=options.users)
    wanted = int(options.edges * 1.4)
    counts = rng.multinomial(wanted, activity / activity.sum())
    shelves, fashion = rng.permutation(options.items), rng.permutation(options.items)
    chunks = []
    for first in range(0, options.users, USERS_AT_A_TIME):
        block = slice(first, first + USERS_AT_A_TIME)
        users = np.repeat(np.arange(options.users)[block], counts[block])
        size = options.items / options.groups
        within = shelves[(group_of[users] * size + size * rng.random(len(users)) ** 2).astype(np.int64)]
        anywhere = fashion[(options.items * rng.random(len(users)) ** 3).astype(np.int64)]
        items = np.where(rng.random(len(users)) < options.loyalty, within, anywhere)
        chunks.append(np.unique(users * options.items + items))
    pairs = np.concatenate(chunks)
    chosen = np.zeros(options.users, dtype=bool)
    chosen[rng.choice(options.users, options.evaluated, replace=False)] = True
    hidden = chosen[pairs // options.items] & (rng.random(len(pairs)) < options.held_out)
    train, held = pairs[~hidden], pairs[hidden]
    if len(train) < options.edges:
        raise ValueError(f"expected {options.edges} distinct edges, found {len(train)}; ask for fewer, or for fewer groups")
    left_out = np.zeros(len(train), dtype=bool)
    left_out[rng.choice(len(train), len(train) - options.edges, replace=False)] = True
    return _unpack(train[~left_out], options.items), _unpack(held, options.items)


def _unpack(pairs: np.ndarray, items: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([pairs // items, pairs % items]))


def recall(
    users: torch.Tensor, items: torch.Tensor, train: torch.Tensor, held: torch.Tensor, popularity: torch.Tensor
) -> dict[str, float]:
    """Recall@20 and ndcg@20 over the users with held-out edges, whose rows alone are given, in ascending order."""
    evaluated = held[0].unique()
    known = train[:, torch.isin(train[0], evaluated)]
    renamed = [torch.stack([torch.searchsorted(evaluated, edges[0].contiguous()), edges[1]]) for edges in (known, held)]
    return ranking_metrics(users, items, *renamed, popularity=popularity)


def measure(options: Options) -> dict[str, Any]:
    """All figures, as they are printed."""
    torch.set_num_threads(options.threads)
    phases = Phases("generate")
    train, held = make_edges(options)
    phases.enter("prepare")
    ids = {"user_id": options.users, "item_id": options.items}
    catalogue = Catalogue(*(pl.DataFrame({name: range(count)}) for name, count in ids.items()))
    given = {name: getattr(options, name) for name in ("dim", "batch_size", "negatives", "start", "seed")}
    settings = EncodeOptions(epochs=1, **given)
    steps: list[None] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(None))
    with ExitStack() as clocks:
        for name, phase, then in CLOCKED:
            clocks.enter_context(patch.object(fitting, name, phases.within(phase, getattr(fitting, name), then)))
        clocks.enter_context(patch.object(LightGCN, "settle", phases.within("settle", LightGCN.settle, "epoch")))
        model, _ = fitting.fit(train, train[:, :0], catalogue, settings, progress=False)
    hook.remove()
    phases.enter("evaluate")
    popularity = torch.bincount(train[1], minlength=options.items)
    evaluated = held[0].unique()
    trained = recall(model.user_embeddings[evaluated], model.item_embeddings, train, held, popularity)
    alike = torch.ones(len(evaluated), 1)
    popular = recall(alike, popularity.float().unsqueeze(1), train, held, popularity)
    phases.enter("end")
    seconds = sum(phases.figures[name]["wall_s"] for name in TRAINING)
    peak = max(row["peak_mb"] for row in phases.figures.values())
    met = seconds <= REQUIRED["seconds"] and peak <= REQUIRED["peak_mb"] and len(steps) >= REQUIRED["steps"]
    return {
        "options": asdict(options),
        "machine": machine("cpu"),
        "training_edges": train.shape[1],
        "held_out_edges": held.shape[1],
        "steps": len(steps),
        "phases": phases.figures,
        "training_wall_s": seconds,
        "training_cpu_s": sum(phases.figures[name]["cpu_s"] for name in TRAINING),
        "peak_mb": peak,
        "trained": trained,
        "popularity": popular,
        "required": REQUIRED | {"recall@20": popular["recall@20"]},
        "met": met and trained["recall@20"] > popular["recall@20"],
    }


def parse(argv: Sequence[str] | None) -> tuple[Options, Path | None]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for field in fields(Options):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    given = vars(parser.parse_args(argv))
    out = given.pop("out")
    return Options(**given), out


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes with `--out`."""
    options, out = parse(argv)
    report(measure(options), out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
