"""NRT: a rating by a perceptron and a text by a GRU, learned together.

Piji Li, Zihao Wang, Zhaochun Ren, Lidong Bing, Wai Lam: Neural Rating Regression with Abstractive Tips Generation for
Recommendation. SIGIR 2017, https://arxiv.org/abs/1708.00154. With u and v of the user and the item:

    h_1 = s(W [u; v] + b),  h_l = s(W_l h_{l-1} + b_l)                   rating: r' = w h_L + b
    q   = s(W_q [u; v] + b_q)                                            review's words: c' = softmax(W_c q + b_c)
    d_0 = tanh(W_d [u; v; onehot(r'); q] + b_d),  d_t = GRU(y_{t-1}, d_{t-1})
    p(y_t) = softmax(W_p d_t + b_p)
    loss = l_r mean (r' - r)^2 - l_c mean log c'(word) - l_s mean log p(y_t) + l_n |all weights|^2

The paper has a review and a tip (a short summary) for a rating. A dataset here has one text a pair, its explanation: it stands
for both, so l_c is about the explanation's words in any order and l_s about them in theirs. Departures beside this: means over
tokens instead of sums over a text; byte-level pairs instead of words; the predicted rating, never the true one, chooses
onehot(r') in training too, as in generation; where no rating is known, neither r' nor onehot(r') is there. The paper writes by
beam search, which `num_beams` of `explain` does; the default is greedy, as for the other baselines.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import nn

from xrec_training.prepared import Inputs, Prepared

from .base_model import (
    BaselineConfig,
    BaselineModel,
    BaselineOutput,
    context_loss,
    next_token_loss,
    of_the_step,
    rating_level,
    rating_loss,
)
from .decoding import State
from .texts import Ratings, assemble, configured, derived_fields, text_tokenizer


@strict
class NrtConfig(BaselineConfig):
    """Configuration of `Nrt`; the defaults are the paper's. Further fields: `BaselineConfig`.

    Args:
        latent_size: width of users, items and words. Default 300.
        hidden_size: width of the perceptrons and of the GRU. Default 400.
        rating_layers: hidden layers of the rating's perceptron. Default 4.
        rating_levels: values that the predicted rating is rounded to for the text. Default 5.
        rating_weight: l_r. Default 1.
        context_weight: l_c. Default 1.
        text_weight: l_s. Default 1.
        norm_weight: l_n; in training only. Default 1e-4.
    """

    model_type = "xrec_nrt"

    latent_size: int = 300
    hidden_size: int = 400
    rating_layers: int = 4
    rating_levels: int = 5
    rating_weight: float | int = 1.0
    context_weight: float | int = 1.0
    text_weight: float | int = 1.0
    norm_weight: float | int = 1e-4


class Nrt(BaselineModel):
    """Rating and text.

    Args:
        config: see `NrtConfig`.
    """

    config_class = NrtConfig
    config: NrtConfig

    def __init__(self, config: NrtConfig) -> None:
        super().__init__(config)
        latent, hidden = config.latent_size, config.hidden_size
        self.users = nn.Embedding(config.num_users, latent)
        self.items = nn.Embedding(config.num_items, latent)
        levels = 0
        if config.knows_ratings:
            levels = config.rating_levels
            widths = [2 * latent] + [hidden] * config.rating_layers
            self.rating_layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
            self.rating_head = nn.Linear(widths[-1], 1)
        self.context_layer = nn.Linear(2 * latent, hidden)
        self.context_head = nn.Linear(hidden, config.vocab_size)
        self.first_state = nn.Linear(2 * latent + levels + hidden, hidden)
        self.words = nn.Embedding(config.vocab_size, latent)
        self.gru = nn.GRU(latent, hidden, batch_first=True)
        self.output = nn.Linear(hidden, config.vocab_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.GRU):
            module.reset_parameters()

    def encode(self, user_ids: torch.Tensor, item_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """First state of the GRU `(batch, hidden)`, the review's hidden layer q `(batch, hidden)` and the rating `(batch,)`.

        Args:
            user_ids: rows, `(batch,)`.
            item_ids: rows, `(batch,)`.
        """
        pair = torch.cat([self.users(user_ids), self.items(item_ids)], dim=-1)
        rating, parts = None, [pair]
        if self.config.knows_ratings:
            hidden = pair
            for layer in self.rating_layers:
                hidden = torch.sigmoid(layer(hidden))
            rating = self.rating_head(hidden)[:, 0]
            parts.append(F.one_hot(rating_level(rating.detach(), self.config), self.config.rating_levels).to(pair.dtype))
        context = torch.sigmoid(self.context_layer(pair))
        return torch.tanh(self.first_state(torch.cat([*parts, context], dim=-1))), context, rating

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
        """Logits of every next token, the predicted rating, and the joint loss where there are labels.

        Args:
            user_ids: rows of the user table, `(batch,)`.
            item_ids: rows of the item table, `(batch,)`.
            rating: to learn from, `(batch,)`, NaN where unknown; never an input.
            input_ids: text from its first token on, `(batch, length)`, padded on the right.
            attention_mask: not needed: what is padded comes last and has no label.
            labels: `(batch, length)`, -100 where there is none.
            num_items_in_batch: labels of the whole step; see `of_the_step`.
            kwargs: taken no notice of.
        """
        first, context, predicted = self.encode(user_ids, item_ids)
        states, _ = self.gru(self.words(input_ids), first[None])
        logits, loss = self.output(states), None
        if labels is not None:
            loss = self.config.text_weight * next_token_loss(logits, labels)
            loss = loss + self.config.context_weight * context_loss(self.context_head(context), labels)
            if predicted is not None:
                loss = loss + self.config.rating_weight * rating_loss(predicted, rating)
            if self.training and self.config.norm_weight:
                loss = loss + self.config.norm_weight * sum(weight.pow(2).sum() for weight in self.parameters())
            loss = of_the_step(loss, labels, num_items_in_batch)
        return BaselineOutput(loss=loss, logits=logits, rating=predicted)

    def begin(self, user_ids: torch.Tensor, item_ids: torch.Tensor) -> State:
        """See `BaselineModel.begin`."""
        return (self.encode(user_ids, item_ids)[0],)

    def advance(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """See `BaselineModel.advance`."""
        states, last = self.gru(self.words(tokens[:, None]), state[0][None].contiguous())
        return self.output(states[:, -1]), (last[0],)


def config_names() -> set[str]:
    """Fields of `NrtConfig` that a recipe may set."""
    return NrtConfig.recipe_names()


def prepare(inputs: Inputs) -> Prepared:
    """An untrained NRT with the dataset's examples.

    Args:
        inputs: see `Inputs`; no graph is needed.
    """
    tokenizer = text_tokenizer(inputs, inputs.recipe.config.get("vocab_size", NrtConfig.vocab_size))
    ratings = Ratings.read(inputs.data)
    derived = derived_fields(inputs, tokenizer, ratings) | {"vocab_size": len(tokenizer)}
    return assemble(Nrt(configured(NrtConfig, inputs.recipe.config, derived)), tokenizer, inputs, ratings)
