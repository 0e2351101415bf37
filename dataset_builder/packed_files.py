"""Files that may be compressed, read in blocks of whole lines."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

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


def blocks(path: Path, size: int) -> Iterator[bytes]:
    """Yield a file's content, decompressed, in blocks of whole lines of about `size` bytes.

    Raises:
        DataError: the file is missing, or is no readable gzip or zstd file.
    """
    with open_plain(path) as file:
        while True:
            try:
                block = file.read(_whole_lines(file, size) if file.seekable() and path.suffix not in PACKED else size)
                if not block:
                    return
                yield block if block.endswith(b"\n") else block + file.readline()
            except (OSError, EOFError, zlib.error) as error:
                raise _unreadable(path, error) from error
            except Exception as error:
                if type(error).__name__ != "ZstdError":
                    raise
                raise _unreadable(path, error) from error


def _whole_lines(file: IO[bytes], size: int) -> int:
    """How many bytes from here make whole lines; looking it up is cheaper than joining a block with the end of its line."""
    start = file.tell()
    file.seek(size, io.SEEK_CUR)
    ahead = len(file.readline())
    file.seek(start)
    return size + ahead


def _unreadable(path: Path, error: Exception) -> DataError:
    kind = PACKED.get(path.suffix, "readable")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path}: expected a readable {kind} file, found {reason}; fetch the file again")
