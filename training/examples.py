"""Explanation rows as training examples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.utils.data import Dataset

from modeling_xrec.processing_xrec import XRecProcessor


class ExplanationDataset(Dataset):
    """Tokenised explanations, in memory.

    Args:
        processor: makes prompt and labels.
        explanations: rows with `title, user_profile, item_profile, explanation`.
        rows: row numbers `(2, rows)` of each pair's user and item.
        profile_dropout: share of the prompts without profiles, so that a model has to listen to the graph; which ones
            depends on seed and epoch alone, so a resumed run draws the same.
        seed: of these.
    """

    def __init__(
        self,
        processor: XRecProcessor,
        explanations: pl.DataFrame,
        rows: np.ndarray,
        profile_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        fields = explanations.select("title", "user_profile", "item_profile", "explanation").rows()
        self.examples = self._examples(processor, fields, rows)
        self.profile_dropout, self.seed = profile_dropout, seed
        bare = [(title, "", "", explanation) for title, _, _, explanation in fields] if profile_dropout else []
        self._bare = self._examples(processor, bare, rows[:, : len(bare)])
        self.set_epoch(0)

    @staticmethod
    def _examples(processor: XRecProcessor, fields: list[tuple], rows: np.ndarray) -> list[dict[str, Any]]:
        examples = [processor.example(*values) for values in fields]
        for example, user, item in zip(examples, *rows.tolist(), strict=True):
            example |= {"user_ids": user, "item_ids": item}
        return examples

    def set_epoch(self, epoch: int) -> None:
        """Draws the prompts without profiles; called when an epoch begins."""
        drawn = np.random.default_rng((self.seed, epoch)).random(len(self._bare))
        self._dropped = drawn < self.profile_dropout

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._bare[index] if self._bare and self._dropped[index] else self.examples[index]


class PadCollator:
    """Pads examples on the right and stacks their user and item rows.

    Args:
        processor: does the padding.
    """

    def __init__(self, processor: XRecProcessor) -> None:
        self.processor = processor

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns `input_ids`, `attention_mask`, `labels` `(batch, length)`; `user_ids`, `item_ids` `(batch,)` if given."""
        batch = dict(self.processor.pad(examples))
        for name in ("user_ids", "item_ids"):
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples])
        return batch
