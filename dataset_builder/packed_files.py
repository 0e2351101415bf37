"""Files that may be compressed, read in blocks of whole lines."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import DataError

PACKED = {".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed files, and how they are called."""


def require_file(path: Path) -> Path:
    """Return the path when it is a file.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found {'a folder' if path.is_dir() else 'none'}; check the path")
    return path


def open_plain(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed where its name ends in .gz or .zst.

    Raises:
        DataError: there is no such file, or what reads .zst is not installed.
    """
    require_file(path)
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.open(path, "rb"))
    if path.suffix == ".zst":
        return io.BufferedReader(_zstd().ZstdFile(path))
    return path.open("rb")


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[no-redef,import-untyped,unused-ignore]
        except ImportError as error:
            raise DataError("expected the package backports.zstd for .zst files, found none; install xrec[distill]") from error
    return zstd


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file.

    Args:
        number: its place: block `k` has the lines that begin in the bytes from `k * size` on and before `(k + 1) * size`.
        start: the byte it begins at, of the decompressed file.
        content: the lines.
        lines: how many line breaks stand before it; None where they have not been counted.
    """

    number: int
    start: int
    content: bytes
    lines: int | None = None


def blocks(path: Path, size: int, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[Block]:
    """Yield a file's content, decompressed, in blocks of whole lines of about `size` bytes.

    Of a plain file only the wanted blocks are read; a compressed one is decompressed through. Blocks in which no line begins
    are left out.

    Args:
        path: the file.
        size: bytes of a block.
        wanted: whether the block of this number is wanted.

    Raises:
        DataError: the file is missing, or is no readable gzip or zstd file.
    """
    with open_plain(path) as file:
        try:
            yield from (_passed if path.suffix in PACKED else _sought)(file, size, wanted)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(path, error) from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise _unreadable(path, error) from error


def _sought(file: IO[bytes], size: int, wanted: Callable[[int], bool]) -> Iterator[Block]:
    place = begin = 0  # the first line from byte `place` on begins at byte `begin`
    for number in range(-(-file.seek(0, io.SEEK_END) // size)):
        if not wanted(number):
            continue
        edges = []
        for edge in (number * size, (number + 1) * size):
            if not place <= edge <= begin:
                file.seek(edge - 1)
                file.readline()
                place, begin = edge, file.tell()
            edges.append(begin)
        file.seek(edges[0])
        content = file.read(edges[1] - edges[0])
        if content:
            yield Block(number, edges[0], content)


def _passed(file: IO[bytes], size: int, wanted: Callable[[int], bool]) -> Iterator[Block]:
    start = lines = 0
    while True:
        number = start // size
        content = file.read((number + 1) * size - 1 - start) + file.readline()
        if not content:
            return
        if wanted(number):
            yield Block(number, start, content, lines)
        start += len(content)
        lines += line_breaks(content)


def line_breaks(content: bytes) -> int:
    """How many line breaks there are, counted in pieces that stay in the processor's cache, which `bytes.count` leaves."""
    values, cached = np.frombuffer(content, dtype=np.uint8), 1 << 18
    return sum(int(np.count_nonzero(values[at : at + cached] == ord("\n"))) for at in range(0, len(values), cached))


class LineNumbers:
    """Numbers of lines, counted only as far as they are asked for, each byte once.

    Args:
        path: the file whose blocks are asked about, in the order in which they stand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = self.lines = 0

    def before(self, block: Block) -> int:
        """Return how many lines stand before a block."""
        if block.lines is not None:
            return block.lines
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.place)
            while self.place < block.start:
                content = file.read(min(1 << 20, block.start - self.place))
                if not content:
                    break
                self.place += len(content)
                self.lines += line_breaks(content)
        return self.lines


def _unreadable(path: Path, error: Exception) -> DataError:
    kind = PACKED.get(path.suffix, "readable")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path}: expected a readable {kind} file, found {reason}; fetch the file again")
