"""From a source to a dataset folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .card import write_card
from .errors import DataError
from .leaks import LeakReport, leak_report
from .prepare import Prepared, PrepareOptions, prepare
from .schema import (
    EXPLANATIONS,
    INTERACTIONS,
    ITEMS,
    RAW_ITEMS,
    REVIEWS,
    SPLITS,
    USERS,
    DatasetFolder,
    atomic_folder,
    refuse_existing,
    sha256,
    write_json,
    write_table,
)
from .sources import SOURCES, RawData
from .table import TableFiles, read_explained, read_raw

if TYPE_CHECKING:
    from .synthetic import World

logger = logging.getLogger(__name__)

SOURCE_NAMES = ("synthetic", *SOURCES, "table")
"""What `build` can read."""

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
) -> None:
    """Build a dataset folder; nothing is left behind when it fails.

    Args:
        source: one of `SOURCE_NAMES`.
        out: the folder to make; absent or empty.
        inputs: the source's files; none for `synthetic`.
        options: filters and split; the defaults of `PrepareOptions`.
        skip_bad_rows: leave broken rows out and count them; for raw reviews.
        repair_leaks: take explanation pairs out of the graph when they leak; for `table`.
        world: `users`, `items` and `interactions` of the built-in world, where they differ from its defaults.

    Raises:
        DataError: files or options cannot be used, or nothing is left.
        LeakError: held-out explanation pairs are training edges.
    """
    inputs, options = inputs or Inputs(), options or PrepareOptions()
    _check_inputs(source, inputs)
    refuse_existing(out)
    about: dict[str, Any] = {
        "format": FORMAT,
        "source": source,
        "options": {**asdict(options), "skip_bad_rows": skip_bad_rows, "repair_leaks": repair_leaks, **(world or {})},
        "seed": options.seed,
    }
    with atomic_folder(out) as root:
        folder = DatasetFolder(root)
        if source == "table" and inputs.explanations is not None:
            about |= _write_explained(folder, _table_files(inputs), options, repair_leaks)
            _finish(folder, about, inputs)
            return
        made, raw = _read(source, inputs, options, skip_bad_rows, world or {})
        about |= _write_prepared(folder, raw, prepare(raw, options))
        _finish(folder, about, inputs)
        if made is not None:
            made.write_truth(folder)


def _check_inputs(source: str, inputs: Inputs) -> None:
    """Refuse an unknown source, and files that the source does not read or lacks."""
    if source not in SOURCE_NAMES:
        raise DataError(f"expected a source among {', '.join(SOURCE_NAMES)}, found {source!r}; choose one")
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


def _read(
    source: str, inputs: Inputs, options: PrepareOptions, skip_bad_rows: bool, world: Mapping[str, int]
) -> tuple["World | None", RawData]:
    if source == "synthetic":
        from .synthetic import generate_world

        made = generate_world(seed=options.seed, **world)
        return made, made.raw
    if source == "table":
        return None, read_raw(_table_files(inputs))
    raw = SOURCES[source].read(inputs.reviews, inputs.items, skip_bad_rows)
    if raw.skipped_rows or raw.skipped_items:
        logger.warning("left out %d broken review rows, %d broken item rows", raw.skipped_rows, raw.skipped_items)
    return None, raw


def _write_prepared(folder: DatasetFolder, raw: RawData, prepared: Prepared) -> dict[str, Any]:
    reviews = prepared.reviews
    items = reviews.select(pl.col("item_id").unique()).sort("item_id")
    described = items.join(raw.items, on="item_id", how="left", maintain_order="left").with_columns(
        pl.col("title", "description").fill_null("")
    )
    users = reviews.select(pl.col("user_id").unique()).sort("user_id").with_columns(user_profile=pl.lit(""))
    _write_interactions(folder, reviews)
    write_table(users, folder.users, USERS)
    write_table(described.with_columns(item_profile=pl.lit("")), folder.items, ITEMS)
    write_table(reviews, folder.reviews, REVIEWS)
    write_table(described, folder.raw_items, RAW_ITEMS)
    counts = prepared.counts | {
        "items_skipped": raw.skipped_items,
        "items_without_title": described.filter(pl.col("title") == "").height,
        "unknown_items_in_metadata": raw.items.join(items, on="item_id", how="anti").height,
    }
    train, held_out = (reviews.filter((pl.col("split") == "train") == is_train) for is_train in (True, False))
    report = leak_report(train, held_out)
    report.check()
    return _about(counts, report)


def _write_explained(folder: DatasetFolder, files: TableFiles, options: PrepareOptions, repair_leaks: bool) -> dict[str, Any]:
    if options.k_core > 1 or options.min_rating is not None:
        raise DataError(
            "expected no --k-core and no --min-rating beside --explanations, whose pairs they would take apart, found "
            "one; filter the tables first"
        )
    tables = read_explained(files, options, repair_leaks)
    _write_interactions(folder, tables.interactions)
    for split in SPLITS:
        write_table(tables.explanations.filter(pl.col("split") == split), folder.explanations(split), EXPLANATIONS)
    write_table(tables.users, folder.users, USERS)
    write_table(tables.items, folder.items, ITEMS)
    about = _about(tables.counts, tables.report)
    return about | {"published_leak_report": tables.published.as_dict(), "unverified": list(tables.unverified)}


def _write_interactions(folder: DatasetFolder, pairs: pl.DataFrame) -> None:
    for split in SPLITS:
        write_table(pairs.filter(pl.col("split") == split), folder.interactions(split), INTERACTIONS)


def _about(counts: Mapping[str, int], report: LeakReport) -> dict[str, Any]:
    return {"counts": dict(counts), "leak_report": report.as_dict(), "unverified": [], "distillation": None}


def _finish(folder: DatasetFolder, about: Mapping[str, Any], inputs: Inputs) -> None:
    complete = {**about, "files": inputs.described()}
    write_json(complete, folder.build_json)
    write_card(folder, complete)
