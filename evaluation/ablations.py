"""Parts of the injection switched off at test: a layer, a projection, all layers. What is lost is what the part carries."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

PARTS = {"qkv": ("q", "k", "v"), "attention": ("attention input",)}


def parts_of(model: Any) -> dict[str, list[tuple[str, torch.Tensor]]]:
    """What can be switched off, by kind: `layers`, `projections` and `all layers`.

    Args:
        model: An XRec model.

    Returns:
        By kind the names and masks `(layers, parts)`, 0 where the injection is silent. Empty where nothing is injected into
        layers. With all layers silent the adapted vector still stands in the marker's token embedding.
    """
    plan = model.injection_plan
    if not plan.parts:
        return {}
    whole = torch.ones(plan.layers, plan.parts)
    layers, projections = [], []
    for layer in range(plan.layers):
        layers.append((f"layer {layer}", whole.clone()))
        layers[-1][1][layer] = 0
    for number, name in enumerate(PARTS[plan.mode]):
        projections.append((name, whole.clone()))
        projections[-1][1][:, number] = 0
    found = {"layers": layers, "projections": projections, "all layers": [("all layers", torch.zeros_like(whole))]}
    return {kind: masks for kind, masks in found.items() if kind != "projections" or len(masks) > 1}


@contextmanager
def silenced(model: Any, mask: torch.Tensor) -> Iterator[None]:
    """Multiplies the strengths of the injection by a mask for the time of a block.

    Args:
        model: An XRec model whose layers are injected into; used by nobody else meanwhile.
        mask: `(layers, parts)`.
    """
    trained = model.injection_scale
    strengths = mask if trained is None else trained.detach() * mask.to(trained.device)
    model.injection_scale = nn.Parameter(strengths.to(model.device), requires_grad=False)
    try:
        yield
    finally:
        model.injection_scale = trained
