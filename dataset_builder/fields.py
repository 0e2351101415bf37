"""Kinds of values in a dump, each said twice: for whole columns, and for a single line.

The first is fast and gives null for what it cannot read; the second then says what is wrong with that line.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from .errors import DataError

DATES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")
"""How a date may be written; the time is UTC."""


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Args:
        raw: the polars type in which the file's values are read.
        dtype: the polars type of our column.
        column: a column of the file to one of ours; null where it cannot be read.
        value: the same for one value of a parsed JSON line or of a text cell.

    Raises:
        ValueError: by `value`, with what was expected, when the value is of another kind.
    """

    raw: Any
    dtype: Any
    column: Callable[[pl.Series], pl.Series]
    value: Callable[[Any], Any]


@dataclass(frozen=True)
class Field:
    """Where a file keeps one of our columns.

    Args:
        key: the key or column name in the file.
        kind: what its values are.
        required: every row must have it, and not empty.
        optional: the file may lack it in every row; else a file without it is taken for another format.
    """

    key: str
    kind: Kind
    required: bool = False
    optional: bool = False


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        raise ValueError("a text")
    return _storable(str(value))


def _storable(text: str) -> str:
    """Half characters and zero characters, which no table stores well, become U+FFFD as in the fast way."""
    return re.sub("[\0\ud800-\udfff]", "\ufffd", text)


def _number(value: Any) -> float:
    if not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError("a number")


def _seconds(value: Any) -> int:
    """Whole seconds; fractions are cut off."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else math.floor(_number(value))
    if not -(2**63) <= number < 2**63:
        raise ValueError("a number")
    return number


def _date(value: Any) -> int:
    if isinstance(value, str):
        for form in DATES:
            try:
                return int(datetime.strptime(value.strip(), form).replace(tzinfo=UTC).timestamp())
            except ValueError:
                continue
    raise ValueError("a date such as 2018-07-07 22:09:11")


def _joined(separator: str) -> Callable[[Any], str]:
    def value(given: Any) -> str:
        parts = given if isinstance(given, list) else [given]
        return separator.join(_text(part) for part in parts if part is not None)

    return value


def _date_column(column: pl.Series) -> pl.Series:
    seconds = _dates(column, DATES[0])
    for form in DATES[1:]:
        if seconds.null_count() == column.null_count():
            break
        seconds = seconds.fill_null(_dates(column, form))
    return seconds


def _dates(column: pl.Series, form: str) -> pl.Series:
    return column.str.strip_chars().str.to_datetime(form, strict=False, time_unit="ms", cache=False).dt.epoch("s")


def _list(separator: str) -> Kind:
    def column(lists: pl.Series) -> pl.Series:
        return lists.list.join(separator, ignore_nulls=True)

    return Kind(pl.List(pl.String), pl.String, column, _joined(separator))


def _stored(column: pl.Series) -> pl.Series:
    zeros = column.str.contains("\0", literal=True).any()
    return column.str.replace_all("\0", "\ufffd", literal=True) if zeros else column


def _finite(column: pl.Series) -> pl.Series:
    return column if column.is_finite().all() else column.replace([math.inf, -math.inf, math.nan], None)


TEXT = Kind(pl.String, pl.String, _stored, _text)
"""A text; a number is taken as one, whole numbers without a point."""

NUMBER = Kind(pl.Float64, pl.Float64, _finite, _number)
"""A finite number."""

SECONDS = Kind(pl.Int64, pl.Int64, lambda column: column, _seconds)
"""A time in seconds since 1970."""

MILLISECONDS = Kind(pl.Int64, pl.Int64, lambda column: column // 1000, lambda value: _seconds(value) // 1000)
"""A time in milliseconds since 1970, kept in seconds."""

DATE = Kind(pl.String, pl.Int64, _date_column, _date)
"""A time as `DATES` write it, in UTC, kept in seconds."""

PARAGRAPHS, NAMES = _list(" "), _list(", ")
"""A list of texts, joined by blanks or by commas."""

TIMES = {"seconds": SECONDS, "milliseconds": MILLISECONDS, "date": DATE}
"""How a table's times may be written, by the name that the command line gives it."""


def time_kind(unit: str) -> Kind:
    """Return how times of this unit are read.

    Raises:
        DataError: no such unit.
    """
    if unit not in TIMES:
        raise DataError(f"expected --timestamp-unit among {', '.join(TIMES)}, found {unit!r}; choose one")
    return TIMES[unit]
