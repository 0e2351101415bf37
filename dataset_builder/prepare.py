"""From raw reviews to interactions: duplicates, filters, caps, k-core and the split.

What a row's text decides is judged once, while the row is being read; everything else looks at ids, times and these verdicts
only, so that texts can stay on disk.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from .errors import DataError
from .language import check_language, is_written_in
from .leaks import straddling
from .preparation_arrays import Array, Pairs, capped, core, drawn, indexed, latest_pairs
from .schema import COLD_SPLITS, REVIEWS, SPLITS
from .sources import RawData
from .splits import split_codes, split_names

SPLIT_METHODS = ("random", "temporal", "leave-one-out")
"""`random` draws pairs; `temporal` puts the latest pairs into test, by time over all users; `leave-one-out` puts each user's
latest pair into test and the one before it into validation."""

VERDICTS = ("", "low_rating", "too_short", "other_language")
"""What `judge` finds of a row; the first is to keep it."""

MOST_REPEATS = 200
"""Words that one pattern counts."""

KEYS = ("user_id", "item_id", "rating", "timestamp")
"""The columns that choosing looks at, beside `verdict` and, where the source publishes one, `split`."""

UNSAMPLED, CAPPED = 101, 102
"""What keeps the draws of users and of capped pairs apart from those of a split, under one seed."""


@dataclass(frozen=True)
class PrepareOptions:
    """How reviews become interactions.

    Args:
        min_rating: keep pairs rated at least this (`>=`); pairs without a rating are dropped then. None keeps all.
        k_core: every user and every item that stays has at least this many pairs; 1 keeps all.
        split: one of `SPLIT_METHODS`.
        fractions: shares of train, validation and test; they add up to 1, and `leave-one-out` does not look at them.
        seed: fixes every draw.
        min_words: keep reviews of at least this many words; 0 keeps all, also those without text.
        language: keep reviews in this language, a code of ISO 639-1 such as `en`; None keeps all.
        sample_users: share of the users that stay, drawn before the caps and the k-core.
        max_per_user: most pairs of a user, drawn at random. None keeps all.
        max_per_item: most pairs of an item, drawn at random of what the users' cap left. None keeps all.
        cold_users: share of the users who are held out whole.
        cold_items: share of the items that are held out whole.

    Raises:
        DataError: a value is out of range.
    """

    min_rating: float | None = None
    k_core: int = 1
    split: str = "random"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    min_words: int = 0
    language: str | None = None
    sample_users: float = 1.0
    max_per_user: int | None = None
    max_per_item: int | None = None
    cold_users: float = 0.0
    cold_items: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise DataError(f"expected a number of --min-rating, found {self.min_rating}; use a rating of the source")
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
        if self.min_words < 0:
            raise DataError(f"expected --min-words of at least 0, found {self.min_words}; use 0 to keep every review")
        for name in ("max_per_user", "max_per_item"):
            most = getattr(self, name)
            if most is not None and most < 1:
                flag = name.replace("_", "-")
                raise DataError(f"expected --{flag} of at least 1, found {most}; leave it out to keep all pairs")
        if not 0 < self.sample_users <= 1:
            raise DataError(f"expected --sample-users above 0 and up to 1, found {self.sample_users}; use 1 to keep all")
        for name in ("cold_users", "cold_items"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                flag = name.replace("_", "-")
                raise DataError(f"expected --{flag} of at least 0 and below 1, found {share}; use 0 to hold out none")
        check_language(self.language)


@dataclass(frozen=True)
class Chosen:
    """Which rows stay, and in which split.

    Args:
        rows: places in the table that was chosen from, in the order of user and item.
        split: the split of each.
        counts: read = skipped + duplicates + each filter + kept.
    """

    rows: Array
    split: pl.Series
    counts: dict[str, int]


@dataclass(frozen=True)
class Prepared:
    """Reviews that were kept, each with its split.

    Args:
        reviews: the columns of `schema.REVIEWS`, sorted by user and item, one row per pair.
        counts: those of `Chosen` and what was noticed on the way.
    """

    reviews: pl.DataFrame
    counts: dict[str, int]


def prepare(raw: RawData, options: PrepareOptions) -> Prepared:
    """Filter and split raw reviews that are in memory.

    Args:
        raw: what a reader returned; where its reviews carry a `split`, that split is kept.
        options: filters and split.

    Raises:
        DataError: nothing is left, or the split cannot be made.
    """
    keys = raw.reviews.drop("review").with_columns(verdict=judge(raw.reviews, options))
    chosen = choose(keys, options, raw.read_rows, raw.skipped_rows)
    kept = raw.reviews[chosen.rows].with_columns(split=chosen.split).select(list(REVIEWS))
    counts = chosen.counts | split_counts(kept) | {"without_text": kept.filter(pl.col("review") == "").height}
    return Prepared(kept, counts | {"straddling_training_reviews": int(straddling(kept).sum())})


def judge(reviews: pl.DataFrame, options: PrepareOptions) -> pl.Series:
    """Return an index into `VERDICTS` for each row: the first thing that speaks against it, in this order.

    Args:
        reviews: rows with `rating` and `review`.
        options: the filters.
    """
    found = np.zeros(reviews.height, dtype=np.uint8)
    if options.min_rating is not None:
        found[~(reviews["rating"] >= options.min_rating).fill_null(False).to_numpy()] = 1
    if options.min_words:
        asked = np.flatnonzero(found == 0)
        enough = reviews["review"].gather(pl.Series(asked)).to_frame("review").select(_has_words(options.min_words))
        found[asked[~enough.to_series().to_numpy()]] = 2
    if options.language is not None:
        asked = np.flatnonzero(found == 0)
        found[asked[~is_written_in(reviews["review"].gather(pl.Series(asked)), options.language)]] = 3
    return pl.Series("verdict", found)


def _has_words(least: int) -> pl.Expr:
    """Whether a review has so many words; looking at its beginning is enough where the pattern stays small."""
    review = pl.col("review")
    if least > MOST_REPEATS:
        return review.str.count_matches(r"\S+") >= least
    return review.str.contains(rf"^\s*(?:\S+\s+){{{least - 1}}}\S")


def choose(keys: pl.DataFrame, options: PrepareOptions, read: int, skipped: int) -> Chosen:
    """Choose and split interactions by ids, times and verdicts.

    Duplicates go first, so that a pair is judged by its latest review.

    Args:
        keys: the columns `KEYS`, `verdict` and, where the source publishes one, `split`; one row per review.
        options: filters and split.
        read: rows that the source had in all.
        skipped: broken rows among them, which `keys` does not hold.

    Raises:
        DataError: nothing is left, or the split cannot be made.
    """
    counts = {"read": read, "skipped": skipped}
    pairs = latest_pairs(keys["user_id"], keys["item_id"], keys["timestamp"])
    counts["duplicates"] = keys.height - len(pairs)
    verdicts = keys["verdict"].to_numpy()[pairs.rows]
    for code, name in enumerate(VERDICTS[1:], start=1):
        counts[name] = int((verdicts == code).sum())
    pairs = pairs.where(verdicts == 0)
    for name, keep in _draws(options):
        before = len(pairs)
        pairs = pairs.where(keep(pairs))
        counts[name] = counts.get(name, 0) + before - len(pairs)
    counts["kept"] = len(pairs)
    if not len(pairs):
        dropped = [f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count or name == "read"]
        raise DataError(
            f"expected interactions after filtering, found none ({', '.join(dropped)}); lower --k-core or --min-rating"
        )
    if "split" in keys.columns:
        return Chosen(pairs.rows, keys["split"].gather(pl.Series(pairs.rows)), counts)
    times = keys["timestamp"].gather(pl.Series(pairs.rows))
    return Chosen(pairs.rows, split_names(split_codes(pairs.users, pairs.items, times, options)), counts)


def _draws(options: PrepareOptions) -> list[tuple[str, Callable[[Pairs], Array]]]:
    """Return the filters that look at all pairs at once, in order, by the count they add to."""

    def sampled(pairs: Pairs) -> Array:
        if options.sample_users == 1:
            return np.ones(len(pairs), dtype=bool)
        rng = np.random.default_rng([options.seed, UNSAMPLED])
        return np.isin(pairs.users, drawn(pairs.users, options.sample_users, rng))

    def by(side: str, most: int | None, number: int) -> Callable[[Pairs], Array]:
        def keep(pairs: Pairs) -> Array:
            if most is None:
                return np.ones(len(pairs), dtype=bool)
            return capped(getattr(pairs, side), most, np.random.default_rng([options.seed, CAPPED, number]))

        return keep

    return [
        ("user_not_sampled", sampled),
        ("over_cap", by("users", options.max_per_user, 0)),
        ("over_cap", by("items", options.max_per_item, 1)),
        ("outside_k_core", lambda pairs: core(pairs.users, pairs.items, options.k_core)),
    ]


def latest(reviews: pl.DataFrame) -> pl.DataFrame:
    """Keep each pair's latest review; without times, or at equal times, the last one read."""
    return reviews[np.sort(latest_pairs(reviews["user_id"], reviews["item_id"], reviews["timestamp"]).rows)]


def k_core(reviews: pl.DataFrame, k: int) -> pl.DataFrame:
    """Keep the largest part in which every user and every item has at least `k` rows.

    Args:
        reviews: one row per pair, with `user_id` and `item_id`.
        k: 1 keeps everything.
    """
    return reviews.filter(pl.Series(core(indexed(reviews["user_id"])[0], indexed(reviews["item_id"])[0], k), dtype=pl.Boolean))


def split_counts(pairs: pl.DataFrame) -> dict[str, int]:
    """Count users, items, splits, and ids that the graph will not know.

    Args:
        pairs: distinct pairs with `user_id`, `item_id` and `split`.
    """
    train = pairs.filter(pl.col("split") == "train")
    present = [*SPLITS, *(name for name in COLD_SPLITS if (pairs["split"] == name).any())]
    counts = {name: pairs.filter(pl.col("split") == name).height for name in present}
    for name in ("user", "item"):
        known = pairs[f"{name}_id"].n_unique()
        counts[f"{name}s"] = known
        counts[f"{name}s_without_training_interactions"] = known - train[f"{name}_id"].n_unique()
    return counts
