"""A first stage of training: the adapters learn to tell items' profiles from the embeddings alone.

Every item has a profile, and few are explained, so that the adapters meet many more embeddings here than with explanations. Of
items whose explanations are validated or tested no profile is told.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_NAME

from modeling_xrec.checkpoint_xrec import trained_keys
from modeling_xrec.modeling_xrec import XRecForCausalLM
from xrec_dataset_builder.errors import DataError

from .recipe import ADAPTERS, ITEM_PROFILE, SOFT_PROMPT, Recipe
from .tables import Catalogue

PROMPT = "About:{user_marker}{item_marker}\nWho would enjoy it:"
RUN_FILE = "training.json"
MOST_VALIDATED = 500
VALIDATED_SHARE = 0.05


def profile_rows(catalogue: Catalogue, explanations: Mapping[str, pl.DataFrame], seed: int = 0) -> dict[str, pl.DataFrame]:
    """Items' profiles in the place of explanations, without any other text.

    Args:
        catalogue: users and items.
        explanations: of the splits `train`, `validation` and `test`.
        seed: of the user beside each item, any of those of the training explanations, and of what is validated.

    Returns:
        Rows of `train` and `validation`, as explanations are.

    Raises:
        DataError: no profile is left.
    """
    kept_out = {item for split in ("validation", "test") for item in explanations[split]["item_id"]}
    items = catalogue.items.filter((pl.col("item_profile").str.len_chars() > 0) & ~pl.col("item_id").is_in(list(kept_out)))
    if items.is_empty() or explanations["train"].is_empty():
        raise DataError("expected profiles of items that are not tested, found none; leave profile_epochs and target out")
    generator = np.random.default_rng(seed)
    users = generator.choice(np.array(sorted(set(explanations["train"]["user_id"])), dtype=object), items.height)
    nothing = pl.lit("")
    rows = items.select(
        pl.Series("user_id", users.tolist()), "item_id", nothing.alias("title"), nothing.alias("user_profile"),
        pl.col("item_profile").alias("explanation"),
    ).with_columns(item_profile=nothing).sample(fraction=1, shuffle=True, seed=seed)  # fmt: skip
    validated = min(MOST_VALIDATED, math.ceil(VALIDATED_SHARE * rows.height), rows.height - 1)
    return {"train": rows[validated:], "validation": rows[:validated]}


def stage_recipe(recipe: Recipe, backbone: str) -> Recipe:
    """The recipe of the first stage: as the run's, but for what is told, and nothing is pushed.

    A soft prompt that is all the second stage trains is not there yet.

    Args:
        recipe: of the run.
        backbone: its backbone, which is there.
    """
    config = {name: value for name, value in recipe.config.items() if name != "soft_prompt" or recipe.trains != SOFT_PROMPT}
    trainer = {name: value for name, value in recipe.trainer.items() if not name.startswith(("push_to", "hub_", "max_steps"))}
    return dataclasses.replace(
        recipe, backbone=backbone, target=ITEM_PROFILE, prompt=PROMPT, prompt_style="xrec", profile_epochs=0.0,
        profile_dropout=0.0, trains=ADAPTERS, lora={}, config=config,
        trainer=trainer | {"num_train_epochs": recipe.profile_epochs},
    )  # fmt: skip


def is_done(place: Path, recipe: Recipe) -> bool:
    """Whether the first stage lies there.

    Raises:
        DataError: something else does.
    """
    if not place.exists():
        return False
    file = place / RUN_FILE
    found = json.loads(file.read_text(encoding="utf-8"))["recipe"] if file.is_file() else None
    if found != json.loads(json.dumps(written(recipe))):
        raise DataError(f"{place}: expected nothing there, or the first stage of this recipe, found another; remove it")
    return True


def written(recipe: Recipe) -> dict[str, Any]:
    """A recipe as `training.json` has it: folders by their names alone."""
    about = dataclasses.asdict(recipe)
    return about | {name: about[name] and Path(about[name]).name for name in ("backbone", "start_from")}


@torch.no_grad()
def load_adapters(model: XRecForCausalLM, run: Path) -> None:
    """Gives the model the adapters of an earlier run; what that run had no soft prompt or layer maps for stays at zero.

    Raises:
        DataError: no run there, or one whose adapters have other shapes.
    """
    file = run / SAFE_WEIGHTS_NAME
    if not file.is_file():
        raise DataError(
            f"start_from: expected a run folder with {SAFE_WEIGHTS_NAME}, found none in {run}; give one of `xrec train`"
        )
    trained = trained_keys(model)
    with safe_open(file, framework="pt") as stored:
        found = {name: stored.get_tensor(name) for name in stored.keys() if name in trained}  # noqa: SIM118
    later = ("prompt_weight", "place_weight")
    own = {name: tensor for name, tensor in model.state_dict().items() if name in trained}
    own = {name: tensor for name, tensor in own.items() if name in found or not name.endswith(later)}
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (own, found)]
    if shapes[0] != shapes[1]:
        name = next(name for name in sorted(own | found) if shapes[0].get(name) != shapes[1].get(name))
        raise DataError(
            f"start_from: expected {name} of shape {shapes[0].get(name)}, found {shapes[1].get(name)} in {run}; train both "
            "with the same backbone and configuration"
        )
    for name, tensor in own.items():
        tensor.copy_(found[name])
