"""What a teacher is shown: reviews and item metadata, visible, masked, free of control strings and cut to a length."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from .masking import mask
from .untrusted import RAW_CHARACTERS, cut, defused, speaks_to_model, visible

REVIEW_CHARACTERS = 1_200
"""Most characters of one review in a question; what stands after them changes nothing."""

TITLE_CHARACTERS = 200

DESCRIPTION_CHARACTERS = 1_500

_UNSURE_END = 64  # characters before a raw cut that may be the first part of something to be masked


@dataclass(frozen=True)
class Material:
    """Texts that are fit for questions.

    Args:
        reviews: user_id, item_id, split, rating, text, and `speaks`: whether the review speaks to a model. Rows without text
            are left out.
        items: item_id, title, description.
        masked: how much personal data was masked, by kind.
        emptied: reviews of which nothing visible was left.
    """

    reviews: pl.DataFrame
    items: pl.DataFrame
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


def prepare_material(used: pl.DataFrame, raw_items: pl.DataFrame, names: Mapping[str, Sequence[str]]) -> Material:
    """Make reviews and metadata fit for questions.

    Args:
        used: the columns of `schema.REVIEWS`, the rows that may be used.
        raw_items: the columns of `schema.RAW_ITEMS`.
        names: users' names, as far as they are known.
    """
    masked: Counter[str] = Counter()

    def fitting(value: str, characters: int, own: Sequence[str] = ()) -> str:
        text, found = fit(value, characters, own)
        masked.update(found)
        return text

    pairs = zip(used["user_id"], used["review"], strict=True)
    texts = [fitting(review, REVIEW_CHARACTERS, names.get(user, ())) for user, review in pairs]
    speaks = [speaks_to_model(visible(review)[:RAW_CHARACTERS]) for review in used["review"]]
    reviews = used.select("user_id", "item_id", "split", "rating").with_columns(
        text=pl.Series(texts, dtype=pl.String), speaks=pl.Series(speaks, dtype=pl.Boolean)
    )
    kept = reviews.filter(pl.col("text") != "")
    rows = [
        {"item_id": item, "title": fitting(title, TITLE_CHARACTERS), "description": fitting(about, DESCRIPTION_CHARACTERS)}
        for item, title, about in raw_items.select("item_id", "title", "description").iter_rows()
    ]
    strings = dict.fromkeys(("item_id", "title", "description"), pl.String)
    return Material(kept, pl.DataFrame(rows, schema=strings), masked, reviews.height - kept.height)


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
