"""The leak guard: no held-out explanation is known to the graph, and no held-out review feeds a profile."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from .errors import DataError, LeakError
from .near_duplicates import SHINGLE_WORDS, THRESHOLD, near_copies

PAIR = ("user_id", "item_id")
"""The two columns that identify an interaction."""


@dataclass(frozen=True)
class LeakReport:
    """How many explanation pairs are edges that the graph is trained on.

    Args:
        count: distinct explanation pairs that are training edges.
        total: distinct explanation pairs.
    """

    count: int
    total: int

    @property
    def overlap(self) -> float:
        """Share of the explanation pairs that are training edges, between 0 and 1; 0 when there are no pairs."""
        return self.count / self.total if self.total else 0.0

    def check(self) -> None:
        """Do nothing when there is no leak.

        Raises:
            LeakError: at least one explanation pair is a training edge.
        """
        if self.count:
            raise LeakError(
                f"expected no explanation pair among the graph's training edges, found {self.count:,} of "
                f"{self.total:,} ({100 * self.overlap:.1f} %); split by pair before training the graph, or build "
                "with --repair-leaks, which takes all explanation pairs out of the interactions"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return count, total and overlap for JSON."""
        return {**asdict(self), "overlap": self.overlap}


def leak_report(train_interactions: Any, explanations: Any) -> LeakReport:
    """Compare held-out explanation pairs with the edges that a graph was trained on.

    Args:
        train_interactions: the graph's training edges: a table with `user_id` and `item_id` as polars, pandas or
            pyarrow, a `datasets.Dataset`, or a mapping of columns.
        explanations: the pairs whose explanations are evaluated, in any of these forms.

    Returns:
        The counts of distinct pairs. Ids are compared as strings, so 7 and "7" are the same user.

    Raises:
        DataError: an argument is no such table, lacks a column, or has an empty id.
    """
    edges = id_pairs(train_interactions, "train_interactions")
    pairs = id_pairs(explanations, "explanations")
    return LeakReport(count=pairs.join(edges, on=PAIR, how="semi").height, total=pairs.height)


def id_pairs(table: Any, where: str) -> pl.DataFrame:
    """Return the distinct (user_id, item_id) pairs of a table as strings.

    Raises:
        DataError: the argument is no table, lacks a column, or has an empty id.
    """
    frame = _as_polars(table, where)
    return pl.DataFrame({name: _as_ids(frame[name], where) for name in PAIR}).unique(maintain_order=True)


def _as_polars(table: Any, where: str) -> pl.DataFrame:
    columns: Any = getattr(table, "column_names", None)
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if isinstance(table, Mapping) and not isinstance(columns, dict):
        table = {name: table[name] for name in PAIR if name in table}
        columns = list(table)
    elif isinstance(columns, dict):
        raise DataError(f"{where}: expected one table, found a DatasetDict; choose a split, for example dataset['train']")
    columns = list(columns if columns is not None else getattr(table, "columns", []))
    missing = [name for name in PAIR if name not in columns]
    if missing:
        found = ", ".join(map(repr, columns)) or type(table).__name__
        raise DataError(f"{where}: expected a table with column {missing[0]!r}, found {found}; rename the column")
    if isinstance(table, pl.DataFrame | dict):
        return pl.DataFrame({name: table[name] for name in PAIR})
    if hasattr(table, "select_columns"):  # datasets.Dataset, whose rows may be a selection of its table
        return table.select_columns(list(PAIR)).to_polars()
    if hasattr(table, "schema"):  # pyarrow.Table
        return pl.DataFrame(pl.from_arrow(table.select(list(PAIR))))
    return pl.DataFrame({name: table[name].tolist() for name in PAIR})  # pandas.DataFrame


def _as_ids(column: pl.Series, where: str) -> pl.Series:
    """Return a column of ids as strings; whole floats, as pandas makes of integers with gaps, read as integers."""
    empty = column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)
    if empty:
        raise DataError(f"{where}: expected an id in every row of {column.name!r}, found {empty:,} empty; drop those rows")
    if column.dtype.is_float() and bool((column == column.round()).all()):
        column = column.cast(pl.Int64)
    return column.cast(pl.String)


def straddling(reviews: pl.DataFrame) -> pl.Series:
    """Mark the training reviews that a held-out review nearly repeats, so that using them would show what is tested.

    Near-duplicates are what `near_duplicates` says: equal texts, case and punctuation apart, and those whose word triples
    overlap by four fifths. Every split but `train` is held out.

    Args:
        reviews: a table with `review` and `split`.

    Returns:
        One boolean per row; False for held-out rows and for texts without a word.
    """
    return pl.Series("straddling", near_copies(lambda: [reviews]), dtype=pl.Boolean)


def straddling_report(copies: int) -> dict[str, Any]:
    """Return how many training reviews straddle the splits, with the definition that this rests on, for build.json."""
    return {"jaccard_at_least": THRESHOLD, "shingle_words": SHINGLE_WORDS, "training_reviews": copies}


def check_cold(pairs: pl.DataFrame) -> None:
    """Check that no user of the split `cold_user` and no item of `cold_item` has a training edge.

    Args:
        pairs: interactions with `user_id`, `item_id` and `split`.

    Raises:
        LeakError: one has.
    """
    train = pairs.lazy().filter(pl.col("split") == "train")
    for name in ("user", "item"):
        cold = pairs.lazy().filter(pl.col("split") == f"cold_{name}").select(f"{name}_id").unique()
        known = cold.join(train.select(f"{name}_id").unique(), on=f"{name}_id", how="semi").collect().height
        if known:
            raise LeakError(f"expected no training edge of a cold {name}, found {known:,} with one; build the dataset again")


def check_profile_sources(sources: pl.DataFrame, reviews: pl.DataFrame, copies: pl.DataFrame | None = None) -> None:
    """Check that no held-out review was read for a profile, be it the review itself or a near-duplicate of it.

    Args:
        sources: the pairs whose reviews were read for profiles.
        reviews: all reviews of these users, with `split` and, where `copies` is not given, `review`.
        copies: pairs of training reviews that straddle the splits, where they are known already.

    Raises:
        LeakError: a held-out review or a near-duplicate of one fed a profile.
    """
    if copies is None:
        copies = reviews.filter(straddling(reviews))
    held_out = pl.concat([reviews.filter(pl.col("split") != "train").select(PAIR), copies.select(PAIR)])
    report = leak_report(sources, held_out)
    if report.count:
        raise LeakError(
            f"expected profiles made from training reviews only, found {report.count:,} held-out reviews or "
            "near-duplicates of them among their sources; distil again from training reviews"
        )
