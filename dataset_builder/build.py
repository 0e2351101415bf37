"""From a source to a dataset folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .card import write_card
from .errors import DataError
from .leaks import LeakReport, check_cold, leak_report, straddling_report
from .prepare import Chosen, PrepareOptions, choose, judge, split_counts
from .schema import (
    COLD_SPLITS,
    EXPLANATIONS,
    INTERACTIONS,
    ITEMS,
    RAW_ITEMS,
    SPLITS,
    USERS,
    DatasetFolder,
    atomic_folder,
    refuse_existing,
    sha256,
    write_json,
    write_table,
)
from .source_names import source_names
from .sources import RAW_ITEM_COLUMNS, Batches, clean_items, find_reader, in_batches
from .spool import Spool
from .table import TableFiles, raw_batches, read_explained
from .table_files import TableOptions
from .usable import write_straddling

if TYPE_CHECKING:
    from .synthetic import World

logger = logging.getLogger(__name__)

JUDGED = 50_000
"""Rows of the built-in world that are looked at a time."""

FORMAT = 1
"""Version of the folder's layout, written to build.json."""


@dataclass(frozen=True)
class Inputs:
    """The files of a source; which of them it needs depends on the source.

    Args:
        reviews: raw review files.
        interactions: a table of interactions.
        explanations: a table of explanations.
        items: item metadata, or a table of items.
        users: a table of users.
    """

    reviews: Sequence[Path] = ()
    interactions: Path | None = None
    explanations: Path | None = None
    items: Path | None = None
    users: Path | None = None

    def described(self) -> list[dict[str, str]]:
        """Return role, name and SHA-256 of each file that is given, never its path."""
        files = [("reviews", path) for path in self.reviews]
        files += [(role, getattr(self, role)) for role in ("interactions", "explanations", "items", "users")]
        return [{"role": role, "name": path.name, "sha256": sha256(path)} for role, path in files if path is not None]


def build(
    source: str,
    out: Path,
    *,
    inputs: Inputs | None = None,
    options: PrepareOptions | None = None,
    skip_bad_rows: bool = False,
    repair_leaks: bool = False,
    world: Mapping[str, int] | None = None,
    table: TableOptions | None = None,
) -> None:
    """Build a dataset folder; nothing is left behind when it fails.

    Reviews are read in batches and wait on disk, in the folder that is being made, until it is known which of them stay.

    Args:
        source: one of `source_names.source_names()`.
        out: the folder to make; absent or empty.
        inputs: the source's files; none for `synthetic`.
        options: filters and split; the defaults of `PrepareOptions`.
        skip_bad_rows: leave broken rows out and count them; for raw reviews and tables without explanations.
        repair_leaks: take explanation pairs out of the graph when they leak; for `table`.
        world: `users`, `items` and `interactions` of the built-in world, where they differ from its defaults.
        table: how the tables of source `table` name their columns and write their times.

    Raises:
        DataError: files or options cannot be used, or nothing is left.
        LeakError: held-out explanation pairs are training edges.
    """
    inputs, options, table = inputs or Inputs(), options or PrepareOptions(), table or TableOptions()
    _check_inputs(source, inputs)
    refuse_existing(out)
    about: dict[str, Any] = {
        "format": FORMAT,
        "source": source,
        "options": {**asdict(options), "skip_bad_rows": skip_bad_rows, "repair_leaks": repair_leaks, **(world or {})},
        "seed": options.seed,
    }
    if table != TableOptions():
        about["options"] |= {"columns": dict(table.columns), "timestamp_unit": table.timestamp_unit}
    with atomic_folder(out) as root:
        folder = DatasetFolder(root)
        if source == "table" and inputs.explanations is not None:
            about |= _write_explained(folder, _table_files(inputs), options, repair_leaks, table)
            _finish(folder, about, inputs)
            return
        made: World | None = None
        if source == "synthetic":
            from .synthetic import generate_world

            made = generate_world(seed=options.seed, **(world or {}))
            batches = in_batches(made.raw, JUDGED)
        elif source == "table":
            batches = raw_batches(_table_files(inputs), table, skip_bad_rows, root / "unpacked")
        else:
            batches = find_reader(source).batches(inputs.reviews, inputs.items, skip_bad_rows)
        about |= _write_reviews(folder, batches, options)
        _finish(folder, about, inputs)
        if made is not None:
            made.write_truth(folder)


def _check_inputs(source: str, inputs: Inputs) -> None:
    """Refuse an unknown source, and files that the source does not read or lacks."""
    if source not in source_names():
        raise DataError(f"expected a source among {', '.join(source_names())}, found {source!r}; choose one")
    reads = {"synthetic": (), "table": ("interactions", "explanations", "items", "users")}.get(source, ("reviews", "items"))
    given = [role for role in ("reviews", "interactions", "explanations", "items", "users") if getattr(inputs, role)]
    for role in given:
        if role not in reads:
            may = ", ".join(f"--{name}" for name in reads) or "no files"
            raise DataError(f"expected {may} for source {source}, found --{role}; leave it out")
    if reads and reads[0] not in given:
        raise DataError(f"expected --{reads[0]} FILE for source {source}, found none; give the file")


def _table_files(inputs: Inputs) -> TableFiles:
    if inputs.interactions is None:
        raise DataError("expected --interactions FILE for source table, found none; give the file")
    return TableFiles(inputs.interactions, inputs.explanations, inputs.items, inputs.users)


def _write_reviews(folder: DatasetFolder, batches: Batches, options: PrepareOptions) -> dict[str, Any]:
    spool = Spool(folder.root / "spool")
    for rows in batches.reviews:
        spool.add(rows, judge(rows, options))
    keys = spool.keys()
    if "split" in keys.columns and (options.cold_users or options.cold_items):
        raise DataError("expected no --cold-users and no --cold-items beside a split column, found one; drop the column")
    tally = batches.review_tally
    chosen = choose(keys, options, tally.read, tally.skipped)
    pairs = keys.drop("verdict", "split", strict=False)[chosen.rows].with_columns(split=chosen.split)
    del keys
    _write_interactions(folder, pairs)
    counts = chosen.counts | split_counts(pairs) | _write_items(folder, batches, pairs)
    users = pairs.select(pl.col("user_id").unique()).sort("user_id").with_columns(user_profile=pl.lit(""))
    write_table(users, folder.users, USERS)
    _write_texts(folder, spool, chosen, counts)
    if tally.skipped or batches.item_tally.skipped:
        logger.warning("left out %d broken review rows, %d broken item rows", tally.skipped, batches.item_tally.skipped)
    train, held_out = (pairs.filter((pl.col("split") == "train") == is_train) for is_train in (True, False))
    report = leak_report(train, held_out)
    report.check()
    check_cold(pairs)
    return _about(counts, report) | {"straddling_reviews": straddling_report(counts["straddling_training_reviews"])}


def _write_texts(folder: DatasetFolder, spool: Spool, chosen: Chosen, counts: dict[str, int]) -> None:
    spool.write(chosen, folder.reviews)
    spool.remove()
    without = pl.scan_parquet(folder.reviews).select((pl.col("review") == "").sum()).collect(engine="streaming")
    counts["without_text"] = int(without.item())
    counts["straddling_training_reviews"] = write_straddling(folder)


def _write_items(folder: DatasetFolder, batches: Batches, pairs: pl.DataFrame) -> dict[str, int]:
    """Write the items that occur, and count those of the metadata that do not."""
    items = pairs.select(pl.col("item_id").unique()).sort("item_id")
    known, unknown = [pl.DataFrame(schema=RAW_ITEM_COLUMNS)], [pl.DataFrame(schema={"item_id": pl.String})]
    for rows in batches.items:
        known.append(rows.join(items, on="item_id", how="semi", maintain_order="left"))
        unknown.append(rows.select("item_id").join(items, on="item_id", how="anti").unique())
    described = items.join(clean_items(pl.concat(known)), on="item_id", how="left", maintain_order="left").with_columns(
        pl.col("title", "description").fill_null("")
    )
    write_table(described.with_columns(item_profile=pl.lit("")), folder.items, ITEMS)
    write_table(described, folder.raw_items, RAW_ITEMS)
    return {
        "items_skipped": batches.item_tally.skipped,
        "items_without_title": described.filter(pl.col("title") == "").height,
        "unknown_items_in_metadata": pl.concat(unknown)["item_id"].n_unique(),
    }


def _write_explained(
    folder: DatasetFolder, files: TableFiles, options: PrepareOptions, repair_leaks: bool, table: TableOptions
) -> dict[str, Any]:
    plain = PrepareOptions(split=options.split, fractions=options.fractions, seed=options.seed)
    if options != plain:
        raise DataError(
            "expected no --k-core and no --min-rating beside --explanations, whose pairs they would take apart, nor any other "
            "filter, found one; filter the tables first"
        )
    tables = read_explained(files, options, repair_leaks, table)
    _write_interactions(folder, tables.interactions)
    for split in SPLITS:
        write_table(tables.explanations.filter(pl.col("split") == split), folder.explanations(split), EXPLANATIONS)
    write_table(tables.users, folder.users, USERS)
    write_table(tables.items, folder.items, ITEMS)
    about = _about(tables.counts, tables.report)
    return about | {"published_leak_report": tables.published.as_dict(), "unverified": list(tables.unverified)}


def _write_interactions(folder: DatasetFolder, pairs: pl.DataFrame) -> None:
    cold = [split for split in COLD_SPLITS if (pairs["split"] == split).any()]
    for split in (*SPLITS, *cold):
        write_table(pairs.filter(pl.col("split") == split), folder.interactions(split), INTERACTIONS)


def _about(counts: Mapping[str, int], report: LeakReport) -> dict[str, Any]:
    return {"counts": dict(counts), "leak_report": report.as_dict(), "unverified": [], "distillation": None}


def _finish(folder: DatasetFolder, about: Mapping[str, Any], inputs: Inputs) -> None:
    complete = {**about, "files": inputs.described()}
    write_json(complete, folder.build_json)
    write_card(folder, complete)
