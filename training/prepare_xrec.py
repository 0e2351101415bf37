"""XRec ready to be trained, and its two relatives without a graph: `soft-prompt` and `prompt`."""

import dataclasses
from pathlib import Path
from typing import Any

import polars as pl
import torch
import torch.distributed as dist
from transformers import AutoTokenizer, PreTrainedModel, TrainingArguments, set_seed

from modeling_xrec.configuration_xrec import XRecConfig
from modeling_xrec.lightgcn import LightGCN
from modeling_xrec.modeling_xrec import XRecForCausalLM
from modeling_xrec.processing_xrec import USER_MARKER, XRecProcessor
from modeling_xrec.reference_prompt import add_explain_row
from modeling_xrec.signals import constant_tables
from xrec_dataset_builder.errors import DataError

from .backbone_loading import backbone_arguments
from .examples import ExplanationDataset, PadCollator
from .lora import add_lora, save_lora
from .prepared import Inputs, Prepared
from .profile_stage import load_adapters
from .recipe import SCRATCH, SOFT_PROMPT, Recipe
from .scratch_backbone import ScratchOptions, scratch_backbone
from .tables import Catalogue

# Fields of XRecConfig that a run derives from its inputs.
_DERIVED = {"text_config", "num_users", "num_items", "user_token_id", "item_token_id", "collaborative_dim", "layer_weights",
            "length_exponent", "base_model_name_or_path", "base_model_revision", "tie_word_embeddings",
            "markers_per_side", "peft_adapter"}  # fmt: skip


def config_names() -> set[str]:
    """Fields of `XRecConfig` that a recipe may set."""
    return set(XRecConfig.__annotations__) - _DERIVED


def prepare(inputs: Inputs) -> Prepared:
    """An untrained XRec model around its backbone, with the dataset's examples.

    With `backbone: scratch` the backbone is trained first. Model `prompt` and signal `none` are the backbone alone: nothing is
    injected, nothing requires a gradient, and where the backbone does not know the markers the prompt has none.

    Args:
        inputs: see `Inputs`; with `lightgcn`.

    Raises:
        DataError: a backbone that does not load, or settings that do not go together.
    """
    recipe: Recipe = inputs.recipe
    lightgcn: Any = inputs.lightgcn
    backbone = backbone_name(recipe, inputs.explanations["train"], inputs.backbone_place)
    set_seed(recipe.trainer.get("seed", TrainingArguments.seed))  # whether or not a backbone was trained just now
    if recipe.model == "soft-prompt":
        lightgcn.load_state_dict(constant_tables(dict(lightgcn.state_dict())))
    if recipe.model == "prompt" or recipe.signal == "none":
        recipe = dataclasses.replace(recipe, config={**recipe.config, "injection": "none"})
    if recipe.lora and recipe.config.get("injection") == "none":
        raise DataError("section `lora` needs an injection, found 'none', which trains nothing; leave one of them out")
    processor = build_processor(backbone, recipe, inputs.catalogue)
    model: Any = build_model(backbone, recipe, processor, lightgcn)
    if recipe.config.get("injection") == "none":
        model.requires_grad_(False)
    elif recipe.start_from:
        load_adapters(model, Path(recipe.start_from))
    if recipe.trains == SOFT_PROMPT:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("adapter.prompt_weight"))
    if recipe.lora:
        model = add_lora(model, recipe.lora)
    seed = recipe.trainer.get("seed", TrainingArguments.seed)
    datasets = {
        split: ExplanationDataset(
            processor, table, inputs.catalogue.rows(table), recipe.profile_dropout if split == "train" else 0.0, seed
        )
        for split, table in inputs.explanations.items()
    }

    def save(trained: PreTrainedModel, folder: Path, state_dict: dict[str, torch.Tensor] | None) -> None:
        if recipe.lora:
            trained, state_dict = save_lora(trained, folder, state_dict), None
        trained.save_pretrained(folder, state_dict=state_dict)
        processor.save_pretrained(folder)

    return Prepared(model, datasets, PadCollator(processor), save, processor=None if recipe.lora else processor)


def backbone_name(recipe: Recipe, explanations: pl.DataFrame, place: Path) -> str:
    """Folder or Hub id of the recipe's backbone; one from scratch is trained where it is missing.

    Args:
        recipe: see `Recipe`.
        explanations: what a backbone from scratch reads.
        place: where it goes, or lies.

    Raises:
        DataError: it is missing and there are several processes.
    """
    if recipe.backbone != SCRATCH:
        return recipe.backbone
    if dist.is_available() and dist.is_initialized() and not place.is_dir():
        raise DataError(
            f"{place}: several processes need a backbone that is there, found none; train once in one process, or give "
            "--backbone"
        )
    return str(scratch_backbone(explanations, place, ScratchOptions(**recipe.scratch), recipe.prompt_settings()))


def build_processor(backbone: str, recipe: Recipe, catalogue: Catalogue) -> XRecProcessor:
    """The backbone's tokenizer with the markers, and the dataset's catalogue.

    Raises:
        DataError: no tokenizer there.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone, revision=recipe.revision)
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a backbone folder or Hub id, found {backbone!r}, which does not load ({str(error).splitlines()[0]}); "
            "check the name, or use `--backbone scratch`"
        ) from error
    settings = recipe.prompt_settings()
    if recipe.config.get("injection") == "none" and USER_MARKER not in tokenizer.get_vocab():
        settings["markers_per_side"] = 0  # a token without a meaning would only disturb
    users, items = catalogue.users.to_dicts(), catalogue.items.to_dicts()
    return XRecProcessor(tokenizer, users=users, items=items, **settings)


def build_model(backbone: str, recipe: Recipe, processor: XRecProcessor, lightgcn: LightGCN) -> XRecForCausalLM:
    """An untrained XRec model around the backbone, with the graph's tables in place.

    A Hub backbone gives adapter-sized checkpoints; a local folder, which no one else has, is saved in full.

    Raises:
        DataError: norms that are to be trained are in half precision.
    """
    is_hub_id = not Path(backbone).exists()
    model = XRecForCausalLM.from_backbone(
        backbone,
        revision=recipe.revision,
        backbone_kwargs=backbone_arguments(recipe.quantization, recipe.backbone_dtype),
        user_token_id=processor.user_token_id,
        item_token_id=processor.item_token_id,
        collaborative_dim=lightgcn.user_embeddings.shape[1],
        markers_per_side=processor.markers_per_side,
        **({} if is_hub_id else {"base_model_name_or_path": None}),
        **recipe.config,
    )
    coarse = {p.dtype for p in model.parameters() if p.requires_grad} - {torch.float32, torch.float64}
    if model.config.trained_norms and coarse:
        raise DataError(
            f"trained_norms needs a backbone in float32, found {', '.join(map(str, coarse))}, which rounds a step of training "
            "away; give backbone_dtype: float32"
        )
    if processor.explain_token_id is not None:
        add_explain_row(model, processor.explain_token_id)
    model.set_tables(lightgcn)
    return model
