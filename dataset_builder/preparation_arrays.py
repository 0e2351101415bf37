"""Interactions as integers: ids, duplicates, k-core and caps as array operations on whole tables.

Every function works on pairs sorted by user and item, so that nothing depends on the order in which a dump was written.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

Array = np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Distinct user-item pairs, sorted by user id and item id.

    Args:
        users: user of each pair, an index into `user_ids`, `(pairs,)`.
        items: item of each pair, an index into `item_ids`, `(pairs,)`.
        rows: which row of the table each pair is, `(pairs,)`.
        user_ids: the ids in ascending order.
        item_ids: the ids in ascending order.
    """

    users: Array
    items: Array
    rows: Array
    user_ids: pl.Series
    item_ids: pl.Series

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, kept: Array) -> "Pairs":
        """Return the pairs that a mask or an ascending index chooses; the ids stay."""
        return Pairs(self.users[kept], self.items[kept], self.rows[kept], self.user_ids, self.item_ids)


def indexed(ids: pl.Series) -> tuple[Array, pl.Series]:
    """Return each id's place among the distinct ids in ascending order, `(rows,)`, and those ids."""
    distinct = ids.unique().sort()
    return ids.cast(pl.Enum(distinct)).to_physical().to_numpy().astype(np.int64), distinct


def latest_pairs(users: pl.Series, items: pl.Series, times: pl.Series) -> Pairs:
    """Return each pair once: its latest row; without times, or at equal times, the last one.

    Args:
        users: user ids, `(rows,)`.
        items: item ids, `(rows,)`.
        times: seconds, nulls before all others, `(rows,)`.
    """
    user, user_ids = indexed(users)
    item, item_ids = indexed(items)
    keys = user * max(len(item_ids), 1) + item
    order = pl.Series(keys).arg_sort().to_numpy().astype(np.int64)
    keys = keys[order]
    ends = np.append(keys[1:] != keys[:-1], True) if len(keys) else np.zeros(0, dtype=bool)
    if not ends.all():
        starts = np.append(True, ends[:-1])
        several = np.flatnonzero(~(starts & ends))
        seconds = times.gather(pl.Series(order[several])).fill_null(np.iinfo(np.int64).min).to_numpy()
        order[several] = order[several][np.lexsort((order[several], seconds, keys[several]))]
    rows = order[ends]
    return Pairs(user[rows], item[rows], rows, user_ids, item_ids)


def core(users: Array, items: Array, k: int) -> Array:
    """Mark the largest part in which every user and every item has at least `k` pairs.

    Nodes with too few pairs are taken away in rounds, each of which touches only the pairs of the nodes that go, so that the
    work is that of looking at every pair once from either side, however many rounds there are.

    Args:
        users: user of each pair, `(pairs,)`.
        items: item of each pair, `(pairs,)`.
        k: 1 and less keep everything.

    Returns:
        One boolean per pair.
    """
    kept = np.ones(len(users), dtype=bool)
    if k <= 1 or not len(users):
        return kept
    count = int(users.max()) + 1
    degrees = np.concatenate([np.bincount(users), np.bincount(items)])
    if not ((degrees > 0) & (degrees < k)).any():
        return kept
    pair_of = np.concatenate([pl.Series(ends).arg_sort().to_numpy().astype(np.int64) for ends in (users, items)])
    first = np.concatenate([[0], np.cumsum(degrees)])
    leaving = np.flatnonzero((degrees > 0) & (degrees < k))
    while len(leaving):
        lost = pair_of[_ranges(first[leaving], first[leaving + 1])]
        lost = np.unique(lost[kept[lost]])
        kept[lost] = False
        nodes, losses = np.unique(np.concatenate([users[lost], items[lost] + count]), return_counts=True)
        before = degrees[nodes]
        degrees[nodes] = before - losses
        leaving = nodes[(before >= k) & (before - losses < k)]
    return kept


def _ranges(starts: Array, ends: Array) -> Array:
    """Return all integers of several half-open ranges, none of them empty."""
    lengths = ends - starts
    steps = np.ones(int(lengths.sum()), dtype=np.int64)
    steps[0] = starts[0]
    steps[np.cumsum(lengths)[:-1]] = starts[1:] - ends[:-1] + 1
    return np.cumsum(steps)


def capped(groups: Array, most: int, rng: np.random.Generator) -> Array:
    """Mark at most `most` pairs of each group, drawn at random.

    Args:
        groups: user or item of each pair, `(pairs,)`.
        most: how many may stay.
        rng: draws them.
    """
    order = np.lexsort((rng.random(len(groups)), groups))
    kept = np.empty(len(groups), dtype=bool)
    kept[order] = place_in_group(groups[order]) < most
    return kept


def place_in_group(groups: Array) -> Array:
    """Return each pair's place, from 0, within its run of equal values."""
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])) if len(groups) else np.zeros(0, dtype=np.int64)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def drawn(values: Array, share: float, rng: np.random.Generator) -> Array:
    """Return a share, rounded, of the distinct values, drawn at random and in ascending order."""
    distinct = np.unique(values)
    return np.sort(rng.choice(distinct, round(share * len(distinct)), replace=False))
