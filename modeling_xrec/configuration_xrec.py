"""Configuration of an XRec model: a language-model backbone plus what the paper adds to it."""

import difflib
import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig

# What transformers itself writes into config.json besides the declared fields.
_LIBRARY_KEYS = {
    "_attn_implementation_internal", "_commit_hash", "_experts_implementation_internal", "attn_implementation",
    "auto_map", "custom_pipelines", "experts_implementation", "model_type", "name_or_path", "num_labels",
    "quantization_config", "torch_dtype", "transformers_version", "transformers_weights", "use_cache",
    "_name_or_path",
}  # fmt: skip


@strict
class XRecConfig(PreTrainedConfig):
    """Configuration of `XRecModel` and `XRecForCausalLM` (XRec, arXiv 2406.02377).

    Args:
        text_config: configuration of the backbone, any decoder of the Auto classes. Default: a Llama.
        collaborative_dim: width of a collaborative embedding (the paper's d). Default 64.
        num_experts: linear experts in each adapter (the paper's K). Default 8.
        top_k_experts: experts that speak for an embedding, those with the largest gates, from 1 to `num_experts`; None for
            all, as in the paper. Default None.
        adapter_dropout: dropout on the adapter's input, in training only, in [0, 1). Default 0.2.
        injection: where the adapted vector goes besides the marker's token embedding: `"qkv"` (the paper: the outputs of
            the q, k and v projections of every layer), `"attention"` (the attention's input of every layer), `"input"`
            (nowhere else), `"none"` (nowhere at all: the plain backbone). Default `"qkv"`.
        injection_scale: factor on what is injected into the layers (the token embedding is not scaled): any finite number, or
            `"learned"`: one trained number for each layer and each of q, k and v (for `"attention"`, each layer), from 0, so
            that an untrained model equals one with `injection="input"`. Default 1.0, the paper's.
        layer_maps: whether each layer's q, k and v (for `"attention"`, its input) add a trained linear map of the
            collaborative embedding to the shared vector, from 0, so that an untrained model equals one without. Beyond the
            paper; layers x parts x d x H numbers a side and marker. Default False.
        soft_prompt: whether each marker also hears a trained vector that is the same for everyone, from 0. Beyond the paper:
            what all explanations share need not be learned through the embeddings. Default False.
        trained_norms: whether the backbone's norms are trained and saved with the adapters. Beyond the paper, where all of
            the backbone is frozen. Default False.
        user_token_id: token id of the user marker. Required unless `injection="none"`.
        item_token_id: token id of the item marker. Required unless `injection="none"`.
        markers_per_side: marker tokens for the user, and as many for the item, in every prompt; 0 only with
            `injection="none"`. Default 1.
        num_users: rows of the user table stored in the model; 0 when callers pass `user_embeds`. Default 0.
        num_items: rows of the item table stored in the model; 0 when callers pass `item_embeds`. Default 0.
        layer_weights: weights alpha_0 .. alpha_L of LightGCN's layers in the stored tables, which taking a score apart needs;
            None where they are not known.
        length_exponent: power of its own length that an item keeps in the stored tables where users have length 1. Default 0.
        base_model_name_or_path: backbone that an adapter-sized checkpoint is completed from; None for a full checkpoint.
        base_model_revision: commit of that backbone.
        peft_adapter: folder beside the weights with a PEFT adapter that is loaded with them (LoRA in the backbone); None for
            none, also as an override at loading, to leave it away.

    Raises:
        ValueError: a value outside its range, or an unknown name (with the nearest known one).
    """

    model_type = "xrec"
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")}

    text_config: dict | PreTrainedConfig | None = None
    collaborative_dim: int = 64
    num_experts: int = 8
    top_k_experts: int | None = None
    adapter_dropout: float | int = 0.2
    injection: Literal["qkv", "attention", "input", "none"] = "qkv"
    injection_scale: float | int | Literal["learned"] = 1.0
    layer_maps: bool = False
    soft_prompt: bool = False
    trained_norms: bool = False
    user_token_id: int | None = None
    item_token_id: int | None = None
    markers_per_side: int = 1
    num_users: int = 0
    num_items: int = 0
    layer_weights: list[float | int] | None = None
    length_exponent: float | int = 0.0
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    peft_adapter: str | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Builds the backbone's configuration, mirrors its weight tying and refuses unknown names."""
        known = set(self.__dataclass_fields__) | _LIBRARY_KEYS
        for name in set(kwargs) - known:
            near = difflib.get_close_matches(name, sorted(self.__dataclass_fields__), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it."
            raise ValueError(f"XRecConfig has no field {name!r}; {hint}")
        if isinstance(self.text_config, dict) and self.text_config.get("model_type", "llama") not in CONFIG_MAPPING:
            self.text_config = self._foreign_config(self.text_config)
        super().__post_init__(**kwargs)
        if self.text_config is not None and getattr(self.text_config, "tie_word_embeddings", False):
            self.tie_word_embeddings = True

    @staticmethod
    def _foreign_config(values: dict) -> PreTrainedConfig:
        """A backbone that brings its own code: its values as they are, until that code is loaded with the caller's consent."""
        config = PreTrainedConfig(**{name: value for name, value in values.items() if name != "model_type"})
        config.model_type = values["model_type"]
        return config

    def validate_ranges(self) -> None:
        """Checks every number against its limits; called by the strict dataclass at construction and on save."""
        limits = {
            "collaborative_dim": self.collaborative_dim >= 1,
            "num_experts": self.num_experts >= 1,
            "top_k_experts": self.top_k_experts is None or 1 <= self.top_k_experts <= self.num_experts,
            "adapter_dropout": 0 <= self.adapter_dropout < 1,
            "injection_scale": self.injection_scale == "learned" or math.isfinite(self.injection_scale),
            "markers_per_side": self.markers_per_side >= 0,
            "num_users": self.num_users >= 0,
            "num_items": self.num_items >= 0,
            "length_exponent": 0 <= self.length_exponent <= 1,
            "layer_weights": self.layer_weights != [] and all(map(math.isfinite, self.layer_weights or ())),
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(f"XRecConfig.{name}={getattr(self, name)!r} is out of range; see its documentation.")
        if self.injection_scale == "learned" and self.injection not in ("qkv", "attention"):
            raise ValueError(
                f"injection_scale='learned' needs injection 'qkv' or 'attention', found {self.injection!r}; leave it at 1.0."
            )
        if self.layer_maps and self.injection not in ("qkv", "attention"):
            raise ValueError(f"layer_maps needs injection 'qkv' or 'attention', found {self.injection!r}; leave it out.")
        if self.markers_per_side == 0 and self.injection != "none":
            raise ValueError(
                f"markers_per_side=0 leaves injection={self.injection!r} no place; give 1 or more, or injection='none'."
            )
        if self.user_token_id is not None and self.user_token_id == self.item_token_id:
            raise ValueError(f"user_token_id and item_token_id are both {self.user_token_id}; use two different tokens.")


__all__ = ["XRecConfig"]
