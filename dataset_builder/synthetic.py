"""The built-in world: users with hidden tastes, items with hidden aspects, and reviews that say what they share.

Text shows part of it only: a title tells the kind of place, a profile quotes a few reviews. Which aspects a user and an item
share is written in the graph, since people go where their tastes are met. The world knows the truth, so it also writes what
any predictor can reach, with the graph and without.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from .errors import DataError
from .schema import REVIEWS, DatasetFolder, read_table, write_json
from .sources import RAW_ITEM_COLUMNS, RAW_REVIEWS, RawData
from .synthetic_bounds import text_bounds
from .synthetic_text import ASPECTS, DESCRIPTIONS, FILLERS, KINDS, NAMES, NOISE, REASONS

TASTES_PER_USER = 5
ASPECTS_PER_ITEM = 3
COMMON_ASPECTS = 2
"""How many of an item's aspects come from those common in its kind."""
MOST_NAMED = 3
"""How many shared aspects a review names at most."""
MOST_LISTED = 2
"""How many of them one sentence names at most."""
OVERLAP_WEIGHT = 3.0
"""Log-odds that one more shared aspect adds to a visit."""
FIRST_TIMESTAMP, SECONDS = 1_600_000_000, 100_000_000


@dataclass(frozen=True)
class World:
    """A generated world.

    Args:
        raw: reviews and items as any source gives them.
        shared: for each review, in the order of `raw.reviews`, which aspects user and item share, `(reviews, aspects)`.
    """

    raw: RawData
    shared: np.ndarray

    def write_truth(self, folder: DatasetFolder) -> None:
        """Writes `truth/` into a dataset folder whose reviews have their splits.

        `truth.json` has the aspects with their surface forms; `oracle_f1`, the best aspect-F1 that any predictor can reach
        (1.0: tastes and aspects decide it); `text_f1`, the best without the graph; `graph_bits_upper_bound`, the most bits a
        held-out pair's aspects can gain from the graph. `pairs.parquet` has the shared aspects of each held-out pair.
        """
        names = np.array(list(ASPECTS))
        keys = self.raw.reviews.select("user_id", "item_id")
        truth = keys.with_columns(
            shared_aspects=pl.Series([names[row].tolist() for row in self.shared], dtype=pl.List(pl.String))
        )
        splits = read_table(folder.reviews, REVIEWS).select("user_id", "item_id", "split")
        pairs = splits.join(truth, on=["user_id", "item_id"], how="left", maintain_order="left")
        held_out = pairs.filter(pl.col("split") != "train").select("user_id", "item_id", "split", "shared_aspects")
        folder.truth_pairs.parent.mkdir(parents=True, exist_ok=True)
        held_out.write_parquet(folder.truth_pairs)
        aspects = {name: [phrase] for name, phrase in ASPECTS.items()}
        write_json({"aspects": aspects, "oracle_f1": 1.0, **text_bounds(folder, pairs, aspects)}, folder.truth_json)


def generate_world(seed: int = 0, users: int = 1200, items: int = 500, interactions: int = 24000) -> World:
    """Generates a world; equal arguments give equal bytes.

    Args:
        seed: seed of everything.
        users: number of users, each with `TASTES_PER_USER` of the aspects.
        items: number of items, each with `ASPECTS_PER_ITEM` of them.
        interactions: about how many reviews in all; a user writes between half and one and a half times the mean.

    Raises:
        DataError: fewer than 20 users or items, or more interactions than a user can have.
    """
    if min(users, items) < 20 or not 2 * users <= interactions <= users * items // 4:
        raise DataError(
            f"expected at least 20 users, 20 items and between {2 * users} and {users * items // 4} interactions, found "
            f"{users}, {items} and {interactions}; change --users, --items or --interactions"
        )
    rng = np.random.default_rng(seed)
    tastes = _draw_tastes(rng, users)
    kinds, aspects = _draw_items(rng, items)
    pairs = _draw_pairs(rng, tastes, aspects, interactions)
    shared = tastes[pairs[:, 0]] & aspects[pairs[:, 1]]
    user_ids = np.array([f"u{number:05d}" for number in range(users)])
    item_ids = np.array([f"i{number:05d}" for number in range(items)])
    reviews = pl.DataFrame(
        {
            "user_id": user_ids[pairs[:, 0]],
            "item_id": item_ids[pairs[:, 1]],
            "rating": np.minimum(3.0 + shared.sum(axis=1), 5.0),
            "timestamp": FIRST_TIMESTAMP + rng.integers(0, SECONDS, len(pairs)),
            "review": [_write_review(rng, row) for row in shared],
        },
        schema=RAW_REVIEWS,
    )
    titles = _titles(rng, kinds)
    described = [_describe(rng, kind, row) for kind, row in zip(kinds, aspects, strict=True)]
    about = pl.DataFrame({"item_id": item_ids, "title": titles, "description": described}, schema=RAW_ITEM_COLUMNS)
    return World(RawData(reviews, about, skipped_rows=0, read_rows=len(pairs)), shared)


def _draw_tastes(rng: np.random.Generator, users: int) -> np.ndarray:
    ranks = rng.random((users, len(ASPECTS))).argsort(axis=1)
    return ranks < TASTES_PER_USER


def _draw_items(rng: np.random.Generator, items: int) -> tuple[list[str], np.ndarray]:
    """Kind of each item, and its aspects `(items, aspects)`: most from those common in its kind, the rest from all others."""
    index = {name: column for column, name in enumerate(ASPECTS)}
    kinds = [list(KINDS)[number] for number in rng.integers(0, len(KINDS), items)]
    aspects = np.zeros((items, len(ASPECTS)), dtype=bool)
    for row, kind in enumerate(kinds):
        common = rng.choice([index[name] for name in KINDS[kind]], COMMON_ASPECTS, replace=False)
        others = np.setdiff1d(np.arange(len(ASPECTS)), common)
        aspects[row, common] = True
        aspects[row, rng.choice(others, ASPECTS_PER_ITEM - COMMON_ASPECTS, replace=False)] = True
    return kinds, aspects


def _draw_pairs(rng: np.random.Generator, tastes: np.ndarray, aspects: np.ndarray, interactions: int) -> np.ndarray:
    """Visits `(pairs, 2)`: without replacement, with odds that grow with the number of shared aspects; never with none."""
    overlap = tastes.astype(np.int64) @ aspects.T.astype(np.int64)
    # The largest perturbed log-odds are a sample without replacement (Gumbel top-k).
    odds = OVERLAP_WEIGHT * overlap + rng.normal(0.0, 0.5, aspects.shape[0]) + rng.gumbel(size=overlap.shape)
    odds[overlap == 0] = -np.inf
    mean = interactions / len(tastes)
    counts = np.rint(mean * rng.uniform(0.5, 1.5, len(tastes))).astype(int).clip(2)
    rows = []
    for user, count in enumerate(counts):
        best = np.argsort(-odds[user])[: min(count, int((overlap[user] > 0).sum()))]
        rows.append(np.stack([np.full(len(best), user), best], axis=1))
    return np.concatenate(rows)


def _write_review(rng: np.random.Generator, shared: np.ndarray) -> str:
    """Names at most `MOST_NAMED` shared aspects, at most `MOST_LISTED` a sentence, between sentences of noise."""
    phrases = list(ASPECTS.values())
    named = [phrases[aspect] for aspect in rng.permutation(np.flatnonzero(shared))[:MOST_NAMED]]
    templates = rng.permutation(len(REASONS))
    lists = [named[start : start + MOST_LISTED] for start in range(0, len(named), MOST_LISTED)]
    reasons = [REASONS[number].format(list=" and the ".join(words)) for number, words in zip(templates, lists, strict=False)]
    sentences = [_noise(rng), *reasons]
    sentences.insert(int(rng.integers(1, len(sentences) + 1)), _noise(rng))
    return " ".join(sentences)


def _describe(rng: np.random.Generator, kind: str, aspects: np.ndarray) -> str:
    template = DESCRIPTIONS[rng.integers(len(DESCRIPTIONS))]
    phrase = list(ASPECTS.values())[rng.choice(np.flatnonzero(aspects))]
    return template.format(kind=kind.lower(), aspect=phrase)


def _noise(rng: np.random.Generator) -> str:
    words = {gap: choices[rng.integers(len(choices))] for gap, choices in FILLERS.items()}
    return NOISE[rng.integers(len(NOISE))].format(**words)


def _titles(rng: np.random.Generator, kinds: list[str]) -> list[str]:
    """Two names and the kind, such as "Amber Fern Bakery"; the names say nothing."""
    pairs = rng.integers(0, len(NAMES), (len(kinds), 2))
    return [f"{NAMES[first]} {NAMES[second]} {kind}" for (first, second), kind in zip(pairs, kinds, strict=True)]
