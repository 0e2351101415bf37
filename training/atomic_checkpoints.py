"""Checkpoints that are there whole or not at all: written aside, flushed, and put in place by one rename."""

import os
import re
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

STAGING = ".saving"
_NAME = re.compile(re.escape(PREFIX_CHECKPOINT_DIR) + r"-(\d+)")


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a run's folder, None where there is none.

    What a killed process was still writing lies under another name, so every checkpoint that is found is whole.
    """
    found = [(int(match[1]), path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name)) and path.is_dir()]
    return max(found)[1] if found else None


def clear_staging(folder: Path) -> None:
    """Removes what a killed process left in the place where checkpoints are written."""
    if (folder / STAGING).exists():
        shutil.rmtree(folder / STAGING)


def put_in_place(written: Path, place: Path) -> None:
    """Flushes a written checkpoint to disk and renames it to its place; an older one of the same name gives way.

    Args:
        written: the folder that was written.
        place: where it belongs, on the same file system.
    """
    for path in written.rglob("*"):
        flush(path)
    flush(written)
    if place.exists():
        shutil.rmtree(place)
    written.rename(place)
    flush(place.parent)
    shutil.rmtree(written.parent, ignore_errors=True)


def flush(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
