"""Does the graph's structure matter? Held-out users and items, beside a model that was trained with random embeddings.

A model can learn by heart what belongs to an embedding, even to a random one. About users and items whose explanations it has
never met, an embedding says something only by what it has in common with others: by the graph.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.held_out import mark_held_out

RUN_FILE = "training.json"
LEAST_ROWS = 30
"""Fewer held-out pairs than this give no verdict: their interval would cover less than it says."""


def held_out_share(model: str | Path) -> float:
    """The share of users and items that a model's training left out; 0 where its folder does not say."""
    recipe = _recipe(model)
    return 0.0 if recipe is None else recipe.get("hold_out", 0.0)


def _recipe(model: str | Path) -> dict[str, Any] | None:
    """What a run was trained by; None where its folder does not say."""
    path = Path(model) / RUN_FILE
    if not path.is_file():
        return None
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected what `xrec train` wrote, found {error!r}; train again") from error
    if not isinstance(recipe, dict):
        raise DataError(f"{path}: expected a recipe, found {type(recipe).__name__}; train again")
    return recipe


def held_out_rows(rows: pl.DataFrame, share: float) -> pl.DataFrame:
    """The pairs whose user and item are both held out."""
    marked = mark_held_out(rows, share)
    return marked.filter(pl.col("user_held_out") & pl.col("item_held_out")).select(rows.columns)


def check_comparable(model: str | Path, others: Sequence[str | Path]) -> None:
    """Checks that models can be compared on held-out pairs.

    Raises:
        DataError: a model that was trained with another share held out, not with random embeddings, or by nobody knows what.
    """
    share = held_out_share(model)
    for other in others:
        recipe = _recipe(other)
        if recipe is None:
            raise DataError(
                f"{other}: expected a run of `xrec train --signal random-fixed`, found no {RUN_FILE}; give its folder"
            )
        signal = recipe.get("signal")
        if signal != "random-fixed":
            raise DataError(
                f"{other}: expected a model trained with --signal random-fixed, found {signal!r}; give another one"
            )
        if held_out_share(other) != share:
            raise DataError(
                f"expected models trained with the same --hold_out, found {share} in {model} and {held_out_share(other)} in "
                f"{other}; train one of them again"
            )


def skipped_reason(share: float, rows: int, others: int) -> str | None:
    """Why the question cannot be answered; None where it can."""
    if not share:
        return (
            "no users and items were held out: train the model with --hold_out 0.3, train another one likewise with --signal "
            "random-fixed, and give that as --random-fixed"
        )
    if rows < LEAST_ROWS:
        return f"only {rows} pairs of held-out users and items, fewer than {LEAST_ROWS}: explain more rows or hold out more"
    if not others:
        return "no model to compare with: train one likewise with --signal random-fixed, and give it as --random-fixed"
    return None


def verdict(gain: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether the structure matters on held-out pairs.

    Both must hold: the model finds the references likelier than the models with random embeddings do, and likelier than itself
    under other embeddings. The second keeps a model that is merely better trained from passing.

    Args:
        gain: bits over the models with random embeddings, `value`, `low`, `high`.
        own: bits of true over permuted embeddings, likewise.
    """
    return gain["low"] > 0 and own["low"] > 0
