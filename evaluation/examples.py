"""Which rows a report shows, from the best to the worst, and what is known of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from .aspect_f1 import Truth, named_aspects

EXAMPLES = 10


def choose_examples(
    rows: pl.DataFrame, scores: np.ndarray, truth: Truth | None = None, shared: Sequence[frozenset[str]] | None = None
) -> list[dict[str, Any]]:
    """Rows spread evenly from the best to the worst.

    Args:
        rows: prediction, reference and, if known, title and item_id.
        scores: `(rows,)` headline figure of the model.
        truth: Surface forms of the aspects, if known.
        shared: Shared aspects of each row, if known.

    Returns:
        At most `EXAMPLES`, each with `row`, `title`, `item_id` (None where unknown), `score`, `prediction`, `reference` and,
        where the truth is known, `named` (shared and named), `missed` and `wrong` (named, not shared). No user id.
    """
    order = np.argsort(-scores, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int)]
    found = []
    for index in chosen.tolist():
        row = rows.row(index, named=True)
        example: dict[str, Any] = {
            "row": index,
            "title": (row.get("title") or "").strip(),
            "item_id": row.get("item_id"),
            "score": float(scores[index]),
            "prediction": row["prediction"].strip(),
            "reference": row["reference"].strip(),
        }
        if truth is not None and shared is not None:
            named, true = named_aspects(row["prediction"], truth.aspects), shared[index]
            example |= {"named": sorted(named & true), "missed": sorted(true - named), "wrong": sorted(named - true)}
        found.append(example)
    return found
