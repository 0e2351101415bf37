"""The validation loss as a mean over answer tokens, however they are batched and spread over processes.

`Trainer` averages the means of the batches, so its figure changes with the batch size, and rows that fill up the last batch of
several processes count twice.
"""

from typing import Any

import torch

from modeling_xrec.processing_xrec import IGNORED_LABEL


class ValidationLoss:
    """Sums losses and tokens of this process.

    Args:
        accelerator: knows the other processes, and which rows of the last batch are there a second time.
    """

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.sums = torch.zeros(2, dtype=torch.float64)

    def without_repeats(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels `(batch, length)`, those of rows that another process has already had ignored."""
        state = self.accelerator.gradient_state
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return labels
        own = max(0, state.remainder - self.accelerator.process_index * len(labels))
        repeated = torch.arange(len(labels), device=labels.device) >= own
        return labels.masked_fill(repeated[:, None], IGNORED_LABEL)

    def add(self, loss: torch.Tensor, labels: torch.Tensor) -> None:
        """Counts a batch: its loss `()`, a mean over its tokens, and its labels `(batch, length)`."""
        tokens = int((labels[:, 1:] != IGNORED_LABEL).sum())
        if tokens:
            self.sums += torch.tensor([loss.item() * tokens, tokens], dtype=torch.float64)

    def mean(self) -> float:
        """The mean over the tokens of all processes, which all have to ask; NaN without any."""
        total, tokens = self.accelerator.reduce(self.sums.to(self.accelerator.device), "sum").tolist()
        return total / tokens if tokens else float("nan")
