"""How well a pair's evidence matches each claim: the nearest phrase of every source, and what a classifier says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .claims import Claim, split_claims
from .encoders import SentenceEncoder
from .evidence_texts import ITEM_SOURCES, USER_SOURCES
from .nli import Entailment

SIDES: Mapping[str, tuple[str, ...]] = {"item": ITEM_SOURCES, "user": USER_SOURCES}
"""The two things that a claim can rest on: what is known of the item, and what is known of the user."""
MOST_VECTORS = 100_000
"""Vectors that are remembered between blocks."""

Evidence = Mapping[str, Sequence[Claim]]
"""A pair's phrases by source."""


@dataclass(frozen=True)
class Match:
    """The phrase of one source that is nearest to a claim.

    Attributes:
        source: One of `evidence_texts.SOURCES`.
        phrase: The phrase, with its sentence.
        score: Cosine with the claim.
        entailment: Probability that the sentence entails the claim; None without a classifier.
        contradiction: Probability that it contradicts the claim; None likewise.
    """

    source: str
    phrase: Claim
    score: float
    entailment: float | None = None
    contradiction: float | None = None


Matches = tuple[Match, ...]
"""The best phrase of each source that has one."""


def side_of(matches: Matches, side: str) -> Matches:
    """Return the matches with sources of one side."""
    return tuple(match for match in matches if match.source in SIDES[side])


def best(matches: Matches, value: str = "score") -> Match | None:
    """Return the match with the highest value of `score`, `entailment` or `contradiction`; None where there is none."""
    known = [match for match in matches if getattr(match, value) is not None]
    return max(known, key=lambda match: getattr(match, value), default=None)


def phrases(texts: Mapping[str, Sequence[str]]) -> dict[str, list[Claim]]:
    """Split a pair's texts into phrases, as claims are split, so that like is compared with like.

    Args:
        texts: Texts by source.

    Returns:
        Phrases by source, each once a source; a source without a phrase is absent.
    """
    found: dict[str, list[Claim]] = {}
    for source, some in texts.items():
        distinct = {phrase.text.casefold(): phrase for text in some for phrase in reversed(split_claims(text))}
        if distinct:
            found[source] = list(distinct.values())
    return found


class Vectors:
    """Vectors of texts; those met lately are remembered.

    Args:
        encoder: Makes them.
        most: How many are remembered; a block of texts larger than that is encoded all the same.
    """

    def __init__(self, encoder: SentenceEncoder, most: int = MOST_VECTORS) -> None:
        self._encoder, self._most = encoder, most
        self._known: dict[str, np.ndarray] = {}

    def of(self, texts: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
        """Encode texts that are not known yet.

        Args:
            texts: Any texts.

        Returns:
            The row of each text, and the vectors `(distinct texts, width)`.
        """
        distinct = list(dict.fromkeys(texts))
        new = [text for text in distinct if text not in self._known]
        self._known.update(zip(new, self._encoder.encode(new), strict=True))
        vectors = np.stack([self._known[text] for text in distinct]) if distinct else np.zeros((0, self._encoder.width))
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        return {text: row for row, text in enumerate(distinct)}, vectors


def match_claims(
    claims: Sequence[Sequence[Claim]], evidence: Sequence[Evidence], vectors: Vectors, nli: Entailment | None = None
) -> list[list[Matches]]:
    """Find the nearest phrase of each source for every claim.

    Args:
        claims: Claims of each row.
        evidence: Evidence of each row.
        vectors: Encodes them.
        nli: Judges each claim against the sentence of each nearest phrase; None for cosines alone.

    Returns:
        For each row and claim its matches.
    """
    texts = [claim.text for row in claims for claim in row]
    texts += [phrase.text for row in evidence for found in row.values() for phrase in found]
    places, table = vectors.of(texts)
    matched = [_match_row(row, found, places, table) for row, found in zip(claims, evidence, strict=True)]
    return matched if nli is None else _judged(claims, matched, nli)


def _match_row(claims: Sequence[Claim], evidence: Evidence, places: Mapping[str, int], table: np.ndarray) -> list[Matches]:
    if not claims:
        return []
    mine = table[[places[claim.text] for claim in claims]]
    columns: list[list[Match]] = []
    for source, found in evidence.items():
        scores = mine @ table[[places[phrase.text] for phrase in found]].T
        nearest = scores.argmax(axis=1)
        columns.append([Match(source, found[place], float(scores[row, place])) for row, place in enumerate(nearest)])
    return [tuple(column[row] for column in columns) for row in range(len(claims))]


def _judged(claims: Sequence[Sequence[Claim]], matched: list[list[Matches]], nli: Entailment) -> list[list[Matches]]:
    flat = [
        (claim.statement, match)
        for row, found in zip(claims, matched, strict=True)
        for claim, matches in zip(row, found, strict=True)
        for match in matches
    ]
    judged = iter(nli.judge([match.phrase.sentence for _, match in flat], [statement for statement, _ in flat]).tolist())
    return [
        [tuple(Match(one.source, one.phrase, one.score, *next(judged)) for one in matches) for matches in found]
        for found in matched
    ]
