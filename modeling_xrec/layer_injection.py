"""Injection of the adapted vectors into every decoder layer, without copying or changing a vendor's forward.

XRec (arXiv 2406.02377), section 3.3. An injection is a pair of tensors that travels as one keyword argument through the
backbone's own `forward` down to every attention module:

    columns  (batch, markers)          position of each marker in this call's sequence
    vectors  (batch, markers, hidden)  what is added there; zero for a marker outside this call

A hook on each attention module takes the argument out of the call, so the attention function never sees it:
`"attention"` adds it to the attention's input; `"qkv"` pins it to the input tensor, where the hooks on the q, k and v
projections, which receive that very tensor, find it and add it to their outputs, before RoPE. Nothing is kept on a module,
so two calls at once, a recomputed call (activation checkpointing) and a compiled call are all alike.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

ARGUMENT = "xrec_injection"
"""Name of the keyword argument, and of the attribute on the attention's input tensor."""

Injection = tuple[torch.Tensor, torch.Tensor]


def add_at(states: torch.Tensor, injection: Injection) -> torch.Tensor:
    """Adds the injected vectors at their columns.

    Args:
        states: `(batch, length, width)`.
        injection: columns `(batch, markers)` and vectors `(batch, markers, width)`.

    Returns:
        A new tensor of the shape and dtype of `states`.
    """
    columns, vectors = (part.to(states.device) for part in injection)
    return states.scatter_add(1, columns.unsqueeze(-1).expand_as(vectors), vectors.to(states.dtype))


def _take(args: tuple, kwargs: dict[str, Any]) -> tuple[torch.Tensor | None, Injection | None]:
    injection = kwargs.pop(ARGUMENT, None)
    if injection is None:
        return None, None
    return (args[0] if args else kwargs["hidden_states"]), injection


def _give(states: torch.Tensor, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    if args:
        return (states, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": states}


def _add_to_attention_input(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    states, injection = _take(args, kwargs)
    return (args, kwargs) if states is None or injection is None else _give(add_at(states, injection), args, kwargs)


def _pin_to_attention_input(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    states, injection = _take(args, kwargs)
    if states is None:
        return args, kwargs
    states = states.view_as(states)  # a view of its own, so that the pin dies with this call
    setattr(states, ARGUMENT, injection)
    return _give(states, args, kwargs)


def _add_to_projection_output(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor | None:
    injection = getattr(args[0], ARGUMENT, None)
    return None if injection is None else add_at(output, injection)


def attention_modules(language_model: PreTrainedModel) -> list[nn.Module]:
    """The attention module of every decoder layer, in order.

    Raises:
        ValueError: the backbone does not pass keyword arguments down to its attention.
    """
    if not language_model._supports_attention_backend:
        raise ValueError(
            f"{type(language_model).__name__} does not pass keyword arguments to its attention, so nothing can be injected "
            "into its layers; use injection='input', or a backbone such as Llama, Mistral, Qwen or Gemma."
        )
    return [getattr(layer, "self_attn", None) or layer.attention for layer in language_model.get_decoder().layers]


def _separate_projections(language_model: PreTrainedModel, attention: nn.Module) -> list[nn.Module]:
    hidden = language_model.config.get_text_config().hidden_size
    projections = [getattr(attention, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    widths = [getattr(projection, "out_features", None) for projection in projections]
    if widths != [hidden] * 3:
        raise ValueError(
            f"{type(language_model).__name__} has q, k and v projections of widths {widths}, and injection='qkv' needs "
            f"three of its hidden size {hidden} (the paper's multi-head attention); use injection='attention'."
        )
    return [projection for projection in projections if projection is not None]


def install_injection(language_model: PreTrainedModel, mode: str) -> None:
    """Registers the hooks of one injection mode on a backbone; without the keyword argument they do nothing.

    Args:
        language_model: any decoder with `_supports_attention_backend`.
        mode: `"qkv"` or `"attention"`; `"input"` and `"none"` need no hooks.

    Raises:
        ValueError: the backbone cannot take this mode; the message says what to use instead.
    """
    if mode in ("input", "none"):
        return
    hook: Callable = _add_to_attention_input if mode == "attention" else _pin_to_attention_input
    for attention in attention_modules(language_model):
        if mode == "qkv":
            for projection in _separate_projections(language_model, attention):
                projection.register_forward_hook(_add_to_projection_output)
        attention.register_forward_pre_hook(hook, with_kwargs=True)


__all__ = ["ARGUMENT", "Injection", "add_at", "install_injection"]
