"""How often, and how, a model's texts change when it hears something else."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .bootstrap import mean_interval
from .comparison import figure
from .text_metrics import rouge_rows, writing

MOST_WORDS = 10


def compare_texts(own: Sequence[str], other: Sequence[str]) -> dict[str, Any]:
    """Compares texts under the true embeddings with those under others.

    Args:
        own: One text a row.
        other: The same rows' texts under another signal.

    Returns:
        `changed`: share of rows whose text is another; `alike`: mean ROUGE-L between the two, 1 where both are equal; each
        `value`, `low`, `high`. `lost` and `gained`: words that go and come most, with the number of rows.
    """
    changed = np.array([a.split() != b.split() for a, b in zip(own, other, strict=True)], dtype=float)
    alike = rouge_rows(other, own, writing(own))["rouge_l"]
    alike[changed == 0] = 1.0
    lost: Counter[str] = Counter()
    gained: Counter[str] = Counter()
    for before, after in zip(own, other, strict=True):
        was, now = set(_words(before)), set(_words(after))
        lost.update(was - now)
        gained.update(now - was)
    return {
        "changed": figure(mean_interval(changed)),
        "alike": figure(mean_interval(alike)),
        "lost": _most(lost),
        "gained": _most(gained),
    }


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?\"'()").lower() for word in text.split()]


def _most(words: Counter[str]) -> dict[str, int]:
    """Most frequent first, equal ones by the alphabet."""
    ranked = sorted(((word, count) for word, count in words.items() if word), key=lambda pair: (-pair[1], pair[0]))
    return dict(ranked[:MOST_WORDS])
