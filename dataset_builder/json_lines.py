"""JSON lines in blocks: fast where all is well, line by line around what is not, and never the whole file in memory."""

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .errors import DataError
from .fields import TEXT, Field
from .packed_files import blocks

logger = logging.getLogger(__name__)

BLOCK = 8 << 20
"""Bytes that are parsed at a time."""
PIECE = 1 << 17
"""Bytes around a bad line that are read line by line."""
AHEAD = 2
"""Blocks that are read while one is being used."""
PARTS = 8
"""How many parts a block with a bad line is cut into."""
NESTED = r"^(?:\{\s*[\"}]|\[\s*[\"\d\[\]{tfn-])"
"""What a JSON list or object looks like when it is read as text."""
SHOWN = 5
"""Bad rows that are named in the log; all are counted."""

Columns = Mapping[str, Sequence[Field]]
"""Our column to where the file keeps it; several fields are joined by blanks into one text."""


@dataclass
class Tally:
    """Rows met while reading.

    Args:
        read: rows that hold something, broken ones included.
        skipped: broken rows that were left out.
    """

    read: int = 0
    skipped: int = 0


@dataclass
class _Block:
    rows: pl.DataFrame
    lines: int
    problems: list[tuple[int, str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


def read_batches(path: Path, columns: Columns, tally: Tally, skip_bad_rows: bool = False) -> Iterator[pl.DataFrame]:
    """Yield a file's rows in our columns, in the order of its lines.

    Args:
        path: a file of JSON lines, compressed or not.
        columns: where the file keeps our columns.
        tally: counts what is met; complete when the last batch has been taken.
        skip_bad_rows: leave broken rows out and count them instead of raising.

    Raises:
        DataError: the file is missing, a row is broken, or a key is in no row.
    """
    line, shown, rows, skipped = 1, 0, 0, 0
    found: dict[str, bool] = {}
    for block in _ahead(blocks(path, BLOCK), columns):
        for number, problem in block.problems:
            where = f"{path}, line {line + number}: {problem}"
            if line == 1:
                _refuse_other_format(path, columns, block.keys)
            if not skip_bad_rows:
                raise DataError(f"{where}; mend the line, or leave such lines out with --skip-bad-rows")
            if shown < SHOWN:
                logger.warning("left out: %s", where)
                shown += 1
        line += block.lines
        rows += block.rows.height
        skipped += len(block.problems)
        tally.read += block.rows.height + len(block.problems)
        tally.skipped += len(block.problems)
        for mark in [name for name in block.rows.columns if name.startswith("__")]:
            found[mark] = found.get(mark, False) or block.rows[mark].null_count() < block.rows.height
        yield block.rows.select(list(columns))
    for name, fields in columns.items():
        for number, one in enumerate(fields):
            if rows and not one.optional and not found.get(f"__{name}{number}", True):
                raise DataError(_no_such_key(path, one.key))
    if not rows:
        found_instead = f"{skipped:,} broken ones" if skipped else "none"
        raise DataError(f"{path}: expected JSON lines, found {found_instead}; check the file")


def _no_such_key(path: Path, key: str) -> str:
    return f"{path}: expected key {key!r}, found it in no row; check that the file is of this source"


def _refuse_other_format(path: Path, columns: Columns, keys: set[str]) -> None:
    for fields in columns.values():
        for one in fields:
            if one.required and keys and one.key not in keys:
                raise DataError(_no_such_key(path, one.key))


def _ahead(given: Iterable[bytes], columns: Columns) -> Iterator[_Block]:
    """Parse in another thread while the next block is being read and the last one used."""
    waiting: deque[Future[_Block]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        for block in given:
            waiting.append(pool.submit(_parse_block, block, columns))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _parse_block(content: bytes, columns: Columns) -> _Block:
    """Parse a block in one go; where that finds something odd, without fragments of lines, then in ever smaller parts."""
    rows = _parse_fast(content, columns)
    if rows is not None:
        return _Block(rows, _line_breaks(content))
    if len(content) <= PIECE:
        return _parse_slowly(content, columns)
    return _without_fragments(content, columns) or _in_parts(content, columns)


def _line_breaks(content: bytes) -> int:
    """How many line breaks there are, counted in pieces that stay in the processor's cache, which `bytes.count` leaves."""
    values, cached = np.frombuffer(content, dtype=np.uint8), 1 << 18
    return sum(int(np.count_nonzero(values[at : at + cached] == ord("\n"))) for at in range(0, len(values), cached))


def _without_fragments(content: bytes, columns: Columns) -> _Block | None:
    """Parse a block in which some lines are no object at a glance, the others in one go; None where that is not enough."""
    lines = content.split(b"\n")
    whole = [not (text := line.strip()) or (text.startswith(b"{") and text.endswith(b"}")) for line in lines]
    if all(whole):
        return None
    rows = _parse_fast(b"\n".join(line for line, good in zip(lines, whole, strict=True) if good), columns)
    if rows is None:
        return None
    block = _Block(rows, _line_breaks(content))
    for number in (number for number, good in enumerate(whole) if not good):
        block.problems += [(number, problem) for _, problem in _parse_slowly(lines[number], columns).problems]
    return block


def _in_parts(content: bytes, columns: Columns) -> _Block:
    block, start = _Block(pl.DataFrame(), 0), 0
    tables = []
    while start < len(content):
        end = content.find(b"\n", start + len(content) // PARTS) + 1 or len(content)
        whole = start == 0 and end == len(content)
        part = (_parse_slowly if whole else _parse_block)(content[start:end], columns)
        block.problems += [(block.lines + number, problem) for number, problem in part.problems]
        block.lines += part.lines
        block.keys |= part.keys
        tables.append(part.rows)
        start = end
    block.rows = pl.concat(tables)
    return block


def _parse_fast(content: bytes, columns: Columns) -> pl.DataFrame | None:
    """Return the rows, or None when a closer look is needed."""
    every = {(name, number): one for name, fields in columns.items() for number, one in enumerate(fields)}
    read = {}
    try:
        table = pl.read_ndjson(content, schema={one.key: one.kind.raw for one in every.values()})
        odd, zeros = _looked_over(table, list(every.values()))
        if odd:
            return None
        for place, one in every.items():
            given = table[one.key]
            read[place] = values = given if one.kind is TEXT and not zeros else one.kind.column(given)
            if values.null_count() > given.null_count():
                return None
    except pl.exceptions.PolarsError:
        return None
    return _ours(read, columns)


def _looked_over(table: pl.DataFrame, fields: list[Field]) -> tuple[bool, bool]:
    """Whether a row lacks a required value or has a list or an object where a text belongs; whether there are zero characters.

    All in one query, as a query costs more than a look.
    """
    texts = [pl.col(one.key) for one in fields if one.kind.raw == pl.String]
    texts += [pl.col(one.key).list.explode() for one in fields if isinstance(one.kind.raw, pl.List)]
    absent = [(pl.col(one.key).is_null() | (pl.col(one.key).str.len_bytes() == 0)).any() for one in fields if one.required]
    opened = [(text.str.starts_with("{") | text.str.starts_with("[")).any() for text in texts]
    zeros = [text.str.contains("\0", literal=True).any() for text in texts]
    found = table.select(
        absent=pl.any_horizontal(False, *absent),
        opened=pl.any_horizontal(False, *opened),
        zeros=pl.any_horizontal(False, *zeros),
    ).row(0, named=True)
    if found["opened"] and not found["absent"]:
        found["absent"] = table.select(pl.any_horizontal(text.str.contains(NESTED).any() for text in texts)).item()
    return bool(found["absent"]), bool(found["zeros"])


def _ours(read: Mapping[tuple[str, int], pl.Series], columns: Columns) -> pl.DataFrame:
    """Our columns, and a mark for every field that is null where the file has none."""
    rows = pl.DataFrame({f"__{name}{number}": values for (name, number), values in read.items()})
    single = {name: read[name, 0] for name, fields in columns.items() if len(fields) == 1}
    several = {name: _combined(name, len(fields)) for name, fields in columns.items() if len(fields) > 1}
    joined = rows.select(**several) if several else pl.DataFrame()
    return pl.DataFrame({name: single[name] if name in single else joined[name] for name in columns}).hstack(rows)


def _combined(name: str, count: int) -> pl.Expr:
    parts = [pl.col(f"__{name}{number}") for number in range(count)]
    said = [pl.when(part.str.strip_chars() != "").then(part) for part in parts]
    return pl.concat_str(said, separator=" ", ignore_nulls=True)


def _parse_slowly(content: bytes, columns: Columns) -> _Block:
    rows: list[dict[tuple[str, int], Any]] = []
    block = _Block(pl.DataFrame(), _line_breaks(content))
    for number, line in enumerate(content.split(b"\n")):
        if not line.strip():
            continue
        try:
            value = _parsed(line)
            block.keys.update(value if isinstance(value, dict) else ())
            rows.append(_row(value, columns))
        except (ValueError, RecursionError) as error:
            block.problems.append((number, str(error) or "expected a JSON object, found one nested too deeply"))
    every = [(name, number, one) for name, fields in columns.items() for number, one in enumerate(fields)]
    read = {(name, n): pl.Series([row[name, n] for row in rows], dtype=one.kind.dtype) for name, n, one in every}
    block.rows = _ours(read, columns)
    return block


def _parsed(line: bytes) -> Any:
    """A parsed line, of whose equal keys the first counts, as in the fast way."""
    try:
        return json.loads(line.decode(), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON object, found {error.msg.lower()} at column {error.colno}") from None
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8 text, found other bytes") from None
    except RecursionError:
        raise ValueError("expected a JSON object, found one nested too deeply") from None


def _row(value: Any, columns: Columns) -> dict[tuple[str, int], Any]:
    """Return one row, a value for every field.

    Raises:
        ValueError: the row lacks a required key or holds a value of another kind; the message says which.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    row = {}
    for name, fields in columns.items():
        for number, one in enumerate(fields):
            row[name, number] = field_value(value.get(one.key), one)
    return row


def field_value(value: Any, one: Field) -> Any:
    """Return one value as its field says; None where there is none.

    Raises:
        ValueError: a required value is missing, or the value is of another kind; the message says which.
    """
    if value is None or (one.required and value == ""):
        if one.required:
            raise ValueError(f"expected a value of key {one.key!r}, found none")
        return None
    try:
        return one.kind.value(value)
    except ValueError as error:
        found = repr(str(value)[:40]) if isinstance(value, str | int | float) else type(value).__name__
        raise ValueError(f"expected {error} of key {one.key!r}, found {found}") from None
