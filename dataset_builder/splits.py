"""The one split that everything else follows."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .errors import DataError
from .preparation_arrays import Array, drawn, place_in_group
from .schema import COLD_SPLITS, SPLITS

if TYPE_CHECKING:
    from .prepare import PrepareOptions

ALL_SPLITS = (*SPLITS, *COLD_SPLITS)
"""Split of each code that `split_codes` gives."""


def split_codes(users: Array, items: Array, times: pl.Series, options: "PrepareOptions") -> Array:
    """Return an index into `ALL_SPLITS` for each pair.

    Whole users and items are held out first: each of their pairs is a test of a user or an item without a training edge, and a
    pair of a cold user with a cold item is the user's. The split is made of the pairs that are left.

    Args:
        users: user of each pair, `(pairs,)`; pairs are sorted by user and item.
        items: item of each pair, `(pairs,)`.
        times: seconds, `(pairs,)`.
        options: method, shares and seed.

    Raises:
        DataError: there are too few pairs, or a split by time lacks times.
    """
    codes = np.zeros(len(users), dtype=np.int8)
    for name, values, share in (("cold_item", items, options.cold_items), ("cold_user", users, options.cold_users)):
        rng = np.random.default_rng([options.seed, ALL_SPLITS.index(name)])
        if share:
            codes[np.isin(values, drawn(values, share, rng))] = ALL_SPLITS.index(name)
    warm = np.flatnonzero(codes == 0)
    if options.split == "leave-one-out":
        codes[warm] = _leave_one_out(users[warm], _seconds(times, warm, options))
        _require_all(codes[warm], "users with three pairs or more")
        return codes
    if options.split == "temporal":
        order = warm[np.argsort(_seconds(times, warm, options), kind="stable")]
    else:
        order = warm[np.random.default_rng(options.seed).permutation(len(warm))]
    ends = [round(len(warm) * share) for share in np.cumsum(options.fractions)]
    if not 0 < ends[0] < ends[1] < len(warm):
        raise DataError(
            f"expected enough pairs for a train, a validation and a test split, found {len(warm):,}; "
            "give more data, or change --fractions"
        )
    for code, part in enumerate(np.split(order, ends[:2])):
        codes[part] = code
    return codes


def _seconds(times: pl.Series, warm: Array, options: "PrepareOptions") -> Array:
    chosen = times.gather(pl.Series(warm))
    missing = chosen.null_count()
    if missing:
        raise DataError(
            f"expected a time of every interaction for --split {options.split}, found {missing:,} without; use --split random"
        )
    return chosen.to_numpy()


def _leave_one_out(users: Array, seconds: Array) -> Array:
    """Each user's latest pair is a test, the one before it a validation; users with fewer than three keep all in training."""
    codes = np.zeros(len(users), dtype=np.int8)
    order = np.lexsort((seconds, users))[::-1]
    back = place_in_group(users[order])
    enough = np.bincount(users)[users[order]] >= 3 if len(users) else np.zeros(0, dtype=bool)
    codes[order[(back == 1) & enough]] = 1
    codes[order[(back == 0) & enough]] = 2
    return codes


def _require_all(codes: Array, what: str) -> None:
    if not (codes == 2).any():
        raise DataError(f"expected {what} for --split leave-one-out, found none; use --split random")


def assign_split(pairs: pl.DataFrame, options: "PrepareOptions") -> pl.Series:
    """Return a split for each row of `pairs`, whatever the order in which they come.

    Args:
        pairs: distinct pairs with `user_id` and `item_id`, and `timestamp` for a split by time.
        options: method, shares and seed.

    Raises:
        DataError: there are too few pairs for three splits, or a split by time lacks times.
    """
    ordered = pairs.with_row_index("__place").sort("user_id", "item_id")
    ids = ordered.select(pl.col("user_id", "item_id").rank("dense").cast(pl.Int64))
    times = ordered["timestamp"] if "timestamp" in ordered.columns else pl.Series([None] * ordered.height, dtype=pl.Int64)
    codes = np.empty(pairs.height, dtype=np.int8)
    codes[ordered["__place"].to_numpy()] = split_codes(ids["user_id"].to_numpy(), ids["item_id"].to_numpy(), times, options)
    return split_names(codes)


def split_names(codes: Array) -> pl.Series:
    """Return the names of split codes."""
    names = pl.Series(ALL_SPLITS, dtype=pl.String)
    return names.gather(pl.Series(codes.astype(np.uint32))).alias("split")
