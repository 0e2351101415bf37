"""`xrec train`: parse, load, Trainer, save."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
import torch.distributed as dist
from huggingface_hub.errors import HTTPError
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed

from modeling_xrec.signals import apply_signal
from xrec_dataset_builder.configs import dataset_folder
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.held_out import without_held_out
from xrec_dataset_builder.hub_trouble import trouble
from xrec_dataset_builder.publishing import user_key
from xrec_dataset_builder.schema import SPLITS, atomic_folder, refuse_existing, write_json

from .graph_folder import read_graph, table_files
from .hub_pushes import pushes_of
from .loss_curve import plot_losses
from .model_files import SECRETS
from .model_table import MODELS, find
from .partial_run import PARTIAL, PartialRun
from .prepare_xrec import backbone_name
from .prepared import Inputs, Prepared
from .profile_stage import RUN_FILE, is_done, profile_rows, stage_recipe, written
from .recipe import ITEM_PROFILE, Recipe
from .signal_terms import SignalTerms
from .tables import Catalogue, read_explanations
from .trainer import XRecTrainer

DEFAULTS = {
    "report_to": "none", "dataloader_pin_memory": False, "logging_steps": 0.01, "save_strategy": "steps", "save_steps": 500,
    "save_total_limit": 2, "logging_nan_inf_filter": False, "restore_callback_states_from_checkpoint": True,
    "hub_private_repo": True,
}  # fmt: skip
_TIMINGS = ("runtime", "per_second", "flos")


def train(
    data: Path, graph: Path | None, out: Path, recipe: Recipe, resume: bool = False, backbone_place: Path | None = None
) -> Path:
    """Trains a model and leaves a folder that explains.

    Under `torchrun` or `accelerate launch` every process calls this with the same arguments, and the main one writes. Until it
    is done the run lives in `<out>.partial`, where its checkpoints are.

    Args:
        data: dataset folder with explanations.
        graph: folder that `encode` left for this dataset; None for a model that needs none.
        out: folder to make.
        recipe: see `Recipe`. With `backbone: scratch` the backbone is trained first.
        resume: go on from the newest checkpoint of the same run, or begin where there is none yet.
        backbone_place: where a backbone from scratch goes; `<out>-backbone` when None.

    Returns:
        `out`.

    Raises:
        DataError: inputs that cannot be used, or that do not belong together; an unfinished run that is not to be resumed; a
            loss, gradient or weight that is not finite; no room for a checkpoint.
    """
    refuse_existing(out.absolute())
    partial = PartialRun(out)
    catalogue = Catalogue.read(data)
    explanations = _texts(data, catalogue, recipe)
    if explanations["train"].is_empty():
        raise DataError(f"{data}: expected training explanations, found none; build with other splits, or a smaller hold_out")
    place = backbone_place or out.with_name(f"{out.name}-backbone")
    if recipe.profile_epochs:
        first = stage_recipe(recipe, backbone_name(recipe, explanations["train"], place))
        profiles = out.with_name(f"{out.name}-profiles")
        if not is_done(profiles, first):
            train(data, graph, profiles, first, resume, place)
            _wait()  # for the main process, which writes what all of them read now
        recipe = dataclasses.replace(recipe, start_from=str(profiles), profile_epochs=0.0)
    arguments = training_arguments(recipe, partial.folder, not explanations["validation"].is_empty())
    lightgcn = _signal(graph, catalogue, recipe)
    identity = _identity(recipe, catalogue, explanations, graph) | {"processes": arguments.world_size}
    checkpoint = partial.begin(identity, resume, arguments.should_save)
    try:
        set_seed(arguments.seed)
        prepared = find(MODELS[recipe.model].prepare)(Inputs(data, catalogue, explanations, lightgcn, recipe, place))
        pushes = pushes_of(arguments, prepared.processor, lambda: user_key(dataset_folder(data)))
        trainer = build_trainer(prepared, arguments, recipe, catalogue)
        trainer.pushes = pushes
        if any(parameter.requires_grad for parameter in prepared.model.parameters()):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        _save(trainer, prepared, out, recipe)
        trainer.push_folder(out)
        if arguments.should_save:
            partial.remove()
    finally:
        partial.give_up()
    return out


def _wait() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _texts(data: Path, catalogue: Catalogue, recipe: Recipe) -> dict[str, pl.DataFrame]:
    """What is learned and validated, of users and items that are not held out."""
    rows = {split: read_explanations(data, split) for split in SPLITS}
    rows["train"] = without_held_out(rows["train"], recipe.hold_out)
    if recipe.target == ITEM_PROFILE:
        rows = profile_rows(catalogue, rows)
        rows["train"] = without_held_out(rows["train"], recipe.hold_out)
    return {split: rows[split] for split in ("train", "validation")}


def training_arguments(recipe: Recipe, folder: Path, validates: bool = True) -> TrainingArguments:
    """The recipe's `TrainingArguments`, over our defaults.

    Args:
        recipe: see `Recipe`.
        folder: where checkpoints go.
        validates: whether there are validation explanations.

    Raises:
        DataError: transformers does not take them, or early stopping has nothing to go by.
    """
    settings: dict[str, Any] = DEFAULTS | {"use_cpu": not torch.cuda.is_available(), "eval_strategy": "epoch"}
    if recipe.early_stopping_patience is not None:
        if not validates:
            raise DataError("early stopping needs validation explanations, found none; leave early_stopping_patience out")
        settings |= {"save_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "loss"}
    if MODELS[recipe.model].needs_graph:
        settings["ddp_find_unused_parameters"] = False  # every adapter's weight is used in every step
    settings["hub_model_id"] = folder.name.removesuffix(PARTIAL)
    settings |= dict(recipe.trainer) | ({} if validates else {"eval_strategy": "no"})
    with _readable_errors():
        return TrainingArguments(output_dir=str(folder), **settings)


def build_trainer(prepared: Prepared, arguments: TrainingArguments, recipe: Recipe, catalogue: Catalogue) -> XRecTrainer:
    """The trainer of a prepared model."""
    validation: Any = prepared.datasets["validation"]
    callbacks: list[Any] = []
    if recipe.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping_patience))
    ids = catalogue.users["user_id"].to_list(), catalogue.items["item_id"].to_list()
    fresh = recipe.signal == "random-fresh"
    with _readable_errors():
        trainer = XRecTrainer(
            prepared.model,
            arguments,
            train_dataset=prepared.datasets["train"],
            eval_dataset=validation if len(validation) else None,
            data_collator=prepared.collator,
            callbacks=callbacks,
            ids=ids,
            fresh_signal=fresh,
            terms=SignalTerms(recipe.contrast, recipe.align, recipe.balance),
        )
    for callback in prepared.callbacks:
        trainer.add_callback(callback)
    return trainer


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        raise trouble(error, "hub_model_id", "make the repository that is pushed to") from error
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"expected training arguments that go together, found: {reason}; mend section `trainer`") from error


def _signal(graph: Path | None, catalogue: Catalogue, recipe: Recipe) -> Any:
    if graph is None:
        if MODELS[recipe.model].needs_graph:
            raise DataError(f"model {recipe.model!r} needs --graph, found none; give the folder that `xrec encode` left")
        return None
    lightgcn = read_graph(graph, catalogue)
    lightgcn.load_state_dict(apply_signal(dict(lightgcn.state_dict()), recipe.signal))
    return lightgcn


def _save(trainer: XRecTrainer, prepared: Prepared, out: Path, recipe: Recipe) -> None:
    """Writes the run folder; every process takes part where the weights are spread over them."""
    state_dict = trainer.gathered_state_dict()
    if not trainer.args.should_save:
        return
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    log = [{k: v for k, v in row.items() if not any(word in k for word in _TIMINGS)} for row in trainer.state.log_history]
    with atomic_folder(out) as folder:
        prepared.save(model.eval(), folder, state_dict)
        about = written(recipe)
        about["trainer"] = {name: value for name, value in about["trainer"].items() if name not in SECRETS}
        write_json({"recipe": about, "log": log}, folder / RUN_FILE)
        plot_losses(log, folder)


def _identity(
    recipe: Recipe, catalogue: Catalogue, explanations: Mapping[str, pl.DataFrame], graph: Path | None
) -> dict[str, str | None]:
    """What a run's weights follow from, so that no checkpoint of another one is taken up."""
    return {
        "recipe": _hash(json.dumps(asdict(recipe), sort_keys=True, default=str)),
        "data": _hash(catalogue.fingerprint(), *(table.write_json() for table in explanations.values())),
        "graph": None if graph is None else _hash(*(_digest(path) for path in table_files(graph))),
    }


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
