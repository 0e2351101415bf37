"""From a source to a dataset folder."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .card import write_card
from .errors import DataError
from .leaks import LeakReport, check_cold, leak_report, straddling_report
from .packed_files import require_file
from .prepare import Chosen, PrepareOptions, choose, split_counts
from .reading import READ, Read
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
from .shards import Shard, check_either, remove_gathered, require_all, shard_folder
from .source_names import source_names
from .sources import RAW_ITEM_COLUMNS, Batches, clean_items, find_reader, in_batches
from .spool import Spool
from .table import TableFiles, raw_batches, read_explained
from .table_files import TableOptions
from .usable import write_straddling

logger = logging.getLogger(__name__)

JUDGED = 50_000
"""Rows of the built-in world that are looked at a time."""

UNPACKED = "unpacked"
"""Where compressed tables lie while they are read."""

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

    def sizes(self) -> list[tuple[str, int]]:
        """Return name and size of each file of reviews, by which shards tell that they read the same."""
        files = [*self.reviews, *([] if self.interactions is None else [self.interactions])]
        return [(path.name, require_file(path).stat().st_size) for path in files]


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
    shard: Shard | None = None,
    gather: int | None = None,
) -> None:
    """Build a dataset folder; nothing is left behind when it fails.

    Reviews are read in batches and wait on disk, in the folder that is being made, until it is known which of them stay.
    A shard reads and judges its share of the reviews and leaves it beside `out`; everything else, which needs all of them,
    is done when they are gathered.

    Args:
        source: one of `source_names.source_names()`.
        out: the folder to make; absent or empty.
        inputs: the source's files; none for `synthetic`.
        options: filters and split; the defaults of `PrepareOptions`.
        skip_bad_rows: leave broken rows out and count them.
        repair_leaks: take explanation pairs out of the graph when they leak; for `table`.
        world: `users`, `items` and `interactions` of the built-in world, where they differ from its defaults.
        table: how the tables of source `table` name their columns and write their times.
        shard: read this share only and leave it in `OUT.shards`; not for `synthetic` and explanations.
        gather: make the folder of what so many shards left, and remove that.

    Raises:
        DataError: files or options cannot be used, or nothing is left, or a shard is missing or was told otherwise.
        LeakError: held-out explanation pairs are training edges.
    """
    inputs, options, table = inputs or Inputs(), options or PrepareOptions(), table or TableOptions()
    _check_inputs(source, inputs)
    _check_shares(source, inputs, shard, gather)
    refuse_existing(out)
    task = _Build(source, out.absolute(), inputs, options, table, skip_bad_rows, repair_leaks, dict(world or {}))
    if shard is not None:
        task.leave(shard)
    else:
        task.make(gather)


@dataclass(frozen=True)
class _Build:
    """What `build` was told."""

    source: str
    out: Path
    inputs: Inputs
    options: PrepareOptions
    table: TableOptions
    skip_bad_rows: bool
    repair_leaks: bool
    world: dict[str, int]

    @property
    def shards(self) -> Path:
        """Where shards leave what they read."""
        return self.out.with_name(f"{self.out.name}.shards")

    def about(self) -> dict[str, Any]:
        """What build.json says before anything is read."""
        options = {
            **asdict(self.options),
            "skip_bad_rows": self.skip_bad_rows,
            "repair_leaks": self.repair_leaks,
            **self.world,
        }
        if self.table != TableOptions():
            options |= {"columns": dict(self.table.columns), "timestamp_unit": self.table.timestamp_unit}
        return {"format": FORMAT, "source": self.source, "options": options, "seed": self.options.seed}

    def told(self) -> dict[str, Any]:
        """What shards must have in common."""
        return self.about() | {"inputs": self.inputs.sizes()}

    def leave(self, shard: Shard) -> None:
        """Read a shard and leave it to be gathered."""
        target = shard_folder(self.shards, shard)
        shutil.rmtree(target, ignore_errors=True)
        with atomic_folder(target) as room:
            Read.of(self.batches(room, shard), self.options, room).leave(room, self.told())
            shutil.rmtree(room / UNPACKED, ignore_errors=True)
        logger.warning("shard %s is read; when all are, run this with --gather %d", shard.name, shard.of)

    def make(self, gather: int | None) -> None:
        """Make the folder, of what so many shards left or of the files."""
        with atomic_folder(self.out) as root:
            folder, made = DatasetFolder(root), None
            if self.source == "table" and self.inputs.explanations is not None:
                tables = _write_explained(
                    folder, _table_files(self.inputs), self.options, self.repair_leaks, self.table, self.skip_bad_rows
                )
            elif self.source == "synthetic":
                from .synthetic import generate_world

                made = generate_world(seed=self.options.seed, **self.world)
                batches = in_batches(made.raw, JUDGED)
                tables = _write_reviews(folder, batches, Read.of(batches, self.options, root), self.options)
            else:
                batches = self.batches(root)
                if gather is None:
                    read = Read.of(batches, self.options, root)
                else:
                    read = Read.gathered(require_all(self.shards, gather, READ), self.told(), root)
                tables = _write_reviews(folder, batches, read, self.options)
            shutil.rmtree(root / UNPACKED, ignore_errors=True)
            _finish(folder, self.about() | tables, self.inputs)
            if made is not None:
                made.write_truth(folder)
        if gather is not None:
            remove_gathered(self.shards, gather)

    def batches(self, room: Path, shard: Shard | None = None) -> Batches:
        """Prepare to read the files."""
        if self.source == "table":
            return raw_batches(_table_files(self.inputs), self.table, self.skip_bad_rows, room / UNPACKED, shard)
        return find_reader(self.source).batches(self.inputs.reviews, self.inputs.items, self.skip_bad_rows, shard)


def _check_shares(source: str, inputs: Inputs, shard: Shard | None, gather: int | None) -> None:
    check_either(shard, gather)
    if (shard is not None or gather is not None) and (source == "synthetic" or inputs.explanations is not None):
        what = "synthetic" if source == "synthetic" else "table with --explanations"
        raise DataError(f"expected no --shard and no --gather for source {what}, found one; build it at once")


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


def _write_reviews(folder: DatasetFolder, batches: Batches, read: Read, options: PrepareOptions) -> dict[str, Any]:
    keys = read.spool.keys()
    if "split" in keys.columns and (options.cold_users or options.cold_items):
        raise DataError("expected no --cold-users and no --cold-items beside a split column, found one; drop the column")
    tally = read.tally
    chosen = choose(keys, options, tally.read, tally.skipped)
    pairs = keys.drop("verdict", "split", strict=False)[chosen.rows].with_columns(split=chosen.split)
    del keys
    _write_interactions(folder, pairs)
    counts = chosen.counts | split_counts(pairs) | _write_items(folder, batches, pairs)
    users = pairs.select(pl.col("user_id").unique()).sort("user_id").with_columns(user_profile=pl.lit(""))
    write_table(users, folder.users, USERS)
    read.names.write(folder.user_names, users["user_id"])
    _write_texts(folder, read.spool, chosen, counts)
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
    folder: DatasetFolder,
    files: TableFiles,
    options: PrepareOptions,
    repair_leaks: bool,
    table: TableOptions,
    skip_bad_rows: bool,
) -> dict[str, Any]:
    plain = PrepareOptions(split=options.split, fractions=options.fractions, seed=options.seed)
    if options != plain:
        raise DataError(
            "expected no --k-core and no --min-rating beside --explanations, whose pairs they would take apart, nor any other "
            "filter, found one; filter the tables first"
        )
    tables = read_explained(files, options, repair_leaks, table, skip_bad_rows)
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
