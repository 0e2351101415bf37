"""The dataset folder: where its files lie, which columns they have, and how they are read and written.

Every other module asks this one for a path or a column, so that stages meet in files that are defined once.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .errors import DataError

SPLITS = ("train", "validation", "test")
"""The three splits, in the order in which they are written."""

COLD_SPLITS = ("cold_user", "cold_item")
"""Further test splits, there only when asked for: pairs whose user, or whose item, has no training edge at all."""

INTERACTIONS: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
}
"""One row per user-item pair; rating in the source's own scale, timestamp in seconds since 1970; both may be null."""

EXPLANATIONS: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "title": pl.String,
    "user_profile": pl.String,
    "item_profile": pl.String,
    "explanation": pl.String,
}
"""One row per explained pair."""

USERS: dict[str, Any] = {"user_id": pl.String, "user_profile": pl.String}
"""Every user that occurs; the profile is empty where there is none."""

ITEMS: dict[str, Any] = {"item_id": pl.String, "title": pl.String, "item_profile": pl.String}
"""Every item that occurs; title and profile are empty where there are none."""

REVIEWS: dict[str, Any] = {**INTERACTIONS, "review": pl.String, "split": pl.String}
"""The raw reviews, never published: one row per interaction, the text empty where there was none."""

RAW_ITEMS: dict[str, Any] = {"item_id": pl.String, "title": pl.String, "description": pl.String}
"""The raw item metadata, never published."""

STRADDLING: dict[str, Any] = {"user_id": pl.String, "item_id": pl.String}
"""Pairs whose training review a held-out one nearly repeats."""

USER_NAMES: dict[str, Any] = {"user_id": pl.String, "name": pl.String}
"""Names that users write under, where the source gives them; read to be masked, never published."""

PROVENANCE: dict[str, Any] = {
    "kind": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "teacher": pl.String,
    "model": pl.String,
    "prompt_version": pl.String,
    "temperature": pl.Float64,
    "seed": pl.Int64,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "request": pl.String,
}
"""Where each text of a teacher comes from; ids that its kind lacks are null, `request` is the hash in the journal."""


@dataclass(frozen=True)
class DatasetFolder:
    """The paths inside a dataset folder.

    Args:
        root: the folder itself; it need not exist.
    """

    root: Path

    def interactions(self, split: str) -> Path:
        """Return the path of one split's interactions; cold splits lie beside the three others."""
        return self._split_file("interactions", split)

    def explanations(self, split: str) -> Path:
        """Return the path of one split's explanations."""
        return self._split_file("explanations", split)

    @property
    def users(self) -> Path:
        """All users with their profiles."""
        return self.root / "data" / "users" / "all.parquet"

    @property
    def items(self) -> Path:
        """All items with their titles and profiles."""
        return self.root / "data" / "items" / "all.parquet"

    @property
    def reviews(self) -> Path:
        """The raw reviews with their splits."""
        return self.root / "private" / "reviews.parquet"

    @property
    def raw_items(self) -> Path:
        """The raw item metadata."""
        return self.root / "private" / "items.parquet"

    @property
    def straddling(self) -> Path:
        """The training reviews that must not be used, as `build` found them."""
        return self.root / "private" / "straddling.parquet"

    @property
    def shards(self) -> Path:
        """What shards of a distillation have made so far, by teacher; absent when none is under way."""
        return self.root / "private" / "shards"

    @property
    def user_names(self) -> Path:
        """The names of users; absent where the source gives none."""
        return self.root / "private" / "user_names.parquet"

    @property
    def provenance(self) -> Path:
        """Where each text of a teacher comes from; absent where no teacher was asked."""
        return self.root / "private" / "provenance.parquet"

    @property
    def journal(self) -> Path:
        """The recorded answers of teachers; absent where none was asked."""
        return self.root / "private" / "journal.sqlite"

    @property
    def build_json(self) -> Path:
        """How the folder was made: source, options, counts, leak report."""
        return self.root / "build.json"

    @property
    def card(self) -> Path:
        """The dataset card."""
        return self.root / "README.md"

    @property
    def truth_json(self) -> Path:
        """The truth of the built-in world; absent for real data."""
        return self.root / "truth" / "truth.json"

    @property
    def truth_pairs(self) -> Path:
        """The shared aspects of each held-out pair of the built-in world; absent for real data."""
        return self.root / "truth" / "pairs.parquet"

    def has_explanations(self) -> bool:
        """Return whether all three explanation tables are there."""
        return all(self.explanations(split).is_file() for split in SPLITS)

    def _split_file(self, config: str, split: str) -> Path:
        if split not in (*SPLITS, *COLD_SPLITS):
            raise DataError(f"expected a split among {', '.join((*SPLITS, *COLD_SPLITS))}, found {split!r}")
        return self.root / "data" / config / f"{split}.parquet"


def check_columns(table: pl.DataFrame, schema: Mapping[str, Any], where: str) -> None:
    """Check that a table has the columns of a schema with their types; further columns are allowed.

    Raises:
        DataError: a column is missing or has another type.
    """
    missing = [name for name in schema if name not in table.columns]
    if missing:
        raise DataError(
            f"{where}: expected column {missing[0]!r}, found {', '.join(map(repr, table.columns)) or 'no column'}; "
            "add the column or rename the one that holds it"
        )
    for name, dtype in schema.items():
        if table.schema[name] != dtype:
            raise DataError(
                f"{where}: expected column {name!r} to hold {dtype}, found {table.schema[name]}; convert the column"
            )


def read_table(path: Path, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Read one table of a dataset folder, with the columns of its schema in order.

    Args:
        path: a Parquet file.
        schema: column name to polars type.

    Raises:
        DataError: the file is missing, is not Parquet, or lacks a column.
    """
    scan = scan_table(path, schema)
    try:
        return scan.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: expected a Parquet file, found something else; build the dataset again") from error


def scan_table(path: Path, schema: Mapping[str, Any]) -> pl.LazyFrame:
    """Return one table of a dataset folder to be read in parts, with the columns of its schema in order.

    Args:
        path: a Parquet file.
        schema: column name to polars type.

    Raises:
        DataError: the file is missing, is not Parquet, or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file, found none; build the dataset again with `xrec build`")
    try:
        found = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: expected a Parquet file, found something else; build the dataset again") from error
    check_columns(pl.DataFrame(schema=found), schema, str(path))
    return pl.scan_parquet(path).select(list(schema))


def write_table(table: pl.DataFrame, path: Path, schema: Mapping[str, Any]) -> None:
    """Write one table as Parquet; equal tables give equal bytes.

    Args:
        table: rows in the order to write them.
        path: the file; its folder is created.
        schema: the columns that are written, in order.

    Raises:
        DataError: the table lacks a column or holds another type.
    """
    check_columns(table, schema, path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.select(list(schema)).rechunk().write_parquet(path, compression="zstd", row_group_size=100_000)


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write a mapping as indented JSON, keys in the order given, with a closing line break; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def read_build(folder: DatasetFolder) -> dict[str, Any]:
    """Read how a dataset folder was made.

    Raises:
        DataError: the folder is not a dataset folder, or its build.json cannot be read.
    """
    path = folder.build_json
    if not path.is_file():
        raise DataError(
            f"{folder.root}: expected a dataset folder with build.json, found "
            f"{'a folder without it' if folder.root.is_dir() else 'no such folder'}; make one with `xrec build`"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found a broken file; build the dataset again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}; build the dataset again")
    return value


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_existing(out: Path) -> None:
    """Refuse an output folder that already holds something.

    Raises:
        DataError: `out` is a file, or a folder with something in it.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: expected a new folder, found a file; remove it or choose another --out")
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out}: expected a new or empty folder, found files in it; remove it or choose another --out")


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Build a folder beside its destination and move it there when the block ends well.

    Args:
        out: the destination: absent, or an empty folder.

    Yields:
        A temporary folder next to `out` to write into. When the block raises, it is removed and `out` stays as it was.

    Raises:
        DataError: `out` is a file or a folder with something in it.
    """
    out = out.absolute()
    refuse_existing(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise DataError(f"{out}: expected a place to write to, found {error.strerror}; choose another --out") from error
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        refuse_existing(out)
        if out.is_dir():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
