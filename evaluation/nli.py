"""Entailment: does one sentence follow from another, or contradict it? By any sequence classifier trained for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from xrec_dataset_builder.errors import DataError

MAX_TOKENS = 512


class Entailment:
    """A classifier of sentence pairs with labels for entailment and contradiction, such as a DeBERTa trained on MNLI.

    The labels are found by their names in `config.id2label`, since their order differs between checkpoints.

    Args:
        name: Hub id, or local folder.
        revision: Commit, tag or branch of a Hub id; None for the newest.
        device: Where it runs; None for a GPU if there is one.
        batch_size: Pairs judged at a time.

    Attributes:
        name: As given.
        revision: As given.
        max_tokens: Tokens of a pair that are read; the longer sentence is cut first.

    Raises:
        DataError: There is no such model, or its labels do not name entailment and contradiction.
    """

    def __init__(self, name: str | Path, revision: str | None = None, device: str | None = None, batch_size: int = 32) -> None:
        self.name, self.revision, self.batch_size = str(name), revision, batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(self.name, revision=revision)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                self.name, revision=revision, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"expected a sequence classifier (Hub id or folder), found {self.name!r}: {reason}") from error
        self._labels = [self._label(word) for word in ("entail", "contradict")]
        self._model.to(self.device).eval()
        positions = getattr(self._model.config, "max_position_embeddings", None) or MAX_TOKENS
        padding = getattr(self._model.config, "pad_token_id", None) or 0
        # RoBERTa and its kin count positions from the padding token's id on.
        self.max_tokens = min(MAX_TOKENS, positions - padding - 1, self._tokenizer.model_max_length)

    def judge(self, premises: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        """Judge pairs of sentences; equal pairs are judged once.

        Args:
            premises: What is known, one a pair.
            hypotheses: What is claimed, one a pair.

        Returns:
            `(pairs, 2)` float32: the probability that the premise entails the hypothesis, and that it contradicts it.

        Raises:
            ValueError: If the lists differ in length.
        """
        pairs = list(zip(premises, hypotheses, strict=True))
        distinct = sorted(dict.fromkeys(pairs), key=lambda pair: len(pair[0]) + len(pair[1]))  # like lengths, little padding
        if not distinct:
            return np.zeros((0, 2), dtype=np.float32)
        blocks = [self._judge(distinct[start : start + self.batch_size]) for start in range(0, len(distinct), self.batch_size)]
        judged = np.concatenate(blocks)
        place = {pair: row for row, pair in enumerate(distinct)}
        return judged[[place[pair] for pair in pairs]]

    @torch.inference_mode()
    def _judge(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        inputs = self._tokenizer(
            [premise for premise, _ in pairs],
            [hypothesis for _, hypothesis in pairs],
            padding=True,
            truncation="longest_first",
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.device)
        probabilities = self._model(**inputs).logits.softmax(dim=-1)
        return np.asarray(probabilities[:, self._labels].cpu().numpy(), dtype=np.float32)

    def _label(self, word: str) -> int:
        names = {int(index): str(name).lower() for index, name in self._model.config.id2label.items()}
        found = [index for index, name in names.items() if word in name and not name.startswith(("no", "un"))]
        if len(found) != 1:
            raise DataError(
                f"expected one label with {word!r} in its name in {self.name}, found {', '.join(names.values())}: "
                "name a model that was trained on entailment, contradiction and neutral"
            )
        return found[0]
