"""BLEU and ROUGE as PETER and PEPLER report them, so that figures can be put beside theirs and nobody else's.

PETER (Li, Zhang and Chen, arXiv 2105.11601) splits punctuation from words, then takes the corpus BLEU of Google's NMT
code (no smoothing) and the sentence ROUGE of the seq2seq library. Both differ from sacrebleu and rouge_score in
tokens, case (kept) and, for ROUGE, in counting each different n-gram once and in the weight of ROUGE-L's F.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .ngrams import Overlap, WordTokens, overlap
from .text_metrics import check_pairs

SETTING = "Google NMT bleu without smoothing, seq2seq rouge, PETER's postprocessing tokens, mixed case"
ORDERS = 4

_SPLITS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        ("('s|'m|'ve|n't|'re|'d|'ll)", r" \1"),
        (r"([()])", r" \1 "),
        (",+", " , "),  # a run of one sign counts as one
        (":+", " , "),
        (";+", " . "),
        (r"\.+", " . "),
        ("!+", " ! "),
        (r"\?+", " ? "),
    )
]


class Peter(NamedTuple):
    """PETER's text metrics.

    Attributes:
        bleu: Corpus BLEU by its longest n-gram (1 and 4), 0 to 100.
        rouge: `rouge_1`, `rouge_2`, `rouge_l`, each `(rows, 3)`: precision, recall and F, 0 to 1; PETER prints their
            means times 100.
    """

    bleu: dict[int, float]
    rouge: dict[str, np.ndarray]


def peter_tokens(text: str) -> list[str]:
    """Tokens after PETER's "postprocessing": contractions and punctuation stand alone; case is kept.

    Args:
        text: Any text.

    Returns:
        Its tokens.
    """
    return WordTokens(_split)(text)


def peter_metrics(predictions: Sequence[str], references: Sequence[str]) -> Peter:
    """PETER's BLEU-1, BLEU-4 and ROUGE-1/2/L.

    Args:
        predictions: Generated texts.
        references: One text a prediction.

    Returns:
        The figures. A row without a token scores 0 in ROUGE (PETER's code leaves such rows out).

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    check_pairs(predictions, references)
    tokens = WordTokens(_split)
    pairs = ((tokens(a), tokens(b)) for a, b in zip(predictions, references, strict=True))
    counts = overlap(pairs, ORDERS, longest=True)
    rouge = {f"rouge_{n}": _rouge_n(counts, n) for n in (1, 2)} | {"rouge_l": _rouge_l(counts.longest, counts.lengths)}
    return Peter({order: google_bleu(counts, order) for order in (1, ORDERS)}, rouge)


def google_bleu(counts: Overlap, order: int) -> float:
    """Corpus BLEU (Papineni et al., 2002) without smoothing: `100 BP exp(mean_n log p_n)`.

    `BP = exp(1 - r / c)` for predictions of c tokens in all, shorter than the r of the references; else 1.

    Args:
        counts: Shared n-grams up to `order` at least.
        order: Longest n-gram.

    Returns:
        0 to 100; 0 when some order has no match.
    """
    matched = counts.clipped[:, :order].sum(axis=0)
    if not matched.all():
        return 0.0
    precisions = matched / counts.totals()[:, :order, 0].sum(axis=0)
    predicted, referenced = counts.lengths.sum(axis=0).tolist()
    penalty = min(0.0, 1 - referenced / predicted)
    return 100 * math.exp(penalty + float(np.log(precisions).mean()))


def _split(word: str) -> list[str]:
    for pattern, replacement in _SPLITS:
        word = pattern.sub(replacement, word)
    return word.split()


def _rouge_n(counts: Overlap, n: int) -> np.ndarray:
    shared = counts.shared_types[:, n - 1].astype(float)
    precision, recall = (_ratio(shared, types) for types in counts.types[:, n - 1].T)
    return np.column_stack([precision, recall, 2 * precision * recall / (precision + recall + 1e-8)])


def _rouge_l(longest: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """F = (1 + b^2) r p / (r + b^2 p) with b = p / r, as the seq2seq code weighs it (Lin's ROUGE fixes b)."""
    precision, recall = (_ratio(longest, total) for total in lengths.T)
    square = (precision / (recall + 1e-12)) ** 2
    return np.column_stack([precision, recall, (1 + square) * recall * precision / (recall + square * precision + 1e-12)])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
