"""BLEURT (Sellam, Das and Parikh, arXiv 2004.04696) and other learned metrics: a regression over (reference, prediction)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xrec_dataset_builder.errors import DataError

from .bert_scorer import positions
from .text_metrics import check_pairs


class BleurtScorer:
    """Scores rows by a sequence classifier with one output, as converted BLEURT checkpoints are.

    No checkpoint is a default: figures of different ones cannot be compared, and those published for XRec come from
    BLEURT's test checkpoint, a BERT-Tiny that BLEURT's own page calls very inaccurate. BLEURT-20 is the one to take.

    Args:
        name: Hub id, or local folder, that AutoModelForSequenceClassification loads.
        device: Where it runs; None for a GPU if there is one.
        batch_size: Rows scored at a time.

    Attributes:
        setting: Checkpoint and version, for reports.

    Raises:
        DataError: There is no such model, or it has not one output.
    """

    def __init__(self, name: str | Path, device: str | None = None, batch_size: int = 32) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, __version__

        self.name, self.batch_size = str(name), batch_size
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.name)
            self._model = AutoModelForSequenceClassification.from_pretrained(self.name).eval().to(self._device)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"expected a BLEURT checkpoint (Hub id or folder), found {self.name!r}: {reason}") from error
        if self._model.config.num_labels != 1:
            raise DataError(
                f"expected a checkpoint with one output, found {self._model.config.num_labels} in {self.name!r}: "
                "give a learned metric, not a classifier"
            )
        self._longest = min(self._tokenizer.model_max_length, positions(self._model.base_model, self._model.config))
        self.setting = f"{self.name}, (reference, prediction), transformers {__version__}"

    def rows(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
        """The checkpoint's score of every row.

        Args:
            predictions: Generated texts.
            references: One text a prediction.

        Returns:
            `bleurt`, `(rows,)`, on the checkpoint's own scale (about -1 to 1); more is better.

        Raises:
            DataError: If the lists differ in length or are empty.
        """
        import torch

        check_pairs(predictions, references)
        order = sorted(range(len(predictions)), key=lambda row: len(predictions[row]) + len(references[row]))
        scores = np.empty(len(predictions))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            pairs = ([references[row] for row in rows], [predictions[row] for row in rows])
            batch = self._tokenizer(*pairs, padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
            with torch.inference_mode():
                outputs = self._model(**batch.to(self._device)).logits[:, 0]
            scores[rows] = outputs.double().cpu().numpy()
        return {"bleurt": scores}
