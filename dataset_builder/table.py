"""Reader of tables that users already have: interactions and, where they exist, explanations and profiles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .errors import DataError
from .leaks import PAIR, LeakReport, leak_report
from .prepare import PrepareOptions, latest, split_counts
from .schema import EXPLANATIONS, INTERACTIONS, ITEMS, SPLITS, USERS
from .shards import Shard
from .sources import RAW_ITEM_COLUMNS, RAW_REVIEWS, USER_NAME, Batches, Place, clean_reviews
from .splits import assign_split
from .table_files import TableOptions, file_batches, read_file
from .tally import Tally

SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation"}
SPLIT_NAMES |= {"test": "test", "tst": "test"}
"""How a `split` column may name the splits."""

NO_PROFILE = "None"
"""What published tables write where a profile could not be made."""

EXPLANATION_DEFAULTS = {name: "" for name in ("title", "user_profile", "item_profile")}


@dataclass(frozen=True)
class TableFiles:
    """The files of the source `table`, of any kind that `table_files` reads.

    Args:
        interactions: user_id, item_id and, where known, rating, timestamp, review, split.
        explanations: user_id, item_id, explanation and, where known, title, user_profile, item_profile, split.
        items: item_id and, where known, title, description, item_profile.
        users: user_id, user_profile.
    """

    interactions: Path
    explanations: Path | None = None
    items: Path | None = None
    users: Path | None = None


@dataclass(frozen=True)
class ExplainedTables:
    """The tables of a dataset that comes with explanations.

    Args:
        interactions: the columns of `schema.INTERACTIONS` and `split`.
        explanations: the columns of `schema.EXPLANATIONS` and `split`.
        users: the columns of `schema.USERS`.
        items: the columns of `schema.ITEMS`.
        counts: what was read, dropped and kept.
        published: the leak between the splits as given.
        report: the leak that is left.
        unverified: what these tables cannot show.
    """

    interactions: pl.DataFrame
    explanations: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    counts: dict[str, int]
    published: LeakReport
    report: LeakReport
    unverified: tuple[str, ...]


def raw_batches(
    files: TableFiles, options: TableOptions, skip_bad_rows: bool, room: Path, shard: Shard | None = None
) -> Batches:
    """Prepare to read interactions without explanations, to be filtered, split and distilled as any other source.

    Args:
        files: the tables; `interactions` and, where known, `items` are read.
        options: names of their columns.
        skip_bad_rows: leave broken rows out and count them instead of raising.
        room: a folder that compressed files may be unpacked to.
        shard: yield only the blocks of this share of the interactions; see `JsonLinesReader.batches`.
    """
    counted, described = Tally(), Tally()

    def placed() -> Iterator[tuple[Place, pl.DataFrame]]:
        for block, rows in file_batches(files.interactions, PAIR, options, counted, skip_bad_rows, room, shard):
            reviews = clean_reviews(rows.select(*RAW_REVIEWS, USER_NAME))
            yield Place(0, block), reviews.with_columns(split=_splits(rows, files.interactions, partly=True))

    def items() -> Iterator[pl.DataFrame]:
        if files.items is not None:
            for _, rows in file_batches(files.items, ("item_id",), options, described, skip_bad_rows, room):
                yield rows.select(list(RAW_ITEM_COLUMNS))

    return Batches(placed(), items(), counted, described)


def read_explained(
    files: TableFiles,
    options: PrepareOptions,
    repair_leaks: bool = False,
    table: TableOptions | None = None,
    skip_bad_rows: bool = False,
) -> ExplainedTables:
    """Read interactions with their explanations and check them for leaks.

    Splits that the tables carry are kept. Explanations without one are drawn at random; interactions without one
    follow their explanation, and the others are drawn at random.

    Args:
        files: the tables; `files.explanations` must be given.
        options: fractions and seed of the splits that are made here.
        repair_leaks: when explanation pairs are training edges, take all explanation pairs out of the interactions.
        table: names of the tables' columns.
        skip_bad_rows: leave broken rows out of every table and count them instead of raising.

    Raises:
        LeakError: explanation pairs are training edges and `repair_leaks` is off.
        DataError: a table cannot be used.
    """
    if files.explanations is None:
        raise DataError("expected a table of explanations, found none; give --explanations")
    reading = _Reading(table or TableOptions(), skip_bad_rows)
    explanations, counts = _explanations(files.explanations, options, reading)
    interactions, split_given = _interactions(files.interactions, explanations, options, counts, reading)
    if not split_given:
        explanations = explanations.with_columns(checked=pl.col("split") != "train")
    held_out = explanations.filter(pl.col("checked")).drop("checked")
    explanations = explanations.drop("checked")
    published = leak_report(interactions.filter(pl.col("split") == "train"), held_out)
    counts["removed_explanation_pairs"] = 0
    if published.count and not repair_leaks:
        published.check()
    if published.count:
        before = interactions.height
        interactions = interactions.join(explanations, on=PAIR, how="anti")
        counts["removed_explanation_pairs"] = before - interactions.height
    if interactions.filter(pl.col("split") == "train").is_empty():
        raise DataError(
            f"{files.interactions}: expected training interactions, found none beside the explanation pairs; "
            "give interactions that have no explanation too"
        )
    counts["kept"] = interactions.height
    report = leak_report(interactions.filter(pl.col("split") == "train"), held_out)
    report.check()
    users, items = _profiles(files, interactions, explanations, counts, reading)
    explanations = _filled(explanations, users, items)
    unverified = ["whether the given explanations and profiles were made from reviews of held-out pairs"]
    counts |= split_counts(interactions) | {f"explanations_{s}": _count(explanations, s) for s in SPLITS}
    return ExplainedTables(
        interactions.sort(PAIR), explanations.sort(PAIR), users, items, counts, published, report, tuple(unverified)
    )


@dataclass(frozen=True)
class _Reading:
    """How the tables are read."""

    named: TableOptions
    skip_bad_rows: bool

    def read(self, path: Path, required: tuple[str, ...]) -> tuple[pl.DataFrame, int]:
        """Return a table and how many broken rows were left out of it."""
        tally = Tally()
        table = read_file(path, required, self.named, self.skip_bad_rows, tally)
        return table, tally.skipped


def _count(table: pl.DataFrame, split: str) -> int:
    return table.filter(pl.col("split") == split).height


def _with_columns(table: pl.DataFrame, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Return the schema's columns; those that the table lacks are null."""
    return table.select(
        pl.col(name) if name in table.columns else pl.lit(None, dtype).alias(name) for name, dtype in schema.items()
    )


def _splits(table: pl.DataFrame, path: Path, partly: bool = False) -> pl.Series:
    """Return the splits by our names; null where the table says none and that is allowed."""
    names = table["split"].str.to_lowercase().replace_strict(SPLIT_NAMES, default=None)
    bad = names.is_null() & table["split"].is_not_null() if partly else names.is_null()
    if bad.any():
        found = table["split"].filter(bad)[0]
        raise DataError(f"{path}: expected split train, validation or test in every row, found {found!r}; mend the column")
    return names


def _explanations(path: Path, options: PrepareOptions, reading: _Reading) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return explanations with `split` and `checked`: whether the row must not be a training edge.

    Where the table names no split, any of its rows may have been published as held out, so all of them are checked.
    """
    table, skipped = reading.read(path, (*PAIR, "explanation"))
    counts = {"explanations_read": table.height + skipped, "explanations_skipped": skipped}
    given = "split" in table.columns
    split = _splits(table, path) if given else pl.Series("split", [], pl.String)
    table = _with_columns(table, EXPLANATIONS).with_columns(
        pl.col(EXPLANATION_DEFAULTS).fill_null(""),
    )
    if given:
        table = table.with_columns(split=split)
    unique = table.unique(PAIR, keep="last", maintain_order=True).sort(PAIR)
    counts["explanation_duplicates"] = table.height - unique.height
    if not given:
        unique = unique.with_columns(split=assign_split(unique, options))
    counts["none_profiles"] = int(
        unique.select(pl.sum_horizontal((pl.col("user_profile", "item_profile") == NO_PROFILE).sum())).item()
    )
    checked = pl.col("split") != "train" if given else pl.lit(True)
    return unique.with_columns(_without_none("user_profile"), _without_none("item_profile"), checked=checked), counts


def _without_none(name: str) -> pl.Expr:
    return pl.when(pl.col(name) == NO_PROFILE).then(pl.lit("")).otherwise(pl.col(name)).alias(name)


def _interactions(
    path: Path, explanations: pl.DataFrame, options: PrepareOptions, counts: dict[str, int], reading: _Reading
) -> tuple[pl.DataFrame, bool]:
    """Return interactions with `split`, and whether the table names it; else they follow their explanation."""
    table, skipped = reading.read(path, PAIR)
    given = "split" in table.columns
    rows = _with_columns(table, INTERACTIONS)
    if given:
        rows = rows.with_columns(split=_splits(table, path))
    kept = latest(rows)
    counts |= {"read": table.height + skipped, "skipped": skipped, "duplicates": table.height - kept.height}
    if not given:
        theirs = explanations.select(*PAIR, "split")
        explained = kept.join(theirs, on=PAIR, how="inner")
        others = kept.join(theirs, on=PAIR, how="anti")
        others = others.with_columns(split=assign_split(others, options)) if others.height else explained.clear()
        kept = pl.concat([explained.select(*INTERACTIONS, "split"), others.select(*INTERACTIONS, "split")])
    return kept, given


def _profiles(
    files: TableFiles, interactions: pl.DataFrame, explanations: pl.DataFrame, counts: dict[str, int], reading: _Reading
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return all users and all items that occur, with what any of the tables says of them."""
    pairs = pl.concat([interactions.select(PAIR), explanations.select(PAIR)])
    users = _known(files.users, USERS, explanations, counts, reading)
    items = _known(files.items, ITEMS, explanations, counts, reading)
    tables = []
    for schema, known in ((USERS, users), (ITEMS, items)):
        key = next(iter(schema))
        table = pairs.select(pl.col(key).unique()).sort(key).join(known, on=key, how="left", maintain_order="left")
        counts[f"{key.removesuffix('_id')}s_without_profile"] = 0
        table = table.with_columns(pl.exclude(key).fill_null("")).select(list(schema))
        profile = f"{key.removesuffix('_id')}_profile"
        counts[f"{key.removesuffix('_id')}s_without_profile"] = table.filter(pl.col(profile) == "").height
        tables.append(table)
    return tables[0], tables[1]


def _known(
    path: Path | None, schema: Mapping[str, Any], explanations: pl.DataFrame, counts: dict[str, int], reading: _Reading
) -> pl.DataFrame:
    """Return one row per id: the first text that is not empty, the given table before the explanations."""
    key, *texts = schema
    tables = [explanations.select(list(schema))]
    if path is not None:
        table, counts[f"{key.removesuffix('_id')}s_skipped"] = reading.read(path, (key,))
        given = _with_columns(table, schema).with_columns(pl.col(texts).fill_null(""))
        counts["none_profiles"] += given.filter(pl.col(texts[-1]) == NO_PROFILE).height
        tables.insert(0, given.with_columns(_without_none(texts[-1])))
    first = [pl.col(name).filter(pl.col(name) != "").first().fill_null("").alias(name) for name in texts]
    return pl.concat(tables).group_by(key, maintain_order=True).agg(first)


def _filled(explanations: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Fill empty titles and profiles of explanations from the tables of users and items."""
    joined = explanations.join(users, on="user_id", how="left", suffix="_given", maintain_order="left")
    joined = joined.join(items, on="item_id", how="left", suffix="_given", maintain_order="left")
    fill = [
        pl.when(pl.col(name) == "").then(pl.col(f"{name}_given").fill_null("")).otherwise(pl.col(name)).alias(name)
        for name in EXPLANATION_DEFAULTS
    ]
    return joined.with_columns(fill).select(*EXPLANATIONS, "split")
