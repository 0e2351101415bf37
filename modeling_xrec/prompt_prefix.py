"""The tokens before the first marker, computed apart from the rest: they cannot hear the user and the item.

In a left-to-right decoder nothing that is trained reaches them, so they need no gradient; and where all prompts of a batch
begin with the same tokens (the frame of a chat, the instruction), one row of them serves all. They become keys and values in
the backbone's own cache, and the rest of the prompt is a second call behind them.
"""

import copy
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

PLAIN_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)
RANDOM_SETTINGS = ("drop", "jitter", "noise")
"""Parts of the names of settings by which a backbone draws random numbers in training."""
STRETCHED = ("dynamic", "longrope")
"""Position encodings that depend on the length of the whole."""


class PromptPrefix:
    """Keys and values of one prefix, kept from step to step.

    Only for as long as the backbone stays as it is: whoever makes this object promises that, and drops it when the backbone's
    weights are changed. Changes in place, other tokens, another precision or attention are noticed; `parameter.data = ...` is
    not.
    """

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._cache: DynamicCache | None = None

    def of(self, language_model: PreTrainedModel, input_ids: torch.Tensor) -> DynamicCache:
        """The kept keys and values, computed when they are not those of this call."""
        key = self._key_of(language_model, input_ids)
        if self._cache is None or key != self._key:
            self._key, self._cache = key, compute_prefix(language_model, input_ids)
        return self._cache

    @staticmethod
    def _key_of(language_model: PreTrainedModel, input_ids: torch.Tensor) -> tuple:
        kind = input_ids.device.type
        cast = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        weights = tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in language_model.parameters())
        mode = (language_model.training, language_model.config._attn_implementation)
        return tuple(input_ids.flatten().tolist()), tuple(input_ids.shape), input_ids.device, cast, mode, weights


@torch.no_grad()
def compute_prefix(language_model: PreTrainedModel, input_ids: torch.Tensor) -> DynamicCache:
    """Keys and values of a prefix.

    Args:
        language_model: the backbone.
        input_ids: `(rows, length)`, without markers and padding.

    Returns:
        A filled cache.
    """
    cache = DynamicCache(config=language_model.config)
    language_model.get_decoder()(input_ids=input_ids, cache=cache, use_cache=True)
    return cache


def for_rows(cache: DynamicCache, rows: int) -> DynamicCache:
    """A cache to go on with: the same keys and values for every row, without a copy of them."""
    grown = copy.copy(cache)
    grown.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in grown.layers:
        for name in ("keys", "values"):
            states = getattr(layer, name)
            setattr(layer, name, states.expand(rows, *states.shape[1:]))
    return grown


def prefix_cache(language_model: PreTrainedModel, tokens: torch.Tensor, kept: PromptPrefix | None) -> DynamicCache:
    """What the rest of these prompts has to be called with.

    Args:
        language_model: the backbone.
        tokens: those of each row before the first marker of any row, `(batch, length)`.
        kept: where to keep a prefix that all rows share, and to find it in the next step.
    """
    if not (tokens == tokens[:1]).all():
        return compute_prefix(language_model, tokens)
    cache = compute_prefix(language_model, tokens[:1]) if kept is None else kept.of(language_model, tokens[:1])
    return for_rows(cache, len(tokens))


def can_stand_apart(language_model: PreTrainedModel) -> bool:
    """Whether a call of its own for the prefix changes neither the result nor what other processes expect.

    False where a weight of the backbone is trained (LoRA), so that early tokens have a gradient; where activations are
    recomputed, which leaves no cache; where the backbone draws random numbers; where positions depend on the whole length, or
    layers keep a state that is no key and value; and where weights are sharded or offloaded, since every call fetches them.
    """
    learning = torch.is_grad_enabled()
    for parameter in language_model.parameters():
        away = parameter.is_meta or hasattr(parameter, "full_tensor") or hasattr(parameter, "ds_id")
        if away or (learning and parameter.requires_grad):
            return False
    if learning and language_model.training and language_model.is_activation_checkpointing:
        return False
    config = vars(language_model.config.get_text_config())
    if language_model.training and _draws(language_model, config):
        return False
    if any(stretch in str(config.get("rope_parameters")) for stretch in STRETCHED):
        return False
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in language_model.modules()):
        return False
    return all(type(layer) in PLAIN_LAYERS for layer in DynamicCache(config=language_model.config).layers)


def _draws(language_model: PreTrainedModel, config: dict[str, Any]) -> bool:
    named = any(
        isinstance(value, int | float) and value > 0 and any(part in name for part in RANDOM_SETTINGS)
        for name, value in config.items()
    )
    return named or any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in language_model.modules())


def is_padded_on_the_right(attention_mask: torch.Tensor) -> bool:
    """Whether every row is tokens, then padding: no token sees padding then, and the mask says no more than causality.

    Args:
        attention_mask: `(batch, length)`.
    """
    mask = attention_mask.bool()
    return mask.dim() == 2 and bool((mask[:, :-1] >= mask[:, 1:]).all())


__all__ = ["PromptPrefix", "can_stand_apart", "is_padded_on_the_right", "prefix_cache"]
