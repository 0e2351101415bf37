"""Users and items whose explanations a training run does not see, though the graph knows them: what an audit asks about.

A model can learn an embedding's explanations by heart, whatever the embedding is. Only for those it was never told about does
it matter what the embedding says.
"""

import hashlib
from collections.abc import Iterable

import polars as pl


def is_held_out(ids: Iterable[str], share: float) -> list[bool]:
    """Whether each id is held out; an id's lot depends on itself alone, so all runs over all splits agree.

    Args:
        ids: of users or items.
        share: of the ids to hold out, from 0 to below 1.
    """
    bound = share * 2**64
    return [int.from_bytes(hashlib.blake2b(one.encode(), digest_size=8).digest()) < bound for one in ids]


def mark_held_out(table: pl.DataFrame, share: float) -> pl.DataFrame:
    """Adds the columns `user_held_out` and `item_held_out` to a table with `user_id` and `item_id`."""
    return table.with_columns(
        pl.Series(f"{side}_held_out", is_held_out(table[f"{side}_id"].to_list(), share), dtype=pl.Boolean)
        for side in ("user", "item")
    )


def without_held_out(table: pl.DataFrame, share: float) -> pl.DataFrame:
    """The rows whose user and item are both known to a training run."""
    if not share:
        return table
    marked = mark_held_out(table, share)
    return table.filter(~(marked["user_held_out"] | marked["item_held_out"]))
