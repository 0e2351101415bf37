"""What becomes of each claim: its verdict, the evidence that the verdict rests on, and the figures of its row."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from .claim_scores import SIDES, Evidence, Match, Matches, Vectors, best, match_claims, phrases, side_of
from .claims import split_claims
from .evidence_texts import TITLE, EvidenceTexts
from .grounding_thresholds import Thresholds, other_pairs
from .nli import Entailment
from .unfounded_words import found_stems, unfounded_names, unfounded_words

SUPPORTED, USER_ONLY, UNSUPPORTED = "supported", "user only", "unsupported"
CONTRADICTED, NO_EVIDENCE = "contradicted", "no evidence"
VERDICTS = (SUPPORTED, USER_ONLY, UNSUPPORTED, CONTRADICTED, NO_EVIDENCE)
MATCH = pl.Struct(
    {"source": pl.String, "phrase": pl.String, "sentence": pl.String, "score": pl.Float64}
    | {"entailment": pl.Float64, "contradiction": pl.Float64}
)
CLAIMS: dict[str, Any] = {
    "row": pl.Int64,
    "claim": pl.String,
    "verdict": pl.String,
    "source": pl.String,
    "phrase": pl.String,
    "evidence": pl.String,
    "score": pl.Float64,
    "entailment": pl.Float64,
    "contradiction": pl.Float64,
    "matches": pl.List(MATCH),
}
ROWS: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "claims": pl.Int64,
    "supported": pl.Float64,
    "supported_by_user": pl.Float64,
    "contradicted": pl.Float64,
    "floor_supported": pl.Float64,
    "floor_supported_by_user": pl.Float64,
    "floor_contradicted": pl.Float64,
    "unfounded_words": pl.List(pl.String),
    "floor_unfounded_words": pl.Int64,
    "unfounded_names": pl.List(pl.String),
}


@dataclass(frozen=True)
class Judge:
    """Judges blocks of rows.

    Attributes:
        evidence: Gathers the texts of pairs.
        vectors: Encodes claims and phrases.
        nli: Judges entailment; None for cosines alone.
        thresholds: Scores above which a claim is supported.
        template: Stems that no explanation is asked to justify.
        seed: Seed of the floor's partners.
    """

    evidence: EvidenceTexts
    vectors: Vectors
    nli: Entailment | None
    thresholds: Thresholds
    template: frozenset[str]
    seed: int

    def block(self, rows: pl.DataFrame, start: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Judge one block.

        Args:
            rows: user_id, item_id, prediction.
            start: Number of its first row.

        Returns:
            Figures by row (`ROWS`) and records by claim (`CLAIMS`).
        """
        users, items, texts = (rows[name].to_list() for name in ("user_id", "item_id", "prediction"))
        pairs = list(zip(users, items, strict=True))
        claims = [split_claims(text) for text in texts]
        known = self.evidence.of(pairs)
        found = [phrases(one) for one in known]
        partners = other_pairs(pairs, self.seed)
        own = match_claims(claims, found, self.vectors, self.nli)
        others = [{} if partner is None else found[partner] for partner in partners]
        floor = match_claims(claims, others, self.vectors, self.nli)
        stems = [found_stems(text for some in one.values() for text in some) for one in known]
        figures, records = [], []
        for row, ((user, item), text, mine) in enumerate(zip(pairs, texts, claims, strict=True)):
            partner = partners[row]
            figures.append(
                {"user_id": user, "item_id": item, "claims": len(mine)}
                | self._shares(own[row], found[row], "")
                | self._shares(floor[row], others[row], "floor_")
                | self._words(text, stems[row], None if partner is None else stems[partner])
            )
            records += [
                {"row": start + row, "claim": claim.text, **self.record(matches, has_evidence(found[row], "item"))}
                for claim, matches in zip(mine, own[row], strict=True)
            ]
        return pl.DataFrame(figures, schema=ROWS), pl.DataFrame(records, schema=CLAIMS)

    def _verdict(self, matches: Matches, judged: bool) -> str:
        if not judged:
            return NO_EVIDENCE
        if self.thresholds.item.contradicts(side_of(matches, "item")):
            return CONTRADICTED
        if self.thresholds.supports("item", matches):
            return SUPPORTED
        return USER_ONLY if self.thresholds.supports("user", matches) else UNSUPPORTED

    def _shares(self, matched: Sequence[Matches], found: Evidence, prefix: str) -> dict[str, float | None]:
        judged = bool(matched) and has_evidence(found, "item")
        verdicts = [self._verdict(matches, judged) for matches in matched]
        by_user = [self.thresholds.supports("user", matches) for matches in matched]
        known_user = bool(matched) and self.thresholds.user is not None and has_evidence(found, "user")
        return {
            f"{prefix}supported": _share(verdict == SUPPORTED for verdict in verdicts) if judged else None,
            f"{prefix}supported_by_user": _share(by_user) if known_user else None,
            f"{prefix}contradicted": _share(v == CONTRADICTED for v in verdicts) if judged and self.nli is not None else None,
        }

    def _words(self, text: str, found: frozenset[str], partner: frozenset[str] | None) -> dict[str, Any]:
        own = unfounded_words(text, found, self.template)
        other = None if partner is None or own is None else unfounded_words(text, partner, self.template)
        return {
            "unfounded_words": own,
            "floor_unfounded_words": None if other is None else len(other),
            "unfounded_names": unfounded_names(text, found),
        }

    def record(self, matches: Matches, judged: bool) -> dict[str, Any]:
        """Judge one claim.

        Args:
            matches: Its best match in each source.
            judged: Whether its item has evidence, see `has_evidence`.

        Returns:
            The verdict and what it rests on: the columns of `CLAIMS` but the row and the claim; without a match none of the
            match's columns.
        """
        verdict = self._verdict(matches, judged)
        shown = self._shown(matches, verdict)
        facts: dict[str, Any] = {"verdict": verdict, "matches": [_plain(match) for match in matches]}
        if shown is not None:
            plain = _plain(shown)
            facts |= {"evidence": plain.pop("sentence"), **plain}
        return facts

    def _shown(self, matches: Matches, verdict: str) -> Match | None:
        """The match that the verdict rests on, or the nearest one."""
        if verdict == CONTRADICTED:
            return best(side_of(matches, "item"), "contradiction")
        side = {SUPPORTED: "item", USER_ONLY: "user"}.get(verdict)
        near = best(matches if side is None else side_of(matches, side))
        if side is None or near is None:
            return near
        threshold = self.thresholds.item if side == "item" else self.thresholds.user
        by_cosine = threshold is not None and near.score > threshold.cosine
        return near if by_cosine else best(side_of(matches, side), "entailment")


def has_evidence(found: Evidence, side: str) -> bool:
    """Return whether there is a text to judge a claim by; a title alone says too little."""
    return any(source in SIDES[side] and source != TITLE for source in found)


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean(list(flags)))


def _plain(match: Match) -> dict[str, Any]:
    plain = asdict(match)
    phrase: dict[str, str] = plain.pop("phrase")
    return {**plain, "phrase": phrase["text"], "sentence": phrase["sentence"]}
