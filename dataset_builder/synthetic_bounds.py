"""What can be known about a pair's shared aspects from its text alone.

For every aspect of a pair the text says three things: whether the user's profile names it, whether the item's does, and
whether it is common in the kind of place that the title tells. With the number of aspects that each profile names, they
select a cell; the share of training pairs in that cell that do share the aspect is the posterior of a reader who knows the
world's rules.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from .quoting import gathered, quote
from .schema import DatasetFolder
from .synthetic_text import KINDS

SMOOTHING = 1.0
"""Pairs of the overall mean that are added to every cell."""


def text_bounds(folder: DatasetFolder, pairs: pl.DataFrame, aspects: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Bounds for the world's test pairs, with the profiles that the extractive teacher makes.

    Args:
        folder: a built dataset, before or after distillation.
        pairs: `user_id, item_id, split, shared_aspects` of every interaction.
        aspects: surface forms of each aspect.

    Returns:
        `text_f1`: mean aspect-F1, on the test pairs, of the set with the best expected F1 under the posterior; an estimate
        of the best that text allows. `graph_bits_upper_bound`: mean over the test pairs of the sum over aspects of the
        posterior's binary entropy, in bits; the aspects are not independent, so the true uncertainty, which is the most that
        the graph can resolve, is at most this.
    """
    with TemporaryDirectory() as room:
        quote(folder, Path(room), progress=False)
        tables = gathered(folder, [Path(room)])
    names = list(aspects)
    cells = _cells(pairs, tables.users, tables.items, aspects)
    shared = _indicator(pairs["shared_aspects"].to_list(), names)
    train = (pairs["split"] == "train").to_numpy()
    test = (pairs["split"] == "test").to_numpy()
    counts = np.bincount(cells[train].ravel(), minlength=cells.max() + 1)
    hits = np.bincount(cells[train].ravel(), weights=shared[train].ravel(), minlength=cells.max() + 1)
    posterior = (hits + SMOOTHING * shared[train].mean()) / (counts + SMOOTHING)
    probabilities = posterior[cells[test]]
    entropy = -(probabilities * np.log2(probabilities) + (1 - probabilities) * np.log2(1 - probabilities))
    return {
        "text_f1": round(float(_best_f1(probabilities, shared[test])), 4),
        "graph_bits_upper_bound": round(float(entropy.sum(axis=1).mean()), 4),
    }


def _cells(pairs: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, aspects: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Cell number of each pair and aspect, `(pairs, aspects)`."""
    names = list(aspects)
    by_user = _named(dict(users.iter_rows()), aspects)
    by_item = _named({item: profile for item, _, profile in items.iter_rows()}, aspects)
    kind = {item: title.split()[-1] for item, title, _ in items.iter_rows()}
    user_says = _indicator([by_user[user] for user in pairs["user_id"]], names)
    item_says = _indicator([by_item[item] for item in pairs["item_id"]], names)
    common = _indicator([KINDS[kind[item]] for item in pairs["item_id"]], names)
    sizes = user_says.sum(axis=1).clip(max=3) * 4 + item_says.sum(axis=1).clip(max=3)
    return sizes[:, None] * 8 + user_says * 4 + item_says * 2 + common


def _named(texts: Mapping[str, str], aspects: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    patterns = {name: re.compile("|".join(map(re.escape, forms)), re.IGNORECASE) for name, forms in aspects.items()}
    return {key: [name for name, pattern in patterns.items() if pattern.search(text)] for key, text in texts.items()}


def _indicator(sets: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    index = {name: column for column, name in enumerate(names)}
    matrix = np.zeros((len(sets), len(names)), dtype=np.int64)
    for row, one in enumerate(sets):
        matrix[row, [index[name] for name in one]] = 1
    return matrix


def _best_f1(probabilities: np.ndarray, shared: np.ndarray) -> float:
    """Mean F1 of the most probable m aspects, m chosen for each pair by expected F1 (sum of p * 2 / (m + expected size))."""
    order = np.argsort(-probabilities, axis=1)
    ranked = np.take_along_axis(probabilities, order, axis=1)
    sizes = np.arange(1, probabilities.shape[1] + 1)
    expected = 2 * ranked.cumsum(axis=1) / (sizes + ranked.sum(axis=1, keepdims=True))
    best = expected.argmax(axis=1)
    found = np.take_along_axis(np.take_along_axis(shared, order, axis=1).cumsum(axis=1), best[:, None], axis=1)[:, 0]
    return float((2 * found / (best + 1 + shared.sum(axis=1))).mean())
