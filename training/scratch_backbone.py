"""A small backbone trained from scratch, for where no pre-trained one can be had: text only, never the graph.

It sees the fine-tuning's prompts and explanations, in which the markers say nothing, and some with keywords in a marker's
place (`BackboneTexts`). Afterwards it is frozen, so that all that XRec adds must come in through the adapters, as with a
downloaded backbone.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from modeling_xrec.processing_xrec import ITEM_MARKER, USER_MARKER, XRecProcessor
from xrec_dataset_builder.schema import atomic_folder

from .backbone_texts import BackboneTexts
from .examples import PadCollator

logger = logging.getLogger(__name__)
FINGERPRINT_FILE = "scratch.json"
FRAME_WEIGHT = 100
"""How often the tokenizer's training sees the prompt's own words."""


@dataclass(frozen=True)
class ScratchOptions:
    """Size and training of the backbone.

    Args:
        vocab_size: most tokens of the byte-pair tokenizer.
        hidden_size: width H.
        intermediate_size: width of the feed-forward layers.
        layers: decoder layers.
        heads: attention heads; all have keys and values of their own, as the paper's injection needs.
        epochs: passes over the training texts.
        batch_size: texts a step.
        learning_rate: peak of the cosine schedule.
        initializer_range: standard deviation of the starting weights; for so narrow a model the usual 0.02 starts too slowly.
        keyword_share: share of the texts that name keywords of the explanation in a marker's place; see `BackboneTexts`.
        seed: of weights and order.
    """

    vocab_size: int = 2048
    hidden_size: int = 96
    intermediate_size: int = 192
    layers: int = 2
    heads: int = 4
    epochs: float = 3
    batch_size: int = 32
    learning_rate: float = 4e-3
    initializer_range: float = 0.08
    keyword_share: float = 0.5
    seed: int = 0


def scratch_backbone(explanations: pl.DataFrame, out: Path, options: ScratchOptions, prompt: Mapping[str, Any]) -> Path:
    """Trains tokenizer and backbone, or finds them done before with the same texts and options.

    Args:
        explanations: training rows with `title, user_profile, item_profile, explanation`.
        out: folder to make, or one made before.
        options: see `ScratchOptions`.
        prompt: arguments of `XRecProcessor` that shape the fine-tuning's prompt.

    Returns:
        `out`, a folder that `AutoModelForCausalLM` and `AutoTokenizer` load.

    Raises:
        DataError: `out` holds something else.
    """
    about = {"options": asdict(options), "prompt": dict(prompt), "texts": _hash(explanations)}
    known = out / FINGERPRINT_FILE
    if known.is_file() and json.loads(known.read_text(encoding="utf-8")) == about:
        logger.info("%s: this backbone was trained before", out)
        return out
    with atomic_folder(out) as folder:
        frame = [prompt["prompt"]] * FRAME_WEIGHT
        tokenizer = train_tokenizer(chain(frame, _texts(explanations)), options.vocab_size)
        processor = XRecProcessor(tokenizer, **prompt)
        model = _train(processor, explanations, options, folder)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / FINGERPRINT_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return out


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair tokenizer with the markers among its special tokens.

    Args:
        texts: training texts.
        vocab_size: most tokens, the special ones included.
    """
    special = ["<pad>", "<s>", "</s>", USER_MARKER, ITEM_MARKER]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=[USER_MARKER, ITEM_MARKER], clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _train(processor: XRecProcessor, explanations: pl.DataFrame, options: ScratchOptions, folder: Path) -> LlamaForCausalLM:
    torch.manual_seed(options.seed)
    tokenizer = processor.tokenizer
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=options.hidden_size, intermediate_size=options.intermediate_size,
            num_hidden_layers=options.layers, num_attention_heads=options.heads, num_key_value_heads=options.heads,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            max_position_embeddings=2048, initializer_range=options.initializer_range, tie_word_embeddings=False,
        )
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=options.epochs, per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate, lr_scheduler_type="cosine", warmup_steps=0.05, seed=options.seed,
        weight_decay=0.01, save_strategy="no", logging_strategy="no", report_to="none", use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="group_by_length", dataloader_pin_memory=False,
    )  # fmt: skip
    dataset = BackboneTexts(processor, explanations, options.keyword_share, options.seed)
    Trainer(model, arguments, train_dataset=dataset, data_collator=PadCollator(processor)).train()
    return model.eval()


def _texts(explanations: pl.DataFrame) -> Iterator[str]:
    for row in explanations.iter_rows(named=True):
        for name in ("title", "user_profile", "item_profile", "explanation"):
            yield f" {row[name]}"


def _hash(explanations: pl.DataFrame) -> str:
    return hashlib.sha256(explanations.write_json().encode()).hexdigest()
