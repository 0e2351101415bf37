"""N-grams and common subsequences of token lists, counted fast enough for a hundred thousand rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

Tokenizer = Callable[[str], list[str]]


class WordTokens(dict[str, tuple[str, ...]]):
    """A tokenizer made of a rule for single words; a word met again costs a look-up.

    It fits rules that see no further than the white space around a word.

    Args:
        rule: Tokens of one word without white space.
    """

    def __init__(self, rule: Callable[[str], Iterable[str]]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, word: str) -> tuple[str, ...]:
        tokens = self[word] = tuple(self._rule(word))
        return tokens

    def __call__(self, text: str) -> list[str]:
        """Tokens of a text, its words in their order."""
        return [token for word in text.split() for token in self[word]]


class Overlap(NamedTuple):
    """N-grams that predictions share with their references, by row and order.

    Attributes:
        clipped: `(rows, orders)` n-grams shared, each as often as the text that has it less often.
        shared_types: `(rows, orders)` different n-grams shared.
        types: `(rows, orders, 2)` different n-grams of the prediction and of the reference.
        lengths: `(rows, 2)` tokens of the prediction and of the reference.
    """

    clipped: np.ndarray
    shared_types: np.ndarray
    types: np.ndarray
    lengths: np.ndarray

    def totals(self) -> np.ndarray:
        """N-grams of the predictions and of the references: `(rows, orders, 2)`."""
        orders = np.arange(self.clipped.shape[1])[:, None]
        return np.maximum(self.lengths[:, None, :] - orders, 0)


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All n-grams of a text in their order."""
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def overlap(pairs: Iterable[tuple[Sequence[str], Sequence[str]]], orders: int) -> Overlap:
    """Count the n-grams that the two texts of each pair share.

    Args:
        pairs: Tokens of prediction and reference, at least one pair.
        orders: Longest n-gram.

    Returns:
        The counts; time and memory are linear in the rows.
    """
    rows: list[tuple[int, ...]] = []
    for pair in pairs:
        row = [len(pair[0]), len(pair[1])]
        for n in range(1, orders + 1):
            a, b = (Counter(ngrams(tokens, n)) for tokens in pair)
            common = a.keys() & b.keys()
            row += [sum(min(a[gram], b[gram]) for gram in common), len(common), len(a), len(b)]
        rows.append(tuple(row))
    counts = np.array(rows, dtype=np.int64)
    by_order = counts[:, 2:].reshape(len(rows), orders, 4)
    return Overlap(by_order[..., 0], by_order[..., 1], by_order[..., 2:], counts[:, :2])


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bit-parallel dynamic programming (Hyyro, 2004).

    Args:
        a: Tokens.
        b: Tokens.

    Returns:
        Between 0 and the length of the shorter one.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << place
    everywhere = (1 << len(a)) - 1
    unmatched = everywhere  # a zero bit marks a token of `a` that ends a longer common subsequence
    for token in b:
        if found := unmatched & places.get(token, 0):
            unmatched = ((unmatched + found) | (unmatched - found)) & everywhere
    return len(a) - unmatched.bit_count()
