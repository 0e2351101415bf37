"""XRec as Hugging Face models: a frozen language model that hears a user-item graph in every layer.

XRec (Ma, Ren, Huang; Findings of EMNLP 2024; arXiv 2406.02377). The prompt holds one marker token for the user and one for the
item. A collaborative embedding per side (from `lightgcn`) goes through that side's adapter (`collaborative_adapter`); the
adapted vector replaces the marker's token embedding and is injected at the marker into every layer (`layer_injection`).

Where the markers stand is decided once, on the whole prompt: a marker token that the model itself writes is an ordinary token.
"""

from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .answer_loss import answer_loss, predicting
from .base_xrec import BEYOND_MARKERS, SIGNAL_ARGUMENTS, XRecPreTrainedModel, find_cache
from .prompt_prefix import PromptPrefix, can_stand_apart, is_padded_on_the_right, prefix_cache


class XRecModel(XRecPreTrainedModel):
    """XRec without the output head: `last_hidden_state` of the backbone under injection."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        user_ids: torch.Tensor | None = None,
        item_ids: torch.Tensor | None = None,
        user_embeds: torch.Tensor | None = None,
        item_embeds: torch.Tensor | None = None,
        marker_columns: torch.Tensor | None = None,
        chunk_start: int = 0,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Arguments as in `XRecForCausalLM.forward`; returns `last_hidden_state` `(batch, length, hidden_size)`."""
        signal = {"user_ids": user_ids, "item_ids": item_ids, "user_embeds": user_embeds, "item_embeds": item_embeds}
        inputs = self.backbone_inputs(input_ids, marker_columns, chunk_start, kwargs, **signal)
        return self.get_decoder()(**inputs, attention_mask=attention_mask, **kwargs)


class XRecForCausalLM(XRecPreTrainedModel, GenerationMixin):
    """XRec that writes explanations.

    Args:
        config: an `XRecConfig`.
        language_model: the backbone; built from `config.text_config` with random weights when None.
    """

    def get_output_embeddings(self) -> nn.Module:
        """The backbone's output head."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replaces the backbone's output head."""
        self.language_model.set_output_embeddings(new_embeddings)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        user_ids: torch.Tensor | None = None,
        item_ids: torch.Tensor | None = None,
        user_embeds: torch.Tensor | None = None,
        item_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        marker_columns: torch.Tensor | None = None,
        chunk_start: int = 0,
        position_ids: torch.Tensor | None = None,
        cache: Any = None,
        past_key_values: Any = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        skip_logits: bool = False,
        prompt_prefix: PromptPrefix | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Next-token logits of a prompt under injection, and the loss when labels are given.

        Args:
            input_ids: `(batch, length)`; each row holds `markers_per_side` markers of each side.
            attention_mask: `(batch, length)`, 1 for tokens and 0 for padding.
            user_ids: rows of the stored user table `(batch,)`; or `user_embeds` `(batch, collaborative_dim)`.
            item_ids: rows of the stored item table `(batch,)`; or `item_embeds` `(batch, collaborative_dim)`.
            user_embeds: collaborative embeddings before the adapter.
            item_embeds: collaborative embeddings before the adapter.
            labels: `(batch, length)`, -100 where no loss is taken; shifted inside, as everywhere in transformers.
            marker_columns: columns of the markers in the whole prompt, for a prompt fed in chunks; see `marker_columns()`.
            chunk_start: prompt column of this call's first token; -1 for tokens after the prompt, which carry no signal.
            position_ids: `(batch, length)`; counted by the backbone when None, by `generate` from the attention mask.
            cache: key-value cache (`past_key_values` in older versions of transformers).
            past_key_values: the same, under its older name.
            logits_to_keep: how many last positions to compute logits for; 0 for all.
            num_items_in_batch: number of labels over all accumulated batches, from `Trainer`.
            skip_logits: return the loss alone, for less time and memory (see `answer_loss`); `cache` is not returned either.
            prompt_prefix: with `skip_logits`, what an unchanged backbone made of the shared first tokens, kept between steps.
            **kwargs: passed on to the backbone (`output_hidden_states`, ...).

        Returns:
            `loss` (scalar), `logits` `(batch, length, vocabulary)` and the backbone's other outputs.

        Raises:
            ValueError: wrong markers, ids or embeddings (see `collaborative_vectors()`), or `skip_logits` without labels.
        """
        named = {"position_ids": position_ids, "cache": cache, "past_key_values": past_key_values}
        kwargs |= {name: value for name, value in named.items() if value is not None}
        signal: Any = {"user_ids": user_ids, "item_ids": item_ids, "user_embeds": user_embeds, "item_embeds": item_embeds}
        place = (marker_columns, chunk_start)
        if skip_logits:
            given = (input_ids, attention_mask, labels, *place, num_items_in_batch, prompt_prefix, kwargs)
            return self._loss_alone(*given, **signal)
        # Trainer turns the cache off on the outer configuration only.
        kwargs.setdefault("use_cache", getattr(self.config, "use_cache", None))
        inputs = self.backbone_inputs(input_ids, *place, kwargs, **signal)
        outputs = self.language_model(**inputs, attention_mask=attention_mask, logits_to_keep=logits_to_keep, **kwargs)
        if labels is not None:
            settings = {"vocab_size": outputs.logits.shape[-1], "num_items_in_batch": num_items_in_batch}
            outputs.loss = self.loss_function(outputs.logits, labels, **settings)
        return outputs

    def _loss_alone(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        labels: torch.Tensor | None,
        marker_columns: torch.Tensor | None,
        chunk_start: int,
        num_items_in_batch: torch.Tensor | int | None,
        kept: PromptPrefix | None,
        kwargs: dict[str, Any],
        **signal: Any,
    ) -> CausalLMOutputWithPast:
        """`forward` with `skip_logits`: `loss`, and `hidden_states` and `attentions` where asked for."""
        if labels is None:
            raise ValueError("expected labels, found none: with skip_logits there is a loss and nothing else; leave it out.")
        # Nobody gets to see the cache, so none is filled unless the prefix needs one.
        kwargs.setdefault("use_cache", False)
        if attention_mask is not None and is_padded_on_the_right(attention_mask):
            attention_mask = None
        bare = chunk_start == 0 and all(value is None or value is False for value in kwargs.values())
        if bare and attention_mask is None and input_ids is not None and self._may_split():
            marker_columns = self.marker_columns(input_ids) if marker_columns is None else marker_columns
            before_labels = predicting(labels).int().amax(dim=0).argmax().to(input_ids.device)
            start = int(torch.minimum(marker_columns.min(), before_labels))
            if start:
                kwargs |= {"use_cache": True, "cache": prefix_cache(self.language_model, input_ids[:, :start], kept)}
                input_ids, labels, chunk_start = input_ids[:, start:], labels[:, start:], start
        inputs = self.backbone_inputs(input_ids, marker_columns, chunk_start, kwargs, **signal)
        inputs |= {"attention_mask": attention_mask, **kwargs}
        loss, outputs = answer_loss(self.language_model, inputs, labels, num_items_in_batch, self.loss_function)
        return CausalLMOutputWithPast(loss=loss, hidden_states=outputs.hidden_states, attentions=outputs.attentions)

    def _may_split(self) -> bool:
        """Whether the tokens before the first marker can be a call of their own."""
        return self.config.injection != "none" and not torch.compiler.is_compiling() and can_stand_apart(self.language_model)

    def generate(self, inputs: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """`GenerationMixin.generate`, with the markers counted once, on the whole prompt.

        Marker tokens are suppressed by the model's generation configuration; `suppress_tokens=None` lifts that. An
        `assistant_model` may be an XRec model, which hears the same user and item, or a plain language model.
        """
        prompt = kwargs.get("input_ids") if inputs is None else inputs
        if self.config.injection != "none" and prompt is not None and kwargs.get("marker_columns") is None:
            kwargs["marker_columns"] = self.marker_columns(prompt)
        assistant = kwargs.get("assistant_model")
        if assistant is not None and not hasattr(assistant, "collaborative_vectors"):
            kwargs["assistant_model"] = self._without_signal(assistant)
        if kwargs.get("guidance_scale") not in (None, 1):
            raise ValueError(
                f"expected no guidance_scale, found {kwargs['guidance_scale']}: its second pass has no prompt, so no markers."
            )
        return super().generate(inputs, **kwargs)

    def _without_signal(self, language_model: PreTrainedModel) -> "XRecForCausalLM":
        """A plain language model that takes our arguments and marker tokens, and ignores them."""
        markers: Any = {"user_token_id": self.config.user_token_id, "item_token_id": self.config.item_token_id}
        trained, training = [p for p in language_model.parameters() if p.requires_grad], language_model.training
        model = type(self).from_backbone(language_model, injection="none", collaborative_dim=1, num_experts=1, **markers)
        for parameter in trained:  # it stays the caller's model
            parameter.requires_grad_(True)
        language_model.train(training)
        return model

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs: Any) -> dict[str, Any]:
        """Adds where this call's tokens start; a call beyond the markers carries no signal, at the backbone's own cost."""
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        start = input_ids.shape[1] - inputs["input_ids"].shape[1]
        cache = find_cache(kwargs)
        if kwargs.get("is_first_iteration") and cache is not None:
            start = int(cache.get_seq_length())  # the prompt may come in chunks, or after a cached prefix
        elif start > 0:
            for name in SIGNAL_ARGUMENTS:
                inputs.pop(name, None)
            start = BEYOND_MARKERS
        inputs["chunk_start"] = start
        return inputs


__all__ = ["XRecForCausalLM", "XRecModel"]
