"""Reads a file of predictions: Parquet, CSV or JSON lines, from this package or any other."""

import json
import logging
from pathlib import Path

import polars as pl

from xrec_dataset_builder.errors import DataError

logger = logging.getLogger(__name__)

REQUIRED = ("prediction", "reference")
KEYS = ("user_id", "item_id")


def read_predictions(path: Path) -> pl.DataFrame:
    """Read predictions and references.

    Args:
        path: A `.parquet`, `.csv`, `.jsonl` or `.ndjson` file with the columns prediction and reference and, if known,
            user_id and item_id. Other columns are left out.

    Returns:
        Those columns as strings, in the file's order. Null texts become "", and a warning says how many.

    Raises:
        DataError: If the file is missing, empty, of another kind, cannot be read, or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"expected a file of predictions, found nothing at {path}: check the path")
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"expected predictions in {', '.join(readers)}, found {path.name}: convert or rename the file")
    try:
        table = reader(path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"expected a readable {path.suffix} file, found {_first_line(error)} in {path.name}") from error
    return _check(table, path.name)


def clean_predictions(table: pl.DataFrame) -> pl.DataFrame:
    """Keep the known columns as strings and replace null texts by "".

    Args:
        table: Columns prediction, reference and possibly user_id, item_id.

    Returns:
        A new table with the same rows.

    Raises:
        DataError: If a required column is missing or an id is null.
    """
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise DataError(
            f"expected the columns {', '.join(REQUIRED)}, found {', '.join(table.columns) or 'none'}: "
            f"add or rename {', '.join(missing)}"
        )
    table = table.select(pl.col(name).cast(pl.String) for name in (*KEYS, *REQUIRED) if name in table.columns)
    nulls = {name: table[name].null_count() for name in table.columns}
    if any(nulls.get(name) for name in KEYS):
        raise DataError(f"expected an id in every row, found {max(nulls.get(k, 0) for k in KEYS)} without: fill or drop them")
    for name in REQUIRED:
        if nulls[name]:
            logger.warning("%d of %d rows have no %s; they count as empty texts", nulls[name], len(table), name)
    return table.with_columns(pl.col(*REQUIRED).fill_null(""))


def _check(table: pl.DataFrame, name: str) -> pl.DataFrame:
    try:
        table = clean_predictions(table)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if table.is_empty():
        raise DataError(f"{name}: expected at least one row of predictions, found none: check the file")
    return table


def _read_parquet(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path)


def _read_csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)  # ids such as 007 stay as written


def _read_json_lines(path: Path) -> pl.DataFrame:
    rows: list[dict[str, str | None]] = []
    columns: dict[str, None] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row = _parse_line(line, path.name, number)
                columns.update(dict.fromkeys(row))
                rows.append({key: None if row.get(key) is None else str(row[key]) for key in (*KEYS, *REQUIRED)})
    known = {key: pl.String for key in (*KEYS, *REQUIRED) if key in columns}
    return pl.DataFrame([{key: row[key] for key in known} for row in rows], schema=known)


def _parse_line(line: str, name: str, number: int) -> dict[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"expected JSON in line {number} of {name}, found {error.msg}: mend or remove the line") from error
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object in line {number} of {name}, found {type(row).__name__}: mend or remove it")
    return row


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
