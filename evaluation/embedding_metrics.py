"""Metrics of meaning by a sentence encoder: nearness to the reference, and how alike the predictions are."""

from collections.abc import Sequence

import numpy as np

from xrec_dataset_builder.errors import DataError

from .encoders import SentenceEncoder
from .text_metrics import check_pairs


class EmbeddingScorer:
    """Scores texts by the cosine of their embeddings; the references of the last call are kept encoded.

    Args:
        encoder: The encoder.

    Attributes:
        setting: The encoder in words, for reports.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self.setting = f"{encoder.name}{f'@{encoder.revision}' if encoder.revision else ''}, cosine"
        self._references: tuple[list[str], np.ndarray] = ([], np.zeros((0, 0), dtype=np.float32))

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> tuple[np.ndarray, float | None]:
        """Score one system.

        Args:
            predictions: Generated texts.
            references: One text a prediction.

        Returns:
            `embedding_similarity` of the rows and `pairwise_cosine` of the predictions (None for a single row).

        Raises:
            DataError: If the lists differ in length or are empty.
        """
        check_pairs(predictions, references)
        if self._references[0] != list(references):
            self._references = (list(references), self.encoder.encode(references))
        vectors = self.encoder.encode(predictions)
        rows = _cosines(vectors, self._references[1], predictions, references)
        return rows, pairwise_cosine(vectors) if len(vectors) > 1 else None


def embedding_similarity(predictions: Sequence[str], references: Sequence[str], encoder: SentenceEncoder) -> np.ndarray:
    """Cosine between each prediction and its reference (Reimers and Gurevych, arXiv 1908.10084).

    Args:
        predictions: Generated texts.
        references: One text a prediction.
        encoder: The encoder; figures of different encoders cannot be compared.

    Returns:
        `(rows,)` between -1 and 1; a row with an empty text scores 0.

    Raises:
        DataError: If the lists differ in length or are empty.
    """
    check_pairs(predictions, references)
    return _cosines(encoder.encode(predictions), encoder.encode(references), predictions, references)


def pairwise_cosine(vectors: np.ndarray) -> float:
    """Mean cosine over all pairs of texts: `(|sum_r v_r|^2 - N) / (N (N - 1))`, linear in the rows.

    Args:
        vectors: `(rows, width)` of length 1 each, at least two rows.

    Returns:
        Between -1 and 1; less means more diverse texts.

    Raises:
        DataError: If there are fewer than two rows.
    """
    rows = len(vectors)
    if rows < 2:
        raise DataError(f"expected at least two texts to compare with each other, found {rows}: evaluate more rows")
    exact = np.asarray(vectors, dtype=float)
    # The squared lengths, not N: encoders give float32, whose lengths are 1 to seven digits only.
    return float(np.clip((np.square(exact.sum(axis=0)).sum() - np.square(exact).sum()) / (rows * (rows - 1)), -1, 1))


def _cosines(a: np.ndarray, b: np.ndarray, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    cosines = np.clip(np.einsum("rw,rw->r", a.astype(float), b.astype(float)), -1, 1)
    written = [bool(p.strip()) and bool(r.strip()) for p, r in zip(predictions, references, strict=True)]
    return np.where(written, cosines, 0.0)
