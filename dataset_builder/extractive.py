"""The extractive teacher: it chooses the sentences of a review that state why, and rewrites them about the user.

It needs no model, invents nothing, and keeps what is negative negative. English only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .fragments import completed, split_splices
from .sentences import clean_text, sentences
from .third_person import is_first_person, to_third_person
from .words import (
    BOILERPLATE,
    FILLER,
    GENERIC_PRAISE,
    NEGATION,
    OPINION_CUES,
    QUESTION,
    REASON_CUES,
    RELATIVES,
    SPECIFIC_OPINION,
    STOP_WORDS,
)

PROFILE_WORDS = 60
"""Most words of a profile."""

Statements = tuple[tuple[float, str], ...]
"""Sentences of a review with their scores, as `statements` returns them."""

_ENOUGH = 1.8
"""Score from which a sentence states why."""


@dataclass(frozen=True)
class _Candidate:
    score: float
    place: int
    text: str
    content: frozenset[str]


def statements(review: str) -> Statements:
    """Return the sentences of a review that state a reason, with their scores, higher for more.

    The functions below take them in place of the review, so that a review that feeds several texts is read once.
    """
    return tuple(one for whole in sentences(review) for one in _scored(whole))


# Short sentences recur by the thousand ("Great gift."), so the work on one sentence is remembered.
@lru_cache(maxsize=1 << 16)
def _scored(sentence: str) -> Statements:
    scored = ((_score(part), part) for part in split_splices(sentence))
    return tuple((score, part) for score, part in scored if score >= _ENOUGH)


@lru_cache(maxsize=1 << 16)
def _rewritten(sentence: str, finds: bool) -> tuple[str, frozenset[str]]:
    """A sentence as it is quoted, and its content words."""
    whole = completed(sentence, finds)
    text = _finished(to_third_person(whole)) if finds else _finished(whole)
    return text, _content(text) - GENERIC_PRAISE


def explanation(review: str | Statements, max_sentences: int = 3, max_words: int = 50) -> str:
    """Return why the user liked or disliked an item, in the third person.

    Args:
        review: the raw review of this user and this item.
        max_sentences: most sentences to keep, in the order of the review.
        max_words: most words in all.

    Returns:
        Sentences that end with a full stop; empty when none of the review's sentences states a reason.
    """
    chosen = _best(_candidates([review], finds=True), max_sentences, max_words)
    return " ".join(candidate.text for candidate in sorted(chosen, key=lambda candidate: candidate.place))


def user_profile(reviews: Sequence[str | Statements], max_sentences: int = 2) -> str:
    """Return what a user's own reviews say of their taste, in the third person.

    Args:
        reviews: the user's training reviews; never those of held-out pairs.
        max_sentences: most sentences.

    Returns:
        The sentences that state most, best first; empty when none states a reason.
    """
    candidates = _candidates(reviews, finds=True)
    about = [
        _Candidate(one.score + 1.0 * ("user" in one.text.split()[:4]), one.place, one.text, one.content) for one in candidates
    ]
    return " ".join(candidate.text for candidate in _best(about, max_sentences, PROFILE_WORDS))


def item_profile(title: str, description: str, reviews: Sequence[str | Statements], max_sentences: int = 2) -> str:
    """Return what an item is, from its description and then from its reviews, without speaking of any person.

    Args:
        title: the item's title; a sentence that only repeats it is left out.
        description: the item's metadata; may be empty.
        reviews: the item's training reviews; never those of held-out pairs.
        max_sentences: most sentences.

    Returns:
        The first informative sentence of the description and the best of the reviews; empty when there is neither.
    """
    described = [text for text in sentences(description) if _describes(text, title)][:1]
    texts = [_finished(text) for text in described]
    words = sum(len(text.split()) for text in texts)
    impersonal = [one for one in _candidates(reviews, finds=False) if not _personal(one.text)]
    known = frozenset().union(*(_content(text) for text in texts))
    chosen = _best(impersonal, max_sentences - len(texts), PROFILE_WORDS - words, known)
    return " ".join([*texts, *(candidate.text for candidate in chosen)])


def _candidates(reviews: Sequence[str | Statements], finds: bool) -> list[_Candidate]:
    """Score and rewrite every sentence of some reviews; those that state no reason are left out."""
    found: dict[str, _Candidate] = {}
    for review in reviews:
        for score, sentence in statements(review) if isinstance(review, str) else review:
            text, content = _rewritten(sentence, finds)
            if len(text.split()) < 4 or text in found:
                continue
            found[text] = _Candidate(score, len(found), text, content)
    return list(found.values())


def _best(
    candidates: list[_Candidate], max_sentences: int, max_words: int, known: frozenset[str] = frozenset()
) -> list[_Candidate]:
    """Return the highest scores that fit, leaving out what repeats what was chosen."""
    chosen: list[_Candidate] = []
    left = max_words
    for candidate in sorted(candidates, key=lambda one: (-one.score, one.place)):
        words = len(candidate.text.split())
        if len(chosen) >= max_sentences:
            break
        if words > left or len(candidate.content & known) > 0.6 * len(candidate.content):
            continue
        chosen.append(candidate)
        known |= candidate.content
        left -= words
    return chosen


def _score(sentence: str) -> float:
    """Return how much a sentence states why; `_ENOUGH` is enough."""
    low = sentence.lower()
    words = re.findall(r"[a-z][a-z'-]*", low)
    specific = sum(word in SPECIFIC_OPINION for word in words)
    generic = sum(word in GENERIC_PRAISE for word in words)
    concrete = _content(sentence) - GENERIC_PRAISE
    phrased = bool(OPINION_CUES.search(low))
    judged = specific + generic + phrased
    reasoned = bool(REASON_CUES.search(low))
    if not concrete or not (judged or reasoned) or low.endswith("?") or QUESTION.match(low):
        return 0.0
    score = 1.5 * min(2, specific) + 1.0 * min(2, generic) + 1.5 * phrased + 1.0 * reasoned
    score += 0.5 * (judged > 0 and bool(NEGATION.search(low))) + 0.4 * min(6, len(concrete))
    score += 0.4 * (generic > 0 and is_first_person(sentence))
    told = 0 if "because" in words else len(FILLER.findall(low))
    score -= 2.5 * told + 1.0 * (len(words) > 35)
    return score


def _content(text: str) -> frozenset[str]:
    words = re.findall(r"[a-z][a-z'-]*", text.lower())
    return frozenset(word for word in words if len(word) > 2 and word not in STOP_WORDS)


def _describes(sentence: str, title: str) -> bool:
    words = sentence.split()
    if not 5 <= len(words) <= 45 or sentence.endswith("?") or BOILERPLATE.search(sentence):
        return False
    return not is_first_person(sentence) and bool(_content(sentence) - _content(clean_text(title)))


def _personal(text: str) -> bool:
    """Return whether a sentence speaks of a person that a profile of an item has no business with."""
    return (
        is_first_person(text)
        or bool(RELATIVES.search(text))
        or bool(re.search(r"\b(?:he|she|his|her|him|hers|you|your|this time)\b", text.lower()))
    )


def _finished(text: str) -> str:
    text = re.sub(r'[.,;:!?]+"$', '"', re.sub(r"\s+", " ", text).strip(" ,;:.!?"))
    return text[:1].upper() + text[1:] + "." if text else ""
