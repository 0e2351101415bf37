"""Injection of the adapted vectors into every decoder layer, without copying or changing a vendor's forward.

XRec (arXiv 2406.02377), section 3.3. An `Injection` travels as one keyword argument through the backbone's own `forward` down
to every attention module, where a hook takes it out of the call, so that no attention function ever sees it:

- `"attention"`: the hook adds the vector to the attention's input at the marker.
- `"qkv"`: the hook pins the injection to the attention's input tensor. Hooks on the q, k and v projections, which receive that
  very tensor, find it there and add to their outputs, before any norm and before RoPE.

Nothing is kept on a module between or during calls, so two calls at once, a recomputed call (activation checkpointing) and a
compiled call are all alike. An injection that a projection did not take is an error, never a silence.

What `"qkv"` adds where the paper's multi-head attention (all widths equal to the hidden size H) does not hold, for n query
heads, m key-value heads of width D, and the adapted vector a of width H:

    q  <-  q + P(a)              P(a)[i] = mean of a[floor(i H / nD) : ceil((i + 1) H / nD)],  width nD
    k  <-  k + G(P(a))           G(p)    = for each key-value head, the mean of p over the n / m query heads that share it
    v  <-  v + G(P(a))

P is the identity where nD = H and G where m = n, so both are where the paper is. G is what mean pooling does to the heads of
a multi-head model with this injection when it is converted to grouped-query attention (Ainslie et al., arXiv 2305.13245).
There is nothing to train in either, so the adapter has the paper's size on every backbone; and since both are onto where
nD <= H, the adapter's linear experts can reach any k and v that a trained projection could.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

ARGUMENT = "xrec_injection"
"""Name of the keyword argument, and of the attribute on the attention's input tensor."""
QUERY, KEY, VALUE = 0, 1, 2


class HeadLayout(NamedTuple):
    """Heads of an attention module: n query heads, m key-value heads, each `head_dim` (D) wide."""

    heads: int
    kv_heads: int
    head_dim: int

    def fit(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """P(a) `(..., n * D)` and G(P(a)) `(..., m * D)` of vectors a `(..., H)`."""
        query = vectors
        if vectors.shape[-1] != self.heads * self.head_dim:
            flat = vectors.reshape(-1, 1, vectors.shape[-1])
            query = F.adaptive_avg_pool1d(flat, self.heads * self.head_dim).view(*vectors.shape[:-1], -1)
        if self.kv_heads == self.heads:
            return query, query
        groups = query.unflatten(-1, (self.kv_heads, self.heads // self.kv_heads, self.head_dim))
        return query, groups.mean(dim=-2).flatten(-2)


class Injection(NamedTuple):
    """What one call adds to every layer.

    Attributes:
        mode: `"qkv"` or `"attention"`.
        columns: position of each marker in this call's sequence, `(batch, markers)`.
        vectors: what is added there, zero for a marker outside this call. `"attention"`: one tensor `(batch, markers, H)`;
            `"qkv"`: for each head layout of the backbone P(a) and G(P(a)), one after the other.
        scales: trained strength `(layers, parts)`, parts being q, k and v or the attention's input; None for a fixed one.
        maps: what a layer's part adds of its own, as `vectors`, but `(batch, layers, parts, markers, ...)`; empty for nothing.
    """

    mode: str
    columns: torch.Tensor
    vectors: tuple[torch.Tensor, ...]
    scales: torch.Tensor | None = None
    maps: tuple[torch.Tensor, ...] = ()

    def part(self, slot: int, layer: int, part: int) -> torch.Tensor:
        """The vectors of a slot and what a layer's part adds of its own, times its trained strength."""
        vectors = self.vectors[slot]
        if self.maps:
            vectors = vectors + self.maps[slot][:, layer, part]
        return vectors if self.scales is None else vectors * self.scales[layer, part].to(vectors)


def add_at(states: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Adds vectors at columns; a new tensor.

    Args:
        states: `(batch, length, width)`.
        columns: `(batch, markers)`.
        vectors: `(batch, markers, width)`.

    Returns:
        `(batch, length, width)`, in the dtype and on the device of `states`.
    """
    index = columns.to(states.device).unsqueeze(-1).expand_as(vectors)
    return states.scatter_add(1, index, vectors.to(states))


def _add_at_in_place(states: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """`add_at` that spares the copy where no gradient could miss it."""
    if states.requires_grad or vectors.requires_grad:
        return add_at(states, columns, vectors)
    return states.scatter_add_(1, columns.to(states.device).unsqueeze(-1).expand_as(vectors), vectors.to(states))


class _Pin(NamedTuple):
    injection: Injection
    taken: list[str] | None  # projections that added it; not counted in compiled code


@dataclass
class _AttentionInput:
    """Pre-hook of an attention module: takes the injection out of the call and adds it or pins it."""

    layer: int

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        injection: Injection | None = kwargs.pop(ARGUMENT, None)
        if injection is None:
            return None
        states = args[0] if args else kwargs["hidden_states"]
        if injection.mode == "attention":
            # A new tensor: in parallel blocks the MLP reads the same one.
            states = add_at(states, injection.columns, injection.part(0, self.layer, 0))
        else:
            states = states.view_as(states)  # a view of its own, so that the pin dies with this call
            setattr(states, ARGUMENT, _Pin(injection, None if torch.compiler.is_compiling() else []))
        return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})


@dataclass
class _ProjectionOutput:
    """Forward hook of a q, k, v or fused projection: adds the pinned injection to its output."""

    name: str
    layer: int
    parts: tuple[int, ...]
    slot: int
    layout: HeadLayout
    join: Callable[[list[torch.Tensor], HeadLayout], torch.Tensor] | None = None

    def __call__(self, module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor | None:
        pin: _Pin | None = getattr(args[0], ARGUMENT, None)
        if pin is None:
            return None
        if pin.taken is not None:
            pin.taken.append(self.name)
        vectors = [pin.injection.part(self.slot + (part != QUERY), self.layer, part) for part in self.parts]
        joined = vectors[0] if self.join is None else self.join(vectors, self.layout)
        return _add_at_in_place(output, pin.injection.columns, joined)


@dataclass
class _AttentionOutput:
    """Forward hook of an attention module: every projection must have taken the injection once."""

    projections: tuple[str, ...]

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        pin: _Pin | None = getattr(args[0] if args else kwargs.get("hidden_states"), ARGUMENT, None)
        if pin is not None and pin.taken is not None and sorted(pin.taken) != sorted(self.projections):
            raise RuntimeError(
                f"{type(module).__name__} gave its input to {', '.join(pin.taken) or 'none'} of its projections "
                f"{', '.join(self.projections)}, so injection='qkv' cannot reach them all; use injection='attention'."
            )


def join_stacked(parts: list[torch.Tensor], layout: HeadLayout) -> torch.Tensor:
    """[q | k | v], as in Phi-3's `qkv_proj`."""
    return torch.cat(parts, dim=-1)


def join_interleaved(parts: list[torch.Tensor], layout: HeadLayout) -> torch.Tensor:
    """[q_1 | k_1 | v_1 | q_2 | ...] head by head, as in GPT-NeoX's `query_key_value`."""
    return torch.cat([part.unflatten(-1, (layout.heads, layout.head_dim)) for part in parts], dim=-1).flatten(-2)


# The one table: which module holds q, k and v together, and how, by the `model_type` of the backbone. Backbones with q_proj,
# k_proj and v_proj need no line.
FUSED_PROJECTIONS: dict[str, tuple[str, Callable[[list[torch.Tensor], HeadLayout], torch.Tensor]]] = {
    "gpt2": ("c_attn", join_stacked),
    "gpt_neox": ("query_key_value", join_interleaved),
    "persimmon": ("query_key_value", join_interleaved),
    "phi3": ("qkv_proj", join_stacked),
}
SEPARATE_PROJECTIONS: dict[str, tuple[int, ...]] = {"q_proj": (QUERY,), "k_proj": (KEY,), "v_proj": (VALUE,)}


def attention_modules(language_model: PreTrainedModel) -> list[nn.Module]:
    """The attention module of every decoder layer, in order.

    Raises:
        ValueError: the backbone does not pass keyword arguments down to its attention, or a layer has no attention.
    """
    name = type(language_model).__name__
    decoder = language_model.get_decoder()
    layers = getattr(decoder, "layers", None) or getattr(decoder, "h", None)
    if not language_model._supports_attention_backend or layers is None:
        raise ValueError(
            f"{name} does not pass keyword arguments to its attention, so nothing can be injected into its layers; "
            "use injection='input', or a backbone such as Llama, Mistral, Qwen or Gemma."
        )
    attentions = [_child(layer, "self_attn", "attention", "self_attention", "attn") for layer in layers]
    if None in attentions:
        layer = attentions.index(None)
        raise ValueError(
            f"layer {layer} of {name} ({type(layers[layer]).__name__}) has no attention, and injection reaches every layer "
            "through it; use injection='input'."
        )
    return attentions


def _child(module: nn.Module, *names: str) -> Any:
    return next((child for child in (getattr(module, name, None) for name in names) if child is not None), None)


def _width(projection: Any) -> int | None:
    """Output width of a linear layer, also of a quantised one or of GPT-2's Conv1D."""
    return getattr(projection, "out_features", None) or getattr(projection, "nf", None)


def head_layout(language_model: PreTrainedModel, attention: nn.Module) -> HeadLayout:
    """Heads of one attention module, from the module where it knows them, else from the configuration."""
    config = language_model.config.get_text_config()
    heads = config.num_attention_heads
    width = _child(attention, "head_dim", "head_size") or getattr(config, "head_dim", None) or config.hidden_size // heads
    separate = _width(getattr(attention, "k_proj", None))
    kv_heads = separate // width if separate else getattr(config, "num_key_value_heads", None) or heads
    return HeadLayout(heads, kv_heads, width)


def projections_of(language_model: PreTrainedModel, attention: nn.Module) -> tuple[dict[str, tuple[int, ...]], HeadLayout]:
    """The modules of an attention that make q, k and v: name to parts, and its heads.

    Raises:
        ValueError: the widths are not those of plain, grouped-query or multi-query attention.
    """
    layout = head_layout(language_model, attention)
    expected = [layout.heads * layout.head_dim, layout.kv_heads * layout.head_dim, layout.kv_heads * layout.head_dim]
    parts = SEPARATE_PROJECTIONS
    if language_model.config.get_text_config().model_type in FUSED_PROJECTIONS:
        fused, _ = FUSED_PROJECTIONS[language_model.config.get_text_config().model_type]
        parts, expected = {fused: (QUERY, KEY, VALUE)}, [sum(expected)]
    widths = [_width(getattr(attention, name, None)) for name in parts]
    if widths != expected or layout.heads % max(layout.kv_heads, 1):
        raise ValueError(
            f"{type(language_model).__name__} has projections {', '.join(parts)} of widths {widths} in "
            f"{type(attention).__name__}, and injection='qkv' needs {expected} for {layout.heads} heads of {layout.head_dim}; "
            "use injection='attention', which suits any attention."
        )
    return parts, layout


class InjectionPlan:
    """Where a backbone takes the injection; made once by `install_injection`, holds no tensor.

    Attributes:
        mode: `"qkv"`, `"attention"`, `"input"` or `"none"`.
        layers: number of decoder layers that are injected into.
        parts: strengths a layer can have: 3 for `"qkv"` (q, k, v), 1 for `"attention"`, 0 otherwise.
        layouts: the different head layouts among the layers, usually one.
    """

    def __init__(self, mode: str, layers: int = 0, layouts: tuple[HeadLayout, ...] = ()) -> None:
        self.mode, self.layers, self.layouts = mode, layers, layouts
        self.parts = {"qkv": 3, "attention": 1}.get(mode, 0)

    def arguments(
        self, columns: torch.Tensor, vectors: torch.Tensor, scales: torch.Tensor | None = None,
        maps: torch.Tensor | None = None,
    ) -> dict[str, Injection]:  # fmt: skip
        """The backbone's keyword argument for one call; empty when the mode injects into no layer.

        Args:
            columns: position of each marker, `(batch, markers)`.
            vectors: adapted vectors times their fixed strength, `(batch, markers, H)`.
            scales: trained strengths `(layers, parts)`, or None.
            maps: what each layer's part adds of its own, `(batch, layers, parts, markers, H)`, or None.
        """
        if not self.parts:
            return {}
        own = () if maps is None else self._fitted(maps)
        return {ARGUMENT: Injection(self.mode, columns, self._fitted(vectors), scales, own)}

    def _fitted(self, vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.mode == "attention":
            return (vectors,)
        return tuple(part for layout in self.layouts for part in layout.fit(vectors))


def install_injection(language_model: PreTrainedModel, mode: str) -> InjectionPlan:
    """Registers the hooks of one injection mode on a backbone; without the keyword argument they do nothing.

    Hooks that are already there stay, so a backbone may serve several models, and a backbone whose linear layers were replaced
    (quantisation) may be visited again.

    Args:
        language_model: any decoder with `_supports_attention_backend`.
        mode: `"qkv"` or `"attention"`; `"input"` and `"none"` need no hooks.

    Raises:
        ValueError: the backbone cannot take this mode; the message says what to use instead.
    """
    if mode in ("input", "none"):
        return InjectionPlan(mode)
    attentions = attention_modules(language_model)
    layouts: dict[HeadLayout, int] = {}
    for layer, attention in enumerate(attentions):
        if mode == "qkv":
            parts, layout = projections_of(language_model, attention)
            slot = 2 * layouts.setdefault(layout, len(layouts))
            _hook_projections(language_model, attention, parts, layout, slot, layer)
        if not _is_hooked(attention._forward_pre_hooks, _AttentionInput):
            attention.register_forward_pre_hook(_AttentionInput(layer), with_kwargs=True)
    return InjectionPlan(mode, len(attentions), tuple(layouts))


def _hook_projections(
    language_model: PreTrainedModel,
    attention: nn.Module,
    parts: dict[str, tuple[int, ...]],
    layout: HeadLayout,
    slot: int,
    layer: int,
) -> None:
    _, join = FUSED_PROJECTIONS.get(language_model.config.get_text_config().model_type, (None, None))
    for name, which in parts.items():
        projection = getattr(attention, name)
        if not _is_hooked(projection._forward_hooks, _ProjectionOutput):
            projection.register_forward_hook(_ProjectionOutput(name, layer, which, slot, layout, join))
    if not _is_hooked(attention._forward_hooks, _AttentionOutput):
        attention.register_forward_hook(_AttentionOutput(tuple(parts)), with_kwargs=True)


def _is_hooked(hooks: dict, kind: type) -> bool:
    # By name: a model loaded as remote code has its own copy of this file.
    return any(type(hook).__name__ == kind.__name__ for hook in hooks.values())


__all__ = ["ARGUMENT", "HeadLayout", "Injection", "InjectionPlan", "add_at", "install_injection"]
