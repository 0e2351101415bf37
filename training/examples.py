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
    """

    def __init__(self, processor: XRecProcessor, explanations: pl.DataFrame, rows: np.ndarray) -> None:
        fields = explanations.select("title", "user_profile", "item_profile", "explanation").iter_rows()
        self.examples = [processor.example(*values) for values in fields]
        for example, user, item in zip(self.examples, *rows.tolist(), strict=True):
            example |= {"user_ids": user, "item_ids": item}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.examples[index]


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
