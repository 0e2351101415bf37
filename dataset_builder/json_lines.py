"""JSON lines in blocks: fast where all is well, line by line around what is not, and never the whole file in memory."""

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl

from .errors import DataError
from .fields import TEXT, Field
from .packed_files import Block, LineNumbers, blocks, line_breaks
from .shards import Shard
from .tally import FileSeen, Tally, no_such_key

logger = logging.getLogger(__name__)

BLOCK = 8 << 20
"""Bytes that are parsed at a time."""
CUTS = (1 << 21, 1 << 18, 1 << 15)
"""Bytes that a block with a bad line is parsed in again, and those of its parts that have one; then line by line."""
AHEAD = 3
"""Blocks that are read while one is being used."""
NESTED = r"^(?:\{\s*[\"}]|\[\s*[\"\d\[\]{tfn-])"
"""What a JSON list or object looks like when it is read as text."""
SHOWN = 5
"""Bad rows that are named in the log; all are counted."""

Columns = Mapping[str, Sequence[Field]]
"""Our column to where the file keeps it; several fields are joined by blanks into one text."""


@dataclass
class _Part:
    """Parsed lines, and problems, each with the number of its line from 0."""

    rows: pl.DataFrame
    problems: list[tuple[int, str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


def read_batches(path: Path, columns: Columns, tally: Tally, skip_bad_rows: bool = False) -> Iterator[pl.DataFrame]:
    """Yield a file's rows in our columns, in the order of its lines; see `read_blocks`."""
    return (rows for _, rows in read_blocks(path, columns, tally, skip_bad_rows))


def read_blocks(
    path: Path, columns: Columns, tally: Tally, skip_bad_rows: bool = False, shard: Shard | None = None, place: int = 0
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield a file's rows in our columns, in the order of its lines, a block at a time with the block's number.

    Args:
        path: a file of JSON lines, compressed or not.
        columns: where the file keeps our columns.
        tally: counts what is met; complete when the last batch has been taken.
        skip_bad_rows: leave broken rows out and count them instead of raising.
        shard: yield only the blocks of this share, block `k` where it has `place + k`; what can only be said of the whole
            file is then left to `Tally.check`.
        place: the file's place among those that are read.

    Raises:
        DataError: the file is missing, a row is broken, or a key is in no row.
    """
    marks = [(f"__{name}{number}", one) for name, fields in columns.items() for number, one in enumerate(fields)]
    seen = FileSeen(str(path), list(dict.fromkeys(one.key for _, one in marks if not one.optional)))
    tally.files.append(seen)
    numbers, first = _Numbered(path), True
    wanted = (lambda number: True) if shard is None else (lambda number: shard.has(place + number))
    with numbers:
        for block, part in _ahead(blocks(path, BLOCK, wanted), columns):
            if part.problems and first:
                _refuse_other_format(path, columns, part.keys)
            if part.problems and not skip_bad_rows:
                where = numbers.where(block, *part.problems[0])
                raise DataError(f"{where}; mend the line, or leave such lines out with --skip-bad-rows")
            numbers.name(block, part.problems)
            first = False
            tally.read += part.rows.height + len(part.problems)
            tally.skipped += len(part.problems)
            seen.add(part.rows, len(part.problems), marks)
            yield block.number, part.rows.select(list(columns))
    if shard is None:
        seen.check()


class _Numbered:
    """Names the first broken lines in the log, in another thread, since their numbers have to be counted."""

    def __init__(self, path: Path) -> None:
        self.path, self.numbers, self.named = path, LineNumbers(path), 0
        self.pool = ThreadPoolExecutor(1)

    def where(self, block: Block, line: int, problem: str) -> str:
        """Which line it is, and what is wrong with it."""
        return f"{self.path}, line {self.numbers.before(block) + line + 1}: {problem}"

    def name(self, block: Block, problems: Sequence[tuple[int, str]]) -> None:
        """Name the problems of a block, as long as few have been."""
        for line, problem in problems[: SHOWN - self.named]:
            self.named += 1
            self.pool.submit(self._log, block, line, problem)

    def _log(self, block: Block, line: int, problem: str) -> None:
        logger.warning("left out: %s", self.where(block, line, problem))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()


def _refuse_other_format(path: Path, columns: Columns, keys: set[str]) -> None:
    for fields in columns.values():
        for one in fields:
            if one.required and keys and one.key not in keys:
                raise DataError(no_such_key(path, one.key))


def _ahead(given: Iterable[Block], columns: Columns) -> Iterator[tuple[Block, _Part]]:
    """Parse in other threads while the next block is being read and the last one used."""
    waiting: deque[tuple[Block, Future[_Part]]] = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        for block in given:
            waiting.append((block, pool.submit(_parse, block.content, columns)))
            if len(waiting) > AHEAD:
                first, parsed = waiting.popleft()
                yield first, parsed.result()
        while waiting:
            first, parsed = waiting.popleft()
            yield first, parsed.result()


def _parse(content: bytes, columns: Columns) -> _Part:
    """Parse a block in one go; where that finds something odd, in ever smaller cuts, and at last line by line."""
    rows = _parse_fast(content, columns)
    return _parse_closely(content, columns, CUTS) if rows is None else _Part(rows)


def _parse_closely(content: bytes, columns: Columns, cuts: Sequence[int]) -> _Part:
    """Read the values of all cuts and look over them together, as a look costs more than reading a small cut."""
    size, *smaller = cuts
    contents = list(_cut(content, size))
    raws = [_raw(cut, columns) for cut in contents]
    sound = [raw for raw in raws if raw is not None]
    together = _looked_through(pl.concat(sound), columns) if sound else None
    whole, tables, line, at = _Part(pl.DataFrame()), [], 0, 0
    for cut, raw in zip(contents, raws, strict=True):
        rows = None
        if raw is not None:
            rows = _looked_through(raw, columns) if together is None else together.slice(at, raw.height)
            at += raw.height
        if rows is None:
            part = _parse_closely(cut, columns, smaller) if smaller else _parse_slowly(cut, columns)
            whole.problems += [(line + number, problem) for number, problem in part.problems]
            whole.keys |= part.keys
            rows = part.rows
        tables.append(rows)
        line += line_breaks(cut)
    whole.rows = pl.concat(tables, rechunk=True)
    return whole


def _cut(content: bytes, size: int) -> Iterator[bytes]:
    """Yield whole lines of about so many bytes."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start + size) + 1 or len(content)
        yield content[start:end]
        start = end


def _parse_fast(content: bytes, columns: Columns) -> pl.DataFrame | None:
    """Return the rows, or None when a closer look is needed."""
    raw = _raw(content, columns)
    return None if raw is None else _looked_through(raw, columns)


def _raw(content: bytes, columns: Columns) -> pl.DataFrame | None:
    """Return the values as they stand in the file; None where they are no JSON lines, or of another kind."""
    schema = {one.key: one.kind.raw for fields in columns.values() for one in fields}
    try:
        return pl.read_ndjson(content, schema=schema).rechunk()
    except pl.exceptions.PolarsError:
        return None


def _looked_through(table: pl.DataFrame, columns: Columns) -> pl.DataFrame | None:
    """Return the rows, or None when a closer look is needed."""
    every = {(name, number): one for name, fields in columns.items() for number, one in enumerate(fields)}
    read = {}
    try:
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


def _parse_slowly(content: bytes, columns: Columns) -> _Part:
    rows: list[dict[tuple[str, int], Any]] = []
    block = _Part(pl.DataFrame())
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
