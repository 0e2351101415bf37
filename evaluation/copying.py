"""How much of a text is copied: the share of its words in runs of five or more that its sources hold word for word."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

RUN = 5
"""Shortest run of words that counts as copied; shorter ones are turns of phrase."""


class Source:
    """Texts that may have been copied from.

    Args:
        texts: Any number of texts; missing ones are passed over.
    """

    def __init__(self, texts: Iterable[str | None]) -> None:
        self._runs = {run for text in texts if text for _, run in _runs(_words(text))}

    def copied(self, texts: Sequence[str]) -> np.ndarray:
        """Share of each text's words that stand in a copied run, `(rows,)`; 0 for an empty text."""
        return np.array([self._share(_words(text)) for text in texts], dtype=float)

    def _share(self, words: list[str]) -> float:
        inside = np.zeros(len(words), dtype=bool)
        for start, run in _runs(words):
            if run in self._runs:
                inside[start : start + RUN] = True
        return float(inside.mean()) if words else 0.0


def copied_from_own(texts: Sequence[str], sources: Sequence[Sequence[str | None]]) -> np.ndarray:
    """Share of each text's words that are copied from its own row's sources, `(rows,)`.

    Args:
        texts: One a row.
        sources: For each row its texts, such as both profiles.
    """
    return np.array([float(Source(own).copied([text])[0]) for text, own in zip(texts, sources, strict=True)], dtype=float)


def _words(text: str) -> list[str]:
    kept = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return kept.split()


def _runs(words: list[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    return ((start, tuple(words[start : start + RUN])) for start in range(len(words) - RUN + 1))
