"""BERTScore (Zhang et al., arXiv 1904.09675) through the bert-score library, with any encoder and never NaN."""

from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xrec_dataset_builder.errors import DataError

from .text_metrics import check_pairs

Baseline = tuple[float, float, float]
LIBRARY = "library"
PARTS = ("precision", "recall", "f1")

_CHUNK = 1024  # rows whose token vectors the library holds at once
_LONGEST = 512  # tokens read by an encoder that states no limit


class BertScorer:
    """Scores rows by greedy matching of contextual token vectors.

    Raw and rescaled figures have different names and are never mixed: rescaled is `(x - b) / (1 - b)` with a baseline b
    of its own for precision, recall and F1 (roberta-large, layer 17, English: .83150584, .8314941, .83122575).

    Args:
        name: Hub id, or local folder.
        layer: Layer whose vectors are compared; None for the one the library recommends for a Hub id that it knows.
        baseline: Precision, recall and F1 of unrelated texts; `"library"` for those that bert-score ships for English;
            None for raw figures only.
        idf: Whether tokens weigh by their inverse document frequency in the references.
        device: Where it runs; None for a GPU if there is one.
        batch_size: Texts encoded at a time.

    Attributes:
        setting: Model, layer, idf, baseline and versions, for reports.

    Raises:
        DataError: bert-score is not installed, or there is no such encoder, layer or baseline.
    """

    def __init__(
        self,
        name: str | Path,
        layer: int | None = None,
        baseline: Baseline | Literal["library"] | None = None,
        idf: bool = False,
        device: str | None = None,
        batch_size: int = 64,
    ) -> None:
        try:
            import torch
            from bert_score import utils
        except ImportError as error:
            raise DataError(
                "expected bert-score to compute BERTScore, found none: pip install 'xrec[encoders]', or leave it out"
            ) from error
        self.name, self.idf, self.batch_size = str(name), idf, batch_size
        self.layer = _layer(self.name, layer, utils.model2layers)
        self.baseline = _library_baseline(self.name, self.layer) if baseline == LIBRARY else baseline
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._library = utils
        self._model, self._tokenizer = _load(utils, self.name, self.layer)
        self._model.to(self._device)
        scale = "raw" if self.baseline is None else "raw and rescaled by P {} R {} F1 {}".format(*self.baseline)
        self.setting = (
            f"{self.name}, layer {self.layer}, {'idf of the references' if idf else 'no idf'}, {scale}, "
            f"bert-score {version('bert-score')}, transformers {version('transformers')}"
        )

    def rows(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
        """BERTScore of every row.

        Args:
            predictions: Generated texts.
            references: One text a prediction.

        Returns:
            `bert_precision`, `bert_recall`, `bert_f1` and, with a baseline, the same with `_rescaled`, each `(rows,)`.
            A row with a text whose tokens weigh nothing, such as an empty one, scores 0 in the raw figures (as in the
            library) and what 0 becomes in the rescaled ones.

        Raises:
            DataError: If the lists differ in length or are empty, or the encoder gives NaN.
        """
        check_pairs(predictions, references)
        weights = self._weights(references)
        texts = set(predictions) | set(references)
        weighty = {text for text in texts if any(weights[token] > 0 for token in self._tokens(text))}
        kept = [i for i, pair in enumerate(zip(predictions, references, strict=True)) if weighty.issuperset(pair)]
        raw = np.zeros((len(predictions), 3))
        if kept:
            raw[kept] = self._score([predictions[i] for i in kept], [references[i] for i in kept], weights)
        found = dict(zip((f"bert_{part}" for part in PARTS), raw.T, strict=True))
        if self.baseline is not None:
            base = np.array(self.baseline)
            rescaled = ((raw - base) / (1 - base)).T
            found |= dict(zip((f"bert_{part}_rescaled" for part in PARTS), rescaled, strict=True))
        return found

    def _score(self, predictions: list[str], references: list[str], weights: dict[int, float]) -> np.ndarray:
        chunks = [
            self._library.bert_cos_score_idf(
                self._model,
                references[start : start + _CHUNK],
                predictions[start : start + _CHUNK],
                self._tokenizer,
                weights,
                batch_size=self.batch_size,
                device=self._device,
            )
            for start in range(0, len(predictions), _CHUNK)
        ]
        scores = np.concatenate([chunk.double().numpy() for chunk in chunks])
        if not np.isfinite(scores).all():
            raise DataError(f"expected finite token vectors of {self.name!r}, found NaN: the encoder is broken")
        return scores

    def _weights(self, references: Sequence[str]) -> dict[int, float]:
        if self.idf:
            written = [text for text in references if self._tokens(text)]
            weights = self._library.get_idf_dict(written, self._tokenizer, nthreads=0)
        else:
            weights = defaultdict(lambda: 1.0)
        return weights | dict.fromkeys((self._tokenizer.sep_token_id, self._tokenizer.cls_token_id), 0.0)

    def _tokens(self, text: str) -> list[int]:
        text = text.strip()
        return self._tokenizer(text, add_special_tokens=False, truncation=True)["input_ids"] if text else []


def _layer(name: str, layer: int | None, recommended: dict[str, int]) -> int:
    if layer is not None:
        return layer
    if name not in recommended:
        raise DataError(f"expected the layer of BERTScore's encoder {name!r}, found none: give it as a number")
    return recommended[name]


def _library_baseline(name: str, layer: int) -> Baseline:
    file = files("bert_score").joinpath("rescale_baseline", "en", f"{name}.tsv")
    lines = file.read_text(encoding="utf-8").splitlines()[1:] if file.is_file() else []
    values = {int(line.split(",")[0]): line.split(",")[1:] for line in lines}
    if layer not in values:
        raise DataError(
            f"expected a baseline of {name!r}, layer {layer}, in bert-score, found none: give precision, recall and F1 "
            "of unrelated texts as three numbers, or leave the baseline out"
        )
    precision, recall, f1 = map(float, values[layer])
    return precision, recall, f1


def _load(library: Any, name: str, layer: int) -> tuple[Any, Any]:
    """The library's model, cut at the layer, and a tokenizer as the library expects it.

    Under transformers 5 the library's own tokenizer fails: it never adds the space that byte-level encoders had before
    the first word, and cannot cut texts where the tokenizer states no limit. Both are settings, and are set here.
    """
    from transformers import AutoConfig, AutoTokenizer, GPT2Tokenizer, RobertaTokenizer, T5EncoderModel

    try:
        config = AutoConfig.from_pretrained(name)
        model = library.get_model(name, layer)
        tokenizer = AutoTokenizer.from_pretrained(name)
        if isinstance(tokenizer, GPT2Tokenizer | RobertaTokenizer):
            tokenizer = AutoTokenizer.from_pretrained(name, add_prefix_space=True)
    except (OSError, ValueError, AssertionError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"expected an encoder (Hub id or folder) with layer {layer}, found {name!r}: {reason}") from error
    if isinstance(model, T5EncoderModel) and "t5" not in config.model_type:
        raise DataError(f"expected an encoder's path without 't5', found {name!r}: bert-score takes it for a T5; rename it")
    if tokenizer.pad_token_id is None:
        raise DataError(f"expected a tokenizer that can pad, found none in {name!r}: choose another encoder for BERTScore")
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions(model, config))
    return model, tokenizer


def positions(model: Any, config: Any) -> int:
    """Tokens that an encoder has positions for; RoBERTa's begin behind its padding index.

    Args:
        model: An encoder without a head.
        config: Its configuration.

    Returns:
        The number; 512 for a model without a table or a stated limit.
    """
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if table is None:
        return max(getattr(config, "max_position_embeddings", 0) or 0, 0) or _LONGEST
    return int(table.num_embeddings) - (0 if table.padding_idx is None else int(table.padding_idx) + 1)
