"""The frozen backbone of a world: a Llama trained from scratch on texts, never on the graph.

As a backbone of the Hub it has not read what the adapters are trained on, or they would learn what to say of a text that is
known by heart: it learns from item profiles that no task trains or tests, and how an explanation is written from those of the
other datasets. In most of the texts keywords of the answer, or all of it, stand in a marker's place: it learns to write about
what it finds there (`BackboneTexts`), and every pass draws anew.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from context import LEAST_GAIN, prompt_gains
from torch.utils.data import ConcatDataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from worlds import FULL, PROFILE, PROMPTS, TASKS, World

from modeling_xrec.processing_xrec import XRecProcessor
from xrec_dataset_builder.schema import atomic_folder
from xrec_training.backbone_texts import BackboneTexts
from xrec_training.examples import PadCollator
from xrec_training.scratch_backbone import train_tokenizer
from xrec_training.tables import read_explanations

logger = logging.getLogger(__name__)
ABOUT = "scratch.json"
TEXT_FIELDS = ("title", "user_profile", "item_profile", "explanation")


@dataclass(frozen=True)
class BackboneSize:
    """Size and training of a backbone.

    Args:
        hidden_size: width H.
        intermediate_size: width of the feed-forward layers.
        layers: decoder layers.
        head_dim: width of an attention head; keys and values have as many heads as queries.
        vocab_size: most tokens.
        drawings: passes over the profiles, each drawn anew.
        explanation_drawings: passes over the explanations, in the prompt of every task that has some.
        batch_size: texts a step.
        learning_rate: peak of the cosine schedule.
        keyword_share: share of the texts with keywords in a marker's place.
        copy_share: share of the texts with the whole answer there instead.
        most_keywords: of one text.
        initializer_range: standard deviation of the starting weights.
        seed: of weights, texts and order.
    """

    hidden_size: int = 384
    intermediate_size: int = 1024
    layers: int = 7
    head_dim: int = 64
    vocab_size: int = 6000
    drawings: int = 5
    explanation_drawings: int = 3
    batch_size: int = 48
    learning_rate: float = 1e-3
    keyword_share: float = 0.5
    copy_share: float = 0.25
    most_keywords: int = 24
    initializer_range: float = 0.04
    seed: int = 0


SIZES = {"15m": BackboneSize()}
"""Minutes on a GPU, hours without."""


def backbone_folder(world: World, name: str) -> Path:
    """Where a world's backbone is kept."""
    return world.root / f"backbone-{name}"


def prepare_backbone(world: World, name: str, others: Sequence[World]) -> Path:
    """The folder of a world's backbone, trained where it is missing; a killed training goes on from its last checkpoint.

    Args:
        world: whose backbone.
        name: of its size.
        others: whose texts it reads as well.
    """
    out, size = backbone_folder(world, name), SIZES[name]
    if out.is_dir():
        if json.loads((out / ABOUT).read_text())["size"] != dataclasses.asdict(size):
            raise RuntimeError(f"{out} was trained with other settings; remove it and what was trained upon it")
        return out
    tables = backbone_tables(world, others)
    tokenizer = train_tokenizer(_texts(tables), size.vocab_size)
    processors = {task: XRecProcessor(tokenizer, prompt=PROMPTS[task]) for task in TASKS}
    drawing = size.keyword_share, size.seed, size.most_keywords, size.copy_share
    passes = {task: size.drawings if task == PROFILE else size.explanation_drawings for task in TASKS}
    texts = [BackboneTexts(processors[task], tables[task], *drawing, passes[task]) for task in TASKS]
    torch.manual_seed(size.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=size.hidden_size, intermediate_size=size.intermediate_size,
            num_hidden_layers=size.layers, num_attention_heads=size.hidden_size // size.head_dim,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            max_position_embeddings=1024, initializer_range=size.initializer_range,
            tie_word_embeddings=True,  # what stands in the prompt is easily said again
        )
    )  # fmt: skip
    partial = out.with_name(f"{out.name}.partial")
    trainer = Trainer(
        model, _arguments(size, partial), train_dataset=ConcatDataset(texts), data_collator=PadCollator(processors[TASKS[0]])
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(partial)) if partial.is_dir() else None)
    model = model.half().float().eval()  # as it is saved, in half the room
    unseen = read_explanations(world.task(FULL), "validation")
    gains = prompt_gains(model, processors[FULL], unseen, size.most_keywords)
    if min(gains.values()) < LEAST_GAIN:
        logger.warning("%s hardly looks at its prompt (nats a token: %s); train it for longer, or a larger one", out, gains)
    with atomic_folder(out) as folder:
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        about: dict[str, Any] = {"size": dataclasses.asdict(size), "parameters": model.num_parameters()}
        about["prompt_gains"] = gains
        about["log"] = [row for row in trainer.state.log_history if "loss" in row]
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return out


def backbone_tables(world: World, others: Sequence[World]) -> dict[str, pl.DataFrame]:
    """Training texts by task: profiles that are nobody's to learn or to be tested on, and the others' explanations.

    Raises:
        ValueError: there are no others.
    """
    if not others:
        raise ValueError(
            "expected two datasets or more, as a backbone reads the others' explanations, found one; give another"
        )
    tables = {task: pl.concat(read_explanations(other.task(task), "train") for other in others) for task in TASKS}
    tables[PROFILE] = pl.concat(pl.read_parquet(one.more_profiles) for one in (world, *others))
    return tables


def _arguments(size: BackboneSize, place: Path) -> TrainingArguments:
    gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(place), num_train_epochs=1, per_device_train_batch_size=size.batch_size,
        learning_rate=size.learning_rate, lr_scheduler_type="cosine", warmup_steps=0.05, weight_decay=0.01, seed=size.seed,
        save_strategy="steps", save_steps=1000, save_total_limit=1, logging_steps=50, report_to="none", use_cpu=not gpu,
        tf32=gpu or None, dataloader_num_workers=2 if gpu else 0,
        train_sampling_strategy="group_by_length", dataloader_pin_memory=False,
    )  # fmt: skip


def _texts(tables: dict[str, pl.DataFrame]) -> list[str]:
    columns = [table[name].to_list() for table in tables.values() for name in TEXT_FIELDS]
    return [f" {text}" for column in columns for text in column if text]
