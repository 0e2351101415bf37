"""Writes the files of a report so that a reader sees the old one or the new one, never half of it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xrec_dataset_builder.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def check_folder(out: Path) -> None:
    """Check that a folder can be made, or is there; files in it may stay.

    Args:
        out: Folder of a report.

    Raises:
        DataError: If a file is in the way.
    """
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                raise DataError(f"{path}: expected a folder for the report, found a file; choose another --out")
            return


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step.

    Args:
        path: The file; its folder is created.
        text: Its new content.

    Raises:
        DataError: If the folder cannot be written to.
    """
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_parquet(path: Path, table: "pl.DataFrame") -> None:
    """Replace a Parquet file in one step.

    Args:
        path: The file; its folder is created.
        table: Its new content.

    Raises:
        DataError: If the folder cannot be written to.
    """
    with replaced(path) as temporary:
        table.write_parquet(temporary)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Replace a file in one step by what a block writes.

    Args:
        path: The file; its folder is created.

    Yields:
        Where to write it.

    Raises:
        DataError: If the folder cannot be written to.
    """
    check_folder(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: expected a place to write to, found {error.strerror}; choose another --out") from error
