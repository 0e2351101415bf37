"""Does a backbone look at its prompt? If not, no signal there can be worth anything, whatever the graph knows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import PreTrainedModel

from modeling_xrec.processing_xrec import IGNORED_LABEL, XRecProcessor
from xrec_training.backbone_texts import BackboneTexts

LEAST_GAIN = 0.05
"""Nats a token that its own prompt must be worth over another row's."""
BATCH = 32


def prompt_gains(
    model: PreTrainedModel, processor: XRecProcessor, rows: pl.DataFrame, most_keywords: int, seed: int = 0
) -> dict[str, float]:
    """What their own prompt is worth to the answers over another row's, in nats a token.

    Args:
        model: the backbone.
        processor: makes prompts with texts.
        rows: `title, user_profile, item_profile, explanation`, none of which trained the backbone.
        most_keywords: of an answer.
        seed: of the rows that stand in.

    Returns:
        `texts`: title and profiles; `keywords`: words of the answer in a marker's place.
    """
    cycle = np.random.default_rng(seed).permutation(len(rows))
    others = np.empty(len(rows), dtype=int)
    others[cycle] = np.roll(cycle, 1)
    answers = [processor.answer_ids(text) for text in rows["explanation"]]
    prompts = [processor.prompt_ids(*texts) for texts in rows.select("title", "user_profile", "item_profile").iter_rows()]
    told = BackboneTexts(processor, rows, 1.0, seed, most_keywords)
    keywords = [example["input_ids"][: -len(answer)] for example, answer in zip(told.examples, answers, strict=True)]
    found = {}
    for name, own in (("texts", prompts), ("keywords", keywords)):
        other = [own[place] for place in others]
        found[name] = _nats(model, processor, other, answers) - _nats(model, processor, own, answers)
    return found


@torch.no_grad()
def _nats(
    model: PreTrainedModel, processor: XRecProcessor, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> float:
    """Mean nats of the answers' tokens."""
    total = tokens = 0.0
    device: Any = model.device
    for start in range(0, len(answers), BATCH):
        pairs = zip(prompts[start : start + BATCH], answers[start : start + BATCH], strict=True)
        rows = [{"input_ids": p + a, "labels": [IGNORED_LABEL] * len(p) + a} for p, a in pairs]
        batch = processor.pad(rows).to(device)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
        labels = batch["labels"][:, 1:]
        count = int((labels != IGNORED_LABEL).sum())
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED_LABEL)
        total, tokens = total + float(loss) * count, tokens + count
    return total / tokens
