"""Att2Seq: attributes to a sequence, by an LSTM with attention on the attributes.

Li Dong, Shaohan Huang, Furu Wei, Mirella Lapata, Ming Zhou, Ke Xu: Learning to Generate Product Reviews from Attributes.
EACL 2017, https://aclanthology.org/E17-1059. The attributes are user, item and rating:

    g(a_i) = W_i e(a_i)                                     a row of a table for each attribute
    a      = tanh(H [g(a_1); g(a_2); g(a_3)] + b)           gives h_0 of every LSTM layer
    h_t    = LSTM(W e(y_{t-1}), h_{t-1})
    s_t,i ~ exp(tanh(w_s [h_t; g(a_i)]))                    attention, summing to 1 over i
    c_t    = sum over i of s_t,i g(a_i)
    p(y_t) = softmax(W_p tanh(W_1 c_t + W_2 h_t) + b_p)     without attention softmax(W_p h_t + b_p)
    loss   = - mean over tokens of log p(y_t)

Departures: tokens are byte-level pairs of the training explanations instead of the most frequent words, so nothing is unknown
and the text reads naturally. The paper gives the rating of the review that it writes, which nobody knows of a pair that is to
be explained; here a pair without a known rating, and every pair in validation and generation, has its user's mean training
rating (that of all where the user has none), rounded to a level that some training text has, so that no row of the table is
used untrained. Where no rating is known at all, the attributes are two.
"""

import dataclasses
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import initialization as init

from xrec_training.prepared import Inputs, Prepared

from .base_model import BaselineConfig, BaselineModel, BaselineOutput, next_token_loss, of_the_step, rating_level
from .decoding import State
from .texts import Ratings, assemble, configured, derived_fields, text_tokenizer


@strict
class Att2SeqConfig(BaselineConfig):
    """Configuration of `Att2Seq`; the defaults are the paper's. Further fields: `BaselineConfig`.

    Args:
        attribute_size: width of an attribute's vector. Default 64.
        hidden_size: width of words and of the LSTM. Default 512.
        layers: LSTM layers. Default 2.
        dropout: between layers, in training. Default 0.2.
        attention: whether words attend to the attributes. Default True.
        rating_levels: values that a rating is rounded to. Default 5.
        initializer_range: default 0.08.
    """

    model_type = "xrec_att2seq"

    attribute_size: int = 64
    hidden_size: int = 512
    layers: int = 2
    dropout: float | int = 0.2
    attention: bool = True
    rating_levels: int = 5
    initializer_range: float | int = 0.08


class Att2Seq(BaselineModel):
    """Attributes to a sequence.

    Args:
        config: see `Att2SeqConfig`.
    """

    config_class = Att2SeqConfig
    config: Att2SeqConfig

    def __init__(self, config: Att2SeqConfig) -> None:
        super().__init__(config)
        size, hidden = config.attribute_size, config.hidden_size
        tables = [config.num_users, config.num_items] + [config.rating_levels] * config.knows_ratings
        self.attributes = nn.ModuleList(nn.Embedding(rows, size) for rows in tables)
        self.encoder = nn.Linear(len(tables) * size, config.layers * hidden)
        self.words = nn.Embedding(config.vocab_size, hidden)
        self.lstm = nn.LSTM(hidden, hidden, config.layers, dropout=config.dropout, batch_first=True)
        if config.attention:
            self.attention = nn.Linear(hidden + size, 1, bias=False)
            self.from_context = nn.Linear(size, hidden, bias=False)
            self.from_hidden = nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, config.vocab_size)
        self.register_buffer("usual_level", torch.zeros(config.num_users, dtype=torch.long))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.LSTM):
            for weight in module.parameters():
                init.uniform_(weight, -self.config.initializer_range, self.config.initializer_range)
        if module is self:
            init.zeros_(self.usual_level)

    def encode(
        self, user_ids: torch.Tensor, item_ids: torch.Tensor, rating: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The attributes' vectors `(batch, attributes, attribute_size)` and the LSTM's first state `(layers, batch, hidden)`.

        Args:
            user_ids: rows, `(batch,)`.
            item_ids: rows, `(batch,)`.
            rating: `(batch,)`, NaN where unknown, or None: then the user's usual one.
        """
        given = [user_ids, item_ids]
        if self.config.knows_ratings:
            level = self.usual_level[user_ids]
            if rating is not None:
                known = torch.isfinite(rating)
                level = torch.where(known, rating_level(torch.where(known, rating, 0.0), self.config), level)
            given.append(level)
        vectors = torch.stack([table(rows) for table, rows in zip(self.attributes, given, strict=True)], dim=1)
        first = torch.tanh(self.encoder(vectors.flatten(1)))
        return vectors, first.view(len(user_ids), self.config.layers, -1).transpose(0, 1).contiguous()

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
        """Logits of every next token, and the loss where there are labels.

        Args:
            user_ids: rows of the user table, `(batch,)`.
            item_ids: rows of the item table, `(batch,)`.
            rating: attribute, `(batch,)`; NaN, or None, where unknown.
            input_ids: text from its first token on, `(batch, length)`, padded on the right.
            attention_mask: not needed: what is padded comes last and has no label.
            labels: `(batch, length)`, -100 where there is none.
            num_items_in_batch: labels of the whole step; see `of_the_step`.
            kwargs: taken no notice of.
        """
        vectors, hidden = self.encode(user_ids, item_ids, rating)
        states, _ = self.lstm(self.words(input_ids), (hidden, torch.zeros_like(hidden)))
        logits = self.next_logits(states, vectors)
        loss = None if labels is None else of_the_step(next_token_loss(logits, labels), labels, num_items_in_batch)
        return BaselineOutput(loss=loss, logits=logits)

    def next_logits(self, states: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Logits `(batch, length, vocabulary)` of LSTM states `(batch, length, hidden)` under attention to the attributes."""
        if self.config.attention:
            length, count = states.shape[1], vectors.shape[1]
            pairs = [states[:, :, None].expand(-1, -1, count, -1), vectors[:, None].expand(-1, length, -1, -1)]
            weights = torch.tanh(self.attention(torch.cat(pairs, dim=-1))).softmax(dim=2)
            states = torch.tanh(self.from_context((weights * vectors[:, None]).sum(dim=2)) + self.from_hidden(states))
        return self.output(states)

    def begin(self, user_ids: torch.Tensor, item_ids: torch.Tensor) -> State:
        """See `BaselineModel.begin`."""
        vectors, hidden = self.encode(user_ids, item_ids, None)
        return vectors, hidden.transpose(0, 1), torch.zeros_like(hidden).transpose(0, 1)

    def advance(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """See `BaselineModel.advance`."""
        vectors, hidden, cell = state
        before = (hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous())
        states, (hidden, cell) = self.lstm(self.words(tokens[:, None]), before)
        return self.next_logits(states, vectors)[:, -1], (vectors, hidden.transpose(0, 1), cell.transpose(0, 1))


def config_names() -> set[str]:
    """Fields of `Att2SeqConfig` that a recipe may set."""
    return Att2SeqConfig.recipe_names()


def prepare(inputs: Inputs) -> Prepared:
    """An untrained Att2Seq with the dataset's examples.

    Args:
        inputs: see `Inputs`; no graph is needed.
    """
    tokenizer = text_tokenizer(inputs, inputs.recipe.config.get("vocab_size", Att2SeqConfig.vocab_size))
    ratings = Ratings.read(inputs.data)
    derived = derived_fields(inputs, tokenizer, ratings) | {"vocab_size": len(tokenizer)}
    model = Att2Seq(configured(Att2SeqConfig, inputs.recipe.config, derived))
    if model.config.knows_ratings:
        model.usual_level.copy_(usual_levels(ratings, inputs, model.config))
    # Validation is to measure what generation does, which knows no rating of the pair.
    unseen = {split: table if split == "train" else table.clear() for split, table in ratings.tables.items()}
    return assemble(model, tokenizer, inputs, dataclasses.replace(ratings, tables=unseen))


def usual_levels(ratings: Ratings, inputs: Inputs, config: Att2SeqConfig) -> torch.Tensor:
    """Of the levels that training texts have, the nearest to every user's mean training rating, `(users,)`."""
    given = torch.from_numpy(ratings.of("train", inputs.explanations["train"]))
    given = given[torch.isfinite(given)]
    if not len(given):  # then every text has its user's usual level, and none is untrained
        given = torch.tensor([config.min_rating, config.max_rating])
    levels = rating_level(given, config).unique()
    width = (config.max_rating - config.min_rating) / max(config.rating_levels - 1, 1)  # type: ignore[operator]
    values = config.min_rating + levels * width
    means = torch.from_numpy(ratings.usual(inputs.catalogue))
    nearest: torch.Tensor = levels[(means[:, None] - values).abs().argmin(dim=1)]
    return nearest
