"""Explanations and ratings as examples, and the run folder that explains by ids."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from modeling_xrec.processing_xrec import IGNORED_LABEL
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import INTERACTIONS, DatasetFolder, read_table
from xrec_training.graph_folder import write_ids
from xrec_training.prepared import Inputs, Prepared
from xrec_training.scratch_backbone import train_tokenizer
from xrec_training.tables import Catalogue

from .base_model import BaselineConfig, BaselineModel


class BaselineTexts(Dataset):
    """Tokenised explanations with their pair and rating, in memory.

    Args:
        tokenizer: of the text.
        config: says which tokens begin and end a text, and how long it may be.
        explanations: rows with `explanation`.
        rows: row numbers `(2, rows)` of each pair's user and item.
        ratings: `(rows,)`, NaN where unknown.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: BaselineConfig,
        explanations: pl.DataFrame,
        rows: np.ndarray,
        ratings: np.ndarray,
    ) -> None:
        texts = [f" {text}" for text in explanations["explanation"]]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        self.examples = []
        for text, user, item, rating in zip(ids, *rows.tolist(), ratings.tolist(), strict=True):
            whole = [*text, config.eos_token_id][: config.max_text_tokens]
            self.examples.append(
                {
                    "input_ids": [config.bos_token_id, *whole],
                    "labels": [IGNORED_LABEL, *whole],
                    "user_ids": user,
                    "item_ids": item,
                    "rating": rating,
                }
            )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.examples[index]


class BaselineCollator:
    """Pads examples on the right.

    Args:
        pad_token_id: what `input_ids` are filled up with.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns `input_ids`, `attention_mask`, `labels` `(batch, length)`; `user_ids`, `item_ids`, `rating` `(batch,)`."""
        length = max(len(example["input_ids"]) for example in examples)
        batch: dict[str, list[Any]] = {"input_ids": [], "attention_mask": [], "labels": []}
        for example in examples:
            fill = length - len(example["input_ids"])
            batch["input_ids"].append([*example["input_ids"], *[self.pad_token_id] * fill])
            batch["attention_mask"].append([1] * (length - fill) + [0] * fill)
            batch["labels"].append([*example["labels"], *[IGNORED_LABEL] * fill])
        tensors = {name: torch.tensor(rows) for name, rows in batch.items()}
        for name in ("user_ids", "item_ids", "rating"):
            tensors[name] = torch.tensor([example[name] for example in examples])
        return tensors


@dataclasses.dataclass(frozen=True)
class Ratings:
    """Ratings of the training and validation splits; those of test pairs are never read.

    Args:
        tables: `user_id, item_id, rating` by split, one row a pair with a known rating.
    """

    tables: dict[str, pl.DataFrame]

    @classmethod
    def read(cls, data: Path) -> "Ratings":
        """Reads a dataset folder; several ratings of a pair count as their mean."""
        tables = {}
        for split in ("train", "validation"):
            table = read_table(DatasetFolder(data).interactions(split), INTERACTIONS)
            known = table.filter(pl.col("rating").is_not_null() & pl.col("rating").is_finite())
            tables[split] = known.group_by("user_id", "item_id", maintain_order=True).agg(pl.col("rating").mean())
        return cls(tables)

    def of(self, split: str, pairs: pl.DataFrame) -> np.ndarray:
        """Ratings of pairs in order, `(rows,)`, NaN where unknown."""
        joined = pairs.select("user_id", "item_id").join(
            self.tables[split], on=["user_id", "item_id"], how="left", maintain_order="left"
        )
        return joined["rating"].fill_null(float("nan")).to_numpy().astype(np.float32)

    def limits(self) -> dict[str, float | None]:
        """`min_rating` and `max_rating` of training; None where none is known."""
        train = self.tables["train"]["rating"]
        lowest, highest = (None, None) if train.is_empty() else (float(train.min()), float(train.max()))  # type: ignore[arg-type]
        return {"min_rating": lowest, "max_rating": highest}

    def usual(self, catalogue: Catalogue) -> np.ndarray:
        """Mean training rating of every user, `(users,)`; that of all where a user has none, NaN where none is known."""
        train = self.tables["train"]
        means = train.group_by("user_id").agg(pl.col("rating").mean())
        joined = catalogue.users.select("user_id").join(means, on="user_id", how="left", maintain_order="left")
        overall = float("nan") if train.is_empty() else train["rating"].mean()
        return joined["rating"].fill_null(overall).to_numpy().astype(np.float32)


def text_tokenizer(inputs: Inputs, vocab_size: int) -> Any:
    """A byte-level tokenizer of the training explanations alone: no word is unknown to it."""
    texts = (f" {text}" for text in inputs.explanations["train"]["explanation"])
    return train_tokenizer(texts, vocab_size)


def derived_fields(inputs: Inputs, tokenizer: PreTrainedTokenizerBase, ratings: Ratings) -> dict[str, Any]:
    """Fields of a configuration that the data decide."""
    eos = tokenizer.eos_token_id
    return {
        "num_users": inputs.catalogue.users.height,
        "num_items": inputs.catalogue.items.height,
        "eos_token_id": eos,
        # A backbone without these has texts begin and fill up with its end of sequence, as GPT-2 does.
        "bos_token_id": eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        "pad_token_id": eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        **ratings.limits(),
    }


def configured(kind: Any, settings: Mapping[str, Any], derived: Mapping[str, Any]) -> Any:
    """A model's configuration.

    Args:
        kind: subclass of `BaselineConfig`.
        settings: what the recipe says.
        derived: what the data say.

    Raises:
        DataError: a value of the wrong type, or outside its range.
    """
    try:
        return kind(**{**settings, **derived})
    except StrictDataclassError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"expected settings that {kind.__name__} takes, found: {reason} Mend section `config`") from error


def assemble(
    model: BaselineModel, tokenizer: PreTrainedTokenizerBase, inputs: Inputs, ratings: Ratings, callbacks: tuple[Any, ...] = ()
) -> Prepared:
    """A model with its examples, ready to be trained.

    Args:
        model: untrained.
        tokenizer: of its texts.
        inputs: what it was made from.
        ratings: of the pairs.
        callbacks: what has to happen during training.

    Raises:
        DataError: the recipe has a condition of the graph's signal, which would change nothing.
    """
    if inputs.recipe.signal != "graph":
        raise DataError(f"expected no signal for a model that hears no graph, found {inputs.recipe.signal!r}; leave it out")
    config: Any = model.config
    datasets: dict[str, Dataset] = {
        split: BaselineTexts(tokenizer, config, table, inputs.catalogue.rows(table), ratings.of(split, table))
        for split, table in inputs.explanations.items()
    }
    save = _saver(tokenizer, inputs.catalogue)
    return Prepared(model, datasets, BaselineCollator(config.pad_token_id), save, callbacks)


def _saver(
    tokenizer: PreTrainedTokenizerBase, catalogue: Catalogue
) -> Callable[[Any, Path, dict[str, torch.Tensor] | None], None]:
    """What writes the run folder: model, tokenizer, and the ids of the rows."""

    def save(model: Any, folder: Path, state_dict: dict[str, torch.Tensor] | None) -> None:
        model.save_pretrained(folder, state_dict=state_dict)
        tokenizer.save_pretrained(folder)
        write_ids(catalogue, folder)

    return save
