"""PETER: a small Transformer that reads user, item and text, and learns three tasks at once.

Lei Li, Yongfeng Zhang, Li Chen: Personalized Transformer for Explainable Recommendation. ACL 2021,
https://aclanthology.org/2021.acl-long.383. The sequence is S = [u, i, f_1 .. f_F, <s>, y_1 .. y_n], with F = 0 in PETER and
the item's features in PETER+. Embeddings, times sqrt(d), plus sinusoidal positions go through a post-norm Transformer in which
every place sees itself and what stands before it, and u sees i as well (the PETER mask). From its outputs h:

    rating:       r' = w s(W h_u + b) + b'              L_r = mean (r' - r)^2
    context:      c  = softmax(V h_i + b)               L_c = - mean log c(word), over the explanation's words in any order
    explanation:  p(y_t) = softmax(V h_{t-1} + b)       L_e = - mean log p(y_t)
    loss = l_e L_e + l_c L_c + l_r L_r                  V and b are the same for both

PETER+ (`feature_tokens`) takes the first tokens of the item's title as features: a title is known of every item, while the
paper's feature is taken from the very review to be explained. Departures beside this: L_e and L_c are means over the tokens of
a batch, as in the authors' program, where the paper's are means over texts of means over tokens; and byte-level pairs of the
training explanations stand for the most frequent words.
"""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import initialization as init

from xrec_training.prepared import Inputs, Prepared

from .base_model import (
    BaselineConfig,
    BaselineModel,
    BaselineOutput,
    context_loss,
    next_token_loss,
    of_the_step,
    rating_loss,
)
from .decoding import State
from .texts import Ratings, assemble, configured, derived_fields, text_tokenizer

USER, ITEM, SIDES = 0, 1, 2


@strict
class PeterConfig(BaselineConfig):
    """Configuration of `Peter`; the defaults are the paper's. Further fields: `BaselineConfig`.

    Args:
        hidden_size: d, even. Default 512.
        intermediate_size: width of the feed-forward layers. Default 2048.
        layers: Transformer layers. Default 2.
        heads: attention heads. Default 2.
        dropout: in training. Default 0.2.
        peter_mask: whether u sees i; False is the plain left-to-right mask, the paper's ablation. Default True.
        feature_tokens: F, tokens of the item's title that PETER+ reads; 0 is PETER. Default 0.
        text_weight: l_e. Default 1.
        context_weight: l_c. Default 1.
        rating_weight: l_r. Default 0.1.
    """

    model_type = "xrec_peter"

    hidden_size: int = 512
    intermediate_size: int = 2048
    layers: int = 2
    heads: int = 2
    dropout: float | int = 0.2
    peter_mask: bool = True
    feature_tokens: int = 0
    text_weight: float | int = 1.0
    context_weight: float | int = 1.0
    rating_weight: float | int = 0.1

    def validate_ranges(self) -> None:
        """Checks the numbers and that the heads share the width."""
        super().validate_ranges()
        if self.hidden_size % self.heads or self.hidden_size % 2:
            size, heads = self.hidden_size, self.heads
            raise ValueError(f"PeterConfig.hidden_size={size} is out of range; give an even number that {heads} heads share.")


class Peter(BaselineModel):
    """A Transformer on user, item and text.

    Args:
        config: see `PeterConfig`.
    """

    config_class = PeterConfig
    config: PeterConfig

    def __init__(self, config: PeterConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.users = nn.Embedding(config.num_users, size)
        self.items = nn.Embedding(config.num_items, size)
        self.words = nn.Embedding(config.vocab_size, size)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(size, config.heads, config.intermediate_size, config.dropout, batch_first=True)
            for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(size, config.vocab_size)
        if config.knows_ratings:
            self.rating_layer = nn.Linear(size, size)
            self.rating_head = nn.Linear(size, 1)
        self.register_buffer(
            "features", torch.full((config.num_items, config.feature_tokens), config.pad_token_id, dtype=torch.long)
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.TransformerEncoderLayer):
            attention = module.self_attn
            init.xavier_uniform_(attention.in_proj_weight)
            for bias in (attention.in_proj_bias, attention.out_proj.bias):
                init.zeros_(bias)
            for linear in (module.linear1, module.linear2, attention.out_proj):
                init.kaiming_uniform_(linear.weight, a=math.sqrt(5))  # the start of every nn.Linear
            for norm in (module.norm1, module.norm2):
                init.ones_(norm.weight)
                init.zeros_(norm.bias)
        elif module is self:
            init.constant_(self.features, self.config.pad_token_id)
        elif not self._is_in_layer(module):
            super()._init_weights(module)

    def _is_in_layer(self, module: nn.Module) -> bool:
        return any(module is part for layer in self.layers for part in layer.modules())

    def source(self, user_ids: torch.Tensor, item_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings `(batch, 2 + F, d)` of user, item and features, and which of them are padding `(batch, 2 + F)`."""
        features = self.features[item_ids]
        sides = torch.stack([self.users(user_ids), self.items(item_ids)], dim=1)
        padding = torch.cat([torch.zeros_like(sides[:, :, 0], dtype=torch.bool), features == self.config.pad_token_id], dim=1)
        return torch.cat([sides, self.words(features)], dim=1), padding

    def place(self, embedded: torch.Tensor, first: int) -> torch.Tensor:
        """Input of the lowest layer: embeddings `(batch, length, d)`, of which the first stands at place `first`."""
        size = self.config.hidden_size
        at = torch.arange(first, first + embedded.shape[1], device=embedded.device, dtype=torch.float32)[:, None]
        angles = at * torch.exp(torch.arange(0, size, 2, device=embedded.device) * (-math.log(10_000.0) / size))
        positions = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        return self.dropout(embedded * math.sqrt(size) + positions.to(embedded.dtype))

    def run_layer(
        self, layer: Any, new: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor | None, padding: torch.Tensor
    ) -> torch.Tensor:
        """One post-norm layer.

        Args:
            layer: of `self.layers`.
            new: places to work out, `(batch, new, d)`.
            seen: what they may look at, `(batch, length, d)`; ends with `new`.
            mask: True where a place may not look, `(new, length)`; None where it may everywhere.
            padding: True where nobody may look, `(batch, length)`.
        """
        heard, _ = layer.self_attn(new, seen, seen, attn_mask=mask, key_padding_mask=padding, need_weights=False)
        new = layer.norm1(new + layer.dropout1(heard))
        fed = layer.linear2(layer.dropout(torch.relu(layer.linear1(new))))
        return layer.norm2(new + layer.dropout2(fed))

    def forward(
        self,
        user_ids: torch.Tensor,
        item_ids: torch.Tensor,
        rating: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> BaselineOutput:
        """Logits of every next token of the text, the predicted rating, and the joint loss where there are labels.

        Args:
            user_ids: rows of the user table, `(batch,)`.
            item_ids: rows of the item table, `(batch,)`.
            rating: to learn from, `(batch,)`, NaN where unknown; never an input.
            input_ids: text from its first token on, `(batch, length)`, padded on the right.
            attention_mask: not needed: what is padded comes last, where no one looks, and has no label.
            labels: `(batch, length)`, -100 where there is none.
            num_items_in_batch: labels of the whole step; see `of_the_step`.
            kwargs: taken no notice of.
        """
        source, padding = self.source(user_ids, item_ids)
        hidden = self.place(torch.cat([source, self.words(input_ids)], dim=1), 0)
        padding = nn.functional.pad(padding, (0, hidden.shape[1] - padding.shape[1]))
        mask = peter_mask(hidden.shape[1], self.config.peter_mask, hidden.device)
        for layer in self.layers:
            hidden = self.run_layer(layer, hidden, hidden, mask, padding)
        logits, loss, predicted = self.output(hidden[:, source.shape[1] :]), None, None
        if self.config.knows_ratings:
            predicted = self.rating_head(torch.sigmoid(self.rating_layer(hidden[:, USER])))[:, 0]
        if labels is not None:
            loss = self.config.text_weight * next_token_loss(logits, labels)
            loss = loss + self.config.context_weight * context_loss(self.output(hidden[:, ITEM]), labels)
            if predicted is not None:
                loss = loss + self.config.rating_weight * rating_loss(predicted, rating)
            loss = of_the_step(loss, labels, num_items_in_batch)
        return BaselineOutput(loss=loss, logits=logits, rating=predicted)

    def begin(self, user_ids: torch.Tensor, item_ids: torch.Tensor) -> State:
        """See `BaselineModel.begin`; the state is the padding and what has gone into each layer."""
        source, padding = self.source(user_ids, item_ids)
        hidden, seen = self.place(source, 0), []
        mask = peter_mask(hidden.shape[1], self.config.peter_mask, hidden.device)
        for layer in self.layers:
            seen.append(hidden)
            hidden = self.run_layer(layer, hidden, hidden, mask, padding)
        return padding, *seen

    def advance(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """See `BaselineModel.advance`; what was seen before is not worked out again, as none of it looks ahead at the text."""
        padding, *before = state
        new, seen = self.place(self.words(tokens[:, None]), padding.shape[1]), []
        padding = nn.functional.pad(padding, (0, 1))
        for layer, earlier in zip(self.layers, before, strict=True):
            seen.append(torch.cat([earlier, new], dim=1))
            new = self.run_layer(layer, new, seen[-1], None, padding)
        return self.output(new[:, 0]), (padding, *seen)


def peter_mask(length: int, user_sees_item: bool, device: torch.device | None = None) -> torch.Tensor:
    """Which place may not look at which, `(length, length)`, True where it may not.

    Args:
        length: places, of which the first two are user and item.
        user_sees_item: the PETER mask; False is the left-to-right mask.
        device: where the mask is to be.
    """
    mask = torch.ones(length, length, dtype=torch.bool, device=device).triu(diagonal=1)
    mask[USER, ITEM] = not user_sees_item
    return mask


def config_names() -> set[str]:
    """Fields of `PeterConfig` that a recipe may set."""
    return PeterConfig.recipe_names()


def prepare(inputs: Inputs) -> Prepared:
    """An untrained PETER with the dataset's examples.

    Args:
        inputs: see `Inputs`; no graph is needed.
    """
    settings = inputs.recipe.config
    tokenizer = text_tokenizer(inputs, settings.get("vocab_size", PeterConfig.vocab_size))
    ratings = Ratings.read(inputs.data)
    derived = derived_fields(inputs, tokenizer, ratings) | {"vocab_size": len(tokenizer)}
    model = Peter(configured(PeterConfig, settings, derived))
    count = model.config.feature_tokens
    titles = [f" {title}" for title in inputs.catalogue.items["title"].fill_null("")] if count else []
    for row, ids in enumerate(tokenizer(titles, add_special_tokens=False)["input_ids"] if titles else []):
        model.features[row, : len(ids[:count])] = torch.tensor(ids[:count], dtype=torch.long)
    return assemble(model, tokenizer, inputs, ratings)
