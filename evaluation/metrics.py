"""The metrics of a report: their names, and `measure`, which computes them for one system.

To add a metric, describe it in `METRICS` and give it values in `measure`; intervals, floors and the report follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from . import text_metrics
from .aspect_f1 import Truth, aspect_f1, named_aspects

WORD_LIMIT = 50
"""Most words an explanation may have."""


@dataclass(frozen=True)
class Metric:
    """How a metric is named and shown.

    Attributes:
        label: Short name.
        meaning: What it measures, in one plain sentence.
        scale: Factor from the stored value to the one shown (100 turns a share into per cent).
        digits: Decimals shown.
    """

    label: str
    meaning: str
    scale: float = 100.0
    digits: int = 1

    def shown(self, value: float, signed: bool = False) -> str:
        """Format a stored value for readers, with a minus sign (not a hyphen) below zero."""
        text = f"{value * self.scale:{'+' if signed else ''}z.{self.digits}f}"
        return text.replace("-", "\N{MINUS SIGN}")


METRICS: Mapping[str, Metric] = {
    "aspect_f1": Metric("Aspect-F1", "whether the text names the aspects that user and item truly share"),
    "rouge_l": Metric("ROUGE-L", "longest common word sequence with the reference (F-measure, no stemming)"),
    "rouge_1": Metric("ROUGE-1", "words shared with the reference (F-measure, no stemming)"),
    "rouge_2": Metric("ROUGE-2", "word pairs shared with the reference (F-measure, no stemming)"),
    "bleu_4": Metric("BLEU-4", "corpus BLEU of sacrebleu up to four words", scale=1.0),
    "bleu_1": Metric("BLEU-1", "corpus BLEU of sacrebleu, single words", scale=1.0),
    "usr": Metric("USR", "share of distinct texts; 100 when no two rows read the same"),
    "distinct_1": Metric("Distinct-1", "distinct words among all words of the corpus"),
    "distinct_2": Metric("Distinct-2", "distinct word pairs among all word pairs of the corpus"),
    "words": Metric("Words", "mean length in words", scale=1.0),
    "over_word_limit": Metric("Too long", f"share of texts with more than {WORD_LIMIT} words"),
}
"""Every metric in the order of the report; all lie between 0 and 1 but BLEU (0 to 100) and words."""


@dataclass(frozen=True)
class Measured:
    """The figures of one system before intervals.

    Attributes:
        per_row: `(rows,)` values of metrics that are means over rows.
        corpus: Metrics of the corpus as a whole, which have no interval.
        settings: How figures were computed: signatures and tokenizers.
    """

    per_row: dict[str, np.ndarray]
    corpus: dict[str, float]
    settings: dict[str, str] = field(default_factory=dict)


def measure(
    predictions: Sequence[str],
    references: Sequence[str],
    truth: Truth | None = None,
    shared: Sequence[frozenset[str]] | None = None,
) -> Measured:
    """Compute every metric that the material allows.

    Args:
        predictions: One text a row.
        references: One text a row.
        truth: Surface forms of the aspects, if known.
        shared: The aspects each row's user and item share; needed for aspect-F1 as well as `truth`.

    Returns:
        The figures, keyed like `METRICS`.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    script = text_metrics.writing(references)
    tokenizer = "char" if script == "characters" else "13a"
    bleu_4 = text_metrics.bleu(predictions, references, 4, tokenizer)
    bleu_1 = text_metrics.bleu(predictions, references, 1, tokenizer)
    words = text_metrics.word_counts(predictions)
    per_row = text_metrics.rouge_rows(predictions, references, script)
    per_row |= {"words": words, "over_word_limit": (words > WORD_LIMIT).astype(float)}
    if truth is not None and shared is not None:
        per_row["aspect_f1"] = aspect_f1([named_aspects(text, truth.aspects) for text in predictions], shared)
    corpus = {
        "bleu_4": bleu_4.score,
        "bleu_1": bleu_1.score,
        "usr": text_metrics.unique_sentence_ratio(predictions),
        "distinct_1": text_metrics.distinct_n(predictions, 1),
        "distinct_2": text_metrics.distinct_n(predictions, 2),
    }
    rouge_tokenizer = "rouge_score" if script == "latin" else f"unicode {script}"
    return Measured(per_row, corpus, {"bleu": bleu_4.signature, "rouge_tokenizer": rouge_tokenizer})
