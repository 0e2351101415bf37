"""What an explanation claims, and what each claim rests on: texts of its item and of its user.

These are the training split's, and the prompt's own. With an encoder claims get the verdicts of grounding, by thresholds that
were found on validation pairs. Without one a claim is looked for by its words: it is named where one sentence has them all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modeling_xrec.processing_xrec import XRecProcessor
from xrec_evaluation.claim_scores import SIDES, Evidence, Matches, Vectors, match_claims, phrases
from xrec_evaluation.claims import Claim, split_claims
from xrec_evaluation.encoders import SentenceEncoder
from xrec_evaluation.evidence_texts import CHARACTERS, TITLE, EvidenceTexts, Texts
from xrec_evaluation.grounding_thresholds import find_thresholds
from xrec_evaluation.unfounded_words import stems
from xrec_evaluation.verdicts import NO_EVIDENCE, SUPPORTED, USER_ONLY, Judge, has_evidence

NAMED, NOT_NAMED = "named", "not named"
"""Verdicts without an encoder, beside "user only" and "no evidence"."""
SHOWN = 3
"""Sentences that are given for a claim, each of another source."""
NOBODY = ""
"""Stands for the user of a history: whoever it is has no training texts."""
PROMPT_TEXTS = {"title": TITLE, "item_profile": "item_profile", "user_profile": "user_profile"}
"""The source that each text of a prompt is."""


class ClaimCheck:
    """Looks for the claims of explanations in what is known of their items and users; for one thread.

    Args:
        processor: whose catalogue it is.
        data: dataset folder.
        encoder: Hub id or folder of a sentence encoder; None to go by words.

    Attributes:
        encoder: the same.

    Raises:
        DataError: data that cannot be read, no such encoder, or too few explanations to find its threshold.
        LeakError: a held-out pair among the training texts.
    """

    def __init__(self, processor: XRecProcessor, data: Path, encoder: str | None = None) -> None:
        self._processor, self.encoder = processor, encoder
        self._texts = EvidenceTexts(data)
        self._judge: Judge | None = None
        if encoder is not None:
            vectors = Vectors(SentenceEncoder(encoder))
            thresholds = find_thresholds(data, self._texts, vectors)
            self._judge = Judge(self._texts, vectors, None, thresholds, frozenset(), 0)

    def of(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Check explanations.

        Args:
            rows: `basis` of the pipeline's rows: `user_id` or `history` (perhaps with `profile_of`), `item_id`, and the texts
                of the prompt.
            texts: their explanations.

        Returns:
            For each its claims: `text`, `verdict`, `score` (None without an encoder), and `evidence`, the sentences that the
            verdict rests on with their `source`.
        """
        claims = [split_claims(text) for text in texts]
        found = [phrases(known) for known in self._known(rows)]
        judge = self._judge
        if judge is None:
            return [[_by_words(claim, one) for claim in mine] for mine, one in zip(claims, found, strict=True)]
        matched = match_claims(claims, found, judge.vectors)
        return [
            [_judged(judge, claim, matches, one) for claim, matches in zip(mine, row, strict=True)]
            for mine, row, one in zip(claims, matched, found, strict=True)
        ]

    def _known(self, rows: Sequence[Mapping[str, Any]]) -> list[Texts]:
        """Texts by source: of the training split, but where the prompt says otherwise, the prompt's."""
        pairs = [(row.get("user_id") or row.get("profile_of") or NOBODY, row["item_id"]) for row in rows]
        return [self._as_prompted(row, known) for row, known in zip(rows, self._texts.of(pairs), strict=True)]

    def _as_prompted(self, row: Mapping[str, Any], known: Texts) -> Texts:
        texts = dict(known)
        if "history" in row:
            texts = {source: some for source, some in texts.items() if source in SIDES["item"]}
            items = [self._processor.items[self._processor.item_index(item)] for item in row["history"]]
            touched = items[: self._texts.limits.history]
            texts["user_history"] = _cut([text for one in touched for text in (one.get("title"), one.get("item_profile"))])
        for name, source in PROMPT_TEXTS.items():
            texts[source] = _cut([row[name]])
        return {source: some for source, some in texts.items() if some}


def _cut(texts: Sequence[str | None]) -> tuple[str, ...]:
    cut = ((text or "")[:CHARACTERS].strip() for text in texts)
    return tuple(dict.fromkeys(text for text in cut if text))


def _by_words(claim: Claim, found: Evidence) -> dict[str, Any]:
    words = stems(claim.text)
    named: dict[str, list[dict[str, str]]] = {side: [] for side in SIDES}
    for side, sources in SIDES.items():
        for source in sources:
            sentences = (phrase.sentence for phrase in found.get(source, ()))
            sentence = next((one for one in sentences if words <= stems(one)), None)
            if sentence is not None:
                named[side].append({"source": source, "text": sentence})
    if not has_evidence(found, "item"):
        verdict, shown = NO_EVIDENCE, []
    elif named["item"]:
        verdict, shown = NAMED, named["item"]
    else:
        verdict, shown = (USER_ONLY, named["user"]) if named["user"] else (NOT_NAMED, [])
    return {"text": claim.text, "verdict": verdict, "score": None, "evidence": shown[:SHOWN]}


def _judged(judge: Judge, claim: Claim, matches: Matches, found: Evidence) -> dict[str, Any]:
    record = judge.record(matches, has_evidence(found, "item"))
    side = {SUPPORTED: "item", USER_ONLY: "user"}.get(record["verdict"])
    threshold = judge.thresholds.user if side == "user" else judge.thresholds.item
    near = [
        match for match in matches if side and match.source in SIDES[side] and threshold and match.score > threshold.cosine
    ]
    near.sort(key=lambda match: -match.score)
    return {
        "text": claim.text,
        "verdict": record["verdict"],
        "score": record.get("score"),
        "evidence": [{"source": match.source, "text": match.phrase.sentence} for match in near[:SHOWN]],
    }
