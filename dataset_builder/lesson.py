"""A dataset folder as a model is to be asked about it, and what comes of asking."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from .answers import Judge
from .ask_options import AskOptions
from .distilled import Distilled, Parts
from .errors import DataError
from .journal import Journal
from .material import prepare_material
from .prompts import BUILT_IN
from .schema import RAW_ITEMS, REVIEWS, DatasetFolder, read_build, read_table, scan_table, sha256, write_json
from .shards import WHOLE, Shard, require_all, shard_folder
from .teacher import Teacher
from .teaching import Course, Taught, TeachOptions, provenance, tables, teach
from .usable import Usable
from .user_names import read_user_names

logger = logging.getLogger(__name__)

PROFILES = ("item_profile", "user_profile")
EXPLANATIONS = ("explanation",)
PROFILED, TAUGHT = "profiles.json", "taught.json"
"""What a shard leaves when its profiles are made, and when its explanations are too."""
JOURNAL = "journal.sqlite"


@dataclass(frozen=True)
class Lesson:
    """Everything a model is to be asked about a dataset.

    Args:
        folder: the dataset.
        usable: its reviews.
        raw_items: all its items.
        course: the requests.
        judge: what is kept of the answers.
        room: a folder for parts.
        shard: whose requests are made.
    """

    folder: DatasetFolder
    usable: Usable
    raw_items: pl.DataFrame
    course: Course
    judge: Judge
    room: Path
    shard: Shard | None = None

    @property
    def shards(self) -> Path:
        """Where shards of this teacher leave what they made."""
        return self.folder.shards / self.course.teacher

    @property
    def journal(self) -> Path:
        """Where answers are recorded."""
        return self.folder.journal if self.shard is None else shard_folder(self.shards, self.shard) / JOURNAL

    @classmethod
    def read(
        cls, folder: DatasetFolder, teacher: str, options: TeachOptions | None, room: Path, shard: Shard | None = None
    ) -> Self:
        """Read a dataset folder and make its reviews fit to be shown.

        Args:
            folder: a folder made by `build`.
            teacher: the teacher's name.
            options: what it is asked.
            room: an empty folder that stays as long as the lesson is used.
            shard: whose requests are made; all where None.

        Raises:
            DataError: the folder, the prompts or the options cannot be used.
            LeakError: a held-out review would feed a profile.
        """
        if options is None:
            raise DataError(f"expected what to ask the teacher {teacher}, found nothing; give `teaching` with its model")
        prompts = options.read_prompts(read_build(folder)["source"])
        raw_items, usable = read_table(folder.raw_items, RAW_ITEMS), Usable(folder)
        names = read_user_names(folder)
        material = prepare_material(usable, raw_items, names, room, shard or WHOLE)
        judge = Judge(prompts, options.words, names, frozenset(usable.users()) | frozenset(raw_items["item_id"]))
        return cls(folder, usable, raw_items, Course(material, prompts, options, teacher), judge, room, shard)

    def teach(
        self, teacher: Teacher, options: AskOptions | None, progress: bool, gather: int | None = None
    ) -> Distilled | None:
        """Ask what is not in the journal and make the tables.

        Args:
            teacher: who is asked.
            options: how; default ones where None.
            progress: show a progress bar on standard error.
            gather: take the answers of so many shards first.

        Returns:
            None when a limit left questions unasked, and for a shard.

        Raises:
            DataError: the teacher stays down, or a shard is missing.
        """
        options = options or AskOptions()
        if self.shard is not None:
            self._teach_shard(self.shard, teacher, options, progress)
            return None
        rooms = [] if gather is None else require_all(self.shards, gather, TAUGHT)
        for room in rooms:
            if self._left(room / TAUGHT) is None:
                raise DataError(f"{room}: expected a shard that was told what this run is, found another; run it again")
        with Journal(self.folder.journal) as journal:
            for room in rooms:
                journal.take(room / JOURNAL)
            taught = teach(self.course, self.judge, teacher, journal, options, progress)
            if _cut_short(taught):
                return None
            origin, tokens = provenance(self.course, taught, journal)
        users, items, explained = tables(self.course, taught, self.usable.users().to_list(), self.raw_items)
        parts = Parts(self.room, "explained")
        parts.add(explained)
        about = self._about() | {"tokens": tokens, "masked": self._masked(taught)}
        return Distilled(users, items, parts.paths, self._reviews(), self._left_out(taught), about, origin)

    def _teach_shard(self, shard: Shard, teacher: Teacher, options: AskOptions, progress: bool) -> None:
        """Ask for a shard's profiles and, when those of all shards are there, for its explanations."""
        room = shard_folder(self.shards, shard)
        with Journal(self.journal) as journal:
            if not len(journal) and self.folder.journal.is_file():
                journal.take(self.folder.journal)
            taught = teach(self.course, self.judge, teacher, journal, options, progress, PROFILES)
            if _cut_short(taught):
                return
            own = {kind: taught.by_id(kind) for kind in PROFILES}
            write_json({"settings": self._settings(), "profiles": own}, room / PROFILED)
            lacking = [one for one in Shard.every(shard.of) if not self._take_profiles(taught, one)]
            if lacking:
                logger.warning(
                    "the profiles of shard %s are done; run it once more for its explanations when those of %s are",
                    shard.name,
                    ", ".join(one.name for one in lacking),
                )
                return
            if _cut_short(teach(self.course, self.judge, teacher, journal, options, progress, EXPLANATIONS, taught)):
                return
        write_json({"settings": self._settings()}, room / TAUGHT)
        logger.warning("shard %s is done; when all are, run this with --gather %d", shard.name, shard.of)

    def _take_profiles(self, taught: Taught, shard: Shard) -> bool:
        """Take over the profiles of a shard that was asked the same way; whether there are any."""
        path = shard_folder(self.shards, shard) / PROFILED
        left = self._left(path) if path.is_file() else None
        if left is None:
            return False
        for kind in PROFILES:
            taught.texts[kind] |= {(key,): text for key, text in left["profiles"][kind].items()}
        return True

    def _left(self, path: Path) -> dict[str, Any] | None:
        """What a shard left in this file; None where it was asked another way, or of other reviews."""
        left: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return left if left["settings"] == json.loads(json.dumps(self._settings())) else None

    def _settings(self) -> dict[str, Any]:
        return self._about() | {"reviews": self.usable.height, "straddling": self.usable.copies.height}

    def _reviews(self) -> dict[str, int]:
        empty = scan_table(self.folder.reviews, REVIEWS).select((pl.col("review") == "").sum()).collect().item()
        return {"interactions": self.usable.height, "without_text": int(empty)}

    def _left_out(self, taught: Taught) -> dict[str, int]:
        material = self.course.material
        failed = {f"{kind}s_failed": taught.failed[kind] for kind in taught.texts}
        speaking = int(material.reviews["speaks"].sum())
        left_out = {"straddling_dropped": self.usable.copies.height, "nothing_visible": material.emptied}
        return {**left_out, "speaking_to_model": speaking, **failed}

    def _about(self) -> dict[str, Any]:
        options, prompts = asdict(self.course.options), self.course.prompts
        options |= {"domain": prompts.domain, "prompts": {kind: one.version for kind, one in prompts.kinds.items()}}
        options |= {"prompts_sha256": sha256(self.course.options.prompts or BUILT_IN)}
        return {"teacher": self.course.teacher, **options}

    def _masked(self, taught: Taught) -> dict[str, dict[str, int]]:
        masked = {"material": self.course.material.masked, "answers": taught.masked}
        return {where: dict(sorted(kinds.items())) for where, kinds in masked.items()}


def _cut_short(taught: Taught) -> bool:
    """Whether a limit left questions unasked, said in the log."""
    if taught.left_out:
        logger.warning(
            "asked %d questions and left %d unasked; what was answered is kept, and a run without --limit asks the rest and "
            "writes the tables",
            taught.asked,
            taught.left_out,
        )
    return bool(taught.left_out)
