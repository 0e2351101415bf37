"""What the four baselines share: configuration, output, the joint loss, and writing by ids."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from modeling_xrec.processing_xrec import IGNORED_LABEL

from .decoding import State, decode

DERIVED = {
    "num_users", "num_items", "pad_token_id", "bos_token_id", "eos_token_id", "min_rating", "max_rating",
    "tie_word_embeddings", "text_config",
}  # fmt: skip
"""Fields of a configuration that a run derives from its data."""


class BaselineConfig(PreTrainedConfig):
    """Fields that every baseline has.

    Args:
        vocab_size: most tokens of the text's vocabulary; a trained model has as many as its tokenizer. The papers keep the
            20,000 most frequent words. Default 20,000.
        max_text_tokens: longest explanation in training, in tokens; a longer one is cut and has no end to learn. Default 128.
        initializer_range: a, where weights start from U(-a, a). Default 0.1.
        num_users: rows of the user table.
        num_items: rows of the item table.
        pad_token_id: token that fills up.
        bos_token_id: token that every text starts from.
        eos_token_id: token that ends a text.
        min_rating: lowest training rating; None where no rating is known, and then there is no rating task.
        max_rating: highest training rating.

    Raises:
        ValueError: a value outside its range.
    """

    vocab_size: int = 20_000
    max_text_tokens: int = 128
    initializer_range: float | int = 0.1
    num_users: int = 1
    num_items: int = 1
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2
    min_rating: float | int | None = None
    max_rating: float | int | None = None

    def validate_ranges(self) -> None:
        """Checks the numbers; called by the strict dataclass at construction and on save."""
        limits = {name: getattr(self, name) >= 1 for name in ("vocab_size", "max_text_tokens", "num_users", "num_items")}
        limits |= {"initializer_range": self.initializer_range >= 0}
        limits |= {name: 0 <= getattr(self, name) < 1 for name in ("dropout",) if hasattr(self, name)}
        limits |= {name: getattr(self, name) >= 0 for name in self.__dataclass_fields__ if name.endswith("_weight")}
        for name, holds in limits.items():
            if not holds:
                value = getattr(self, name)
                raise ValueError(f"{type(self).__name__}.{name}={value!r} is out of range; see its documentation.")

    @property
    def knows_ratings(self) -> bool:
        """Whether there is a rating to learn from."""
        return self.min_rating is not None

    @classmethod
    def recipe_names(cls) -> set[str]:
        """Fields that a recipe may set."""
        fields = {name for one in cls.__mro__ if issubclass(one, BaselineConfig) for name in one.__annotations__}
        return fields - DERIVED


@dataclass
class BaselineOutput(ModelOutput):
    """What a forward pass returns.

    Args:
        loss: the joint loss, `()`; None without labels.
        logits: of the next token at each position, `(batch, length, vocabulary)`.
        rating: predicted rating, `(batch,)`; None for a model without that task.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    rating: torch.Tensor | None = None


class BaselineModel(PreTrainedModel):
    """A model of users, items and their texts.

    A subclass gives `forward`, and `begin` and `advance` for writing.
    """

    config: BaselineConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    accepts_loss_kwargs = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The papers' uniform start; recurrent and attention weights are the subclass's.
        a = self.config.initializer_range
        if isinstance(module, (nn.Embedding, nn.Linear)):
            init.uniform_(module.weight, -a, a)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)

    def begin(self, user_ids: torch.Tensor, item_ids: torch.Tensor) -> State:
        """What is known before the first token.

        Args:
            user_ids: rows, `(batch,)`.
            item_ids: rows, `(batch,)`.

        Returns:
            Tensors whose first axis is the batch.
        """
        raise NotImplementedError

    def advance(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Reads one token more.

        Args:
            tokens: `(batch,)`.
            state: what `begin` or the last call returned.

        Returns:
            Logits of the next token `(batch, vocabulary)`, and the state after this one.
        """
        raise NotImplementedError

    def _advance_uncached(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """The same by reading everything again; `state` is users, items and the tokens so far."""
        users, items, before = state
        text = torch.cat([before, tokens[:, None]], dim=1)
        logits = self(user_ids=users, item_ids=items, input_ids=text).logits[:, -1]
        return logits, (users, items, text)

    @torch.no_grad()
    def explain(
        self,
        user_ids: torch.Tensor,
        item_ids: torch.Tensor,
        max_new_tokens: int = 96,
        num_beams: int = 1,
        use_cache: bool = True,
    ) -> torch.Tensor:
        """Writes explanations; no rating is an input.

        Args:
            user_ids: rows of the user table, `(batch,)`.
            item_ids: rows of the item table, `(batch,)`.
            max_new_tokens: longest explanation, in tokens.
            num_beams: width of the beam search; 1 takes the likeliest token each time.
            use_cache: False reads the whole text again for every token: the same tokens, later.

        Returns:
            Token ids `(batch, length)`, padded after the end.
        """
        training, config = self.training, self.config
        self.eval()
        try:
            state = self.begin(user_ids, item_ids) if use_cache else (user_ids, item_ids, user_ids.new_empty(len(user_ids), 0))
            return decode(
                self.advance if use_cache else self._advance_uncached,
                state,
                user_ids.new_full((len(user_ids),), config.bos_token_id),
                config.eos_token_id,
                config.pad_token_id,
                max_new_tokens,
                num_beams,
            )
        finally:
            self.train(training)


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over labels of -log p(label), `()`; labels of -100 are none.

    Args:
        logits: `(batch, length, vocabulary)`; position t is about token t + 1.
        labels: `(batch, length)`.
    """
    return label_loss(logits[:, :-1], labels[:, 1:])


def label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over labels of -log p(label), `()`, where logits and labels stand at the same positions."""
    flat = logits.reshape(-1, logits.shape[-1]).float()
    total = F.cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORED_LABEL, reduction="sum")
    return total / labels.ne(IGNORED_LABEL).sum().clamp(min=1)


def context_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over all tokens of the text of -log c(token), whatever their order, `()`.

    Args:
        logits: of one distribution c a text, `(batch, vocabulary)`.
        labels: `(batch, length)`.
    """
    labels = labels[:, 1:]
    return label_loss(logits[:, None].expand(-1, labels.shape[1], -1), labels)


def rating_loss(predicted: torch.Tensor, rating: torch.Tensor | None) -> torch.Tensor:
    """Mean squared error over the known ratings, `()`; 0 where none is known.

    Args:
        predicted: `(batch,)`.
        rating: `(batch,)`, NaN where unknown; None where none is known.
    """
    if rating is None:
        return predicted.sum() * 0.0
    known = torch.isfinite(rating)
    errors = torch.where(known, predicted.float() - rating, 0.0)
    return errors.pow(2).sum() / known.sum().clamp(min=1)


def of_the_step(loss: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor:
    """A batch's part in the loss of a step that has several, by its share of the labels.

    The text's loss is then that of all the step's labels, exactly, and so is a constant one. The others are means over
    batches, weighted by this share.

    Args:
        loss: mean over the batch, `()`.
        labels: of the batch, `(batch, length)`.
        num_items_in_batch: labels of the whole step; None for a batch alone.
    """
    if num_items_in_batch is None:
        return loss
    return loss * labels[:, 1:].ne(IGNORED_LABEL).sum() / num_items_in_batch


def rating_level(rating: torch.Tensor, config: Any) -> torch.Tensor:
    """The nearest of `config.rating_levels` levels, evenly spread from the lowest training rating to the highest.

    Args:
        rating: any shape, no NaN.
        config: with `rating_levels`, `min_rating`, `max_rating`.

    Returns:
        Level from 0, as `rating` in shape.
    """
    width = (config.max_rating - config.min_rating) or math.inf
    share = ((rating.float() - config.min_rating) / width).clamp(0, 1)
    return (share * (config.rating_levels - 1)).round().long()
