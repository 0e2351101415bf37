"""The metrics of explanations as one module for `evaluate`, which loads offline from this folder.

`evaluate.load(folder, "rouge").compute(predictions=[...], references=[...])`; the folder is
`xrec_evaluation.metric_options.metrics_folder()`. The functions behind it are xrec_evaluation's own.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import datasets
import evaluate

from xrec_evaluation import text_metrics
from xrec_evaluation.aspect_f1 import aspect_f1, named_aspects
from xrec_evaluation.feature_metrics import feature_coverage, feature_diversity, feature_matching
from xrec_evaluation.metric_options import MetricOptions, load_models
from xrec_evaluation.peter_metrics import peter_metrics

Texts = Sequence[str]


class _Config(NamedTuple):
    """One metric: what it measures, what its references are ("text", "features" or None), and how it is computed."""

    meaning: str
    references: str | None
    compute: Callable[..., dict[str, float]]


def _usr(predictions: Texts) -> dict[str, float]:
    unique, ending = text_metrics.unique_sentence_ratio(predictions), text_metrics.unique_ending_ratio(predictions)
    return {"usr": unique, "usr_ending": ending}


def _bleu(predictions: Texts, references: Texts, tokenizer: str | None = None) -> dict[str, float]:
    fitting = "char" if text_metrics.writing(references) == "characters" else "13a"
    found = text_metrics.bleu_orders(predictions, references, (1, 4), tokenizer or fitting)
    return {f"bleu_{order}": score.score for order, score in found.items()}


def _peter(predictions: Texts, references: Texts) -> dict[str, float]:
    found = peter_metrics(predictions, references)
    figures = {f"bleu_{order}_peter": score for order, score in found.bleu.items()}
    parts = ("precision", "recall", "f1")
    means = {name: dict(zip(parts, values.mean(axis=0), strict=True)) for name, values in found.rouge.items()}
    return figures | {f"{name}_peter_{part}": float(mean[part]) for name, mean in means.items() for part in parts}


def _rouge(predictions: Texts, references: Texts) -> dict[str, float]:
    return text_metrics.rouge(predictions, references, text_metrics.writing(references))


def _distinct(predictions: Texts) -> dict[str, float]:
    corpus = {f"distinct_{n}": text_metrics.distinct_n(predictions, n) for n in (1, 2)}
    return corpus | {f"distinct_{n}_text": float(text_metrics.distinct_n_rows(predictions, n).mean()) for n in (1, 2)}


def _lengths(predictions: Texts, limit: int = 50) -> dict[str, float]:
    counts = text_metrics.lengths(predictions)
    over = text_metrics.word_limit_violations(predictions, limit)
    return {"words": counts["mean"], "most_words": counts["max"], "over_word_limit": over}


def _features(
    predictions: Texts, references: Sequence[Sequence[str]], aspects: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    named = [named_aspects(text, aspects) for text in predictions]
    figures = {"fmr": float(feature_matching(named, references).mean()), "fcr": feature_coverage(named, aspects)}
    return figures | ({"div": feature_diversity(named)} if len(named) > 1 else {})


def _aspects(
    predictions: Texts, references: Sequence[Sequence[str]], aspects: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    return {"aspect_f1": float(aspect_f1([named_aspects(text, aspects) for text in predictions], references).mean())}


_load = lru_cache(maxsize=1)(load_models)  # a second `compute` with the same model does not load it again


def _with_model(option: str) -> Callable[..., dict[str, float]]:
    """A metric that needs a model; `model` and the fields of `MetricOptions` that begin with its name are arguments."""

    def compute(predictions: Texts, references: Texts, model: str, **options: Any) -> dict[str, float]:
        device = options.pop("device", None)
        named = {f"{option}_{name}": tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        rows, corpus, _ = _load(MetricOptions(**{option: model}, **named, device=device)).measure(predictions, references)
        return {name: float(values.mean()) for name, values in rows.items()} | corpus

    return compute


_CONFIGS = {
    "usr": _Config("Share of distinct texts, and of distinct last words.", None, _usr),
    "bleu": _Config("Corpus BLEU-1 and BLEU-4 of sacrebleu.", "text", _bleu),
    "bleu_peter": _Config("BLEU and ROUGE as PETER computes them.", "text", _peter),
    "rouge": _Config("ROUGE-1, ROUGE-2 and ROUGE-L, F-measure without stemming.", "text", _rouge),
    "distinct_n": _Config("Distinct words and word pairs, of the corpus and inside a text.", None, _distinct),
    "lengths": _Config("Length in words, and the share above a limit.", None, _lengths),
    "features": _Config("FMR, FCR and DIV; `aspects` gives the words of every feature.", "features", _features),
    "aspect_f1": _Config("F1 of the aspects named; `aspects` gives the words of every aspect.", "features", _aspects),
    "embedding_similarity": _Config("Cosine by a sentence encoder, `model`.", "text", _with_model("encoder")),
    "bert_score": _Config("BERTScore by an encoder, `model`, with `layer` and `baseline`.", "text", _with_model("bert_score")),
    "bart_score": _Config("BARTScore by a seq2seq model, `model`.", "text", _with_model("bart_score")),
    "bleurt": _Config("BLEURT by a checkpoint, `model`.", "text", _with_model("bleurt")),
}


class XRecMetrics(evaluate.Metric):
    """The metric that the configuration name chooses."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _CONFIGS:
            known = ", ".join(_CONFIGS)
            raise ValueError(f"expected the name of a metric, found {self.config_name!r}: give one of {known}")
        config = _CONFIGS[self.config_name]
        columns = {"predictions": datasets.Value("string")}
        if config.references is not None:
            text = datasets.Value("string")
            columns["references"] = text if config.references == "text" else datasets.Sequence(text)
        return evaluate.MetricInfo(
            description=config.meaning,
            citation="",
            inputs_description="predictions: one text a row; references: one text, or one list of features, a row.",
            features=datasets.Features(columns),
        )

    def _compute(self, **given: Any) -> dict[str, float]:
        return _CONFIGS[self.config_name].compute(**given)
