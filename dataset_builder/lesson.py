"""A dataset folder as a model is to be asked about it, and what comes of asking."""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import polars as pl

from .answers import Judge
from .ask_options import AskOptions
from .distill import DistilledTables, joined_tables, used_reviews
from .errors import DataError
from .journal import Journal
from .material import prepare_material
from .prompts import BUILT_IN
from .schema import RAW_ITEMS, REVIEWS, USER_NAMES, DatasetFolder, read_build, read_table, sha256
from .teacher import Teacher
from .teaching import Course, Taught, TeachOptions, provenance, tables, teach

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lesson:
    """Everything a model is to be asked about a dataset.

    Args:
        folder: the dataset.
        reviews: all its reviews.
        raw_items: all its items.
        copied: training reviews left out because they stand in a held-out one too.
        course: the requests.
        judge: what is kept of the answers.
    """

    folder: DatasetFolder
    reviews: pl.DataFrame
    raw_items: pl.DataFrame
    copied: int
    course: Course
    judge: Judge

    @classmethod
    def read(cls, folder: DatasetFolder, teacher: str, options: TeachOptions | None) -> Self:
        """Read a dataset folder and make its reviews fit to be shown.

        Args:
            folder: a folder made by `build`.
            teacher: the teacher's name.
            options: what it is asked.

        Raises:
            DataError: the folder, the prompts or the options cannot be used.
            LeakError: a held-out review would feed a profile.
        """
        if options is None:
            raise DataError(f"expected what to ask the teacher {teacher}, found nothing; give `teaching` with its model")
        prompts = options.read_prompts(read_build(folder)["source"])
        reviews, raw_items = read_table(folder.reviews, REVIEWS), read_table(folder.raw_items, RAW_ITEMS)
        names: dict[str, list[str]] = {}
        if folder.user_names.is_file():
            for user, name in read_table(folder.user_names, USER_NAMES).iter_rows():
                names.setdefault(user, []).append(name)
        used, copied = used_reviews(reviews)
        material = prepare_material(used, raw_items, names)
        ids = frozenset(reviews["user_id"].unique()) | frozenset(raw_items["item_id"])
        judge = Judge(prompts, options.words, names, ids)
        return cls(folder, reviews, raw_items, copied, Course(material, prompts, options, teacher), judge)

    def teach(self, teacher: Teacher, options: AskOptions | None, progress: bool) -> DistilledTables | None:
        """Ask what is not in the journal and make the tables; None when a limit left questions unasked."""
        with Journal(self.folder.journal) as journal:
            taught = teach(self.course, self.judge, teacher, journal, options or AskOptions(), progress)
            if taught.left_out:
                logger.warning(
                    "asked %d questions and left %d unasked; what was answered is kept, and a run without --limit asks "
                    "the rest and writes the tables",
                    taught.asked,
                    taught.left_out,
                )
                return None
            origin, tokens = provenance(self.course, taught, journal)
        user_ids = self.reviews["user_id"].unique().sort().to_list()
        users, items, explained = tables(self.course, taught, user_ids, self.raw_items)
        made = joined_tables(self.reviews, self._left_out(taught), explained, users, items)
        return replace(made, about=self._about(taught, tokens), provenance=origin)

    def _left_out(self, taught: Taught) -> dict[str, int]:
        material = self.course.material
        failed = {f"{kind}s_failed": taught.failed[kind] for kind in taught.texts}
        speaking = int(material.reviews["speaks"].sum())
        left_out = {"straddling_dropped": self.copied, "nothing_visible": material.emptied}
        return {**left_out, "speaking_to_model": speaking, **failed}

    def _about(self, taught: Taught, tokens: dict[str, int]) -> dict[str, Any]:
        options, prompts = asdict(self.course.options), self.course.prompts
        options |= {"domain": prompts.domain, "prompts": {kind: one.version for kind, one in prompts.kinds.items()}}
        options |= {"prompts_sha256": sha256(self.course.options.prompts or BUILT_IN)}
        masked = {"material": self.course.material.masked, "answers": taught.masked}
        counted = {where: dict(sorted(kinds.items())) for where, kinds in masked.items()}
        return {"teacher": self.course.teacher, **options, "tokens": tokens, "masked": counted}
