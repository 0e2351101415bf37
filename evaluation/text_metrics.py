"""Text metrics as plain functions on lists of strings: pure, deterministic, and never NaN.

BLEU is sacrebleu's and ROUGE is rouge_score's, each with its own defaults, so that figures can be compared; their counting
is done here, where it takes a tenth of the time. Both keep Latin letters only, or split on spaces: for other scripts
`writing` says which tokenizer to take instead.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU

from xrec_dataset_builder.errors import DataError

from .ngrams import Overlap, Tokenizer, WordTokens, ngrams, overlap

Writing = Literal["latin", "words", "characters"]
ROUGE_KEYS = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}
ENDING_WORDS = 10

_LATIN_TOKEN = re.compile("[a-z0-9]+")
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
    """Tokenizer for ROUGE, in the form of rouge_score's, that keeps letters, marks and digits of every script.

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
    if all(map(str.isascii, texts)):
        return "latin"
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
    return len({" ".join(text.split()) for text in texts}) / len(texts)


def unique_ending_ratio(texts: Sequence[str], words: int = ENDING_WORDS) -> float:
    """USR of the last words alone: a title or a name in a fixed frame no longer makes a text distinct.

    Args:
        texts: At least one text.
        words: Whitespace tokens that are left of each text; a shorter text is left whole.

    Returns:
        Between 1 / N and 1, and never above USR.

    Raises:
        DataError: If there is no text.
        ValueError: If words is below 1.
    """
    check_pairs(texts, texts)
    if words < 1:
        raise ValueError(f"expected words of at least 1, found {words}")
    return len({" ".join(text.split()[-words:]) for text in texts}) / len(texts)


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
    _check_distinct(texts, n)
    grams: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        tokens = text.split()
        total += max(len(tokens) - n + 1, 0)
        grams.update(ngrams(tokens, n))
    return len(grams) / total if total else 0.0


def distinct_n_rows(texts: Sequence[str], n: int) -> np.ndarray:
    """Distinct n-grams of whitespace tokens over all n-grams inside each text: how little it repeats itself.

    Args:
        texts: At least one text.
        n: Tokens an n-gram, at least 1.

    Returns:
        `(rows,)` between 0 and 1; 0 for a text with fewer than n tokens.

    Raises:
        DataError: If there is no text.
        ValueError: If n is below 1.
    """
    _check_distinct(texts, n)
    rows = [text.split() for text in texts]
    shares = [len(set(ngrams(tokens, n))) / (len(tokens) - n + 1) if len(tokens) >= n else 0.0 for tokens in rows]
    return np.array(shares, dtype=float)


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
    return bleu_orders(predictions, references, (max_order,), tokenizer)[max_order]


def bleu_orders(
    predictions: Sequence[str], references: Sequence[str], orders: Sequence[int] = (1, 4), tokenizer: str = "13a"
) -> dict[int, Bleu]:
    """`bleu` for several orders at the cost of the longest.

    Args:
        predictions: Generated texts.
        references: One text a prediction.
        orders: Longest n-gram of each BLEU.
        tokenizer: A tokenizer of sacrebleu.

    Returns:
        One BLEU an order.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    counts = _bleu_counts(predictions, references, max(orders), tokenizer)
    matched, totals = counts.clipped.sum(axis=0).tolist(), counts.totals()[..., 0].sum(axis=0).tolist()
    lengths = counts.lengths.sum(axis=0).tolist()
    found = {}
    for order in orders:
        score = BLEU.compute_bleu(matched[:order], totals[:order], *lengths, smooth_method="exp", max_ngram_order=order)
        metric = _sacrebleu(tokenizer, order)
        metric.corpus_score(["a"], [["a"]])  # it signs only what it has scored
        found[order] = Bleu(float(score.score), str(metric.get_signature()))
    return found


def bleu_rows(predictions: Sequence[str], references: Sequence[str], tokenizer: str = "13a") -> np.ndarray:
    """BLEU-4 of every row as sacrebleu's `sentence_bleu` has it: exponential smoothing, effective order.

    Args:
        predictions: Generated texts.
        references: One text a prediction.
        tokenizer: A tokenizer of sacrebleu.

    Returns:
        `(rows,)` between 0 and 100; their mean is not the corpus BLEU.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    counts = _bleu_counts(predictions, references, 4, tokenizer)
    rows = zip(counts.clipped.tolist(), counts.totals()[..., 0].tolist(), counts.lengths.tolist(), strict=True)
    scores = [BLEU.compute_bleu(*row[:2], *row[2], smooth_method="exp", effective_order=True).score for row in rows]
    return np.array(scores, dtype=float)


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
    tokenize = _latin_tokens if script == "latin" else UnicodeTokenizer(characters=script == "characters").tokenize
    pairs = ((tokenize(a), tokenize(b)) for a, b in zip(predictions, references, strict=True))
    counts = overlap(pairs, 2, longest=True)
    shared = np.column_stack([counts.clipped, counts.longest])
    totals = np.concatenate([counts.totals(), counts.lengths[:, None]], axis=1).sum(axis=-1)
    # 2pr / (p + r) with p = shared / predicted and r = shared / referenced.
    scores = np.divide(2 * shared, totals, out=np.zeros_like(shared), where=shared > 0)
    return dict(zip(ROUGE_KEYS.values(), scores.T, strict=True))


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


def _check_distinct(texts: Sequence[str], n: int) -> None:
    check_pairs(texts, texts)
    if n < 1:
        raise ValueError(f"expected n of at least 1, found {n}")


def _latin_tokens(text: str) -> list[str]:
    return _LATIN_TOKEN.findall(text.lower())


def _sacrebleu(tokenizer: str, order: int = 4) -> BLEU:
    # force: sacrebleu otherwise logs a guess that the texts were tokenized before.
    return BLEU(max_ngram_order=order, tokenize=tokenizer, force=True)


def _bleu_counts(predictions: Sequence[str], references: Sequence[str], orders: int, tokenizer: str) -> Overlap:
    check_pairs(predictions, references)
    tokenize = _bleu_tokenizer(tokenizer)
    return overlap(((tokenize(a), tokenize(b)) for a, b in zip(predictions, references, strict=True)), orders)


def _bleu_tokenizer(name: str) -> Tokenizer:
    """Tokens of a text by a tokenizer of sacrebleu; those of `"13a"` word by word, which takes a tenth of the time."""
    whole = _sacrebleu(name).tokenizer
    words = WordTokens(lambda word: whole(word).split())

    def tokens(text: str) -> list[str]:
        # 13a joins words that a hyphen at the end of a line cuts in two; else its rules end at white space.
        return words(text) if name == "13a" and "\n" not in text else whole(text.rstrip()).split()

    return tokens
