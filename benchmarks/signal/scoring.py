"""What a trained cell is asked: how likely it finds each reference under several embeddings, and what it writes."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from cells import SOFT, Cell
from worlds import World

from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table
from xrec_evaluation.explain import Explainer
from xrec_evaluation.likelihood import ReferenceLikelihood, Signal

SWAP_SEED = 0
BATCH = 64
VALIDATION, TEST = "validation", "test"


def kept_scores(run: Path, split: str) -> Path:
    """Where the scores of a run are kept."""
    return run.with_name(f"{run.name}.{split}.parquet")


def scores(cell: Cell, world: World, run: Path, split: str) -> pl.DataFrame:
    """Log-probabilities of the references of a split under a cell's model, in bits; kept beside the run.

    Returns:
        `user_id`, `item_id`, `part`, `tokens`, `own` and, with embeddings of another row of the same part, `other_pair`,
        `other_user`, `other_item`.
    """
    kept = kept_scores(run, split)
    if not kept.is_file():
        _score(_rows(cell, world, split), Explainer(run)).write_parquet(kept)
    return pl.read_parquet(kept)


def texts(cell: Cell, world: World, run: Path) -> pl.DataFrame:
    """Texts of the test rows, and those for another user of the same part; kept beside the run.

    Returns:
        `user_id`, `item_id`, `part`, `reference`, `prediction`, `other_user`.
    """
    kept = run.with_name(f"{run.name}.texts.parquet")
    if not kept.is_file():
        rows, explainer = _rows(cell, world, TEST), Explainer(run)
        users, items = rows["user_id"].to_list(), rows["item_id"].to_list()
        signal = ReferenceLikelihood(explainer, rows).signal()
        swapped = Signal(signal.user[_others(rows)], signal.item)
        own = explainer.pairs(users, items)
        other = own if cell.condition == SOFT else explainer.pairs(users, items, signal=swapped)  # SOFT: all users are alike
        rows.with_columns(pl.Series("prediction", own), pl.Series("other_user", other)).write_parquet(kept)
    return pl.read_parquet(kept)


def _rows(cell: Cell, world: World, split: str) -> pl.DataFrame:
    place = world.task(cell.task)
    table = read_table(DatasetFolder(place).explanations(split), EXPLANATIONS)
    parts = pl.read_parquet(place / "parts.parquet")
    table = table.join(parts, on=["user_id", "item_id"], maintain_order="left")
    return table.select("user_id", "item_id", "part", pl.col("explanation").alias("reference"))


def _score(rows: pl.DataFrame, explainer: Explainer) -> pl.DataFrame:
    likelihood = ReferenceLikelihood(explainer, rows, BATCH)
    own, others = likelihood.signal(), _others(rows)
    signals = {
        "own": own,
        "other_pair": Signal(own.user[others], own.item[others]),
        "other_user": Signal(own.user[others], own.item),
        "other_item": Signal(own.user, own.item[others]),
    }
    tokens: dict[str, list[np.ndarray]] = {}
    for name, signal in signals.items():
        alike = [other for other in tokens if all(map(torch.equal, signal, signals[other]))]  # one user, or a soft prompt
        tokens[name] = tokens[alike[0]] if alike else likelihood.tokens(signal)
    totals = {name: np.array([values.sum() for values in found]) / np.log(2) for name, found in tokens.items()}
    lengths = [len(values) for values in tokens["own"]]
    return rows.drop("reference").with_columns(pl.Series("tokens", lengths), **{n: pl.Series(n, v) for n, v in totals.items()})


def _others(rows: pl.DataFrame) -> np.ndarray:
    """For each row another row of its part."""
    generator = np.random.default_rng(SWAP_SEED)
    others = np.arange(len(rows))
    parts = rows["part"].to_numpy()
    for part in sorted(set(parts)):
        cycle = generator.permutation(np.flatnonzero(parts == part))
        others[cycle] = np.roll(cycle, 1)
    return others
