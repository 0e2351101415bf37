"""N-grams and common subsequences of token lists, counted fast enough for a hundred thousand rows."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np

from xrec_dataset_builder.errors import DataError

Tokenizer = Callable[[str], list[str]]
Pair = tuple[Sequence[str], Sequence[str]]

_CHUNK = 4096  # rows counted at a time
_BITS = 62  # of a number that stands for an n-gram of a row


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
        longest: `(rows,)` length of the longest common subsequence; empty where it was not asked for.
    """

    clipped: np.ndarray
    shared_types: np.ndarray
    types: np.ndarray
    lengths: np.ndarray
    longest: np.ndarray

    def totals(self) -> np.ndarray:
        """N-grams of the predictions and of the references: `(rows, orders, 2)`."""
        orders = np.arange(self.clipped.shape[1])[:, None]
        return np.maximum(self.lengths[:, None, :] - orders, 0)


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All n-grams of a text in their order."""
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def overlap(pairs: Iterable[Pair], orders: int, longest: bool = False) -> Overlap:
    """Count the n-grams that the two texts of each pair share.

    Args:
        pairs: Tokens of prediction and reference, at least one pair; they are read once, and not kept.
        orders: Longest n-gram, at most 4.
        longest: Whether to find the longest common subsequences, too.

    Returns:
        The counts; time and memory are linear in the rows.

    Raises:
        DataError: If a pair has more different tokens than can be counted (32,768 for four-grams).
    """
    left = iter(pairs)
    parts = []
    while chunk := list(islice(left, _CHUNK)):
        subsequences = [common_subsequence(*pair) for pair in chunk] if longest else []
        parts.append((*_shared(chunk, orders), np.array(subsequences, dtype=float)))
    clipped, shared_types, types, lengths, longest_found = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Overlap(clipped, shared_types, types, lengths, longest_found)


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


def _shared(chunk: Sequence[Pair], orders: int) -> tuple[np.ndarray, ...]:
    """The counts of `Overlap` for a few thousand rows, by sorting numbers that stand for a row, an n-gram and a side."""
    numbers: list[int] = []
    different = 0
    for pair in chunk:
        number: defaultdict[str, int] = defaultdict(count().__next__)  # tokens by their first place in the pair
        numbers += [number[token] for token in chain(*pair)]
        different = max(different, len(number))
    width = max(different - 1, 1).bit_length()
    if (len(chunk) - 1).bit_length() + orders * width + 1 > _BITS:
        if len(chunk) == 1:
            raise DataError(f"expected texts of fewer different tokens, found {different} in one row: cut the texts")
        halves = (_shared(half, orders) for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]))
        return tuple(np.concatenate(arrays) for arrays in zip(*halves, strict=True))
    lengths = np.array([[len(text) for text in pair] for pair in chunk], dtype=np.int64)
    by_order = _sorted_counts(np.array(numbers, dtype=np.int64), lengths, orders, width)
    return (*(np.stack(arrays, axis=1) for arrays in zip(*by_order, strict=True)), lengths)


def _sorted_counts(
    tokens: np.ndarray, lengths: np.ndarray, orders: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each order `(rows,)` clipped, `(rows,)` shared types and `(rows, 2)` types; a token takes `width` bits."""
    rows = len(lengths)
    text = np.repeat(np.arange(2 * rows), lengths.ravel())
    remaining = np.repeat(lengths.ravel().cumsum(), lengths.ravel()) - np.arange(len(tokens))
    grams = np.zeros_like(tokens)
    for n in range(1, orders + 1):
        grams = (grams << width) | np.concatenate([tokens[n - 1 :], np.zeros(min(n - 1, len(tokens)), dtype=np.int64)])
        whole = remaining >= n
        row, side = text[whole] >> 1, text[whole] & 1
        keys = np.sort((row << (n * width + 1)) | (grams[whole] << 1) | side)
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        keys, times = keys[starts], np.diff(starts, append=len(keys))
        owner = keys >> (n * width + 1)
        both = np.flatnonzero(np.diff(keys >> 1) == 0)  # the prediction's n-gram, and next to it the reference's
        clipped = np.bincount(owner[both], np.minimum(times[both], times[both + 1]), rows)
        types = np.bincount(2 * owner + (keys & 1), minlength=2 * rows).reshape(rows, 2)
        yield clipped.astype(np.int64), np.bincount(owner[both], minlength=rows), types
