"""Counts of what is met while reading, of a whole run or of shares of it that are put together later."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import polars as pl

from .errors import DataError
from .fields import Field


@dataclass
class FileSeen:
    """What a run, or a share of one, has met in one file of JSON lines.

    Args:
        path: the file.
        absent: keys that some row must have, and none has had so far.
        rows: good rows.
        skipped: broken rows.
    """

    path: str
    absent: list[str] = field(default_factory=list)
    rows: int = 0
    skipped: int = 0

    def add(self, rows: pl.DataFrame, skipped: int, fields: Iterable[tuple[str, Field]]) -> None:
        """Count the rows of a block.

        Args:
            rows: good rows.
            skipped: broken rows beside them.
            fields: columns of `rows`, each with the field it was read from, null in every row where no row has the field.
        """
        self.rows += rows.height
        self.skipped += skipped
        for column, one in fields:
            if one.key in self.absent and rows[column].null_count() < rows.height:
                self.absent.remove(one.key)

    def check(self) -> None:
        """Check what can only be said of a whole file.

        Raises:
            DataError: there are no rows, or a key is in none of them.
        """
        if not self.rows:
            found = f"{self.skipped:,} broken ones" if self.skipped else "none"
            raise DataError(f"{self.path}: expected JSON lines, found {found}; check the file")
        if self.absent:
            raise DataError(no_such_key(self.path, self.absent[0]))


def no_such_key(path: object, key: str) -> str:
    """Say that a file lacks a key."""
    return f"{path}: expected key {key!r}, found it in no row; check that the file is of this source"


@dataclass
class Tally:
    """Rows met while reading.

    Args:
        read: rows that hold something, broken ones included.
        skipped: broken rows that were left out.
        files: what was met in each file of JSON lines, in the order of the files.
    """

    read: int = 0
    skipped: int = 0
    files: list[FileSeen] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON holds them."""
        return asdict(self)

    @classmethod
    def gathered(cls, shares: Iterable[Mapping[str, Any]]) -> Self:
        """Return the counts of a whole run.

        Args:
            shares: `as_dict` of each share; all of them read the same files in the same order.
        """
        whole = cls()
        for share in shares:
            whole.read += share["read"]
            whole.skipped += share["skipped"]
            files = [FileSeen(**one) for one in share["files"]]
            whole.files = whole.files or [FileSeen(one.path, list(one.absent)) for one in files]
            for one, more in zip(whole.files, files, strict=True):
                one.rows += more.rows
                one.skipped += more.skipped
                one.absent = [key for key in one.absent if key in more.absent]
        return whole

    def check(self) -> None:
        """Check what can only be said of whole files.

        Raises:
            DataError: a file has no rows, or lacks a key in all of them.
        """
        for one in self.files:
            one.check()
