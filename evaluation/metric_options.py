"""Which metrics need a model, and which model: the options of `xrec evaluate`, and the models they load once."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from xrec_dataset_builder.errors import DataError

from .bert_scorer import LIBRARY, Baseline


@dataclass(frozen=True)
class MetricOptions:
    """Models that metrics use, each a Hub id or a local folder; by default none, and all figures come offline and fast.

    Attributes:
        encoder: Sentence encoder of embedding similarity and pairwise cosine.
        bert_score: Encoder of BERTScore.
        bert_score_layer: Its layer; None for the one that bert-score recommends.
        bert_score_baseline: Precision, recall and F1 of unrelated texts, `"library"` for those of bert-score, or None
            for raw figures only.
        bart_score: Sequence-to-sequence model of BARTScore.
        bleurt: Checkpoint with one output, such as a converted BLEURT-20.
        device: Where the models run; None for a GPU if there is one.
    """

    encoder: str | None = None
    bert_score: str | None = None
    bert_score_layer: int | None = None
    bert_score_baseline: Baseline | Literal["library"] | None = None
    bart_score: str | None = None
    bleurt: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.bert_score is None and (self.bert_score_layer is not None or self.bert_score_baseline is not None):
            raise DataError("expected an encoder for BERTScore's layer and baseline, found none: give --bert-score MODEL")
        base = self.bert_score_baseline
        if isinstance(base, tuple) and not (len(base) == 3 and all(-1 < value < 1 for value in base)):
            raise DataError(f"expected precision, recall and F1 between -1 and 1 as baseline, found {base}: give P,R,F1")


class RowScorer(Protocol):
    """A model that scores rows.

    Attributes:
        setting: How, for reports.
    """

    setting: str

    def rows(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
        """Values of each metric, `(rows,)`, by its name in `METRICS`."""


@dataclass(frozen=True)
class Models:
    """Loaded models, for as many systems as there are.

    Attributes:
        embedding: The sentence encoder's scorer, if any.
        scorers: Further scorers, by the name of their setting.
    """

    embedding: Any = None
    scorers: dict[str, RowScorer] = field(default_factory=dict)

    def measure(
        self, predictions: Sequence[str], references: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, str]]:
        """Scores of every model.

        Args:
            predictions: Generated texts.
            references: One text a prediction.

        Returns:
            Values by row, figures of the corpus, and settings.

        Raises:
            DataError: The lists differ in length or are empty, or a model cannot score them.
        """
        per_row: dict[str, np.ndarray] = {}
        corpus: dict[str, float] = {}
        settings = {name: scorer.setting for name, scorer in self.scorers.items()}
        if self.embedding is not None:
            settings["embedding"] = self.embedding.setting
            per_row["embedding_similarity"], alike = self.embedding.score(predictions, references)
            if alike is not None:
                corpus["pairwise_cosine"] = alike
        for scorer in self.scorers.values():
            per_row |= scorer.rows(predictions, references)
        return per_row, corpus, settings


def load_models(options: MetricOptions) -> Models:
    """Load the models that options name.

    Args:
        options: The options.

    Returns:
        The models; empty for the default options, which import no library of models.

    Raises:
        DataError: A model or its library is not there.
    """
    embedding = None
    scorers: dict[str, RowScorer] = {}
    if options.encoder is not None:
        from .embedding_metrics import EmbeddingScorer
        from .encoders import SentenceEncoder

        embedding = EmbeddingScorer(SentenceEncoder(options.encoder, device=options.device))
    if options.bert_score is not None:
        from .bert_scorer import BertScorer

        layer, baseline = options.bert_score_layer, options.bert_score_baseline
        scorers["bert_score"] = BertScorer(options.bert_score, layer, baseline, device=options.device)
    if options.bart_score is not None:
        from .bart_score import BartScorer

        scorers["bart_score"] = BartScorer(options.bart_score, device=options.device)
    if options.bleurt is not None:
        from .bleurt import BleurtScorer

        scorers["bleurt"] = BleurtScorer(options.bleurt, device=options.device)
    return Models(embedding, scorers)


def add_metric_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser.

    Args:
        parser: It gains `--encoder`, `--bert-score`, `--bert-score-layer`, `--bert-score-baseline`, `--bart-score`,
            `--bleurt` and `--metric-device`.
    """
    group = parser.add_argument_group("metrics that need a model (a Hub id or a folder; by default none is loaded)")
    group.add_argument("--encoder", metavar="MODEL", help="sentence encoder: embedding similarity and pairwise cosine")
    group.add_argument("--bert-score", metavar="MODEL", help="encoder of BERTScore, such as roberta-large")
    group.add_argument("--bert-score-layer", type=int, metavar="N", help="its layer (default: what bert-score recommends)")
    group.add_argument(
        "--bert-score-baseline",
        type=_baseline,
        metavar="P,R,F1",
        help="adds rescaled BERTScore: three numbers, or 'library' for the baseline that bert-score ships for English",
    )
    group.add_argument("--bart-score", metavar="MODEL", help="model of BARTScore, such as facebook/bart-large-cnn")
    group.add_argument("--bleurt", metavar="MODEL", help="BLEURT as a sequence classifier with one output")
    group.add_argument("--metric-device", metavar="DEVICE", help="where these models run (default: a GPU if there is one)")


def read_metric_options(namespace: argparse.Namespace) -> MetricOptions:
    """Read the options back.

    Args:
        namespace: What a parser with `add_metric_flags` gives.

    Returns:
        The options.

    Raises:
        DataError: They do not fit together.
    """
    return MetricOptions(
        encoder=namespace.encoder,
        bert_score=namespace.bert_score,
        bert_score_layer=namespace.bert_score_layer,
        bert_score_baseline=namespace.bert_score_baseline,
        bart_score=namespace.bart_score,
        bleurt=namespace.bleurt,
        device=namespace.metric_device,
    )


def _baseline(text: str) -> Baseline | Literal["library"]:
    if text == LIBRARY:
        return "library"
    parts = text.split(",")
    try:
        precision, recall, f1 = map(float, parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected 'library' or three numbers P,R,F1, found {text!r}") from None
    return precision, recall, f1


def metrics_folder() -> Path:
    """The folder to give to `evaluate.load`, with the name of a metric: `evaluate.load(str(metrics_folder()), "usr")`.

    Returns:
        The installed folder; it loads offline.
    """
    return Path(__file__).parent / "xrec_metrics"
