"""What a teacher is shown: reviews and item metadata, visible, masked, free of control strings and cut to a length."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from .distilled import Parts
from .masking import mask
from .shards import WHOLE, Shard
from .untrusted import RAW_CHARACTERS, cut, defused, speaks_to_model, visible
from .usable import Usable

REVIEW_CHARACTERS = 1_200
"""Most characters of one review in a question; what stands after them changes nothing."""

TITLE_CHARACTERS = 200

DESCRIPTION_CHARACTERS = 1_500

_UNSURE_END = 64  # characters before a raw cut that may be the first part of something to be masked


@dataclass(frozen=True)
class Material:
    """Texts that are fit for questions.

    Args:
        reviews: user_id, item_id, split, rating, text, `speaks`: whether the review speaks to a model, and `own`: whether it
            is to be explained, not only shown for profiles. Rows without text are left out.
        items: item_id, title, description.
        own_items: the places of items whose profiles are to be made, first and one after the last.
        masked: how much personal data was masked, by kind.
        emptied: reviews of which nothing visible was left.
    """

    reviews: pl.DataFrame
    items: pl.DataFrame
    own_items: tuple[int, int]
    masked: Counter[str] = field(default_factory=Counter)
    emptied: int = 0

    def for_profiles(self, side: str) -> dict[str, list[int]]:
        """By id of a `user` or `item`: the places in `reviews` that may feed its profile.

        Held-out reviews feed none, and neither do reviews that speak to a model: what such a one makes a teacher say must not
        reach other rows.
        """
        rows = self.reviews.with_row_index("place").filter((pl.col("split") == "train") & ~pl.col("speaks"))
        grouped = rows.group_by(f"{side}_id", maintain_order=True).agg("place")
        return dict(grouped.iter_rows())


def fit(text: str, characters: int, names: Iterable[str] = ()) -> tuple[str, Counter[str]]:
    """One line of at most so many characters that is fit for a question, and what was masked in it."""
    whole = visible(text)
    raw = whole[:RAW_CHARACTERS]
    masked, found = mask(raw, names)
    if len(whole) > len(raw):
        masked = masked[: -_UNSURE_END or None]
    return cut(defused(masked), characters), found


def prepare_material(
    usable: Usable, raw_items: pl.DataFrame, names: Mapping[str, Sequence[str]], room: Path, shard: Shard = WHOLE
) -> Material:
    """Make reviews and metadata fit for questions.

    Args:
        usable: the reviews.
        raw_items: the columns of `schema.RAW_ITEMS`.
        names: users' names, as far as they are known.
        room: a folder for the texts, which are read from there, so that memory does not grow with them.
        shard: whose users and items are asked about; reviews that concern neither are left out.
    """
    masked: Counter[str] = Counter()

    def fitting(value: str, characters: int, own: Sequence[str] = ()) -> str:
        text, found = fit(value, characters, own)
        masked.update(found)
        return text

    own_items = shard.slice(raw_items.height)
    emptied, parts, (start, stop) = 0, Parts(room, "material"), usable.share(shard)
    at = 0
    for batch in usable.batches():
        places = pl.int_range(at, at + batch.height)
        at += batch.height
        rows = batch.with_columns(own=(places >= start) & (places < stop)).filter("usable")
        if shard != WHOLE:
            fed = (pl.col("split") == "train") & pl.col("item_id").is_in(raw_items["item_id"][slice(*own_items)].implode())
            rows = rows.filter(pl.col("own") | fed)
        pairs = zip(rows["user_id"], rows["review"], strict=True)
        texts = [fitting(review, REVIEW_CHARACTERS, names.get(user, ())) for user, review in pairs]
        speaks = [speaks_to_model(visible(review)[:RAW_CHARACTERS]) for review in rows["review"]]
        fit_rows = rows.select("user_id", "item_id", "split", "rating", "own").with_columns(
            text=pl.Series(texts, dtype=pl.String), speaks=pl.Series(speaks, dtype=pl.Boolean)
        )
        kept = fit_rows.filter(pl.col("text") != "")
        emptied += rows.height - kept.height
        parts.add(kept, compression="uncompressed")
    items = [
        {"item_id": item, "title": fitting(title, TITLE_CHARACTERS), "description": fitting(about, DESCRIPTION_CHARACTERS)}
        for item, title, about in raw_items.select("item_id", "title", "description").iter_rows()
    ]
    strings = dict.fromkeys(("item_id", "title", "description"), pl.String)
    reviews = pl.concat([pl.read_ipc(path) for path in parts.paths], rechunk=False)
    return Material(reviews, pl.DataFrame(items, schema=strings), own_items, masked, emptied)


def chosen(reviews: pl.DataFrame, places: Sequence[int], most: int, seed: int) -> list[dict[str, Any]]:
    """Draw reviews for one profile, whatever the order they come in; no text twice.

    Args:
        reviews: `Material.reviews`.
        places: rows of it that may be drawn.
        most: how many are drawn at most.
        seed: of the draw.
    """
    rows = reviews[list(places)].to_dicts()
    rows.sort(key=lambda row: _draw(seed, row["user_id"], row["item_id"]))
    by_text: dict[str, dict[str, Any]] = {}
    for row in rows:
        by_text.setdefault(row["text"], row)
    return list(by_text.values())[:most]


def _draw(seed: int, *ids: str) -> bytes:
    return hashlib.blake2b("\0".join((str(seed), *ids)).encode("utf-8", "replace"), digest_size=16).digest()
