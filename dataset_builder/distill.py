"""From a built dataset to one with profiles and explanations."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from tqdm import tqdm

from .card import write_card
from .errors import DataError
from .extractive import Statements, explanation, item_profile, statements, user_profile
from .leaks import check_profile_sources, straddling
from .schema import (
    COLD_SPLITS,
    EXPLANATIONS,
    ITEMS,
    PROVENANCE,
    RAW_ITEMS,
    REVIEWS,
    SPLITS,
    USERS,
    DatasetFolder,
    read_build,
    read_table,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from .ask_options import AskOptions
    from .teacher import Teacher
    from .teaching import TeachOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistilledTables:
    """What a teacher makes of the reviews.

    Args:
        users: the columns of `schema.USERS`.
        items: the columns of `schema.ITEMS`.
        explanations: the columns of `schema.EXPLANATIONS` and `split`.
        counts: what was made, and what was left out and why.
        about: how it was made, for build.json.
        provenance: the columns of `schema.PROVENANCE`; None where no model was asked.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    explanations: pl.DataFrame
    counts: dict[str, int]
    about: dict[str, Any] = field(default_factory=dict)
    provenance: pl.DataFrame | None = None


def distill(
    data: Path,
    teacher: "str | Teacher" = "extractive",
    *,
    explanation_sentences: int = 3,
    explanation_words: int = 50,
    profile_sentences: int = 2,
    teaching: "TeachOptions | None" = None,
    asking: "AskOptions | None" = None,
    progress: bool = True,
) -> bool:
    """Write profiles and explanations into a dataset folder.

    A pair is explained by its own review, in the split of its interaction; profiles rest on training reviews only. A
    training review that nearly repeats a held-out one is used for neither. Doing it again gives the same
    bytes, and when it fails the folder stays as it was, but for the journal of a model's answers, which loses none.

    Args:
        data: a folder made by `build`.
        teacher: `extractive`, or a model that is asked.
        explanation_sentences: most sentences of an extracted explanation.
        explanation_words: most words of an extracted explanation.
        profile_sentences: most sentences of an extracted profile.
        teaching: what a model is asked; needed with one.
        asking: how it is asked; default options where None.
        progress: show a progress bar on standard error.

    Returns:
        True when the folder is complete; False when the dataset came with explanations, so that there was nothing to do,
        or when a limit left questions unasked, so that the tables stay as they were.

    Raises:
        DataError: the teacher is unknown, or the folder is not complete or holds no review text, or the model stays down.
        LeakError: a held-out review fed a profile.
    """
    if isinstance(teacher, str) and teacher != "extractive":
        raise DataError(f"expected the teacher 'extractive' or a Teacher, found {teacher!r}; make one")
    limits = {"explanation_sentences": explanation_sentences, "explanation_words": explanation_words}
    limits["profile_sentences"] = profile_sentences
    _check_limits(limits)
    folder = DatasetFolder(data)
    about = read_build(folder)
    if "published_leak_report" in about:
        logger.warning("%s: its explanations came with the source, nothing to do", data)
        return False
    if isinstance(teacher, str):
        reviews, raw_items = read_table(folder.reviews, REVIEWS), read_table(folder.raw_items, RAW_ITEMS)
        made = make_tables(reviews, raw_items, progress, **limits)
        made.about.update(teacher=teacher, **limits)
    else:
        from .lesson import Lesson

        lesson = Lesson.read(folder, teacher.name, teaching)
        taught = lesson.teach(teacher, asking, progress)
        if taught is None:
            return False
        made = taught
    _write(folder, about | {"distillation": {**made.about, "counts": made.counts}}, made)
    return True


def _check_limits(limits: dict[str, int]) -> None:
    for name, limit in limits.items():
        if limit < 1:
            raise DataError(f"expected {name} of at least 1, found {limit}; choose another")


def _write(folder: DatasetFolder, about: dict[str, Any], made: DistilledTables) -> None:
    def write(target: DatasetFolder) -> None:
        write_table(made.users, target.users, USERS)
        write_table(made.items, target.items, ITEMS)
        for split in _splits(made.explanations):
            write_table(made.explanations.filter(pl.col("split") == split), target.explanations(split), EXPLANATIONS)
        if made.provenance is not None:
            write_table(made.provenance, target.provenance, PROVENANCE)
        write_json(about, target.build_json)
        write_card(target, about, beside=folder)

    _replace_files(folder, write)
    if made.provenance is None:
        folder.provenance.unlink(missing_ok=True)


def _splits(table: pl.DataFrame) -> tuple[str, ...]:
    """The three splits, and the cold ones that occur."""
    found = set(table["split"].unique())
    return (*SPLITS, *(split for split in COLD_SPLITS if split in found))


def make_tables(
    reviews: pl.DataFrame,
    raw_items: pl.DataFrame,
    progress: bool = True,
    *,
    explanation_sentences: int = 3,
    explanation_words: int = 50,
    profile_sentences: int = 2,
) -> DistilledTables:
    """Make profiles and explanations of reviews, without touching a folder.

    Args:
        reviews: the columns of `schema.REVIEWS`.
        raw_items: the columns of `schema.RAW_ITEMS`.
        progress: show a progress bar on standard error.
        explanation_sentences: most sentences of an explanation.
        explanation_words: most words of an explanation.
        profile_sentences: most sentences of a profile.

    Raises:
        DataError: no review states a reason.
        LeakError: a held-out review fed a profile.
    """
    used, copied = used_reviews(reviews)
    sources = used.filter(pl.col("split") == "train")
    user_ids = reviews["user_id"].unique().sort().to_list()
    bar = tqdm(total=len(user_ids) + raw_items.height + used.height, desc="distill", unit="text", disable=not progress)
    with bar:
        read = []
        for text in used["review"]:
            read.append(statements(text))
            bar.update()
        texts = [explanation(one, explanation_sentences, explanation_words) for one in read]
        taught = [one for one, split in zip(read, used["split"], strict=True) if split == "train"]
        by_user, by_item = _grouped(taught, sources["user_id"]), _grouped(taught, sources["item_id"])
        users = []
        for user in user_ids:
            users.append({"user_id": user, "user_profile": user_profile(by_user.get(user, []), profile_sentences)})
            bar.update()
        items = []
        for item, title, description in raw_items.iter_rows():
            text = item_profile(title, description, by_item.get(item, []), profile_sentences)
            items.append({"item_id": item, "title": title, "item_profile": text})
            bar.update()
    user_table, item_table = pl.DataFrame(users, schema=USERS), pl.DataFrame(items, schema=ITEMS)
    rows = used.select("user_id", "item_id", "split").with_columns(explanation=pl.Series(texts, dtype=pl.String))
    usable = rows.filter(pl.col("explanation") != "")
    left_out = {"straddling_dropped": copied, "without_reason": rows.height - usable.height}
    return joined_tables(reviews, left_out, usable, user_table, item_table)


def used_reviews(reviews: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the reviews that may be used, and how many copies of held-out ones are left out.

    Args:
        reviews: the columns of `schema.REVIEWS`.

    Raises:
        LeakError: a held-out review would feed a profile.
    """
    copied = straddling(reviews)
    used = reviews.filter(~copied & (pl.col("review") != ""))
    check_profile_sources(used.filter(pl.col("split") == "train"), reviews)
    return used, int(copied.sum())


def joined_tables(
    reviews: pl.DataFrame, left_out: dict[str, int], explained: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame
) -> DistilledTables:
    """Put explanations beside titles and profiles, and count.

    Args:
        reviews: all reviews.
        left_out: how many rows went before, and why.
        explained: user_id, item_id, split, explanation.
        users: the columns of `schema.USERS`.
        items: the columns of `schema.ITEMS`.

    Raises:
        DataError: there is no explanation.
    """
    if explained.is_empty():
        raise DataError("expected reviews that state a reason, found none; give a source with longer reviews")
    joined = explained.join(users, on="user_id", how="left", maintain_order="left")
    joined = joined.join(items, on="item_id", how="left", maintain_order="left")
    return DistilledTables(users, items, joined, _counts(reviews, left_out, explained, users, items))


def _counts(
    reviews: pl.DataFrame, left_out: dict[str, int], usable: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame
) -> dict[str, int]:
    return {
        "interactions": reviews.height,
        "without_text": reviews.filter(pl.col("review") == "").height,
        **left_out,
        **{f"explanations_{split}": usable.filter(pl.col("split") == split).height for split in _splits(usable)},
        "users_without_profile": users.filter(pl.col("user_profile") == "").height,
        "items_without_profile": items.filter(pl.col("item_profile") == "").height,
    }


def _grouped(read: list[Statements], ids: pl.Series) -> dict[str, list[Statements]]:
    """Return what each id's reviews state, in the order of the table."""
    groups: dict[str, list[Statements]] = {}
    for one, key in zip(read, ids, strict=True):
        groups.setdefault(key, []).append(one)
    return groups


def _replace_files(folder: DatasetFolder, write: Callable[[DatasetFolder], None]) -> None:
    """Write files beside the folder and, when all are there, move them in one by one, build.json last.

    A process that is killed while moving leaves whole files only, and a build.json that still asks for distilling.
    """
    root = folder.root.absolute()
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    except OSError as error:
        raise DataError(f"{root.parent}: expected a place to write to, found {error.strerror}; move the folder") from error
    try:
        write(DatasetFolder(temporary))
        fresh = sorted(path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file())
        last = DatasetFolder(Path()).build_json
        for path in [*(path for path in fresh if path != last), last]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / path, root / path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
