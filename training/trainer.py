"""transformers' `Trainer`, with what it lacks for a run one can trust.

- Checkpoints are there whole or not at all (`atomic_checkpoints`).
- A loss or gradient that is not finite stops the run within the step (`finite_guard`).
- A step of XRec computes the logits that labels look at, and the prompts' common beginning once.
- The validation loss is a mean over tokens, whatever the batches and processes (`validation_loss`).
- A resumed run takes up the order of the batches and the running loss, so that weights and log are as if undisturbed.
"""

import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, rotate_checkpoints

from modeling_xrec.modeling_xrec import XRecForCausalLM
from modeling_xrec.prompt_prefix import PromptPrefix
from modeling_xrec.signals import fresh_embeddings
from xrec_dataset_builder.errors import DataError

from .atomic_checkpoints import STAGING, clear_staging, newest_checkpoint, put_in_place
from .examples import ExplanationDataset
from .finite_guard import FiniteGuard
from .hub_pushes import HubPushes
from .running_loss import RunningLoss
from .signal_terms import IGNORED, SignalTerms
from .validation_loss import ValidationLoss

NO_TERMS = SignalTerms()
EPOCH_SEED_STEP = 1_000_003


class XRecTrainer(Trainer):
    """Trains XRec or a baseline.

    Args:
        ids: ids of users and of items by row, to name the pairs of a batch that goes wrong.
        fresh_signal: every batch hears newly drawn embeddings (signal `random-fresh`).
        terms: what stands beside the likelihood in training.
        kwargs: arguments of `Trainer`.
    """

    def __init__(
        self,
        *args: Any,
        ids: tuple[Sequence[str], Sequence[str]],
        fresh_signal: bool = False,
        terms: SignalTerms = NO_TERMS,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fresh_signal, self.terms = fresh_signal, terms
        self.guard = FiniteGuard(ids, Path(self.args.output_dir))
        self.running_loss = RunningLoss(self)
        self.add_callback(self.guard)
        self.add_callback(self.running_loss)
        self._validation = ValidationLoss(self.accelerator)
        self._predicting = False
        self._is_xrec, self._prompt_prefix = isinstance(self._bare_model(), XRecForCausalLM), PromptPrefix()
        self._staging: Path | None = None
        self.pushes: HubPushes | None = None
        self._length_sampler: LengthGroupedSampler | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; the loss of a resumed run goes on where it was. True means the newest checkpoint, if any."""
        if resume_from_checkpoint is True:
            newest = newest_checkpoint(Path(self.args.output_dir))
            resume_from_checkpoint = None if newest is None else str(newest)
        if resume_from_checkpoint:
            self.running_loss.read(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.compute_loss`, without logits that no label looks at; draws the embeddings of `random-fresh`."""
        inputs = dict(inputs)
        if self._is_xrec and not (self.label_smoother or self.compute_loss_func or self.compute_metrics):
            inputs |= {"skip_logits": True, "prompt_prefix": self._prompt_prefix}
        if self.fresh_signal:
            tables = self.accelerator.unwrap_model(self.model).lightgcn
            for side in ("user", "item"):
                rows = inputs.pop(f"{side}_ids")
                inputs[f"{side}_embeds"] = fresh_embeddings(getattr(tables, f"{side}_embeddings"), len(rows))
        found = super().compute_loss(model, inputs, *args, **kwargs)
        if not (self.terms and model.training):
            return found
        every, here = kwargs.get("num_items_in_batch"), (inputs["labels"] != IGNORED).sum()
        share = 1.0 if every is None else float(here * self.accelerator.num_processes / every)
        loss_of = functools.partial(super().compute_loss, model, **kwargs)
        return self.terms.add(found, loss_of, self._bare_model(), inputs, share)

    def _bare_model(self) -> Any:
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """As `Trainer.training_step`, and checks the loss.

        Raises:
            DataError: it is not finite.
        """
        self.guard.remember(inputs)
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        self.guard.check_loss(loss, self.state.global_step)
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.evaluation_loop`, but the loss is a mean over tokens."""
        self._validation = ValidationLoss(self.accelerator)
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if f"{prefix}_loss" in (output.metrics or {}):
            output.metrics[f"{prefix}_loss"] = self._validation.mean()
        return output

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> tuple:
        """As `Trainer.prediction_step`; the loss is summed up by tokens as well."""
        if "labels" in inputs:
            inputs = {**inputs, "labels": self._validation.without_repeats(inputs["labels"])}
        self._predicting = True
        try:
            loss, *others = super().prediction_step(model, inputs, *args, **kwargs)
        finally:
            self._predicting = False
        if loss is not None and "labels" in inputs:
            self._validation.add(loss, inputs["labels"])
        return loss, *others

    def _get_num_items_in_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`; in validation every process takes the mean of its own tokens, and they are weighed at the end."""
        return None if self._predicting else super()._get_num_items_in_batch(*args, **kwargs)

    def gathered_state_dict(self) -> dict[str, torch.Tensor] | None:
        """The weights where the engine spreads them over processes, which all have to ask; None where they are whole."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            weights: dict[str, torch.Tensor] = self.accelerator.get_state_dict(self.model_wrapped)
            return weights
        return None

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler | None:
        """As in `Trainer`, but lengths are grouped by seed and epoch alone, so that a resumed epoch keeps its order."""
        sampler = super()._get_train_sampler(*args, **kwargs)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.generator = torch.Generator()
            self._length_sampler = sampler
        return sampler

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        epoch = kwargs["epoch"] if "epoch" in kwargs else args[1]
        if self._length_sampler is not None:
            self._length_sampler.generator.manual_seed(self.args.seed + EPOCH_SEED_STEP * epoch)
        if isinstance(self.train_dataset, ExplanationDataset):
            self.train_dataset.set_epoch(epoch)
        return super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As in `Trainer`, but written aside and put in place when whole.

        Raises:
            DataError: it cannot be written, as on a full disk; the last one stays.
        """
        run = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            clear_staging(run)
        self.accelerator.wait_for_everyone()
        self._staging = run / STAGING
        try:
            self._write_checkpoint(model, trial, self._staging / name, run / name)
        except (OSError, SafetensorError, RuntimeError) as error:
            shutil.rmtree(self._staging, ignore_errors=True)
            raise self._no_room(run, error) from error
        finally:
            self._staging = None
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run / name))
        if self.args.should_save:
            limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
            rotate_checkpoints(output_dir=str(run), save_total_limit=limit, best_model_checkpoint=best)

    def _write_checkpoint(self, model: nn.Module, trial: Any, written: Path, place: Path) -> None:
        super()._save_checkpoint(model, trial)
        self.running_loss.write(written)
        if self.state.best_model_checkpoint == str(written):
            self.state.best_model_checkpoint = str(place)
            if self.args.should_save:
                self.state.save_to_json(str(written / "trainer_state.json"))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            put_in_place(written, place)
        self.accelerator.wait_for_everyone()

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """As in `Trainer`, once the checkpoint is in its place, and whole; see `hub_pushes`."""
        if self._staging is None and self.is_world_process_zero() and self.args.hub_strategy != HubStrategy.END:
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            message = f"Training in progress, step {self.state.global_step}"
            self._hub_pushes().start(Path(checkpoint_folder), cast(str, self.hub_model_id), message)

    def push_folder(self, folder: Path, message: str = "End of training") -> None:
        """Pushes a model folder where `push_to_hub` is set, and waits for it.

        Args:
            folder: what is pushed.
            message: what the commit is called.

        Raises:
            DataError: the Hub does not take it.
        """
        if self.args.push_to_hub and self.is_world_process_zero():
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            self._hub_pushes().now(folder, cast(str, self.hub_model_id), message)

    def push_to_hub(self, commit_message: str | None = "End of training", *args: Any, **kwargs: Any) -> None:
        """As in `Trainer`, but a whole repository without a pickle, made at once and without a draft of a card.

        Args:
            commit_message: what the commit is called.
            *args: none; where to push to is among the training arguments, as `hub_...`.
            **kwargs: none but `blocking=True`.

        Raises:
            DataError: the Hub does not take it, or there are other arguments.
        """
        if args or kwargs.pop("blocking", True) is not True or kwargs:
            raise DataError("expected commit_message alone, found more; set hub_token, hub_revision and the like instead")
        with tempfile.TemporaryDirectory(prefix=".model-", dir=self.args.output_dir) as room:
            self.save_model(room, _internal_call=True)
            self.push_folder(Path(room), commit_message or "End of training")

    def _hub_pushes(self) -> HubPushes:
        if self.pushes is None:
            raise DataError("expected trainer.pushes to push with, found none; set it to hub_pushes.pushes_of(...)")
        return self.pushes

    def _finish_current_push(self) -> None:
        if self.pushes is not None:
            self.pushes.finish()

    def _no_room(self, run: Path, error: Exception) -> DataError:
        kept, free = newest_checkpoint(run), shutil.disk_usage(run).free
        last = "there is no earlier one" if kept is None else f"{kept.name} is whole"
        return DataError(
            f"{run}: expected to save the checkpoint of step {self.state.global_step}, found "
            f"{' '.join(str(error).split())[:200]} ({free / 1e6:,.0f} MB free); {last}: make room, or mend the folder, and "
            "run the same command with --resume"
        )
