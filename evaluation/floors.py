"""Floors: texts that cost nothing, scored on the same rows as a model. One that cannot beat them explains nothing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer

from xrec_dataset_builder.errors import DataError

ANY_ITEM = "this item"
BLOCK = 64
"""Rows compared with all training pairs at a time: 64 rows of 100,000 pairs take 26 MB."""


class Floors(NamedTuple):
    """The floors that the columns at hand allow.

    Attributes:
        texts: One list of texts a floor, on the rows given.
        skipped: Why a floor is missing, by its name.
    """

    texts: dict[str, list[str]]
    skipped: dict[str, str]


def shuffled(predictions: Sequence[str], seed: int = 0) -> list[str]:
    """Give every row the prediction of another row.

    Args:
        predictions: At least two texts.
        seed: Seed of the permutation, which is one cycle through all rows, so that none keeps its own.

    Returns:
        The same texts in another order.

    Raises:
        DataError: If there are fewer than two rows.
    """
    if len(predictions) < 2:
        raise DataError(f"expected at least two rows to shuffle, found {len(predictions)}: evaluate more rows")
    order = np.random.default_rng(seed).permutation(len(predictions))
    source = np.empty_like(order)
    source[order] = np.roll(order, 1)
    return [predictions[row] for row in source]


def copied_profile(item_profiles: Sequence[str | None]) -> list[str]:
    """Use the item's profile as the explanation; a missing profile gives an empty text."""
    return [profile or "" for profile in item_profiles]


def template(titles: Sequence[str | None], text: str = "The user would enjoy {title}.") -> list[str]:
    """Say the same of every item.

    Args:
        titles: One title a row; a missing one is read as "this item".
        text: The sentence, with `{title}` where the title goes.

    Returns:
        One sentence a row.
    """
    return [text.replace("{title}", (title or "").strip() or ANY_ITEM) for title in titles]


def other_user(item_ids: Sequence[str], training: pl.DataFrame, seed: int = 0) -> list[str]:
    """Reuse what another user was told of the same item: a random training explanation, of any item when it has none.

    Args:
        item_ids: One item a row.
        training: item_id, explanation of the training split; empty explanations are passed over.
        seed: Seed of the choice.

    Returns:
        One training text a row.

    Raises:
        DataError: If no training explanation has a text.
    """
    training = _with_text(training)
    everything = training["explanation"].to_list()
    grouped = training.group_by("item_id", maintain_order=True).agg("explanation")
    by_item = dict(zip(grouped["item_id"].to_list(), grouped["explanation"].to_list(), strict=True))
    draws = np.random.default_rng(seed).random(len(item_ids))
    pools = [by_item.get(item, everything) for item in item_ids]
    return [pool[int(draw * len(pool))] for pool, draw in zip(pools, draws, strict=True)]


def nearest(rows: pl.DataFrame, training: pl.DataFrame) -> list[str]:
    """Reuse the training explanation of the pair that reads most alike, by TF-IDF of title and profiles.

    Args:
        rows: title, item_profile, user_profile.
        training: these and explanation; empty explanations are passed over.

    Returns:
        One training text a row; among pairs that read equally alike the first one's.

    Raises:
        DataError: If no training explanation has a text.
    """
    training = _with_text(training)
    vectorizer = TfidfVectorizer(dtype=np.float32)
    try:
        known = vectorizer.fit_transform(_prompts(training))
    except ValueError:  # nothing to read: all pairs are equally alike
        return [training["explanation"][0]] * len(rows)
    asked = vectorizer.transform(_prompts(rows))
    best: list[int] = []
    for start in range(0, len(rows), BLOCK):
        best += (asked[start : start + BLOCK] @ known.T).toarray().argmax(axis=1).tolist()
    return training["explanation"].gather(best).to_list()


def _prompts(table: pl.DataFrame) -> list[str]:
    texts = (pl.col(name).fill_null("") for name in ("title", "item_profile", "user_profile"))
    return table.select(pl.concat_str(list(texts), separator=" ")).to_series().to_list()


def _with_text(training: pl.DataFrame) -> pl.DataFrame:
    training = training.filter(pl.col("explanation").fill_null("").str.strip_chars() != "")
    if training.is_empty():
        raise DataError("expected training explanations to reuse, found none: distill the training split")
    return training


def available_floors(rows: pl.DataFrame, training: pl.DataFrame | None = None, seed: int = 0) -> Floors:
    """Make every floor that the columns allow.

    Args:
        rows: prediction and, if known, item_id, title, item_profile.
        training: item_id, explanation and, for `nearest`, title and profiles of the training split; or None.
        seed: Seed of the random floors.

    Returns:
        The floors by name: `shuffled`, `copied_profile`, `template`, `other_user`, `nearest`.
    """
    texts: dict[str, list[str]] = {}
    skipped: dict[str, str] = {}
    titles = rows["title"].to_list() if "title" in rows.columns else [None] * len(rows)
    profiles = copied_profile(rows["item_profile"].to_list()) if "item_profile" in rows.columns else []

    if len(rows) > 1:
        texts["shuffled"] = shuffled(rows["prediction"].to_list(), seed)
    else:
        skipped["shuffled"] = "a single row has nothing to be exchanged with"
    if any(profile.strip() for profile in profiles):
        texts["copied_profile"] = profiles
    else:
        skipped["copied_profile"] = "the item profiles are not known"
    texts["template"] = template(titles)
    made = {"other_user": ("item_id",), "nearest": ("title", "item_profile", "user_profile")}
    for name, needed in made.items():
        if training is None or not set(needed) <= set(rows.columns):
            skipped[name] = "the training explanations are not known"
            continue
        try:
            texts[name] = (
                nearest(rows, training) if name == "nearest" else other_user(rows["item_id"].to_list(), training, seed)
            )
        except DataError:
            skipped[name] = "no training explanation has a text"
    return Floors(texts, skipped)
