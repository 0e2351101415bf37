"""The loss that has not been logged yet, kept in every checkpoint: `Trainer` forgets it, so a resumed log would differ."""

import json
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "running_loss_{rank}.json"
"""One a process, as each sums up its own losses."""


class RunningLoss(TrainerCallback):
    """Takes up the sums that `Trainer` makes its logged losses from.

    Args:
        trainer: whose sums they are.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.found: dict[str, Any] | None = None

    def write(self, checkpoint: Path) -> None:
        """Writes the sums into a checkpoint."""
        sums = {
            "since": self.trainer._tr_loss.item(),
            "logged": self.trainer._total_loss_scalar,
            "logged_step": self.trainer._globalstep_last_logged,
            "first_step": self.trainer._initial_global_step,
        }
        self._path(checkpoint).write_text(json.dumps(sums), encoding="utf-8")

    def read(self, checkpoint: Path) -> None:
        """Reads the sums of the checkpoint that a run goes on from; one without them, as of a plain `Trainer`, starts at 0."""
        path = self._path(checkpoint)
        self.found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Gives `Trainer` the sums back."""
        if self.found is not None:
            self.trainer._tr_loss += self.found["since"]
            self.trainer._total_loss_scalar = self.found["logged"]
            self.trainer._globalstep_last_logged = self.found["logged_step"]
            self.trainer._initial_global_step = self.found["first_step"]
            self.found = None

    def _path(self, checkpoint: Path) -> Path:
        return checkpoint / FILE.format(rank=self.trainer.args.process_index)
