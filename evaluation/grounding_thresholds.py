"""Above which score a claim counts as supported: found on claims that are known to have no support.

Every calibration pair is given the claims of another pair's explanation, with another user and another item. Some of those are
true of it by chance ("friendly staff"), so a claim whose content words all stand in one sentence of the pair's own evidence is
left out. What remains is mostly unsupported, and the threshold is the lowest score that at most a stated share of it passes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table

from .claim_scores import SIDES, Evidence, Matches, Vectors, best, match_claims, phrases, side_of
from .claims import Claim, split_claims
from .evidence_texts import EvidenceTexts, Pair
from .nli import Entailment
from .unfounded_words import stems

FEWEST_CLAIMS = 40
"""Foreign claims below which no share of 5 % can be told."""
ENTAILED = 0.5
"""A classifier's label counts from this probability at least, however seldom foreign claims reach it."""


@dataclass(frozen=True)
class Threshold:
    """The scores above which one side supports a claim.

    Attributes:
        cosine: Cosine that must be exceeded.
        entailment: Probability of entailment that must be exceeded; None without a classifier.
        contradiction: Probability of contradiction that must be exceeded; None likewise.
        false_support: Share of the foreign claims whose cosine exceeds it; None where the thresholds were given.
        own_support: Share of the calibration pairs' own claims whose cosine exceeds it; None likewise.
        foreign_claims: Foreign claims that it was found on.
        left_out: Foreign claims that the pair's evidence has word for word, which were left out.
    """

    cosine: float
    entailment: float | None = None
    contradiction: float | None = None
    false_support: float | None = None
    own_support: float | None = None
    foreign_claims: int = 0
    left_out: int = 0

    def supports(self, matches: Matches) -> bool:
        """Return whether one of these matches exceeds the cosine or the entailment."""
        return any(match.score > self.cosine or _exceeds(match.entailment, self.entailment) for match in matches)

    def contradicts(self, matches: Matches) -> bool:
        """Return whether one of these matches contradicts the claim and none entails it."""
        if any(_exceeds(match.entailment, self.entailment) for match in matches):
            return False
        return any(_exceeds(match.contradiction, self.contradiction) for match in matches)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of both sides and how they were found.

    Attributes:
        item: For evidence about the item.
        user: For evidence about the user; None where no calibration pair has any.
        split: Split of the calibration pairs; None where the thresholds were given.
        pairs: Calibration pairs.
        target: Share of foreign claims that may pass; None likewise.
    """

    item: Threshold
    user: Threshold | None
    split: str | None = None
    pairs: int = 0
    target: float | None = None

    def supports(self, side: str, matches: Matches) -> bool:
        """Return whether the matches with one side's sources support the claim."""
        threshold = self.item if side == "item" else self.user
        return threshold is not None and threshold.supports(side_of(matches, side))

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return asdict(self)


def find_thresholds(
    data: Path,
    evidence: EvidenceTexts,
    vectors: Vectors,
    nli: Entailment | None = None,
    false_support: float = 0.05,
    pairs: int = 300,
    seed: int = 0,
) -> Thresholds:
    """Find the thresholds on validation pairs, or on training pairs where there are none. Test pairs are never looked at.

    Args:
        data: Dataset folder.
        evidence: The texts of a pair; its own are never among them, so that training pairs can be used too.
        vectors: Encodes phrases.
        nli: Judges claims; None for cosines alone.
        false_support: Share of the foreign claims that may pass.
        pairs: Pairs drawn at random.
        seed: Seed of the draw.

    Returns:
        The thresholds.

    Raises:
        DataError: If an option is out of range or the data hold too few explanations.
    """
    if not 0 < false_support < 1 or pairs < 2:
        raise DataError(f"expected false_support between 0 and 1 and pairs >= 2, found {false_support} and {pairs}")
    split, rows = _calibration_rows(data, pairs, seed)
    keys = list(zip(rows["user_id"].to_list(), rows["item_id"].to_list(), strict=True))
    own = [split_claims(text) for text in rows["explanation"].to_list()]
    partners = other_pairs(keys, seed)
    known = [phrases(texts) for texts in evidence.of(keys)]
    foreign = [() if other is None else own[other] for other in partners]
    matched = match_claims(foreign, known, vectors, nli)
    matched_own = match_claims(own, known, vectors)
    item, user = (_threshold(side, foreign, known, matched, matched_own, false_support) for side in SIDES)
    if item is None:
        raise DataError(f"{data}: expected profiles or training texts of items as evidence, found none; distill the dataset")
    return Thresholds(item, user, split, len(keys), false_support)


def other_pairs(pairs: Sequence[Pair], seed: int = 0) -> list[int | None]:
    """Give every pair another one with another user and another item.

    Args:
        pairs: User and item.
        seed: Seed of the order in which partners are tried.

    Returns:
        The partner's place for each pair; None where all others share the user or the item.
    """
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    partners: list[int | None] = [None] * len(pairs)
    for place, row in enumerate(order):
        user, item = pairs[row]
        following = (order[(place + step) % len(order)] for step in range(1, len(order)))
        partners[row] = next((other for other in following if pairs[other][0] != user and pairs[other][1] != item), None)
    return partners


def lowest_passed(scores: Sequence[float], share: float) -> float:
    """Return the lowest of some scores that at most a share of them exceeds."""
    falling = np.sort(np.asarray(scores, dtype=float))[::-1]
    return float(falling[min(int(share * len(falling)), len(falling) - 1)])


def _calibration_rows(data: Path, pairs: int, seed: int) -> tuple[str, pl.DataFrame]:
    folder = DatasetFolder(data)
    for split in ("validation", "train"):
        if not folder.explanations(split).is_file():
            continue
        rows = read_table(folder.explanations(split), EXPLANATIONS)
        rows = rows.filter(pl.col("explanation").str.strip_chars() != "")
        if len(rows) > 1:
            return split, rows.sample(min(pairs, len(rows)), seed=seed, shuffle=True)
    raise DataError(
        f"{data}: expected validation or training explanations to calibrate on, found none; distill, or give thresholds"
    )


def _threshold(
    side: str,
    foreign: Sequence[Sequence[Claim]],
    known: Sequence[Evidence],
    matched: Sequence[Sequence[Matches]],
    own: Sequence[Sequence[Matches]],
    share: float,
) -> Threshold | None:
    """The threshold of one side; None where no calibration pair has evidence on it."""
    kept: list[Matches] = []
    left_out = 0
    for claims, evidence, row in zip(foreign, known, matched, strict=True):
        sentences = {phrase.sentence for source in SIDES[side] for phrase in evidence.get(source, ())}
        for claim, matches in zip(claims, row, strict=True):
            words = stems(claim.text)
            if any(words <= stems(sentence) for sentence in sentences):
                left_out += 1
            elif mine := side_of(matches, side):
                kept.append(mine)
    if not kept and not left_out:
        return None
    if len(kept) < FEWEST_CLAIMS:
        raise DataError(
            f"expected at least {FEWEST_CLAIMS} foreign claims to calibrate the {side}'s threshold on, found {len(kept)}; "
            "give thresholds of your own, or more validation explanations"
        )
    values = {name: _highest(kept, name) for name in ("score", "entailment", "contradiction")}
    cosine = lowest_passed(values["score"], share)
    own_scores = _highest([found for row in own for matches in row if (found := side_of(matches, side))], "score")
    judged = {
        name: max(ENTAILED, lowest_passed(values[name], share)) if values[name] else None
        for name in ("entailment", "contradiction")
    }
    return Threshold(
        cosine=cosine,
        **judged,
        false_support=float(np.mean(np.asarray(values["score"]) > cosine)),
        own_support=float(np.mean(np.asarray(own_scores) > cosine)) if own_scores else None,
        foreign_claims=len(kept),
        left_out=left_out,
    )


def _highest(rows: Sequence[Matches], value: str) -> list[float]:
    return [getattr(found, value) for matches in rows if (found := best(matches, value)) is not None]


def _exceeds(value: float | None, threshold: float | None) -> bool:
    return value is not None and threshold is not None and value > threshold
