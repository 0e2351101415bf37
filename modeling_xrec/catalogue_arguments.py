"""Users, items and histories as callers give them, checked before anything is looked up."""

from collections.abc import Iterable
from typing import Any


def index_rows(side: str, rows: list[dict[str, str]]) -> dict[str, int]:
    """Row number by id.

    Args:
        side: `user` or `item`.
        rows: each with a `user_id` or `item_id`.

    Raises:
        ValueError: a row without an id, an id that is no text, or one that stands there twice.
    """
    name = f"{side}_id"
    index: dict[str, int] = {}
    for number, row in enumerate(rows):
        key = row.get(name)
        if not isinstance(key, str):
            raise ValueError(f"row {number} of the {side}s: expected {name} as text, found {key!r}; ids are text everywhere.")
        if key in index:
            raise ValueError(f"rows {index[key]} and {number} of the {side}s both have {name} {key!r}; give each row its own.")
        index[key] = number
    return index


def row_of(side: str, key: Any, index: dict[str, int], histories: bool = True) -> int:
    """Row number of one id.

    Args:
        side: `user` or `item`.
        key: the id as the caller gives it.
        index: as from `index_rows`.
        histories: whether a user may be given by a history instead, as the error then advises.

    Raises:
        ValueError: an id that is no text, or that the index does not hold.
    """
    if not isinstance(key, str):
        raise ValueError(f"expected {side} ids as text, found {key!r} ({type(key).__name__}); use str() as in the data.")
    if key not in index:
        some = f"such as {next(iter(index))!r}" if index else "none are stored in this folder"
        remedy = "give a history instead" if side == "user" and histories else f"use one of these {side}s"
        raise ValueError(f"unknown {side} {key!r}: expected one of the model's {len(index)} {side}s ({some}); {remedy}.")
    return index[key]


def several(name: str, given: Any) -> list[Any]:
    """One id or many as a list.

    Raises:
        ValueError: neither text nor a collection.
    """
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable):
        raise ValueError(f"expected {name} as text or a list of texts, found {given!r} ({type(given).__name__}); use str().")
    return list(given)


def several_histories(given: Any) -> list[list[str]]:
    """One history or many as a list of lists.

    Raises:
        ValueError: an empty history, or one that is no list of ids.
    """
    if isinstance(given, str):
        raise ValueError(f"expected history as a list of item ids, found the text {given!r}; put it in a list.")
    histories = several("history", given)
    if all(isinstance(one, str) for one in histories):
        histories = [histories]
    histories = [one if isinstance(one, str) else several("history", one) for one in histories]
    for row, one in enumerate(histories):
        if isinstance(one, str):
            raise ValueError(f"history {row}: expected a list of item ids, found the text {one!r}; put it in a list.")
        if not one:
            raise ValueError(f"history {row} is empty; give at least one item that the user liked.")
    return histories


__all__ = ["index_rows", "row_of", "several", "several_histories"]
