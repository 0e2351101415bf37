"""How the graph's worth thins out along an answer: bits a token by the token's place, bits a text by its length."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .bootstrap import mean_interval
from .comparison import figure

EDGES = (0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Places where one group of tokens ends and the next begins."""
LENGTH_GROUPS = 4


def by_place(bits: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Bits a token for tokens at similar places.

    Args:
        bits: For each row what each token of its reference gains from the true embedding, `(tokens,)`.

    Returns:
        For each group of places that some text reaches `first`, `last` (counted from 1), `rows` and the mean over these rows
        of a token's bits: `value`, `low`, `high`.
    """
    groups: list[dict[str, Any]] = []
    longest = max(len(row) for row in bits)
    edges = [*(edge for edge in EDGES if edge < longest), longest]
    for start, end in pairwise(edges):
        means = np.array([row[start:end].mean() for row in bits if len(row) > start])
        groups.append({"first": start + 1, "last": end, "rows": len(means), **figure(mean_interval(means))})
    return groups


def by_length(bits: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Bits a text and a token for texts of similar length.

    Args:
        bits: As in `by_place`.

    Returns:
        For each group of rows, shortest first and of about equal size, `shortest`, `longest` (in tokens), `rows`, and `text`
        and `token`, each `value`, `low`, `high`. Texts of equal length are in one group.
    """
    lengths = np.array([len(row) for row in bits])
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTH_GROUPS + 1)[1:], method="higher"))
    found, shorter = [], 0
    for edge in edges:
        inside = [row for row in bits if shorter < len(row) <= edge]
        if not inside:
            continue
        text, token = np.array([row.sum() for row in inside]), np.array([row.mean() for row in inside])
        found.append(
            {
                "shortest": min(map(len, inside)),
                "longest": int(edge),
                "rows": len(inside),
                "text": figure(mean_interval(text)),
                "token": figure(mean_interval(token)),
            }
        )
        shorter = int(edge)
    return found
