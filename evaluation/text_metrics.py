"""Text metrics as plain functions on lists of strings: pure, deterministic, and never NaN.

BLEU is sacrebleu's and ROUGE is rouge_score's, each with its own defaults, so that figures can be compared. Those keep
Latin letters only, or split on spaces: for other scripts `writing` says which tokenizer to take instead.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from xrec_dataset_builder.errors import DataError

Writing = Literal["latin", "words", "characters"]
ROUGE_KEYS = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}

_LETTER = re.compile(r"[^\W\d_]")
_ASCII_LETTER = re.compile(r"[A-Za-z]")
_UNSPACED_LETTER = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Bleu(NamedTuple):
    """A corpus BLEU.

    Attributes:
        score: 0 to 100.
        signature: sacrebleu's own description of how it was computed.
    """

    score: float
    signature: str


class UnicodeTokenizer:
    """Tokenizer for `RougeScorer` that keeps letters, marks and digits of every script.

    Args:
        characters: Whether each character is a token (scripts without spaces) rather than each word.
    """

    def __init__(self, characters: bool) -> None:
        self.characters = characters

    def tokenize(self, text: str) -> list[str]:
        """Split a text into lower-case tokens without punctuation."""
        kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower())
        return list(kept.replace(" ", "")) if self.characters else kept.split()


def writing(texts: Sequence[str]) -> Writing:
    """Say how texts are written, which decides the tokenizers.

    Args:
        texts: Texts of one corpus, usually the references.

    Returns:
        `"latin"` when at least half of the letters are ASCII (the libraries' own tokenizers are right), `"words"` for
        other scripts with spaces, `"characters"` for Chinese, Japanese, Thai and other scripts without spaces.
    """
    letters = sum(len(_LETTER.findall(text)) for text in texts)
    if 2 * sum(len(_ASCII_LETTER.findall(text)) for text in texts) >= letters:
        return "latin"
    unspaced = sum(len(_UNSPACED_LETTER.findall(text)) for text in texts)
    return "characters" if 2 * unspaced >= letters else "words"


def check_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    """Check that there are as many predictions as references, and at least one.

    Raises:
        DataError: If the lengths differ or there is no row.
    """
    if len(predictions) != len(references):
        raise DataError(
            f"expected as many predictions as references, found {len(predictions)} and {len(references)}: pair them"
        )
    if not predictions:
        raise DataError("expected at least one row to evaluate, found none: check the file or the limit")


def unique_sentence_ratio(texts: Sequence[str]) -> float:
    """USR: the number of distinct texts, compared as sequences of whitespace tokens, over the number of texts.

    Args:
        texts: At least one text.

    Returns:
        Between 1 / N and 1.

    Raises:
        DataError: If there is no text.
    """
    check_pairs(texts, texts)
    return len({tuple(text.split()) for text in texts}) / len(texts)


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams of whitespace tokens over all n-grams of the corpus; case counts, no n-gram crosses two texts.

    It falls with the number of texts: compare systems on the same rows only.

    Args:
        texts: At least one text.
        n: Tokens an n-gram, at least 1.

    Returns:
        Between 0 and 1; 0 when no text has n tokens.

    Raises:
        DataError: If there is no text.
        ValueError: If n is below 1.
    """
    check_pairs(texts, texts)
    if n < 1:
        raise ValueError(f"expected n of at least 1, found {n}")
    grams = list(chain.from_iterable(_ngrams(text.split(), n) for text in texts))
    return len(set(grams)) / len(grams) if grams else 0.0


def bleu(predictions: Sequence[str], references: Sequence[str], max_order: int = 4, tokenizer: str = "13a") -> Bleu:
    """Corpus BLEU of sacrebleu, one reference a prediction, mixed case, exponential smoothing.

    Args:
        predictions: Generated texts.
        references: One text a prediction.
        max_order: Longest n-gram: 4 for BLEU-4, 1 for BLEU-1.
        tokenizer: A tokenizer of sacrebleu; `"13a"` is its default, `"char"` fits scripts without spaces.

    Returns:
        The score (0 to 100) and sacrebleu's signature; 0 when no prediction has a word.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    check_pairs(predictions, references)
    # force: sacrebleu otherwise logs a guess that the texts were tokenized before.
    metric = BLEU(max_ngram_order=max_order, tokenize=tokenizer, force=True)
    score = float(metric.corpus_score(list(predictions), [list(references)]).score)
    return Bleu(score, str(metric.get_signature()))


def rouge_rows(predictions: Sequence[str], references: Sequence[str], script: Writing = "latin") -> dict[str, np.ndarray]:
    """ROUGE-1, ROUGE-2 and ROUGE-L F-measures of every row, without stemming.

    Args:
        predictions: Generated texts.
        references: One text a prediction.
        script: `"latin"` is rouge_score's own tokenizer (ASCII letters and digits); see `writing` for the others.

    Returns:
        `rouge_1`, `rouge_2`, `rouge_l`, each `(rows,)` between 0 and 1; a row without tokens scores 0.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    check_pairs(predictions, references)
    tokenizer = None if script == "latin" else UnicodeTokenizer(characters=script == "characters")
    scorer = RougeScorer(list(ROUGE_KEYS), use_stemmer=False, tokenizer=tokenizer)
    scores = [scorer.score(reference, prediction) for prediction, reference in zip(predictions, references, strict=True)]
    return {key: np.array([row[name].fmeasure for row in scores], dtype=float) for name, key in ROUGE_KEYS.items()}


def rouge(predictions: Sequence[str], references: Sequence[str], script: Writing = "latin") -> dict[str, float]:
    """Mean of `rouge_rows` over the rows: `rouge_1`, `rouge_2`, `rouge_l`, between 0 and 1.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    return {key: float(values.mean()) for key, values in rouge_rows(predictions, references, script).items()}


def word_counts(texts: Sequence[str]) -> np.ndarray:
    """Words (whitespace tokens) of every text, `(rows,)`."""
    return np.array([len(text.split()) for text in texts], dtype=float)


def lengths(texts: Sequence[str]) -> dict[str, float]:
    """Mean and longest length in words.

    Args:
        texts: At least one text.

    Returns:
        `mean` and `max`, in whitespace tokens.

    Raises:
        DataError: If there is no text.
    """
    check_pairs(texts, texts)
    counts = word_counts(texts)
    return {"mean": float(counts.mean()), "max": float(counts.max())}


def word_limit_violations(texts: Sequence[str], limit: int = 50) -> float:
    """Share of texts with more than `limit` words (the cap that XRec asks its teacher to keep).

    Args:
        texts: At least one text.
        limit: Most words allowed, in whitespace tokens.

    Returns:
        Between 0 and 1.

    Raises:
        DataError: If there is no text.
    """
    check_pairs(texts, texts)
    return float((word_counts(texts) > limit).mean())


def _ngrams(tokens: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[start:] for start in range(n)), strict=False)
