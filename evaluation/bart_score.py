"""BARTScore (Yuan, Neubig and Liu, arXiv 2106.11520): how likely a sequence-to-sequence model finds one text given another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xrec_dataset_builder.errors import DataError

from .text_metrics import check_pairs

_LONGEST = 1024  # tokens, where neither tokenizer nor model states a limit


class BartScorer:
    """Scores rows by the mean log-probability of a target's tokens, `1/m sum_t log p(y_t | y_<t, x)`, in nats.

    With the prediction as source x and the reference as target y it is BARTScore's recall; the other way round its
    precision; F is the mean of both. XRec reports the recall of bart-large-cnn tuned on ParaBank2.

    Args:
        name: Hub id, or local folder, of a model with encoder and decoder.
        device: Where it runs; None for a GPU if there is one.
        batch_size: Rows scored at a time.

    Attributes:
        setting: Checkpoint, directions and version, for reports.

    Raises:
        DataError: There is no such model.
    """

    def __init__(self, name: str | Path, device: str | None = None, batch_size: int = 16) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, __version__

        self.name, self.batch_size = str(name), batch_size
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.name)
            self._model = AutoModelForSeq2SeqLM.from_pretrained(self.name).eval().to(self._device)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"expected a seq2seq model (Hub id or folder), found {self.name!r}: {reason}") from error
        stated = getattr(self._model.config, "max_position_embeddings", None) or _LONGEST
        self._longest = min(self._tokenizer.model_max_length, stated)
        self.setting = (
            f"{self.name}, mean log p of the target's tokens in nats, recall: prediction -> reference, "
            f"precision: reference -> prediction, F: their mean, transformers {__version__}"
        )

    def rows(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
        """BARTScore of every row in both directions.

        Args:
            predictions: Generated texts.
            references: One text a prediction.

        Returns:
            `bart_recall`, `bart_precision` and `bart_f1`, each `(rows,)` and at most 0; more is better. An empty target
            is scored by its end marks alone.

        Raises:
            DataError: If the lists differ in length or are empty, or a target has no token at all.
        """
        check_pairs(predictions, references)
        recall, precision = self.log_likelihood(predictions, references), self.log_likelihood(references, predictions)
        return {"bart_recall": recall, "bart_precision": precision, "bart_f1": (recall + precision) / 2}

    def log_likelihood(self, sources: Sequence[str], targets: Sequence[str]) -> np.ndarray:
        """Mean log p(token of the target | the tokens before, source) of every row.

        Args:
            sources: What the encoder reads; longer texts than the model reads are cut.
            targets: One text a source.

        Returns:
            `(rows,)` in nats, at most 0; it does not depend on the batch.

        Raises:
            DataError: If the lists differ in length or are empty, or a target has no token at all.
        """
        check_pairs(sources, targets)
        order = sorted(range(len(sources)), key=lambda row: len(sources[row]) + len(targets[row]))  # alike, little padding
        scores = np.empty(len(sources))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            scores[rows] = self._batch([sources[row] for row in rows], [targets[row] for row in rows])
        return scores

    def _batch(self, sources: list[str], targets: list[str]) -> np.ndarray:
        import torch

        source = self._encode(text=sources)
        target = self._encode(text_target=targets)
        written = target["attention_mask"].bool()
        if not written.any(dim=1).all():
            raise DataError(f"expected a target of at least one token for {self.name!r}, found none: leave empty texts out")
        labels = target["input_ids"].masked_fill(~written, -100)  # which the loss, and so the model, takes for padding
        with torch.inference_mode():
            logits = self._model(**source, labels=labels).logits.float()
        chosen = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        means = chosen.masked_fill(~written, 0.0).sum(dim=1, dtype=torch.float64) / written.sum(dim=1)
        return means.cpu().numpy()

    def _encode(self, **texts: list[str]) -> dict[str, Any]:
        batch = self._tokenizer(**texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        return {name: batch[name].to(self._device) for name in ("input_ids", "attention_mask")}
