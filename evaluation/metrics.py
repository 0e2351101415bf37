"""The metrics of a report: their names, and `measure`, which computes them for one system.

To add a metric, describe it in `METRICS` and give it values in `measure`; intervals, floors and the report follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from . import text_metrics
from .aspect_f1 import Truth, aspect_f1, named_aspects
from .feature_metrics import feature_coverage, feature_diversity, feature_matching
from .metric_options import Models
from .peter_metrics import SETTING as PETER_SETTING
from .peter_metrics import peter_metrics

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
        better: Whether more or less of it is better; `""` where neither is.
        group: What it is about: `truth`, `overlap`, `meaning`, `variety`, `length` or `likelihood`.
    """

    label: str
    meaning: str
    scale: float = 100.0
    digits: int = 1
    better: Literal["more", "less", ""] = "more"
    group: Literal["truth", "overlap", "meaning", "variety", "length", "likelihood"] = "overlap"

    def shown(self, value: float, signed: bool = False) -> str:
        """Format a stored value for readers, with a minus sign (not a hyphen) below zero."""
        text = f"{value * self.scale:{'+' if signed else ''}z.{self.digits}f}"
        return text.replace("-", "\N{MINUS SIGN}")


_OVERLAP = {
    "rouge_l": Metric("ROUGE-L", "longest common word sequence with the reference (F-measure, no stemming)"),
    "rouge_1": Metric("ROUGE-1", "words shared with the reference (F-measure, no stemming)"),
    "rouge_2": Metric("ROUGE-2", "word pairs shared with the reference (F-measure, no stemming)"),
    "bleu_4": Metric("BLEU-4", "corpus BLEU of sacrebleu up to four words", scale=1.0),
    "bleu_1": Metric("BLEU-1", "corpus BLEU of sacrebleu, single words", scale=1.0),
    "rouge_l_peter": Metric("ROUGE-L (PETER)", "ROUGE-L as PETER computes it; for its tables only"),
    "rouge_1_peter": Metric("ROUGE-1 (PETER)", "ROUGE-1 as PETER computes it; for its tables only"),
    "rouge_2_peter": Metric("ROUGE-2 (PETER)", "ROUGE-2 as PETER computes it; for its tables only"),
    "bleu_4_peter": Metric("BLEU-4 (PETER)", "corpus BLEU-4 as PETER computes it; for its tables only", scale=1.0),
    "bleu_1_peter": Metric("BLEU-1 (PETER)", "corpus BLEU-1 as PETER computes it; for its tables only", scale=1.0),
}
_TRUTH = {
    "aspect_f1": Metric("Aspect-F1", "whether the text names the aspects that user and item truly share", group="truth"),
    "fmr": Metric("FMR", "share of the aspects that user and item share which the text names", group="truth"),
    "fcr": Metric("FCR", "share of all aspects that some text names", group="truth"),
    "div": Metric("DIV", "aspects that two texts both name, mean over pairs of texts", 1.0, 2, "less", "truth"),
}
_MEANING = {
    "embedding_similarity": Metric("Similarity", "cosine of text and reference by a sentence encoder", group="meaning"),
    "bert_f1": Metric("BERTScore F1", "F1 of matched token vectors, raw", group="meaning"),
    "bert_precision": Metric("BERTScore P", "the text's tokens found in the reference, raw", group="meaning"),
    "bert_recall": Metric("BERTScore R", "the reference's tokens found in the text, raw", group="meaning"),
    "bert_f1_rescaled": Metric("BERTScore F1 (rescaled)", "F1 of matched token vectors above a baseline", group="meaning"),
    "bert_precision_rescaled": Metric(
        "BERTScore P (rescaled)", "the text's tokens found in the reference, above a baseline", group="meaning"
    ),
    "bert_recall_rescaled": Metric(
        "BERTScore R (rescaled)", "the reference's tokens found in the text, above a baseline", group="meaning"
    ),
    "bart_recall": Metric("BARTScore R", "log p of a token of the reference given the text", 1.0, 2, group="meaning"),
    "bart_precision": Metric("BARTScore P", "log p of a token of the text given the reference", 1.0, 2, group="meaning"),
    "bart_f1": Metric("BARTScore F", "mean of BARTScore's two directions", 1.0, 2, group="meaning"),
    "bleurt": Metric("BLEURT", "learned likeness to the reference, on the checkpoint's own scale", 1.0, 3, group="meaning"),
}
_VARIETY = {
    "usr": Metric("USR", "share of distinct texts; 100 when no two rows read the same", group="variety"),
    "usr_ending": Metric(
        "USR of endings",
        f"share of distinct last {text_metrics.ENDING_WORDS} words, behind template and title",
        group="variety",
    ),
    "distinct_1": Metric("Distinct-1", "distinct words among all words of the corpus", group="variety"),
    "distinct_2": Metric("Distinct-2", "distinct word pairs among all word pairs of the corpus", group="variety"),
    "distinct_1_text": Metric("Distinct-1 in a text", "distinct words among the words of a text, mean", group="variety"),
    "distinct_2_text": Metric("Distinct-2 in a text", "distinct word pairs among those of a text, mean", group="variety"),
    "pairwise_cosine": Metric(
        "Pairwise cosine", "how alike two texts of different rows are, by the encoder", better="less", group="variety"
    ),
}
_LENGTH = {
    "words": Metric("Words", "mean length in words", scale=1.0, better="", group="length"),
    "over_word_limit": Metric("Too long", f"share of texts with more than {WORD_LIMIT} words", better="less", group="length"),
}
_LIKELIHOOD = {
    "nll": Metric("NLL", "nats a token of the reference costs the model, mean over rows", 1.0, 3, "less", "likelihood"),
    "perplexity": Metric("Perplexity", "exp of all nats over all tokens of the references", 1.0, 2, "less", "likelihood"),
}
METRICS: Mapping[str, Metric] = {
    "aspect_f1": _TRUTH["aspect_f1"],
    **_OVERLAP,
    **_MEANING,
    **_TRUTH,
    **_VARIETY,
    **_LENGTH,
    **_LIKELIHOOD,
}
"""Every metric in the order of the report; stored between 0 and 1 where the scale is 100 (cosines and rescaled: from -1)."""


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
    models: Models | None = None,
) -> Measured:
    """Compute every metric that the material allows.

    Args:
        predictions: One text a row.
        references: One text a row.
        truth: Surface forms of the aspects, if known.
        shared: The aspects each row's user and item share; needed for aspect-F1 and FMR as well as `truth`.
        models: Models of further metrics, loaded once for all systems (`metric_options.load_models`).

    Returns:
        The figures, keyed like `METRICS`; those that compare rows with each other only from two rows on. NLL and
        perplexity need the model that made the texts: see `likelihood`.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    per_row, corpus, settings = _overlap(predictions, references)
    words = text_metrics.word_counts(predictions)
    per_row |= {f"distinct_{n}_text": text_metrics.distinct_n_rows(predictions, n) for n in (1, 2)}
    per_row |= {"words": words, "over_word_limit": (words > WORD_LIMIT).astype(float)}
    corpus |= {
        "usr": text_metrics.unique_sentence_ratio(predictions),
        "usr_ending": text_metrics.unique_ending_ratio(predictions),
        "distinct_1": text_metrics.distinct_n(predictions, 1),
        "distinct_2": text_metrics.distinct_n(predictions, 2),
    }
    if truth is not None:
        named = [named_aspects(text, truth.aspects) for text in predictions]
        corpus |= _feature_figures(named, truth)
        if shared is not None:
            per_row |= {"aspect_f1": aspect_f1(named, shared), "fmr": feature_matching(named, shared)}
    if models is not None:
        rows, figures, used = models.measure(predictions, references)
        per_row, corpus, settings = per_row | rows, corpus | figures, settings | used
    return Measured(per_row, corpus, settings)


def _overlap(
    predictions: Sequence[str], references: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, str]]:
    script = text_metrics.writing(references)
    bleu = text_metrics.bleu_orders(predictions, references, (1, 4), "char" if script == "characters" else "13a")
    peter = peter_metrics(predictions, references)
    per_row = text_metrics.rouge_rows(predictions, references, script)
    per_row |= {f"{name}_peter": values[:, 2] for name, values in peter.rouge.items()}
    corpus = {f"bleu_{order}": found.score for order, found in bleu.items()}
    corpus |= {f"bleu_{order}_peter": score for order, score in peter.bleu.items()}
    rouge_tokenizer = "rouge_score" if script == "latin" else f"unicode {script}"
    return per_row, corpus, {"bleu": bleu[4].signature, "rouge_tokenizer": rouge_tokenizer, "peter": PETER_SETTING}


def _feature_figures(named: Sequence[set[str]], truth: Truth) -> dict[str, float]:
    figures = {"div": feature_diversity(named)} if len(named) > 1 else {}
    return figures | ({"fcr": feature_coverage(named, truth.aspects)} if truth.aspects else {})
