"""CSV, TSV, JSON-lines and Parquet files with named columns, compressed or not, read in batches."""

import csv
import itertools
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from .errors import DataError
from .fields import DATE, NUMBER, TEXT, Field, Kind, time_kind
from .json_lines import SHOWN, Tally, field_value, read_batches
from .packed_files import PACKED, open_plain, require_file
from .source_names import TABLE_COLUMNS

logger = logging.getLogger(__name__)

ROWS = 100_000
"""Rows that are read at a time."""

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
FIELD_LIMIT = 1 << 27
"""Most bytes of a cell where a bad line is looked for; the csv module's own limit is far below a long review."""


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


def read_file(path: Path, required: tuple[str, ...], options: TableOptions | None = None) -> pl.DataFrame:
    """Read a whole table; ids become strings, texts lose surrounding blanks.

    Args:
        path: the file.
        required: the columns that every row must have, and not empty.
        options: names of the columns.

    Returns:
        Those of `TABLE_COLUMNS` that the table has.

    Raises:
        DataError: the file is missing, empty, of another kind, lacks a column, or has a broken row.
    """
    with tempfile.TemporaryDirectory() as room:
        batches = list(file_batches(path, required, options or TableOptions(), Tally(), False, Path(room)))
    table = pl.concat(batches)
    return table.select(name for name in table.columns if name in required or table[name].null_count() < table.height)


def file_batches(
    path: Path, required: tuple[str, ...], options: TableOptions, tally: Tally, skip_bad_rows: bool, room: Path
) -> Iterator[pl.DataFrame]:
    """Yield a table's rows in our columns; those that it lacks are null.

    Args:
        path: the file; its ending tells its kind.
        required: the columns that every row must have, and not empty.
        options: names of the columns.
        tally: counts what is met.
        skip_bad_rows: leave broken rows out and count them instead of raising.
        room: a folder that a compressed CSV or Parquet file may be unpacked to; made when needed.

    Raises:
        DataError: as `read_file`.
    """
    require_file(path)
    fields = {name: options.field(name, name in required) for name in TABLE_COLUMNS}
    kind = Path(path.stem).suffix.lower() if path.suffix.lower() in PACKED else path.suffix.lower()
    if kind in JSON_LINES:
        columns = {name: [one] for name, one in fields.items()}
        yield from (_trimmed(rows) for rows in read_batches(path, columns, tally, skip_bad_rows))
        return
    if kind not in (*SEPARATORS, *PARQUET):
        endings = ", ".join((*SEPARATORS, *JSON_LINES, *PARQUET))
        raise DataError(f"{path}: expected a file ending in {endings}, found {kind!r}; convert the table")
    yield from _Cells(path, kind, fields, skip_bad_rows).batches(tally, room)


def _trimmed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(name).str.strip_chars() for name in rows.columns if rows.schema[name] == pl.String)


@dataclass(frozen=True)
class _Cells:
    """A CSV or Parquet file."""

    path: Path
    kind: str
    fields: Mapping[str, Field]
    skip_bad_rows: bool

    def batches(self, tally: Tally, room: Path) -> Iterator[pl.DataFrame]:
        plain = self._plain(room)
        try:
            scan = self._scan(plain)
            self._check_columns(scan.collect_schema().names())
            before, held = 0, 0
            for table in scan.collect_batches(chunk_size=ROWS):
                blank = table.select(pl.all_horizontal(pl.all().is_null())).to_series()
                bad = self._bad_rows(table) & ~blank
                self._report(plain, table, bad, before, tally.skipped)
                rows = pl.DataFrame({name: self._column(table, one) for name, one in self.fields.items()})
                before += table.height
                held += table.height - int(blank.sum())
                tally.read += table.height - int(blank.sum())
                tally.skipped += int(bad.sum())
                yield _trimmed(rows.filter(~bad & ~blank))
            if not held:
                raise DataError(f"{self.path}: expected rows, found none; check the file")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(plain, error) from error

    def _plain(self, room: Path) -> Path:
        if self.path.suffix.lower() not in PACKED:
            return self.path
        room.mkdir(parents=True, exist_ok=True)
        plain = Path(tempfile.mkdtemp(dir=room)) / self.path.stem
        try:
            with open_plain(self.path) as packed, plain.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 22)
        except DataError:
            raise
        except Exception as error:  # every library of compression has an error of its own
            raise self._unreadable(None, error) from error
        return plain

    def _scan(self, plain: Path) -> pl.LazyFrame:
        if self.kind in PARQUET:
            return pl.scan_parquet(plain, glob=False)
        return pl.scan_csv(plain, separator=SEPARATORS[self.kind], infer_schema=False, glob=False)

    def _check_columns(self, found: list[str]) -> None:
        for one in self.fields.values():
            if one.required and one.key not in found:
                names = ", ".join(map(repr, found)) or "none"
                raise DataError(
                    f"{self.path}: expected column {one.key!r}, found {names}; rename the column, or name it by its flag"
                )

    def _column(self, table: pl.DataFrame, one: Field) -> pl.Series:
        """One of our columns; null where the table's value cannot be read."""
        if one.key not in table.columns:
            return pl.Series([None] * table.height, dtype=one.kind.dtype)
        given = table[one.key]
        if one.kind.dtype == pl.Int64 and given.dtype.is_temporal():
            return given.dt.epoch("s")
        if one.kind is DATE or one.kind.dtype == pl.String:
            return one.kind.column(given.cast(pl.String))
        if given.dtype == pl.String:
            given = given.str.strip_chars().cast(pl.Float64 if one.kind is NUMBER else pl.Int64, strict=False)
        return one.kind.column(given.cast(one.kind.raw, strict=False))

    def _bad_rows(self, table: pl.DataFrame) -> pl.Series:
        bad = pl.Series([False]).new_from_index(0, table.height) if table.height else pl.Series([], dtype=pl.Boolean)
        for one in self.fields.values():
            if one.key not in table.columns:
                continue
            read, given = self._column(table, one), table[one.key]
            bad = bad | (given.is_not_null() & read.is_null())
            if one.required:
                bad = bad | (read.fill_null("").str.strip_chars() == "")
        return bad

    def _report(self, plain: Path, table: pl.DataFrame, bad: pl.Series, before: int, skipped: int) -> None:
        """Name the bad rows: the first one in an error, or a few in the log."""
        for number in bad.arg_true().to_list()[: max(0, SHOWN - skipped)]:
            problem = f"{self.path}, {self._where(plain, before + number)}: {self._problem(table.row(number, named=True))}"
            if not self.skip_bad_rows:
                raise DataError(f"{problem}; mend the row, or leave such rows out with --skip-bad-rows")
            logger.warning("left out: %s", problem)

    def _problem(self, row: Mapping[str, Any]) -> str:
        for one in self.fields.values():
            value = row.get(one.key)
            try:
                field_value(value.strip() if isinstance(value, str) else value, one)
            except ValueError as error:
                return str(error).replace(" of key ", " of column ")
        return "expected values of the columns' kinds, found others"

    def _where(self, plain: Path, number: int) -> str:
        """Which line a row begins in; a quoted cell may hold line breaks."""
        if self.kind in PARQUET:
            return f"row {number + 1}"
        csv.field_size_limit(FIELD_LIMIT)
        with plain.open(encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=SEPARATORS[self.kind])
            rows = itertools.islice((reader.line_num for _ in reader), number, None)
            return f"line {next(rows, 0) + 1}"

    def _unreadable(self, plain: Path | None, error: Exception) -> DataError:
        reason = (str(error).splitlines() or ["nothing"])[0].rstrip(":")
        where = f"{self.path}"
        if plain is not None and self.kind in SEPARATORS and (line := self._uneven_line(plain)):
            where, reason = f"{self.path}, line {line}", "a row with more cells than the header"
        return DataError(f"{where}: expected a readable {self.kind[1:]} table, found {reason}; mend the file")

    def _uneven_line(self, plain: Path) -> int | None:
        csv.field_size_limit(FIELD_LIMIT)
        with plain.open(encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=SEPARATORS[self.kind])
            width = len(next(reader, []))
            start = reader.line_num + 1
            for row in reader:
                if len(row) > width:
                    return start
                start = reader.line_num + 1
        return None
