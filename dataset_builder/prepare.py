"""From raw reviews to interactions: duplicates, filters, k-core and the one split that everything else follows."""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from .errors import DataError
from .leaks import straddling
from .schema import REVIEWS, SPLITS
from .sources import RawData

SPLIT_METHODS = ("random", "temporal")
"""`random` draws pairs; `temporal` puts the latest pairs into test, by time over all users."""


@dataclass(frozen=True)
class PrepareOptions:
    """How reviews become interactions.

    Args:
        min_rating: keep pairs rated at least this (`>=`); pairs without a rating are dropped then. None keeps all.
        k_core: every user and every item that stays has at least this many pairs; 1 keeps all.
        split: `random` or `temporal`.
        fractions: shares of train, validation and test; they add up to 1.
        seed: fixes the random split.

    Raises:
        DataError: a value is out of range.
    """

    min_rating: float | None = None
    k_core: int = 1
    split: str = "random"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value."""
        if self.k_core < 1:
            raise DataError(f"expected --k-core of at least 1, found {self.k_core}; use 1 to keep every user and item")
        if self.split not in SPLIT_METHODS:
            raise DataError(f"expected --split among {', '.join(SPLIT_METHODS)}, found {self.split!r}; choose one")
        if self.seed < 0:
            raise DataError(f"expected a --seed of at least 0, found {self.seed}; choose another")
        good = all(math.isfinite(share) and share > 0 for share in self.fractions)
        if len(self.fractions) != len(SPLITS) or not good or abs(sum(self.fractions) - 1) > 1e-9:
            found = " ".join(map(str, self.fractions))
            raise DataError(f"expected three --fractions above 0 that add up to 1, found {found}; use 0.8 0.1 0.1")


@dataclass(frozen=True)
class Prepared:
    """Reviews that were kept, each with its split.

    Args:
        reviews: the columns of `schema.REVIEWS`, sorted by user and item, one row per pair.
        counts: read = skipped + duplicates + low_rating + outside_k_core + kept, and what was noticed on the way.
    """

    reviews: pl.DataFrame
    counts: dict[str, int]


def prepare(raw: RawData, options: PrepareOptions) -> Prepared:
    """Filter and split raw reviews.

    Duplicates go first, so that a pair is judged by its latest review.

    Args:
        raw: what a reader returned; where its reviews carry a `split`, that split is kept.
        options: filters and split.

    Raises:
        DataError: nothing is left, or the split cannot be made.
    """
    steps = {"duplicates": latest(raw.reviews)}
    steps["low_rating"] = at_least_rated(steps["duplicates"], options.min_rating)
    steps["outside_k_core"] = k_core(steps["low_rating"], options.k_core)
    counts, before = {"read": raw.read_rows, "skipped": raw.skipped_rows}, raw.reviews.height
    for name, table in steps.items():
        counts[name] = before - table.height
        before = table.height
    kept = steps["outside_k_core"].sort("user_id", "item_id")
    counts["kept"] = kept.height
    if kept.is_empty():
        dropped = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if name != "kept")
        raise DataError(f"expected interactions after filtering, found none ({dropped}); lower --k-core or --min-rating")
    if "split" not in kept.columns:
        kept = kept.with_columns(split=assign_split(kept, options))
    kept = kept.select(list(REVIEWS))
    return Prepared(kept, counts | split_counts(kept))


def latest(reviews: pl.DataFrame) -> pl.DataFrame:
    """Keep each pair's latest review; without times, or at equal times, the last one read."""
    row = "__row"
    ordered = reviews.with_row_index(row).sort("timestamp", row, nulls_last=False)
    return ordered.unique(["user_id", "item_id"], keep="last", maintain_order=True).sort(row).drop(row)


def at_least_rated(reviews: pl.DataFrame, min_rating: float | None) -> pl.DataFrame:
    """Keep reviews rated at least `min_rating` (`>=`); with None, all of them, rated or not."""
    return reviews if min_rating is None else reviews.filter(pl.col("rating") >= min_rating)


def k_core(reviews: pl.DataFrame, k: int) -> pl.DataFrame:
    """Keep the largest part in which every user and every item has at least `k` rows.

    Args:
        reviews: one row per pair, with `user_id` and `item_id`.
        k: 1 keeps everything.
    """
    if k <= 1:
        return reviews
    ids = reviews.select(pl.col("user_id", "item_id").rank("dense").cast(pl.Int64) - 1)
    users, items = ids["user_id"].to_numpy(), ids["item_id"].to_numpy()
    rows = np.arange(reviews.height)
    while rows.size:
        by_user, by_item = np.bincount(users[rows]), np.bincount(items[rows])
        stays = (by_user[users[rows]] >= k) & (by_item[items[rows]] >= k)
        if stays.all():
            break
        rows = rows[stays]
    return reviews[rows]


def assign_split(pairs: pl.DataFrame, options: PrepareOptions) -> pl.Series:
    """Return a split for each row of `pairs`, whatever the order in which they come.

    Raises:
        DataError: there are too few pairs for three splits, or a temporal split lacks times.
    """
    places = pairs.select("user_id", "item_id", pl.int_range(pl.len()).alias("place")).sort("user_id", "item_id")
    if options.split == "temporal":
        order = _by_time(pairs)
    else:
        order = places["place"].to_numpy()[np.random.default_rng(options.seed).permutation(pairs.height)]
    ends = [round(pairs.height * share) for share in np.cumsum(options.fractions)]
    if not 0 < ends[0] < ends[1] < pairs.height:
        raise DataError(
            f"expected enough pairs for a train, a validation and a test split, found {pairs.height:,}; "
            "give more data, or change --fractions"
        )
    split = np.empty(pairs.height, dtype=object)
    for name, part in zip(SPLITS, np.split(order, ends[:2]), strict=True):
        split[part] = name
    return pl.Series("split", split.tolist(), dtype=pl.String)


def _by_time(pairs: pl.DataFrame) -> np.ndarray:
    missing = pairs["timestamp"].null_count()
    if missing:
        raise DataError(
            f"expected a time of every interaction for --split temporal, found {missing:,} without; use --split random"
        )
    rows = pairs.select("timestamp", "user_id", "item_id", pl.int_range(pl.len()).alias("place"))
    return rows.sort("timestamp", "user_id", "item_id")["place"].to_numpy()


def split_counts(pairs: pl.DataFrame) -> dict[str, int]:
    """Count users, items, splits, ids that the graph will not know, and straddling texts where there are reviews."""
    train = pairs.filter(pl.col("split") == "train")
    counts = {name: pairs.filter(pl.col("split") == name).height for name in SPLITS}
    for name in ("user", "item"):
        known = pairs[f"{name}_id"].n_unique()
        counts[f"{name}s"] = known
        counts[f"{name}s_without_training_interactions"] = known - train[f"{name}_id"].n_unique()
    if "review" in pairs.columns:
        counts["without_text"] = pairs.filter(pl.col("review") == "").height
        counts["straddling_training_reviews"] = int(straddling(pairs).sum())
    return counts
