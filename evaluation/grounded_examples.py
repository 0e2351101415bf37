"""Grounding inside an evaluation: the model's claims beside the references', and each shown example's claims with evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from xrec_dataset_builder.errors import DataError

from .encoders import SentenceEncoder
from .grounding import Options, ground
from .nli import Entailment

SHOWN = ("claim", "verdict", "source", "evidence", "score")


@dataclass(frozen=True)
class Grounder:
    """What claims are looked for with.

    Attributes:
        encoder: Compares claims and phrases.
        nli: Says what contradicts; None for cosines alone.
        false_support: Share of foreign claims that may pass.
    """

    encoder: SentenceEncoder
    nli: Entailment | None = None
    false_support: float = 0.05


def ground_evaluation(
    rows: pl.DataFrame, data: Path, grounder: Grounder, examples: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Grounds a model's texts and the references of the same rows, with the same thresholds.

    Args:
        rows: user_id, item_id, prediction, reference.
        data: Dataset folder that they come from.
        grounder: See `Grounder`.
        examples: Shown rows, each with its place `row`.

    Returns:
        `model` and `reference`, each as `Grounding.summary()`, or `skipped` with the reason; and the examples, with `claims`,
        `unfounded_words` and `unfounded_names` where there are any.
    """
    options = Options(false_support=grounder.false_support)
    try:
        own = ground(rows, data, grounder.encoder, grounder.nli, options=options)
    except DataError as error:
        return {"skipped": str(error)}, list(examples)
    references = rows.select("user_id", "item_id", prediction="reference")
    true = ground(references, data, grounder.encoder, grounder.nli, own.thresholds, options)
    found = own.as_examples([example["row"] for example in examples])
    shown = [
        example
        | {
            "claims": [{name: claim[name] for name in SHOWN} for claim in about["claims"]],
            "unfounded_words": about["unfounded_words"] or [],
            "unfounded_names": about["unfounded_names"] or [],
        }
        for example, about in zip(examples, found, strict=True)
    ]
    return {"model": own.summary(), "reference": true.summary()}, shown
