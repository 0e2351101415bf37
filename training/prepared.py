"""What `xrec train` hands to a model's room, and what it gets back: the seam that every model is trained through."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from modeling_xrec.lightgcn import LightGCN

from .recipe import Recipe
from .tables import Catalogue


@dataclass(frozen=True)
class Inputs:
    """All that a model may be made from.

    Args:
        data: the dataset folder.
        catalogue: users and items; their positions are the rows that `user_ids` and `item_ids` name.
        explanations: rows with `user_id, item_id, title, user_profile, item_profile, explanation` by split, `train` and
            `validation`; the latter may be empty.
        lightgcn: the graph's tables under the recipe's signal; None for a model that needs no graph.
        recipe: see `Recipe`.
        backbone_place: where a backbone that is trained from scratch goes, or lies from an earlier run.
    """

    data: Path
    catalogue: Catalogue
    explanations: dict[str, pl.DataFrame]
    lightgcn: LightGCN | None
    recipe: Recipe
    backbone_place: Path


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to be trained by `XRecTrainer`.

    Args:
        model: with only what is trained requiring gradients; nothing, where there is nothing to train. Its forward takes what
            the collator gives and returns `loss`.
        datasets: examples by split, each with `input_ids` (for grouping by length), `user_ids` and `item_ids` (rows).
        collator: a list of examples to a batch that keeps `user_ids` and `item_ids` `(batch,)`.
        save: writes the run folder from the trained model and, where the engine had to gather them, its weights.
        callbacks: `TrainerCallback`s that the model's way of training needs; they come after all others.
        processor: what has to lie beside a checkpoint for it to load anywhere; None where that does not do.
    """

    model: PreTrainedModel
    datasets: Mapping[str, Dataset]
    collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]
    save: Callable[[Any, Path, dict[str, torch.Tensor] | None], None]
    callbacks: tuple[Any, ...] = ()
    processor: Any = None
