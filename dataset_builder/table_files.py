"""CSV, TSV, JSON-lines and Parquet files with named columns, compressed or not, read in batches."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from .cells import PARQUET, SEPARATORS, Cells, trimmed
from .errors import DataError
from .fields import NUMBER, TEXT, Field, Kind, time_kind
from .json_lines import read_blocks
from .packed_files import PACKED, require_file
from .shards import Shard
from .source_names import TABLE_COLUMNS
from .tally import Tally

JSON_LINES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class TableOptions:
    """How tables name their columns and write their times.

    Args:
        columns: our name of a column to the table's; columns that are not named here keep our names.
        timestamp_unit: `seconds` or `milliseconds` since 1970, or `date`.

    Raises:
        DataError: a column or unit is unknown, or two columns have one name.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    timestamp_unit: str = "seconds"

    def __post_init__(self) -> None:
        """Check every value."""
        time_kind(self.timestamp_unit)
        for name in self.columns:
            if name not in TABLE_COLUMNS:
                raise DataError(f"expected a column among {', '.join(TABLE_COLUMNS)}, found {name!r}; choose one")
        named = [self.key(name) for name in TABLE_COLUMNS]
        for name in self.columns:
            if named.count(self.key(name)) > 1:
                raise DataError(f"expected one column for {name}, found {self.key(name)!r} meant twice; rename a column")

    def key(self, name: str) -> str:
        """Return the table's name of one of our columns."""
        return self.columns.get(name, name)

    def field(self, name: str, required: bool) -> Field:
        """Return where and how a table keeps one of our columns."""
        kinds: dict[str, Kind] = {"rating": NUMBER, "timestamp": time_kind(self.timestamp_unit)}
        return Field(self.key(name), kinds.get(name, TEXT), required, optional=not required)


def read_file(
    path: Path,
    required: tuple[str, ...],
    options: TableOptions | None = None,
    skip_bad_rows: bool = False,
    tally: Tally | None = None,
) -> pl.DataFrame:
    """Read a whole table; ids become strings, texts lose surrounding blanks.

    Args:
        path: the file.
        required: the columns that every row must have, and not empty.
        options: names of the columns.
        skip_bad_rows: leave broken rows out and count them instead of raising.
        tally: counts what is met.

    Returns:
        Those of `TABLE_COLUMNS` that the table has.

    Raises:
        DataError: the file is missing, empty, of another kind, lacks a column, or has a broken row.
    """
    with tempfile.TemporaryDirectory() as room:
        found = file_batches(path, required, options or TableOptions(), tally or Tally(), skip_bad_rows, Path(room))
        table = pl.concat([rows for _, rows in found])
    return table.select(name for name in table.columns if name in required or table[name].null_count() < table.height)


def file_batches(
    path: Path,
    required: tuple[str, ...],
    options: TableOptions,
    tally: Tally,
    skip_bad_rows: bool,
    room: Path,
    shard: Shard | None = None,
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield a table's rows in our columns, a block at a time with the block's number; columns that it lacks are null.

    Args:
        path: the file; its ending tells its kind.
        required: the columns that every row must have, and not empty.
        options: names of the columns.
        tally: counts what is met.
        skip_bad_rows: leave broken rows out and count them instead of raising.
        room: a folder that a compressed CSV or Parquet file may be unpacked to; made when needed.
        shard: yield only the blocks that this share has; see `read_blocks`.

    Raises:
        DataError: as `read_file`.
    """
    require_file(path)
    fields = {name: options.field(name, name in required) for name in TABLE_COLUMNS}
    kind = Path(path.stem).suffix.lower() if path.suffix.lower() in PACKED else path.suffix.lower()
    if kind in JSON_LINES:
        columns = {name: [one] for name, one in fields.items()}
        yield from ((block, trimmed(rows)) for block, rows in read_blocks(path, columns, tally, skip_bad_rows, shard))
        return
    if kind not in (*SEPARATORS, *PARQUET):
        endings = ", ".join((*SEPARATORS, *JSON_LINES, *PARQUET))
        raise DataError(f"{path}: expected a file ending in {endings}, found {kind!r}; convert the table")
    yield from Cells(path, kind, fields, skip_bad_rows).batches(tally, room, shard)
