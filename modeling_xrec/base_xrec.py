"""What `XRecModel` and `XRecForCausalLM` share: children, freezing, where the signal enters, and checkpoints."""

import copy
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.hub import resolve_revision

from .backbone_changes import fingerprints
from .checkpoint_xrec import load_checkpoint, names_not_saved, save_checkpoint, trained_keys
from .collaborative_adapter import MixtureOfExpertsAdapter
from .configuration_xrec import XRecConfig
from .layer_injection import install_injection
from .lightgcn import LightGCN, table_arguments
from .marker_placement import find_markers, pick_embeddings, replace_at

SIGNAL_ARGUMENTS = ("user_ids", "item_ids", "user_embeds", "item_embeds", "marker_columns")
BEYOND_MARKERS = -1
"""`chunk_start` of a call whose tokens all come after the prompt: no marker, no signal."""


def find_cache(kwargs: dict[str, Any]) -> Any:
    """The key-value cache among keyword arguments, under its present name or the one before transformers 5.24."""
    return kwargs["cache"] if kwargs.get("cache") is not None else kwargs.get("past_key_values")


class XRecPreTrainedModel(PreTrainedModel):
    """What `XRecModel` and `XRecForCausalLM` share: children, freezing, markers, checkpoints."""

    config: XRecConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("text",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _keys_to_ignore_on_load_missing = [r"^lightgcn\."]  # the tables have a file of their own
    # The adapters and tables are small, and bfloat16 would round away most of a training step.
    _keep_in_fp32_modules_strict = ["user_adapter", "item_adapter", "lightgcn", "injection_scale"]

    def __init__(self, config: XRecConfig, language_model: PreTrainedModel | None = None) -> None:
        if language_model is not None:
            # A composite configuration resets its children's attention; keep the one the backbone was loaded with.
            implementation = language_model.config._attn_implementation
            config.text_config = language_model.config
            config._attn_implementation = implementation
        super().__init__(config)
        if language_model is None:
            if config.get_text_config().model_type not in CONFIG_MAPPING:
                raise ValueError(
                    f"the backbone's type {config.get_text_config().model_type!r} is not among those of transformers, so its "
                    "weights cannot be part of this checkpoint; set base_model_name_or_path, or pass language_model."
                )
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.language_model = language_model
        self.backbone_before = fingerprints(language_model)
        self.injection_plan = install_injection(language_model, config.injection)
        hidden_size = language_model.config.get_text_config().hidden_size
        places = self.injection_plan.layers * self.injection_plan.parts if config.layer_maps else 0
        adapter = (
            config.collaborative_dim, hidden_size, config.num_experts, config.adapter_dropout, config.markers_per_side, places,
            config.soft_prompt, config.top_k_experts,
        )  # fmt: skip
        self.user_adapter = MixtureOfExpertsAdapter(*adapter)
        self.item_adapter = MixtureOfExpertsAdapter(*adapter)
        self.lightgcn = LightGCN(config.num_users, config.num_items, config.collaborative_dim, **table_arguments(config))
        if config.injection != "none" and None in (config.user_token_id, config.item_token_id):
            raise ValueError(
                f"injection={config.injection!r} needs user_token_id and item_token_id, found {config.user_token_id} and "
                f"{config.item_token_id}; give the marker tokens' ids, or use injection='none'."
            )
        self.injection_scale = None
        if config.injection_scale == "learned":
            self.injection_scale = nn.Parameter(torch.zeros(self.injection_plan.layers, self.injection_plan.parts))
        self.post_init()
        self.freeze()
        self._keys_to_ignore_on_save = names_not_saved(self)

    def freeze(self) -> None:
        """Leaves only `trained_keys` trainable: the graph's tables and the rest of the backbone keep their values."""
        trained = trained_keys(self)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trained)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (MixtureOfExpertsAdapter, LightGCN)):
            module.reset_parameters()
            for buffer in module.buffers(recurse=False):
                buffer.zero_()
        elif module is self and self.injection_scale is not None:
            self.injection_scale.zero_()

    def set_tables(self, lightgcn: LightGCN) -> None:
        """Gives the model a graph's tables; the configuration follows their sizes."""
        self.lightgcn = lightgcn.requires_grad_(False)
        self.config.num_users, self.config.num_items = lightgcn.num_users, lightgcn.num_items
        self.config.layer_weights = list(lightgcn.layer_weights)
        self.config.length_exponent = lightgcn.length_exponent
        self._keys_to_ignore_on_save = names_not_saved(self)

    def activation_checkpointing_enable(self, activation_checkpointing_kwargs: dict | None = None, **kwargs: Any) -> None:
        """As in transformers; refuses reentrant checkpointing, which cannot share one adapter output among all layers."""
        if (activation_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                "expected use_reentrant=False, found True: every layer reads the same adapted vectors; leave it out."
            )
        super().activation_checkpointing_enable(activation_checkpointing_kwargs, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's token embedding."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the backbone's token embedding."""
        self.language_model.set_input_embeddings(value)

    def get_decoder(self) -> PreTrainedModel:
        """The backbone without its output head."""
        return self.language_model.get_decoder()

    def collaborative_vectors(
        self,
        user_ids: torch.Tensor | None = None,
        item_ids: torch.Tensor | None = None,
        user_embeds: torch.Tensor | None = None,
        item_embeds: torch.Tensor | None = None,
        rows: int | None = None,
    ) -> torch.Tensor:
        """Adapted vectors of both sides.

        Args:
            user_ids: rows of the stored user table, `(batch,)`; or
            user_embeds: collaborative embeddings, `(batch, collaborative_dim)`.
            item_ids: rows of the stored item table, `(batch,)`; or
            item_embeds: collaborative embeddings, `(batch, collaborative_dim)`.
            rows: prompts in the batch; not checked when None.

        Returns:
            `(batch, 2 * markers_per_side, hidden_size)`, the user's first.

        Raises:
            ValueError: a side given twice or not at all, another number than there are prompts, an id without a row, a wrong
                width, NaN or infinity.
        """
        return self._adapted(*self.collaborative_embeddings(user_ids, item_ids, user_embeds, item_embeds, rows))

    def _adapted(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.user_adapter(user), self.item_adapter(item)], dim=1)

    def collaborative_embeddings(
        self, user_ids: Any = None, item_ids: Any = None, user_embeds: Any = None, item_embeds: Any = None,
        rows: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """What the adapters hear of user and item, `(batch, collaborative_dim)`; arguments as in `collaborative_vectors`."""
        user = pick_embeddings("user", user_ids, user_embeds, self.lightgcn.user_embeddings, rows)
        return user, pick_embeddings("item", item_ids, item_embeds, self.lightgcn.item_embeddings, rows)

    def _layer_maps(
        self, user: torch.Tensor, item: torch.Tensor, here: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor | None:
        """What each layer's part adds of its own at this call's markers, `(batch, layers, parts, markers, H)`, or None."""
        if not self.config.layer_maps:
            return None
        maps = torch.cat([self.user_adapter.at_places(user), self.item_adapter.at_places(item)], dim=2)
        maps = maps.unflatten(1, (self.injection_plan.layers, self.injection_plan.parts)).to(here.device, dtype)
        return maps * here[:, None, None, :, None]

    def marker_columns(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Columns of the markers of a whole prompt.

        Args:
            input_ids: prompt, `(batch, length)`.

        Returns:
            `(batch, 2 * markers_per_side)`, the user's columns first, each side in order.

        Raises:
            ValueError: a row without exactly `markers_per_side` markers of each side, with the counts.
        """
        sides: dict[str, Any] = {"user": self.config.user_token_id, "item": self.config.item_token_id}
        wanted = self.config.markers_per_side
        return torch.cat([find_markers(input_ids, token, wanted, side) for side, token in sides.items()], dim=1)

    def _inputs_with_signal(
        self, input_ids: torch.Tensor, marker_columns: torch.Tensor | None, chunk_start: int, **signal: Any
    ) -> dict[str, Any]:
        """Token embeddings with the markers replaced, and the layers' injection; arguments as in `backbone_inputs`."""
        embeds = self.get_input_embeddings()(self._within_vocabulary(input_ids))
        if marker_columns is None:
            marker_columns = self.marker_columns(input_ids)
        columns = marker_columns - chunk_start
        here = (columns >= 0) & (columns < input_ids.shape[1])
        columns = columns.clamp(0, input_ids.shape[1] - 1)
        heard = self.collaborative_embeddings(**signal, rows=len(input_ids))
        vectors = self._adapted(*heard).to(embeds.device, embeds.dtype)
        vectors = torch.where(here.unsqueeze(-1), vectors, torch.zeros_like(vectors))
        inputs = {"inputs_embeds": replace_at(embeds, columns, vectors, here)}
        maps = self._layer_maps(*heard, here, vectors.dtype)
        if isinstance(self.config.injection_scale, float | int) and self.config.injection_scale != 1:
            vectors = vectors * self.config.injection_scale
            maps = None if maps is None else maps * self.config.injection_scale
        return inputs | self.injection_plan.arguments(columns, vectors, self.injection_scale, maps)

    def backbone_inputs(
        self,
        input_ids: torch.Tensor | None,
        marker_columns: torch.Tensor | None,
        chunk_start: int,
        kwargs: dict,
        **signal: Any,
    ) -> dict[str, Any]:
        """What the backbone is called with: embeddings under injection, or plain ids for a call that carries no signal.

        Args:
            input_ids: this call's tokens, `(batch, length)`.
            marker_columns: columns of the markers in the whole prompt, or None when `input_ids` is the whole prompt.
            chunk_start: prompt column of the first token of this call, or -1 for tokens after the prompt.
            kwargs: the call's other arguments, to find a cache among them.
            **signal: `user_ids` or `user_embeds`, `item_ids` or `item_embeds`.

        Returns:
            `input_ids`; or `inputs_embeds` `(batch, length, hidden)` and, for `"qkv"` and `"attention"`, the injection.

        Raises:
            ValueError: no token ids, a filled cache without `marker_columns`, or a signal that does not fit.
        """
        if input_ids is None:
            raise ValueError("expected input_ids, found none: the markers are found by their token ids.")
        if self.config.injection == "none" or chunk_start == BEYOND_MARKERS:
            return {"input_ids": self._within_vocabulary(input_ids)}
        cache = find_cache(kwargs)
        if cache is not None and marker_columns is None and int(cache.get_seq_length()) > 0:
            raise ValueError(
                "the cache already holds tokens, so the prompt's markers cannot be counted in this call; pass "
                "marker_columns=model.marker_columns(prompt_ids) and chunk_start, or chunk_start=-1 when decoding."
            )
        return self._inputs_with_signal(input_ids, marker_columns, chunk_start, **signal)

    def _within_vocabulary(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids with markers beyond the embedding table set to 0: they need no row, since it would never be read."""
        table: Any = self.get_input_embeddings().weight
        if max(self.config.user_token_id or 0, self.config.item_token_id or 0) < table.shape[0]:
            return input_ids
        is_marker: Any = (input_ids == self.config.user_token_id) | (input_ids == self.config.item_token_id)
        return input_ids.masked_fill(is_marker, 0)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves an adapter-sized checkpoint when `config.base_model_name_or_path` is set, else a full one.

        Takes the arguments of `PreTrainedModel.save_pretrained`. Beside `model.safetensors` it writes the graph's tables
        (`collaborative.safetensors`), `checksums.json` and the code files.
        """
        save_checkpoint(self, super().save_pretrained, save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """Loads a full checkpoint, or an adapter-sized one that is completed from its base model.

        Takes the arguments of `PreTrainedModel.from_pretrained`; `trust_remote_code` is passed on to the base model as given.
        With `load_tables=False` the graph's tables stay away, for callers who pass `user_embeds` and `item_embeds`.

        Raises:
            ValueError: a weight is missing or unexpected, or an adapter or table is damaged or not finite; nothing is ever
                left at random values.
        """
        return load_checkpoint(cls, super().from_pretrained, pretrained_model_name_or_path, args, config, kwargs)

    @classmethod
    def from_backbone(
        cls,
        backbone: str | PreTrainedModel,
        revision: str | None = None,
        backbone_kwargs: dict | None = None,
        **config: Any,
    ) -> Any:
        """A new model around a backbone, its adapters untrained.

        Args:
            backbone: Hub id, local folder, or a loaded causal language model.
            revision: branch, tag or commit of a Hub id; the commit it stands for is recorded in the configuration.
            backbone_kwargs: more arguments for `AutoModelForCausalLM.from_pretrained` (dtype, device_map, ...).
            config: fields of `XRecConfig`. `base_model_name_or_path` is a Hub id or folder by default where one is given, so
                that checkpoints are adapter-sized; None makes them full.

        Returns:
            The model, in evaluation mode.
        """
        language_model: Any = backbone
        if not isinstance(backbone, str | PreTrainedModel):
            raise ValueError(
                f"expected a Hub id, a folder or a PreTrainedModel, found a {type(backbone).__name__}; for LoRA, wrap the "
                "XRec model itself: get_peft_model(XRecForCausalLM.from_backbone(...), ...)."
            )
        if isinstance(backbone, str):
            pinned = resolve_revision(backbone, revision, token=(backbone_kwargs or {}).get("token"))
            language_model = AutoModelForCausalLM.from_pretrained(backbone, revision=pinned, **(backbone_kwargs or {}))
            config.setdefault("base_model_name_or_path", backbone)
            config.setdefault("base_model_revision", getattr(pinned, "resolved", revision))
        implementation = language_model.config._attn_implementation
        settings = XRecConfig(text_config=language_model.config, attn_implementation=implementation, **config)
        model = cls(settings, language_model=language_model)
        model.generation_config = copy.deepcopy(language_model.generation_config)
        model.suppress_markers()
        return model.eval()

    def suppress_markers(self) -> None:
        """Keeps the model from writing marker tokens, by its generation configuration."""
        markers = {token for token in (self.config.user_token_id, self.config.item_token_id) if token is not None}
        if markers and self.generation_config is not None:
            self.generation_config.suppress_tokens = sorted(markers | set(self.generation_config.suppress_tokens or ()))


__all__ = ["BEYOND_MARKERS", "SIGNAL_ARGUMENTS", "XRecPreTrainedModel", "find_cache"]
