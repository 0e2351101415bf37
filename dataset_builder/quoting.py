"""The extractive teacher over a whole dataset: reviews are read once, in batches, and what they state waits on disk.

A shard reads the reviews of its users and makes their explanations and profiles. Items come last, from what all shards have
written down of their training reviews.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from .distilled import EXPLAINED, Distilled, Parts
from .errors import DataError
from .extractive import Statements, explanation, item_profile, statements, user_profile
from .masking import mask
from .schema import ITEMS, RAW_ITEMS, USERS, DatasetFolder, read_table, write_json
from .shards import WHOLE, Shard
from .usable import Usable
from .user_names import read_user_names

DONE = "quoted.json"
"""What a shard leaves last: its settings and counts."""
STATED: dict[str, Any] = {"item_id": pl.String, "stated": pl.String}
"""What training reviews state of an item, as JSON."""
BUCKET = 256 << 20
"""Bytes of statements that are grouped by item at a time."""


@dataclass(frozen=True)
class QuoteOptions:
    """What is made of reviews.

    Args:
        explanation_sentences: most sentences of an explanation.
        explanation_words: most words of an explanation.
        profile_sentences: most sentences of a profile.

    Raises:
        DataError: a figure is below 1.
    """

    explanation_sentences: int = 3
    explanation_words: int = 50
    profile_sentences: int = 2

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit < 1:
                raise DataError(f"expected {name} of at least 1, found {limit}; choose another")


@dataclass
class _Reader:
    """What the reviews read so far state; batches may end within a user."""

    options: QuoteOptions
    names: Mapping[str, Sequence[str]]
    masked: Counter[str] = field(default_factory=Counter)
    explained: list[tuple[str, str, str, str]] = field(default_factory=list)
    stated: list[tuple[str, str]] = field(default_factory=list)
    users: list[tuple[str, str]] = field(default_factory=list)
    own: list[Statements] = field(default_factory=list)
    user: str | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("interactions", "without_text", "usable"), 0))

    def read(self, user: str, item: str, split: str, review: str, usable: bool) -> None:
        if user != self.user:
            self.close_user()
            self.user = user
        self.counts["interactions"] += 1
        self.counts["without_text"] += not review
        if not usable:
            return
        self.counts["usable"] += 1
        text, found = mask(review, self.names.get(user, ()))
        self.masked.update(found)
        said = statements(text)
        text = explanation(said, self.options.explanation_sentences, self.options.explanation_words)
        if text:
            self.explained.append((user, item, split, text))
        if said and split == "train":
            self.own.append(said)
            self.stated.append((item, json.dumps(said)))

    def close_user(self) -> None:
        if self.user is not None:
            self.users.append((self.user, user_profile(self.own, self.options.profile_sentences)))
        self.user, self.own = None, []


def quote(
    folder: DatasetFolder, room: Path, options: QuoteOptions | None = None, shard: Shard = WHOLE, progress: bool = True
) -> None:
    """Read a share of the reviews and leave what they state in `room`.

    Args:
        folder: a folder made by `build`.
        room: an empty folder.
        options: the texts' limits; default ones where None.
        shard: whose users are read.
        progress: show a progress bar on standard error.

    Raises:
        DataError: the folder holds no review text.
        LeakError: a held-out review would feed a profile.
    """
    options = options or QuoteOptions()
    usable = Usable(folder)
    start, stop = usable.share(shard)
    reader, written = _Reader(options, read_user_names(folder)), _Written.of(room)
    with tqdm(total=stop - start, desc="distill", unit="review", disable=not progress) as bar:
        for rows in usable.batches(start, stop):
            for row in rows.select("user_id", "item_id", "split", "review", "usable").iter_rows():
                reader.read(*row)
                bar.update()
            written.add(reader)
    reader.close_user()
    written.add(reader)
    left = {"settings": settings(usable, options), "counts": reader.counts, "masked": dict(sorted(reader.masked.items()))}
    write_json(left, room / DONE)


def settings(usable: Usable, options: QuoteOptions) -> dict[str, Any]:
    """Return what shards must have in common to be gathered."""
    return {**asdict(options), "reviews": usable.height, "straddling": usable.copies.height}


def gathered(folder: DatasetFolder, rooms: Sequence[Path], options: QuoteOptions | None = None) -> Distilled:
    """Put together what all shards left, in their order, and make the items' profiles.

    Args:
        folder: the dataset.
        rooms: where the shards left it.
        options: those of the shards.

    Raises:
        DataError: a shard was made with other options or of other reviews.
    """
    options = options or QuoteOptions()
    usable = Usable(folder)
    raw_items = read_table(folder.raw_items, RAW_ITEMS)
    expected, counts = settings(usable, options), dict.fromkeys(("interactions", "without_text", "usable"), 0)
    masked: Counter[str] = Counter()
    for room in rooms:
        left = json.loads((room / DONE).read_text(encoding="utf-8"))
        if left["settings"] != expected:
            raise DataError(f"{room}: expected a shard made with {expected}, found {left['settings']}; run it again")
        counts = {name: count + left["counts"][name] for name, count in counts.items()}
        masked.update(left["masked"])
    written = [_Written.of(room) for room in rooms]
    explained = [path for one in written for path in one.explained.paths]
    users = pl.concat([pl.DataFrame(schema=USERS), *(table for one in written for table in one.users)])
    about = {"teacher": "extractive", **asdict(options), "masked": dict(sorted(masked.items()))}
    items = _items(raw_items, [path for one in written for path in one.stated.paths], options.profile_sentences)
    usable_rows = counts.pop("usable")
    reasons = sum(pl.scan_ipc(path).select(pl.len()).collect().item() for path in explained)
    left_out = {"straddling_dropped": usable.copies.height, "without_reason": usable_rows - reasons}
    return Distilled(users, items, explained, counts, left_out, about)


@dataclass(frozen=True)
class _Written:
    """The parts in a shard's room."""

    explained: Parts
    stated: Parts
    users: Parts

    @classmethod
    def of(cls, room: Path) -> "_Written":
        return cls(*(Parts(room, name) for name in ("explained", "stated", "users")))

    def add(self, reader: _Reader) -> None:
        """Write what has been read and forget it."""
        self.explained.add(pl.DataFrame(reader.explained, schema=EXPLAINED, orient="row"))
        self.stated.add(pl.DataFrame(reader.stated, schema=STATED, orient="row"))
        self.users.add(pl.DataFrame(reader.users, schema=USERS, orient="row"))
        for rows in (reader.explained, reader.stated, reader.users):
            rows.clear()


def _items(raw_items: pl.DataFrame, stated: Sequence[Path], sentences: int) -> pl.DataFrame:
    """Return all items with their profiles; statements are grouped in as many rounds as keep them in memory."""
    scan = pl.scan_ipc(list(stated))
    size = scan.select(pl.col("stated").str.len_bytes().sum()).collect().item() or 0
    rounds = 1 + size // BUCKET
    items = raw_items.with_columns(round=pl.col("item_id").hash(seed=0) % rounds)
    profiles: dict[str, str] = {}
    for number in range(rounds):
        mine = scan if rounds == 1 else scan.filter(pl.col("item_id").hash(seed=0) % rounds == number)
        said = dict(mine.collect().group_by("item_id").agg("stated").iter_rows())
        for item, title, description, _ in items.filter(pl.col("round") == number).iter_rows():
            own = [json.loads(one) for one in said.get(item, [])]
            profiles[item] = item_profile(title, description, own, sentences)
    texts = pl.Series("item_profile", [profiles[item] for item in raw_items["item_id"]], dtype=pl.String)
    return raw_items.with_columns(texts).select(list(ITEMS))
