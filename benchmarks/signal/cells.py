"""One cell of the grid: a model trained for one task under one condition, and what its recipe is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from worlds import BARE, FULL, HISTORY, PROFILE, PROMPTS, World

from xrec_training.finetune import train
from xrec_training.recipe import Recipe

GRAPH, PERMUTED, RANDOM, SOFT = "graph", "permuted", "random-fixed", "soft-prompt"
CONDITIONS = (GRAPH, PERMUTED, RANDOM, SOFT)
"""The graph's embeddings, each row another's, random ones, and none: as many trained parameters that hear one constant."""
INJECTIONS = ("qkv", "attention", "input")
PLAIN = "plain"
EPOCHS = {PROFILE: 3, FULL: 4, BARE: 4, HISTORY: 4}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
LEVERS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "rate-third": {"rate": 1 / 3},
    "rate-triple": {"rate": 3},
    "longer": {"epochs": 2},
    "learned-scale": {"config": {"injection_scale": "learned"}},
    "scale-8": {"config": {"injection_scale": 8.0}},
    "layer-maps": {"config": {"layer_maps": True}},
    "soft-prompt-too": {"config": {"soft_prompt": True}},
    "dropout-half": {"config": {"adapter_dropout": 0.5}},
    "weight-decay": {"trainer": {"weight_decay": 1.0}},
    "markers-4": {"markers_per_side": 4},
    "experts-1": {"config": {"num_experts": 1}},
    "experts-32": {"config": {"num_experts": 32}},
    "top-2": {"config": {"top_k_experts": 2}},
    "balance": {"balance": 0.1},
    "no-dropout": {"config": {"adapter_dropout": 0.0}},
    "lora": {"lora": LORA},
    "norms": {"config": {"trained_norms": True}},
    "markers-last": {"markers_last": True},
    "contrast": {"contrast": 0.3},
    "align": {"align": 0.3},
    "profile-dropout": {"profile_dropout": 0.5},
    "profiles-first": {"profile_epochs": 1},
    "profiles-kept": {"profile_epochs": 1, "trains": "soft_prompt", "config": {"soft_prompt": True}},
    "encoder-dim-128": {"encode": ("--dim", "128")},
    "encoder-bpr": {"encode": ("--objective", "bpr")},
}
"""What each lever changes; `plain` is the paper's model. `a+b` is two at once."""
IN_LAYERS = {"layer_maps", "injection_scale"}
"""What a lever changes in the layers; `injection: input` has nothing there."""
LAST = " {user_marker}{item_marker}\nWhy:"


@dataclass(frozen=True)
class Setting:
    """How the cells on one backbone are trained; the defaults were chosen on validation rows of the backbone from scratch.

    Args:
        learning_rate: peak of the cosine schedule.
        batch_size: texts a step.
        passes: over the training rows, in every task; None for `EPOCHS`.
    """

    learning_rate: float = 6e-3
    batch_size: int = 64
    passes: float | None = None


@dataclass(frozen=True)
class Cell:
    """One model of the grid.

    Args:
        task: one of `TASKS`.
        condition: one of `CONDITIONS`.
        injection: one of `INJECTIONS`.
        seed: of the adapters and the order of the rows.
        lever: one of `LEVERS`, or several joined by `+`.
    """

    task: str
    condition: str
    injection: str = "qkv"
    seed: int = 0
    lever: str = PLAIN

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.task}.{self.condition}.{self.injection}.{self.lever}.{self.seed}"

    def recipe(self, backbone: Path, setting: Setting = Setting()) -> Recipe:
        """What `xrec train` is told."""
        lever = self.changes()
        lever.pop("encode", None)
        prompt = PROMPTS[self.task]
        if lever.pop("markers_last", False):
            prompt = prompt.replace("{user_marker}", "").replace("{item_marker}", "").removesuffix("\nWhy:") + LAST
        return Recipe(
            model=SOFT if self.condition == SOFT else "xrec",
            backbone=str(backbone),
            backbone_dtype="float32",
            signal=GRAPH if self.condition == SOFT else self.condition,
            prompt=prompt,
            early_stopping_patience=2,
            config={"injection": self.injection, **lever.pop("config", {})},
            trainer={
                "num_train_epochs": (setting.passes or EPOCHS[self.task]) * lever.pop("epochs", 1),
                "per_device_train_batch_size": setting.batch_size,
                "per_device_eval_batch_size": 2 * setting.batch_size,
                "learning_rate": setting.learning_rate * lever.pop("rate", 1),
                "lr_scheduler_type": "cosine",
                "warmup_steps": 0.05,
                "max_grad_norm": 1.0,
                "train_sampling_strategy": "group_by_length",
                "save_total_limit": 1,
                "tf32": True if torch.cuda.is_available() else None,
                "seed": self.seed,
                "disable_tqdm": True,
                **lever.pop("trainer", {}),
            },
            **lever,
        )

    def changes(self) -> dict[str, Any]:
        """What its levers change, all together."""
        found: dict[str, Any] = {}
        for name in self.lever.split("+"):
            for key, value in LEVERS[name].items():
                found[key] = {**found.get(key, {}), **value} if isinstance(value, Mapping) else value
        return found

    @property
    def encoding(self) -> tuple[str, ...]:
        """Options of `xrec encode` for its graph."""
        return tuple(self.changes().get("encode", ()))


def grid(
    tasks: tuple[str, ...], conditions: tuple[str, ...], injections: tuple[str, ...], seeds: tuple[int, ...],
    levers: tuple[str, ...],
) -> Iterator[Cell]:  # fmt: skip
    """The cells of a part of the grid, the most telling first.

    Everything but `full` has the paper's injection alone; a lever in the layers has no cell where nothing is injected there.
    """
    for seed in seeds:
        for lever in levers:
            for injection in injections:
                for task in tasks:
                    cells = [Cell(task, condition, injection, seed, lever) for condition in conditions]
                    silent = injection == "input" and IN_LAYERS & set(cells[0].changes().get("config", ()))
                    if (injection == INJECTIONS[0] or task == FULL) and not silent:
                        yield from cells


def trained(cell: Cell, world: World, backbone: Path, runs: Path, setting: Setting) -> Path:
    """The run folder of a cell, trained where it is missing; a killed training goes on from its last checkpoint."""
    out = runs / cell.name
    if not out.is_dir():
        train(world.task(cell.task), world.graph(cell.task, cell.encoding), out, cell.recipe(backbone, setting), resume=True)
    return out
