"""PEPLER: user and item as continuous prompts of a pre-trained language model.

Lei Li, Yongfeng Zhang, Li Chen: Personalized Prompt Learning for Explainable Recommendation. ACM TOIS 41(4), 2023,
https://arxiv.org/abs/2202.07371. The language model reads [u, i, <s>, y_1 .. y_n], u and i each a trained vector of its width:

    p(y_t) = LM([u, i, <s>, y_1 .. y_{t-1}])            L_e = - mean over tokens of log p(y_t)

Two ways of training keep what the language model knows from being spoilt by vectors that start at random:

- sequential tuning (the default): first the vectors with the language model frozen, then both;
- rating regularisation (`rating_regularization`): both at once, loss = l_e L_e + l_r mean (r' - r)^2, with r' = u . i (`mf`)
  or a perceptron on [u; i] (`mlp`), so that the vectors learn from ratings too.

Departures: any decoder serves, where the paper has GPT-2; the first stage lasts `prompt_epochs` epochs, where the paper's
lasts until validation gets no better, so that a killed run goes on as it would have (the optimizer starts anew with the
second stage in both); <s> is the backbone's own beginning (or, lacking one, end) of sequence and is no label.
"""

import copy
from itertools import pairwise
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.configuration_utils import SubConfigSpec

from xrec_dataset_builder.errors import DataError
from xrec_training.backbone_loading import backbone_arguments
from xrec_training.prepared import Inputs, Prepared
from xrec_training.recipe import SCRATCH
from xrec_training.scratch_backbone import ScratchOptions, scratch_backbone

from .base_model import BaselineConfig, BaselineModel, BaselineOutput, next_token_loss, of_the_step, rating_loss
from .texts import Ratings, assemble, configured, derived_fields

PROMPTS = 2


@strict
class PeplerConfig(BaselineConfig):
    """Configuration of `Pepler`; the defaults are the paper's. Further fields: `BaselineConfig`.

    Args:
        text_config: configuration of the backbone. Default: a GPT-2.
        prompt_epochs: epochs in which only the prompts learn; 0 trains both from the start. Default 3.
        rating_regularization: None, `"mf"` or `"mlp"`; with either there is one stage. Default None.
        text_weight: l_e. Default 1.
        rating_weight: l_r; the paper has 0.01 with `mf` and 1 with `mlp`. Default 0.01.
        rating_hidden_size: width of the perceptron. Default 400.
        rating_layers: hidden layers of the perceptron. Default 3.
    """

    model_type = "xrec_pepler"
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="gpt2")}

    text_config: dict | PreTrainedConfig | None = None
    prompt_epochs: int = 3
    rating_regularization: Literal["mf", "mlp"] | None = None
    text_weight: float | int = 1.0
    rating_weight: float | int = 0.01
    rating_hidden_size: int = 400
    rating_layers: int = 3
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Builds the backbone's configuration and mirrors its weight tying."""
        super().__post_init__(**kwargs)
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))

    @classmethod
    def recipe_names(cls) -> set[str]:
        """Fields that a recipe may set; the vocabulary is the backbone's."""
        return super().recipe_names() - {"vocab_size"}


class Pepler(BaselineModel):
    """A language model that is prompted by user and item.

    Args:
        config: see `PeplerConfig`.
        language_model: the backbone; None builds an untrained one from the configuration, as `from_pretrained` needs it.
    """

    config_class = PeplerConfig
    config: PeplerConfig
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: PeplerConfig, language_model: PreTrainedModel | None = None) -> None:
        if language_model is not None:
            # A composite configuration resets its children's attention; keep the one the backbone was loaded with.
            implementation = language_model.config._attn_implementation
            if implementation is None:
                raise ValueError(
                    "expected a backbone that knows its attention, found None, under which every token would see the next; "
                    "give PeplerConfig a copy of the backbone's configuration, or none."
                )
            config.text_config = language_model.config
            config._attn_implementation = implementation
            config.tie_word_embeddings = bool(getattr(language_model.config, "tie_word_embeddings", False))
        super().__init__(config)
        self.language_model: Any = language_model or AutoModelForCausalLM.from_config(config.text_config)
        size, dtype = self.language_model.config.get_text_config().hidden_size, self.language_model.dtype
        self.users = nn.Embedding(config.num_users, size, dtype=dtype)
        self.items = nn.Embedding(config.num_items, size, dtype=dtype)
        if self._has_perceptron:
            widths = [2 * size] + [config.rating_hidden_size] * config.rating_layers
            self.rating_layers = nn.ModuleList(nn.Linear(*pair, dtype=dtype) for pair in pairwise(widths))
            self.rating_head = nn.Linear(widths[-1], 1, dtype=dtype)
        self.post_init()

    @property
    def _has_perceptron(self) -> bool:
        return self.config.knows_ratings and self.config.rating_regularization == "mlp"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        own = [self.users, self.items, *(self.rating_layers if self._has_perceptron else [])]
        own += [self.rating_head] if self._has_perceptron else []
        if any(module is part for part in own):
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's token embedding."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the backbone's token embedding."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The backbone's output head."""
        return self.language_model.get_output_embeddings()

    def prompts(self, user_ids: torch.Tensor, item_ids: torch.Tensor) -> torch.Tensor:
        """The two vectors of each pair, `(batch, 2, width)`, from rows `(batch,)`."""
        return torch.stack([self.users(user_ids), self.items(item_ids)], dim=1)

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
        """Logits of every next token of the text, the predicted rating, and the loss where there are labels.

        Args:
            user_ids: rows of the user table, `(batch,)`.
            item_ids: rows of the item table, `(batch,)`.
            rating: to learn from, `(batch,)`, NaN where unknown; never an input.
            input_ids: text from its first token on, `(batch, length)`, padded on the right.
            attention_mask: 1 where there is a token, `(batch, length)`; None where there is one everywhere.
            labels: `(batch, length)`, -100 where there is none.
            num_items_in_batch: labels of the whole step; see `of_the_step`.
            kwargs: taken no notice of.
        """
        prompts = self.prompts(user_ids, item_ids)
        embedded = torch.cat([prompts, self.get_input_embeddings()(input_ids).to(prompts.dtype)], dim=1)
        if attention_mask is not None:
            attention_mask = nn.functional.pad(attention_mask, (PROMPTS, 0), value=1)
        answer = self.language_model(inputs_embeds=embedded, attention_mask=attention_mask, use_cache=False)
        logits, loss, predicted = answer.logits[:, PROMPTS:], None, self._rating(prompts)
        if labels is not None:
            loss = self.config.text_weight * next_token_loss(logits, labels)
            if predicted is not None:
                loss = loss + self.config.rating_weight * rating_loss(predicted, rating)
            loss = of_the_step(loss, labels, num_items_in_batch)
        return BaselineOutput(loss=loss, logits=logits, rating=predicted)

    def _rating(self, prompts: torch.Tensor) -> torch.Tensor | None:
        if not self.config.knows_ratings or self.config.rating_regularization is None:
            return None
        if self.config.rating_regularization == "mf":
            return prompts.prod(dim=1).sum(dim=-1)
        hidden = prompts.flatten(1)
        for layer in self.rating_layers:
            hidden = torch.sigmoid(layer(hidden))
        predicted: torch.Tensor = self.rating_head(hidden)[:, 0]
        return predicted

    @torch.no_grad()
    def explain(
        self,
        user_ids: torch.Tensor,
        item_ids: torch.Tensor,
        max_new_tokens: int = 96,
        num_beams: int = 1,
        use_cache: bool = True,
    ) -> torch.Tensor:
        """See `BaselineModel.explain`; the backbone's own `generate` does it."""
        config, training = self.config, self.training
        start = user_ids.new_full((len(user_ids), 1), config.bos_token_id)
        prompts = self.prompts(user_ids, item_ids)
        embedded = torch.cat([prompts, self.get_input_embeddings()(start).to(prompts.dtype)], dim=1)
        settings = GenerationConfig(
            max_new_tokens=max_new_tokens, num_beams=num_beams, do_sample=False, use_cache=use_cache,
            length_penalty=0.0 if num_beams > 1 else None,
            eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id, bos_token_id=config.bos_token_id,
        )  # fmt: skip
        self.eval()
        # What the backbone's makers set for chats, such as a penalty for repeats, is not the paper's.
        own, self.language_model.generation_config = self.language_model.generation_config, settings
        try:
            mask = torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
            texts: torch.Tensor = self.language_model.generate(
                inputs_embeds=embedded, attention_mask=mask, generation_config=settings
            )
            return texts
        finally:
            self.language_model.generation_config = own
            self.train(training)


class SequentialTuning(TrainerCallback):
    """The language model frozen for the first epochs, then both, with the optimizer's memory cleared.

    All weights are in the optimizer from the start; one without a gradient it leaves as it is. What is to be done depends on
    the epoch alone, so a resumed run does the same. Early stopping does not end the run in the first stage, and takes its
    count of bad validations along into the second.

    Args:
        prompt_epochs: length of the first stage.
    """

    def __init__(self, prompt_epochs: int) -> None:
        self.prompt_epochs = prompt_epochs

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Freezes the language model, unless a resumed run is past that."""
        self._set(model, state)

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets the language model free when the second stage begins."""
        self._set(model, state)
        if abs((state.epoch or 0) - self.prompt_epochs) < 1e-6:
            optimizer.state.clear()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keeps early stopping from ending the run before its second stage."""
        if (state.epoch or 0) < self.prompt_epochs + 1e-6:  # the one at the very end of the first stage too
            control.should_training_stop = False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Leaves the language model as it was found."""
        self._backbone(model).requires_grad_(True)

    def _first_stage(self, state: TrainerState) -> bool:
        return (state.epoch or 0) < self.prompt_epochs - 1e-6

    def _set(self, model: Any, state: TrainerState) -> None:
        self._backbone(model).requires_grad_(not self._first_stage(state))

    @staticmethod
    def _backbone(model: Any) -> nn.Module:
        language_model: nn.Module = getattr(model, "module", model).language_model
        return language_model


def config_names() -> set[str]:
    """Fields of `PeplerConfig` that a recipe may set."""
    return PeplerConfig.recipe_names()


def prepare(inputs: Inputs) -> Prepared:
    """A PEPLER around its backbone, its prompts untrained, with the dataset's examples.

    With `backbone: scratch` the backbone is trained first, as for XRec.

    Args:
        inputs: see `Inputs`; no graph is needed.

    Raises:
        DataError: a backbone that does not load, or settings that do not go together.
    """
    recipe = inputs.recipe
    if recipe.quantization is not None or recipe.lora:
        raise DataError("expected neither quantization nor lora: PEPLER trains the whole backbone, found one; leave it out")
    backbone = recipe.backbone
    if backbone == SCRATCH:
        options = ScratchOptions(**recipe.scratch)
        train = inputs.explanations["train"]
        backbone = str(scratch_backbone(train, inputs.backbone_place, options, recipe.prompt_settings()))
    # Training a backbone has drawn random numbers, finding one has not; the prompts are to start the same.
    set_seed(recipe.trainer.get("seed", TrainingArguments.seed))
    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone, revision=recipe.revision)
        language_model = AutoModelForCausalLM.from_pretrained(
            backbone, revision=recipe.revision, **backbone_arguments(None, recipe.backbone_dtype)
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a backbone folder or Hub id, found {backbone!r}, which does not load ({str(error).splitlines()[0]}); "
            "check the name, or use `--backbone scratch`"
        ) from error
    ratings = Ratings.read(inputs.data)
    # A copy, as a composite configuration resets its children's attention.
    derived = derived_fields(inputs, tokenizer, ratings) | {"text_config": copy.deepcopy(language_model.config)}
    derived["vocab_size"] = language_model.config.get_text_config().vocab_size
    model = Pepler(configured(PeplerConfig, recipe.config, derived), language_model)
    stages = model.config.prompt_epochs and model.config.rating_regularization is None
    callbacks = (SequentialTuning(model.config.prompt_epochs),) if stages else ()
    return assemble(model, tokenizer, inputs, ratings, callbacks)
