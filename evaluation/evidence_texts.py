"""The texts that an explanation may rest on, from the training split of a dataset folder and nothing else."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from xrec_dataset_builder.errors import DataError, LeakError
from xrec_dataset_builder.schema import (
    EXPLANATIONS,
    INTERACTIONS,
    ITEMS,
    REVIEWS,
    STRADDLING,
    USERS,
    DatasetFolder,
    read_table,
    scan_table,
)

PAIR = ("user_id", "item_id")
ITEM_SOURCES = ("item_title", "item_profile", "item_reviews", "item_explanations")
"""Texts about the item: its title and profile, and what others wrote of it in training."""
TITLE = "item_title"
USER_SOURCES = ("user_profile", "user_history", "user_reviews", "user_explanations")
"""Texts about the user: the profile, titles and profiles of the items touched in training, and what the user wrote of them."""
SOURCES = (*ITEM_SOURCES, *USER_SOURCES)
CHARACTERS = 1000
"""Characters of a text that are read."""
HELD_OUT = ("validation", "test", "cold_user", "cold_item")

Pair = tuple[str, str]
Texts = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Limits:
    """How much evidence a pair has at most, which bounds memory and time.

    Attributes:
        history: Items of the user's history, the latest first.
        texts: Training reviews, and as many training explanations, of the item and of the user, the latest first.
    """

    history: int = 20
    texts: int = 20

    def __post_init__(self) -> None:
        if min(self.history, self.texts) < 0:
            raise DataError(f"expected limits of at least 0, found history {self.history} and texts {self.texts}")


class EvidenceTexts:
    """Gathers the evidence of pairs. A pair's own review and explanation are never in it, whichever split it is in.

    Args:
        data: Dataset folder, distilled.
        limits: How much evidence a pair has.

    Attributes:
        has_reviews: Whether the folder holds raw reviews; a published one does not.

    Raises:
        DataError: A table is missing or cannot be read.
        LeakError: A held-out pair is among the training rows that evidence is drawn from.
    """

    def __init__(self, data: Path, limits: Limits = Limits()) -> None:
        self.folder, self.limits = DatasetFolder(data), limits
        self.has_reviews = self.folder.reviews.is_file()
        items = read_table(self.folder.items, ITEMS)
        self._items = {item: (title or "", profile or "") for item, title, profile in items.iter_rows()}
        users = read_table(self.folder.users, USERS)
        self._users = {user: profile or "" for user, profile in users.iter_rows()}
        self._check_held_out()

    def knows_user(self, user: str) -> bool:
        """Return whether the folder has this user."""
        return user in self._users

    def knows_item(self, item: str) -> bool:
        """Return whether the folder has this item."""
        return item in self._items

    def of(self, pairs: Sequence[Pair]) -> list[Texts]:
        """Gather the evidence of a block of pairs; the tables are read once a block.

        Args:
            pairs: User and item; unknown ones have no evidence.

        Returns:
            For each pair its texts by source, in the order of `SOURCES`; a source without a text is absent.
        """
        users, items = (list(dict.fromkeys(ids)) for ids in zip(*pairs, strict=True)) if pairs else ([], [])
        history = self._history(users)
        written: dict[str, dict[str, list[tuple[str, str]]]] = {}
        for kind, rows in (("reviews", self._reviews), ("explanations", self._explanations)):
            written[f"user_{kind}"] = self._grouped(rows, "user_id", users)
            written[f"item_{kind}"] = self._grouped(rows, "item_id", items)
        return [self._texts(user, item, history, written) for user, item in pairs]

    def _texts(
        self,
        user: str,
        item: str,
        history: Mapping[str, list[str]],
        written: Mapping[str, Mapping[str, list[tuple[str, str]]]],
    ) -> Texts:
        touched = [one for one in history.get(user, []) if one != item][: self.limits.history]
        found: dict[str, Iterable[str]] = {
            TITLE: self._items.get(item, ())[:1],
            "item_profile": self._items.get(item, ())[1:],
            "user_profile": (self._users.get(user, ""),),
            "user_history": (text for one in touched for text in self._items.get(one, ())),
        }
        for source, groups in written.items():
            own, other = (user, item) if source.startswith("user") else (item, user)
            texts = [text for partner, text in groups.get(own, []) if partner != other]
            found[source] = texts[: self.limits.texts]
        cut = {source: tuple(dict.fromkeys(_cut(found[source]))) for source in SOURCES}
        return {source: texts for source, texts in cut.items() if texts}

    def _history(self, users: list[str]) -> dict[str, list[str]]:
        """The user's training items, the latest first; one more than the limit, since the pair's own is left out."""
        rows = scan_table(self.folder.interactions("train"), INTERACTIONS).filter(pl.col("user_id").is_in(users))
        latest = rows.sort("timestamp", descending=True, nulls_last=True, maintain_order=True).collect()
        grouped = latest.group_by("user_id", maintain_order=True).agg(pl.col("item_id").head(self.limits.history + 1))
        return dict(grouped.iter_rows())

    def _grouped(self, rows: pl.LazyFrame | None, key: str, ids: list[str]) -> dict[str, list[tuple[str, str]]]:
        """Partner and text of each id's training rows, the latest first."""
        if rows is None:
            return {}
        other = "item_id" if key == "user_id" else "user_id"
        kept = rows.filter(pl.col(key).is_in(ids) & (pl.col("text") != "")).collect()
        if kept.is_empty():
            return {}
        latest = kept.sort("timestamp", descending=True, nulls_last=True, maintain_order=True)
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        few = latest.group_by(key, maintain_order=True).head(self.limits.texts + 1)
        for one, partner, text in few.select(key, other, "text").iter_rows():
            groups[one].append((partner, text))
        return groups

    @cached_property
    def _explanations(self) -> pl.LazyFrame:
        rows = scan_table(self.folder.explanations("train"), EXPLANATIONS).select(*PAIR, text="explanation")
        dates = scan_table(self.folder.interactions("train"), INTERACTIONS).select(*PAIR, "timestamp")
        return rows.join(dates.unique(PAIR, keep="first"), on=PAIR, how="left", maintain_order="left")

    @cached_property
    def _reviews(self) -> pl.LazyFrame | None:
        """Training reviews but those that a held-out review nearly repeats."""
        if not self.has_reviews:
            return None
        rows = scan_table(self.folder.reviews, REVIEWS).filter(pl.col("split") == "train")
        rows = rows.select(*PAIR, "timestamp", text="review")
        if not self.folder.straddling.is_file():
            return rows
        return rows.join(scan_table(self.folder.straddling, STRADDLING), on=PAIR, how="anti", maintain_order="left")

    def _check_held_out(self) -> None:
        """Assert that no held-out pair is a training row, which would let a claim be proved by its own reference."""
        files = [self.folder.explanations(split) for split in HELD_OUT]
        held_out = [scan_table(path, EXPLANATIONS).select(PAIR) for path in files if path.is_file()]
        if not held_out:
            return
        pairs = pl.concat(held_out)
        for name, rows in (("explanations", self._explanations), ("reviews", self._reviews)):
            if rows is None:
                continue
            found = rows.join(pairs, on=PAIR, how="semi").select(PAIR).collect()
            if len(found):
                user, item = found.row(0)
                raise LeakError(
                    f"expected no held-out pair among the training {name} of {self.folder.root}, found {len(found)} (first: "
                    f"user {user!r}, item {item!r}); build and distill the dataset again"
                )


def _cut(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if kept := text[:CHARACTERS].strip():
            yield kept
