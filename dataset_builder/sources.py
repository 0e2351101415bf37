"""Readers of raw review dumps. A reader says where a dump keeps each of our columns; everything else is shared.

To add a source, write its two `Fields` and put them into `SOURCES`.
"""

import gzip
import html
import json
import logging
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .errors import DataError

logger = logging.getLogger(__name__)

RAW_REVIEWS: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
    "review": pl.String,
}
"""Columns of `RawData.reviews`; rating and timestamp (seconds since 1970) may be null, a missing text is empty."""

RAW_ITEM_COLUMNS: dict[str, Any] = {"item_id": pl.String, "title": pl.String, "description": pl.String}
"""Columns of `RawData.items`; a missing title or description is empty."""


@dataclass(frozen=True)
class RawData:
    """What a reader makes of a dump.

    Args:
        reviews: one row per review that could be read, with the columns of `RAW_REVIEWS`, and `split` where the source
            publishes one.
        items: one row per item, with the columns of `RAW_ITEM_COLUMNS`; may be empty and may hold unknown items.
        skipped_rows: broken rows that were left out of `reviews`.
        read_rows: rows read in all, `reviews.height + skipped_rows`.
        skipped_items: broken rows that were left out of `items`.
    """

    reviews: pl.DataFrame
    items: pl.DataFrame
    skipped_rows: int
    read_rows: int
    skipped_items: int = 0


@dataclass(frozen=True)
class Fields:
    """Where a JSON-lines file keeps our columns.

    Args:
        keys: our column to the file's key.
        required: the columns that must be there and not empty in every row.
        types: our column to the polars type it has in the file.
    """

    keys: Mapping[str, str]
    required: tuple[str, ...]
    types: Mapping[str, Any]


@dataclass(frozen=True)
class JsonLinesReader:
    """Reader of a dump made of JSON lines, compressed with gzip or not.

    Args:
        reviews: where the review file keeps its columns.
        items: where the metadata file keeps its columns.
    """

    reviews: Fields
    items: Fields

    def read(self, reviews: Sequence[Path], items: Path | None, skip_bad_rows: bool = False) -> RawData:
        """Read review files and, if given, item metadata.

        Args:
            reviews: one file or several.
            items: the metadata file.
            skip_bad_rows: leave broken rows out and count them instead of raising.

        Raises:
            DataError: a file is missing, a row is broken, or a key is absent.
        """
        read = [_read_json_lines(path, self.reviews, skip_bad_rows) for path in reviews]
        skipped = sum(count for _, count in read)
        table = pl.concat([rows for rows, _ in read]) if read else pl.DataFrame(schema=RAW_REVIEWS)
        metadata, skipped_items = pl.DataFrame(schema=RAW_ITEM_COLUMNS), 0
        if items is not None:
            metadata, skipped_items = _read_json_lines(items, self.items, skip_bad_rows)
        return RawData(clean_reviews(table), clean_items(metadata), skipped, table.height + skipped, skipped_items)


AMAZON_2018 = JsonLinesReader(
    reviews=Fields(
        {
            "user_id": "reviewerID",
            "item_id": "asin",
            "rating": "overall",
            "timestamp": "unixReviewTime",
            "review": "reviewText",
        },
        required=("user_id", "item_id"),
        types=RAW_REVIEWS,
    ),
    items=Fields(
        {"item_id": "asin", "title": "title", "description": "description"},
        required=("item_id",),
        types={**RAW_ITEM_COLUMNS, "description": pl.List(pl.String)},
    ),
)
"""Amazon review data 2018; metadata with asin, title and description."""

SOURCES: dict[str, JsonLinesReader] = {"amazon-2018": AMAZON_2018}
"""Source name to reader."""


def require_file(path: Path) -> Path:
    """Return the path when it is a file.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found {'a folder' if path.is_dir() else 'none'}; check the path")
    return path


def clean_reviews(table: pl.DataFrame) -> pl.DataFrame:
    """Give reviews their types, and those without text an empty one."""
    return table.with_columns(pl.col("review").fill_null("").str.strip_chars())


def clean_items(table: pl.DataFrame) -> pl.DataFrame:
    """Make titles and descriptions plain text and keep the first row of each item."""
    texts = {
        name: pl.Series(name, [plain_text(value or "") for value in table[name]], dtype=pl.String)
        for name in ("title", "description")
    }
    return table.with_columns(**texts).unique("item_id", keep="first", maintain_order=True)


def plain_text(text: str) -> str:
    """Return text without tags, scripts and character references, its blanks single.

    Scraped titles that hold a script instead of a name become empty.
    """
    text = html.unescape(html.unescape(text))
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->", " ", text)
    text = re.sub(r"</?[A-Za-z][^<>]*>", " ", text)
    text = re.sub(r"[\x00-\x1f\x7f\u200b-\u200f\u2028\u2029\ufeff\s]+", " ", text).strip()
    return "" if "getTime()" in text or "function(" in text else text


def _read_json_lines(path: Path, fields: Fields, skip_bad_rows: bool) -> tuple[pl.DataFrame, int]:
    """Read a file in one go, and line by line where that finds something odd: that is slower and names the line."""
    require_file(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a readable gzip file, found {error}; fetch the file again") from error
    schema = {key: fields.types[name] for name, key in fields.keys.items()}
    try:
        table = pl.read_ndjson(content, schema=schema).rename({key: name for name, key in fields.keys.items()})
        good = not table.select(pl.any_horizontal(_odd(fields))).to_series().any()
    except pl.exceptions.PolarsError:
        good = False
    if not good:
        return _read_slowly(path, content, fields, skip_bad_rows)
    _require_keys(path, table, fields)
    return _joined_lists(table).select(list(fields.keys)), 0


def _odd(fields: Fields) -> list[pl.Expr]:
    """Return what needs a closer look: no required value, or a list or an object where a text belongs."""
    absent = [pl.col(name).is_null() | (pl.col(name) == "") for name in fields.required]
    texts = [name for name, dtype in fields.types.items() if dtype == pl.String]
    return [*absent, *(pl.col(name).fill_null("").str.contains(r"^(?:\{\s*\"|\[\s*[\"\d])") for name in texts)]


def _require_keys(path: Path, table: pl.DataFrame, fields: Fields) -> None:
    """Refuse a file in which a key occurs in no row: it is another format, or empty."""
    for name, key in fields.keys.items():
        if table.height and table[name].null_count() == table.height:
            raise DataError(f"{path}: expected key {key!r}, found it in no row; check that the file is of this source")


def _joined_lists(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col(name).list.join(" ") for name in table.columns if table.schema[name] == pl.List)


def _read_slowly(path: Path, content: bytes, fields: Fields, skip_bad_rows: bool) -> tuple[pl.DataFrame, int]:
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    seen: set[str] = set()
    for number, line in _lines(content):
        try:
            value = _parsed(line)
            if isinstance(value, dict):
                seen.update(value)
            rows.append(_row(value, fields))
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}, line {number}: {error}")
    for name in fields.required:
        if (rows or problems) and seen and fields.keys[name] not in seen:
            key = fields.keys[name]
            raise DataError(f"{path}: expected key {key!r}, found it in no row; check that the file is of this source")
    if problems and not skip_bad_rows:
        raise DataError(f"{problems[0]}; mend the line, or leave such lines out with --skip-bad-rows")
    for problem in problems[:5]:
        logger.warning("left out: %s", problem)
    table = pl.DataFrame(rows, schema={name: _flat(fields.types[name]) for name in fields.keys}, orient="row")
    _require_keys(path, table, fields)
    return table, len(problems)


def _flat(dtype: Any) -> Any:
    return pl.String if isinstance(dtype, pl.List) else dtype


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold something, with their numbers from 1."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON object, found {error.msg.lower()} at column {error.colno}") from None
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8 text, found other bytes") from None


def _row(value: Any, fields: Fields) -> dict[str, Any]:
    """Return one row in our columns.

    Raises:
        ValueError: the row lacks a required key or holds a value of another kind; the message says which.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    row = {name: _value(value.get(key), fields.types[name], key) for name, key in fields.keys.items()}
    for name in fields.required:
        if not row[name]:
            raise ValueError(f"expected a value of key {fields.keys[name]!r}, found none")
    return row


def _value(value: Any, dtype: Any, key: str) -> Any:
    if value is None:
        return None
    if isinstance(value, list) and isinstance(dtype, pl.List):
        return " ".join(str(part) for part in value)
    try:
        if dtype == pl.Float64 and math.isfinite(float(value)):
            return float(value)
        if dtype == pl.Int64:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    if dtype in (pl.Float64, pl.Int64):
        raise ValueError(f"expected a number of key {key!r}, found {str(value)[:40]!r}")
    if not isinstance(value, str | int):
        raise ValueError(f"expected a text of key {key!r}, found {type(value).__name__}")
    text = str(value)
    return text.encode("utf-8", "replace").decode("utf-8")
