"""Rows of CSV, TSV and Parquet files: which of them can be used, and what is wrong with the others."""

import csv
import itertools
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .errors import DataError
from .fields import DATE, NUMBER, Field
from .json_lines import SHOWN, field_value
from .packed_files import PACKED, open_plain
from .shards import Shard
from .tally import Tally

logger = logging.getLogger(__name__)

ROWS = 100_000
"""Rows that are read at a time."""

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
FIELD_LIMIT = 1 << 27
"""Most bytes of a cell where a bad line is looked for; the csv module's own limit is far below a long review."""

_TOO_MANY = "expected at most as many cells as the header has, found more"


def trimmed(rows: pl.DataFrame) -> pl.DataFrame:
    """Take surrounding blanks off all texts."""
    return rows.with_columns(pl.col(name).str.strip_chars() for name in rows.columns if rows.schema[name] == pl.String)


@dataclass(frozen=True)
class Cells:
    """A CSV or Parquet file."""

    path: Path
    kind: str
    fields: Mapping[str, Field]
    skip_bad_rows: bool

    def batches(self, tally: Tally, room: Path, shard: Shard | None = None) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the rows in our columns, a block of `ROWS` rows of the file at a time with the block's number.

        A share reads the whole file too, and looks at the cells of its own blocks only.

        Args:
            tally: counts what is met.
            room: a folder that a compressed file may be unpacked to; made when needed.
            shard: yield only the blocks that this share has.

        Raises:
            DataError: the file is no table, lacks a column, has no rows, or has a broken row.
        """
        try:
            yield from self._batches(self._plain(room), tally, shard)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from error

    def _batches(self, plain: Path, tally: Tally, shard: Shard | None) -> Iterator[tuple[int, pl.DataFrame]]:
        first, held = 0, 0
        for table, uneven in self._tables(plain):
            block, before = first // ROWS, first
            blank = table.select(pl.all_horizontal(pl.all().is_null())).to_series() & ~uneven
            first += table.height
            held += table.height - int(blank.sum())
            if shard is not None and not shard.has(block):
                continue
            bad = (self._bad_rows(table) & ~blank) | uneven
            self._report(plain, table, bad, uneven, before, tally.skipped)
            rows = pl.DataFrame({name: self._column(table, one) for name, one in self.fields.items()})
            tally.read += table.height - int(blank.sum())
            tally.skipped += int(bad.sum())
            yield block, trimmed(rows.filter(~bad & ~blank))
        if not held:
            raise DataError(f"{self.path}: expected rows, found none; check the file")

    def _tables(self, plain: Path) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
        """Yield all rows, `ROWS` at a time, and which of them have more cells than the header.

        Such rows are looked for only when the library has met one, which it says of a file, not of a row.
        """
        done, numbers = 0, None
        while True:
            try:
                scan, at = self._scan(plain, numbers is not None), 0
                self._check_columns(scan.collect_schema().names())
                for table in scan.collect_batches(chunk_size=ROWS):
                    at += table.height
                    if at > done:
                        done = at
                        uneven = np.isin(np.arange(at - table.height, at), numbers or [])
                        yield table, pl.Series(uneven, dtype=pl.Boolean)
                return
            except pl.exceptions.PolarsError:
                if numbers is not None or self.kind not in SEPARATORS or not (numbers := self._uneven_rows(plain)):
                    raise

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
            raise self._unreadable(error) from error
        return plain

    def _scan(self, plain: Path, cut_rows: bool) -> pl.LazyFrame:
        if self.kind in PARQUET:
            return pl.scan_parquet(plain, glob=False)
        separator = SEPARATORS[self.kind]
        return pl.scan_csv(plain, separator=separator, infer_schema=False, glob=False, truncate_ragged_lines=cut_rows)

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

    def _report(self, plain: Path, table: pl.DataFrame, bad: pl.Series, uneven: pl.Series, before: int, skipped: int) -> None:
        """Name the bad rows: the first one in an error, or a few in the log."""
        for number in bad.arg_true().to_list()[: max(0, SHOWN - skipped)]:
            found = _TOO_MANY if uneven[number] else self._problem(table.row(number, named=True))
            problem = f"{self.path}, {self._where(plain, before + number)}: {found}"
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

    def _unreadable(self, error: Exception) -> DataError:
        reason = (str(error).splitlines() or ["nothing"])[0].rstrip(":")
        return DataError(f"{self.path}: expected a readable {self.kind[1:]} table, found {reason}; mend the file")

    def _uneven_rows(self, plain: Path) -> list[int]:
        """Return the numbers, from 0, of the rows with more cells than the header."""
        csv.field_size_limit(FIELD_LIMIT)
        with plain.open(encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=SEPARATORS[self.kind])
            width = len(next(reader, []))
            return [number for number, row in enumerate(reader) if len(row) > width]
