"""From a built dataset to one with profiles and explanations."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .card import write_card
from .distilled import Distilled
from .errors import DataError
from .quoting import DONE, QuoteOptions, gathered, quote
from .schema import DatasetFolder, atomic_folder, read_build, write_json
from .shards import Shard, check_either, remove_gathered, require_all, shard_folder

if TYPE_CHECKING:
    from .ask_options import AskOptions
    from .teacher import Teacher
    from .teaching import TeachOptions

logger = logging.getLogger(__name__)


def distill(
    data: Path,
    teacher: "str | Teacher" = "extractive",
    *,
    quoting: QuoteOptions | None = None,
    teaching: "TeachOptions | None" = None,
    asking: "AskOptions | None" = None,
    shard: Shard | None = None,
    gather: int | None = None,
    progress: bool = True,
) -> bool:
    """Write profiles and explanations into a dataset folder.

    A pair is explained by its own review, in the split of its interaction; profiles rest on training reviews only. A
    training review that nearly repeats a held-out one is used for neither. Doing it again gives the same
    bytes, and when it fails the folder stays as it was, but for the journal of a model's answers, which loses none.

    Args:
        data: a folder made by `build`.
        teacher: `extractive`, or a model that is asked.
        quoting: limits of extracted texts; default ones where None.
        teaching: what a model is asked; needed with one.
        asking: how it is asked; default options where None.
        shard: do this share only and leave it in the folder's private part; a model's share takes two runs, as explanations
            rest on the profiles of all shards.
        gather: put together what so many shards left, and do what is missing.
        progress: show a progress bar on standard error.

    Returns:
        True when the folder is complete; False when the dataset came with explanations, so that there was nothing to do,
        or when a shard was made or a limit left questions unasked, so that the tables stay as they were.

    Raises:
        DataError: the teacher is unknown, or the folder is not complete or holds no review text, or the model stays down, or
            a shard that is to be gathered is missing.
        LeakError: a held-out review fed a profile.
    """
    if isinstance(teacher, str) and teacher != "extractive":
        raise DataError(f"expected the teacher 'extractive' or a Teacher, found {teacher!r}; make one")
    check_either(shard, gather)
    folder = DatasetFolder(data)
    about = read_build(folder)
    if "published_leak_report" in about:
        logger.warning("%s: its explanations came with the source, nothing to do", data)
        return False
    shards = folder.shards / (teacher if isinstance(teacher, str) else teacher.name)
    with workplace(folder) as work:
        if isinstance(teacher, str):
            made = _quoted(folder, shards, quoting or QuoteOptions(), work, shard, gather, progress)
        else:
            from .lesson import Lesson

            made = Lesson.read(folder, teacher.name, teaching, work, shard).teach(teacher, asking, progress, gather)
        if made is None:
            return False
        _write(folder, about, made, work)
    if gather is not None:
        remove_gathered(shards, gather)
    return True


def _quoted(
    folder: DatasetFolder,
    shards: Path,
    options: QuoteOptions,
    work: Path,
    shard: Shard | None,
    gather: int | None,
    progress: bool,
) -> Distilled | None:
    if shard is not None:
        target = shard_folder(shards, shard)
        shutil.rmtree(target, ignore_errors=True)
        with atomic_folder(target) as room:
            quote(folder, room, options, shard, progress)
        logger.warning("shard %s is done; when all are, run this with --gather %d", shard.name, shard.of)
        return None
    if gather is not None:
        return gathered(folder, require_all(shards, gather, DONE), options)
    quote(folder, work, options, progress=progress)
    return gathered(folder, [work], options)


def _write(folder: DatasetFolder, about: dict[str, Any], made: Distilled, work: Path) -> None:
    def write(target: DatasetFolder) -> None:
        counts = made.write(target, work)
        complete = about | {"distillation": {**made.about, "counts": counts}}
        write_json(complete, target.build_json)
        write_card(target, complete, beside=folder)

    _replace_files(folder, write)
    if made.provenance is None:
        folder.provenance.unlink(missing_ok=True)


@contextmanager
def workplace(folder: DatasetFolder) -> Iterator[Path]:
    """Make a folder for parts beside the dataset's, where there is room for it, and remove it at the end.

    Raises:
        DataError: nothing can be written there.
    """
    root = folder.root.absolute()
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    except OSError as error:
        raise DataError(f"{root.parent}: expected a place to write to, found {error.strerror}; move the folder") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace_files(folder: DatasetFolder, write: Callable[[DatasetFolder], None]) -> None:
    """Write files beside the folder and, when all are there, move them in one by one, the card and build.json last.

    A process that is killed while moving leaves whole files only, and a build.json that still asks for distilling.
    """
    root = folder.root.absolute()
    with workplace(folder) as temporary:
        write(DatasetFolder(temporary))
        fresh = sorted(path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file())
        last = [DatasetFolder(Path()).card, DatasetFolder(Path()).build_json]  # a card must not speak of tables to come
        for path in [*(path for path in fresh if path not in last), *last]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / path, root / path)
