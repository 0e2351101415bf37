"""One share of a run that several processes or machines divide among themselves: `--shard 3/8` is the third of eight."""

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .errors import DataError


@dataclass(frozen=True)
class Shard:
    """A share of the work.

    Args:
        number: which share, from 1.
        of: how many shares there are.

    Raises:
        DataError: there is no such share.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise DataError(f"expected --shard I/N with I from 1 to N, found {self.number}/{self.of}; choose another")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the share that is written so, for example `3/8`.

        Raises:
            DataError: it is written otherwise, or there is no such share.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if found is None:
            raise DataError(f"expected --shard I/N, for example 3/8, found {text!r}; write it so")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def every(cls, of: int) -> list[Self]:
        """Return all shares of so many.

        Raises:
            DataError: there are none.
        """
        if of < 1:
            raise DataError(f"expected --gather N of at least 1, found {of}; give the N of --shard I/N")
        return [cls(number, of) for number in range(1, of + 1)]

    @property
    def name(self) -> str:
        """What its folder is called: `3-of-8`."""
        return f"{self.number}-of-{self.of}"

    def has(self, place: int) -> bool:
        """Whether the thing at this place of a sequence belongs to the share."""
        return place % self.of == self.number - 1

    def slice(self, things: int) -> tuple[int, int]:
        """Return where its share of so many things begins and ends: shares lie side by side and differ by one at most."""
        return (self.number - 1) * things // self.of, self.number * things // self.of


WHOLE = Shard(1, 1)
"""All there is."""


def check_either(shard: Shard | None, gather: int | None) -> None:
    """Refuse a run that is to be a share and to put shares together.

    Raises:
        DataError: both are given.
    """
    if shard is not None and gather is not None:
        raise DataError("expected --shard or --gather, found both; gather when all shards are done")


def shard_folder(room: Path, shard: Shard) -> Path:
    """Return where a share leaves what it made, in the room of all shares."""
    return room / shard.name


def missing(room: Path, of: int, done: str) -> list[Shard]:
    """Return the shares that have not left the file `done` yet."""
    return [shard for shard in Shard.every(of) if not (shard_folder(room, shard) / done).is_file()]


def require_all(room: Path, of: int, done: str) -> list[Path]:
    """Return the folders of all shares, in order.

    Raises:
        DataError: a share is not there.
    """
    lacking = missing(room, of, done)
    if lacking:
        raise DataError(
            f"{room}: expected {of} finished shards, found {of - len(lacking)}; "
            f"run --shard {lacking[0].number}/{of} to its end first"
        )
    return [shard_folder(room, shard) for shard in Shard.every(of)]


def remove_gathered(room: Path, of: int) -> None:
    """Delete what so many shards left, and nothing that another number of them did."""
    for shard in Shard.every(of):
        shutil.rmtree(shard_folder(room, shard), ignore_errors=True)
    for folder in (room, room.parent):
        with contextlib.suppress(OSError):  # something else lies there
            folder.rmdir()
