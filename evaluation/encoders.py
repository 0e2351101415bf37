"""Sentence encoders: texts become unit vectors whose products are cosine similarities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xrec_dataset_builder.errors import DataError

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
"""The encoder that the reproductions of XRec used for the similarity of texts."""


class SentenceEncoder:
    """A pre-trained encoder of sentences (Reimers and Gurevych, arXiv 1908.10084), through sentence-transformers.

    Args:
        name: Hub id, or local folder.
        revision: Commit, tag or branch of a Hub id; None for the newest.
        device: Where it runs; None for a GPU if there is one.
        batch_size: Texts encoded at a time.

    Attributes:
        name: As given.
        revision: As given.

    Raises:
        DataError: sentence-transformers is not installed, or there is no such encoder.
    """

    def __init__(
        self, name: str | Path = ENCODER, revision: str | None = None, device: str | None = None, batch_size: int = 64
    ) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise DataError(
                "expected sentence-transformers to encode texts, found none: pip install 'xrec[encoders]', or name no encoder"
            ) from error
        self.name, self.revision, self.batch_size = str(name), revision, batch_size
        try:
            self._model = SentenceTransformer(self.name, revision=revision, device=device)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"expected a sentence encoder (Hub id or folder), found {self.name!r}: {reason}") from error

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts; equal texts are encoded once.

        Args:
            texts: Any texts, empty ones too; longer ones than the encoder reads are cut at its limit.

        Returns:
            `(texts, width)` float32, each row of length 1; `(0, width)` for no text.
        """
        distinct = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(distinct)}
        if not distinct:
            return np.zeros((0, self.width), dtype=np.float32)
        vectors = self._model.encode(
            distinct, batch_size=self.batch_size, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)[[place[text] for text in texts]]

    @property
    def width(self) -> int:
        """Numbers a vector."""
        return int(self._model.get_embedding_dimension() or 0)
