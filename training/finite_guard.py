"""Stops a run at the first loss or gradient that is not finite, before the weights or a checkpoint can take it up.

`Trainer` alone goes on: it logs a loss of 0 and saves weights that are all NaN.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import write_json

DIVERGED_FILE = "diverged.json"
SHOWN = 3
"""Pairs that the message names; the file has all."""


class FiniteGuard(TrainerCallback):
    """Checks every loss, and every gradient before the optimizer uses it.

    Args:
        ids: ids of users and of items, by row.
        folder: where `diverged.json` is written.
    """

    def __init__(self, ids: tuple[Sequence[str], Sequence[str]], folder: Path) -> None:
        self.ids, self.folder = ids, folder
        self.pairs: list[tuple[str, str]] = []

    def remember(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Notes the pairs of a batch; those of all batches since the last step are named."""
        if "user_ids" in inputs and "item_ids" in inputs:
            rows = zip(inputs["user_ids"].tolist(), inputs["item_ids"].tolist(), strict=True)
            self.pairs += [(self.ids[0][user], self.ids[1][item]) for user, item in rows]

    def check_loss(self, loss: torch.Tensor, step: int) -> None:
        """Stops at a loss that is not finite.

        Args:
            loss: `()`, or a value per device.
            step: steps that were taken before.

        Raises:
            DataError: it is NaN or infinite.
        """
        if not bool(torch.isfinite(loss).all()):
            self._stop("loss", f"{loss.mean().item()}", step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Stops at a gradient that is not finite; half precision's scaler skips those by itself."""
        if not args.fp16:
            name = first_unsound_gradient(model)
            if name is not None:
                self._stop(f"gradient of {name}", "NaN or infinity", state.global_step)
        self.pairs = []

    def _stop(self, what: str, found: str, step: int) -> None:
        path = self.folder / DIVERGED_FILE
        pairs = [{"user_id": user, "item_id": item} for user, item in self.pairs]
        write_json({"step": step + 1, "what": what, "found": found, "pairs": pairs}, path)
        shown = ", ".join(f"({user}, {item})" for user, item in self.pairs[:SHOWN])
        raise DataError(
            f"step {step + 1}: expected a finite {what}, found {found}, with the pairs {shown}"
            f"{', ...' * (len(pairs) > SHOWN)} (all in {path}); nothing was saved after it: lower the learning rate, or "
            "look at these rows"
        )


def first_unsound_gradient(model: nn.Module) -> str | None:
    """Name of the first parameter whose gradient holds NaN or infinity; None where all are finite."""
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    if not named:
        return None
    # One number for all tells in one go; only then is the culprit looked for.
    norms = torch.stack([norm.to(named[0][1].device) for norm in torch._foreach_norm([_local(grad) for _, grad in named])])
    if bool(torch.isfinite(norms).all()):
        return None
    return next((name for (name, _), norm in zip(named, norms, strict=True) if not torch.isfinite(norm)), None)


def _local(gradient: torch.Tensor) -> torch.Tensor:
    """This process's part of a gradient that is spread over several."""
    return gradient.to_local() if hasattr(gradient, "to_local") else gradient
