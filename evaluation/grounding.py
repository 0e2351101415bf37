"""Grounding: is each claim of an explanation backed by what is known of the item, and of the user?

Every claim is looked for in the pair's training texts. It is *supported* when the item's texts have it, *user only* when
nothing but the user's texts have it (the user likes it, and nobody says that the item has it), *contradicted* when a model of
entailment says so, else *unsupported*. Where the item has no text but its title, nothing can be judged: *no evidence*.
The precision is the mean over rows of the supported share of their claims (as in arXiv 2512.24366, with training texts in
place of the reference); beside it stands the floor, the same claims against another pair's evidence.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table

from .claim_scores import Vectors
from .encoders import SentenceEncoder
from .evidence_texts import EvidenceTexts, Limits
from .grounding_summary import Bootstrap, summarize
from .grounding_thresholds import Thresholds, find_thresholds
from .nli import Entailment
from .unfounded_words import template_words
from .verdicts import Judge

logger = logging.getLogger(__name__)

COLUMNS = ("user_id", "item_id", "prediction")


@dataclass(frozen=True)
class Options:
    """How grounding is done.

    Attributes:
        limits: How much evidence a pair has.
        false_support: Share of foreign claims that may pass a threshold.
        calibration_pairs: Pairs that thresholds are found on.
        block: Rows held in memory at a time, or up to twice as many; the floor's partners come from the same block.
        seed: Seed of the calibration pairs, the floor's partners and the bootstrap.
        resamples: Draws of the bootstrap.
        level: Nominal coverage of the intervals.

    Raises:
        DataError: If a block holds fewer than two rows.
    """

    limits: Limits = Limits()  # noqa: RUF009 - frozen
    false_support: float = 0.05
    calibration_pairs: int = 300
    block: int = 256
    seed: int = 0
    resamples: int = 1000
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.block < 2:
            raise DataError(f"expected blocks of at least 2 rows, found {self.block}")


@dataclass(frozen=True)
class Grounding:
    """What `ground` found.

    Attributes:
        rows: One row a prediction, in their order, with the columns of `verdicts.ROWS`. Shares are None for a text without
            claims and where there is no evidence; the contradicted share also without a classifier; `unfounded_words` is
            None for a script without spaces. Columns `floor_...` are the same claims and words against another's evidence.
        claims: One row a claim, with the columns of `verdicts.CLAIMS`. `source`, `phrase`, `evidence` (the sentence of the
            phrase) and `score` are those that the verdict rests on, or the nearest; `matches` has the best of every source.
        predictions: The texts.
        thresholds: What was needed for support.
        options: How it was done.
        about: Facts for the summary: encoder, classifier, options, what is missing.
    """

    rows: pl.DataFrame
    claims: pl.DataFrame
    predictions: tuple[str, ...]
    thresholds: Thresholds
    options: Options
    about: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Return the figures of all rows, ready for JSON: `summarize`'s, `limits`, and `about`'s."""
        limits = asdict(self.options.limits)
        bootstrap = Bootstrap(self.options.seed, self.options.resamples, self.options.level)
        return summarize(self.rows, self.claims, self.thresholds, bootstrap) | {"limits": limits} | self.about

    def as_examples(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return some rows with each claim, its verdict and its evidence, as plain dictionaries.

        Args:
            rows: Places of predictions, from 0.

        Returns:
            For each: user_id, item_id, prediction, supported (None where it cannot be said), claims (claim, verdict, source,
            phrase, evidence, score, entailment, contradiction), unfounded_words, unfounded_names.

        Raises:
            DataError: If there is no such row.
        """
        if outside := [row for row in rows if not 0 <= row < len(self.rows)]:
            raise DataError(f"expected rows from 0 to {len(self.rows) - 1}, found {outside[0]}")
        chosen = self.claims.filter(pl.col("row").is_in(list(rows))).drop("matches")
        by_row = {key[0]: part.drop("row").to_dicts() for key, part in chosen.partition_by("row", as_dict=True).items()}
        names = ("user_id", "item_id", "supported", "unfounded_words", "unfounded_names")
        facts = self.rows.select(names)
        return [
            {**facts.row(row, named=True), "prediction": self.predictions[row], "claims": by_row.get(row, [])} for row in rows
        ]


def ground(
    rows: pl.DataFrame,
    data: Path,
    encoder: SentenceEncoder,
    nli: Entailment | None = None,
    thresholds: Thresholds | None = None,
    options: Options = Options(),
) -> Grounding:
    """Look for every claim of explanations in what the training split knows of their users and items.

    Args:
        rows: user_id, item_id, prediction; further columns are left out. A null prediction is an empty text.
        data: Dataset folder, distilled.
        encoder: Makes the vectors that claims and phrases are compared by.
        nli: Judges each claim against the nearest sentence of every source; None for cosines alone, and no contradictions.
        thresholds: Scores above which a claim is supported; None to find them on validation pairs of the data.
        options: Limits, shares and seeds.

    Returns:
        Figures by row, records by claim, and the summary.

    Raises:
        DataError: If there is no row, a column is missing, no item is known, or too few explanations are there to calibrate.
        LeakError: If a held-out pair is among the training texts.
    """
    rows = _checked(rows)
    evidence, vectors = EvidenceTexts(data, options.limits), Vectors(encoder)
    about = _unknown(rows, evidence, data)
    if thresholds is None:
        thresholds = find_thresholds(
            data, evidence, vectors, nli, options.false_support, options.calibration_pairs, options.seed
        )
    training = _training_explanations(data)
    judge = Judge(evidence, vectors, nli, thresholds, template_words(training), options.seed)
    found = [judge.block(*part) for part in _blocks(rows, options.block)]
    about |= {"encoder": encoder.name, "nli": None if nli is None else nli.name, "reviews": evidence.has_reviews}
    about["template_words"] = sorted(judge.template)
    return Grounding(
        pl.concat([one for one, _ in found]),
        pl.concat([one for _, one in found]),
        tuple(rows["prediction"].to_list()),
        thresholds,
        options,
        about,
    )


def _checked(rows: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise DataError(f"expected the columns {', '.join(COLUMNS)}, found no {', '.join(missing)}: add or rename it")
    rows = rows.select(pl.col(name).cast(pl.String) for name in COLUMNS)
    if rows.is_empty():
        raise DataError("expected at least one row to ground, found none: check the file")
    if nulls := rows["user_id"].null_count() + rows["item_id"].null_count():
        raise DataError(f"expected an id in every row, found {nulls} without: fill or drop them")
    return rows.with_columns(pl.col("prediction").fill_null(""))


def _unknown(rows: pl.DataFrame, evidence: EvidenceTexts, data: Path) -> dict[str, Any]:
    users = [user for user in rows["user_id"].unique() if not evidence.knows_user(user)]
    items = [item for item in rows["item_id"].unique() if not evidence.knows_item(item)]
    if len(items) == rows["item_id"].n_unique():
        raise DataError(
            f"expected items of {data}, found none of the {len(items)} (first: {rows['item_id'][0]!r}): "
            "give the data the predictions were made on"
        )
    if users or items:
        logger.warning("%d users and %d items are not in %s; they have no evidence", len(users), len(items), data)
    return {"unknown_users": len(users), "unknown_items": len(items)}


def _training_explanations(data: Path) -> list[str]:
    return read_table(DatasetFolder(data).explanations("train"), EXPLANATIONS)["explanation"].to_list()


def _blocks(rows: pl.DataFrame, size: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield near-equal blocks of `size` to fewer than twice as many rows, with the number of their first row."""
    edges = np.linspace(0, len(rows), max(1, len(rows) // size) + 1).astype(int).tolist()
    for start, end in pairwise(edges):
        yield rows[start:end], start
