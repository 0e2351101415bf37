"""What a judge said, reduced to one digit and, where they are known, the probabilities of all digits that it might have said.

The expected value over the digits (Liu et al., G-Eval, arXiv 2303.16634, section 2) is a finer score than the digit itself:
sum of d p(d) over sum of p(d).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xrec_dataset_builder.answers import without_thought
from xrec_dataset_builder.teacher import Answer, Rejected, Request

from .judge_prompts import AGAIN_VERSION, CRITERIA, PREFERENCE, again

MOST_TOKENS = 8
"""Tokens of an answer by default; a model that thinks aloud first needs more."""
BY_PROBABILITIES, BY_DIGIT, BY_RULE, BY_EQUALITY = "probabilities", "digit", "rule", "equal"
"""How a score came about; by rule where a text was not shown to the judge, and equal where two texts are the same."""

_NAME_CHARACTERS = 80
_ANSWER = re.compile(
    r"(?i)^\W*(?:(?:the\s+)?(?:score|rating|grade|answer|digit)\W*(?:is\b\W*)?)?(?P<digit>\d)(?!\w|\s*[.,]\s*\d|\s*[-\u2013]\s*\d)"
    r"(?:\s*(?:/|out of)\s*\d+)?(?=\W*$|\s*[\n.:,;)(\u2013\u2014-])"
)


@dataclass(frozen=True)
class Judged:
    """What is kept of an answer.

    Attributes:
        score: For a criterion the expected value over its digits, or the digit said; for a preference the probability of
            the second text, or 0 or 1.
        digit: The digit said.
        mass: The probability of all digits together, None where it is not known; near 0 the judge wanted to say something
            else.
        scored_by: `probabilities` or `digit`.
        model: What the endpoint calls the model that answered, or "".
        fingerprint: The endpoint's name for its build (`system_fingerprint`), or "".
    """

    score: float
    digit: int
    mass: float | None
    scored_by: str
    model: str
    fingerprint: str


def expected_score(probabilities: Mapping[str, float]) -> float:
    """The expected value over digits: the mean of the digits, weighted by their probabilities.

    Args:
        probabilities: By digit, not all 0; they need not add up to 1.
    """
    return sum(int(digit) * one for digit, one in probabilities.items()) / sum(probabilities.values())


def digit_said(text: str) -> int | None:
    """The place of the one digit in an answer that says a digit and little else, None in any other answer.

    `4`, `Score: 4`, `**4**`, `4/5` and `4: most of it` are read; `4.5`, `10`, `1 to 5` and whole sentences are not.
    """
    start = len(text.rstrip()) - len(without_thought(text))
    found = _ANSWER.match(text[start:])
    return start + found.start("digit") if found else None


def packed(
    text: str, finish_reason: str, tokens: Sequence[Mapping[str, Any]] = (), model: str = "", fingerprint: str = ""
) -> tuple[str, str]:
    """An answer as the journal keeps it, and why it ended.

    Args:
        text: What the judge said.
        finish_reason: As the endpoint gives it.
        tokens: The tokens said, each with `token` and `top_logprobs`, in the words of OpenAI's protocol.
        model: What the endpoint calls the model.
        fingerprint: The endpoint's `system_fingerprint`.

    Returns:
        One JSON object, with `digit` where there is one and `p`, the digits' probabilities, where they are known; and the
        reason, which is `stop` for a digit, whatever the judge wanted to add.
    """
    found: dict[str, Any] = {"model": model[:_NAME_CHARACTERS], "fingerprint": fingerprint[:_NAME_CHARACTERS]}
    place = digit_said(text)
    if place is None:
        return json.dumps(found), finish_reason
    found["digit"] = text[place]
    if probabilities := _probabilities(tokens, text, place):
        found["p"] = {digit: float(f"{one:.9g}") for digit, one in probabilities.items()}
    return json.dumps(found), finish_reason if finish_reason == "content_filter" else "stop"


def _probabilities(tokens: Sequence[Mapping[str, Any]], text: str, place: int) -> dict[str, float]:
    """The probabilities of the digits where the digit at a place of the text was said; empty where they are not known."""
    try:
        said = [str(token["token"]) for token in tokens]
        at = _token_at(said, text, place)
        if at is None:
            return {}
        sums: dict[str, float] = {}
        for option in tokens[at]["top_logprobs"]:
            digit, one = str(option["token"]).strip(), math.exp(min(float(option["logprob"]), 0.0))
            if len(digit) == 1 and digit in "0123456789" and math.isfinite(one):
                sums[digit] = sums.get(digit, 0.0) + one
    except (LookupError, TypeError, ValueError):
        return {}
    return sums if sums.get(text[place], 0) > 0 else {}


def _token_at(said: Sequence[str], text: str, place: int) -> int | None:
    """The token that holds the digit at a place of the text; the only token of that digit where tokens are not the text."""
    if "".join(said).startswith(text):
        end = 0
        for at, token in enumerate(said):
            end += len(token)
            if end > place:
                return at if token.strip() == text[place] else None
    places = [at for at, token in enumerate(said) if token.strip() == text[place]]
    return places[0] if len(places) == 1 else None


def accept(request: Request, answer: Answer) -> Judged:
    """What is kept of an answer.

    Raises:
        Rejected: it is not one of the digits that were asked for.
    """
    choices = choices_of(request)
    try:
        found = json.loads(answer.text)
        digit, given = found.get("digit"), found.get("p") or {}
        model, fingerprint = str(found.get("model", "")), str(found.get("fingerprint", ""))
        probabilities = {choice: float(given[choice]) for choice in choices if choice in given}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Rejected("it is no answer of a judge") from None
    if digit not in choices:
        raise Rejected(f"it is not one digit from {choices[0]} to {choices[-1]}")
    known = probabilities.get(digit, 0) > 0
    score = expected_score(probabilities) if known else float(digit)
    if request.kind == CRITERIA[PREFERENCE].kind:
        score -= 1  # from the digits 1 and 2 to the probability of the second
    mass = min(sum(probabilities.values()), 1.0) if known else None
    return Judged(score, int(digit), mass, BY_PROBABILITIES if known else BY_DIGIT, model, fingerprint)


def repair(request: Request, answer: Answer, verdict: Rejected) -> Request | None:
    """The question once more, with a plea for one digit; None after a content filter."""
    if answer.finish_reason == "content_filter":
        return None
    version = f"{request.prompt_version}+{AGAIN_VERSION}"
    return replace(request, messages=again(request.messages, choices_of(request)), prompt_version=version)


def choices_of(request: Request) -> tuple[str, ...]:
    """The digits that a question asks for."""
    return CRITERIA[request.kind.removeprefix("judge_")].choices
