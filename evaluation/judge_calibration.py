"""Can this judge be believed on this data? Texts whose rank is known without it, and how well its scores tell them apart."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

from .bootstrap import mean_interval
from .floors import copied_profile, shuffled

REFERENCE = "reference"
"""The text of the row's own reference, which nothing can beat in faithfulness to it."""
FAULTS = {
    "shuffled": "a shuffled text",
    "contradicting": "a text that says the opposite",
    "copied_profile": "a copied item profile",
    "empty": "an empty text",
}
"""Texts that must score below the reference, in the words of the verdict."""
TELLS = 0.8
"""The least AUC of a judge that tells two kinds of texts apart; the interval must stay above 0.5 too."""
FEWEST = 20
"""Rows below which nothing is said of a judge."""

DRAWS_AT_ONCE = 100

_NOT = re.compile(
    r"(?i)\b(would|will|does|do|did|can|could|may|might|should|is|are|was|were|has|have)(?:\s+not\b|n['\u2019]t\b)"
)
_MODAL = re.compile(r"(?i)\b(would|will|may|might|can|could|should)\b(?!\s+not\b)")
_LIKES = re.compile(r"(?i)\b(?:enjoy|like|love|appreciate|prefer|value|want|favou?r)(?:d|ed|(s))?\b")
_IS = re.compile(r"(?i)\b(is|are|was|were)\b(?!\s+not\b)")
OPPOSITE = "The user would dislike this: nothing about it is what they look for."
"""Said where no rule finds a verb to turn round."""


def contradicting(text: str) -> str:
    """A text that says the opposite of an English one: its first verb that can be is turned round by a rule.

    A negation is taken away ("would not enjoy", "isn't"); else "not" is set after a modal verb, or a liking becomes a dislike,
    or "not" is set after a form of "to be". Where there is none of these, a template says that the user would dislike it.
    """
    if _NOT.search(text):
        return _NOT.sub(r"\1", text, count=1)
    if _MODAL.search(text):
        return _MODAL.sub(r"\1 not", text, count=1)
    if _LIKES.search(text):
        return _LIKES.sub(lambda found: f"dislike{found[1] or ''}", text, count=1)
    return _IS.sub(r"\1 not", text, count=1) if _IS.search(text) else OPPOSITE


def calibration_texts(rows: pl.DataFrame, about: pl.DataFrame, seed: int) -> dict[str, list[str]]:
    """Texts of known rank for every row: the reference, and as many of `FAULTS` as the columns allow.

    Args:
        rows: prediction, reference.
        about: item_profile, if known; the same rows.
        seed: Of the shuffle, which is one of all rows, so that a row's text does not depend on how many are judged.
    """
    references = rows["reference"].to_list()
    texts = {REFERENCE: references, "contradicting": [contradicting(text) for text in references], "empty": [""] * len(rows)}
    if len(rows) > 1:
        texts["shuffled"] = shuffled(rows["prediction"].to_list(), seed)
    if "item_profile" in about.columns:
        profiles = copied_profile(about["item_profile"].cast(pl.String).to_list())
        if any(profile.strip() for profile in profiles):
            texts["copied_profile"] = profiles
    return {kind: texts[kind] for kind in (REFERENCE, *FAULTS) if kind in texts}


def auc(better: np.ndarray, worse: np.ndarray) -> float:
    """The chance that a text of one kind scores above one of another, ties counted half (Mann-Whitney's U over its most).

    Args:
        better: `(n,)`, at least one.
        worse: `(m,)`, at least one.

    Returns:
        1 when every better one is above every worse one, 0.5 when scores say nothing.
    """
    return float(_aucs(better[None], worse[None])[0])


def _aucs(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """`auc` of several draws, `(draws, n)` and `(draws, m)`."""
    count = better.shape[1]
    ranks = rankdata(np.concatenate([better, worse], axis=1), axis=1)[:, :count].sum(axis=1)
    return (ranks - count * (count + 1) / 2) / (count * worse.shape[1])


def auc_interval(better: np.ndarray, worse: np.ndarray, seed: int, resamples: int, level: float) -> dict[str, float | None]:
    """`auc` with its percentile interval, rows drawn with replacement.

    Args:
        better: `(rows,)`.
        worse: `(rows,)`, of the same rows, which are drawn together.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage.

    Returns:
        `value`, `low`, `high`; the ends are None for a single row.
    """
    value = auc(better, worse)
    if len(better) < 2:
        return {"value": value, "low": None, "high": None}
    rng = np.random.default_rng(seed)
    found = np.empty(resamples)
    for start in range(0, resamples, DRAWS_AT_ONCE):
        draws = rng.integers(len(better), size=(len(found[start : start + DRAWS_AT_ONCE]), len(better)))
        found[start : start + DRAWS_AT_ONCE] = _aucs(better[draws], worse[draws])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return {"value": value, "low": float(low), "high": float(high)}


def calibrate(scores: Mapping[str, np.ndarray], seed: int = 0, resamples: int = 1000, level: float = 0.95) -> dict[str, Any]:
    """How well scores tell the reference from texts that are worse.

    Args:
        scores: By kind of text `(rows,)`, the same rows, NaN where there is no answer; `REFERENCE` and some of `FAULTS`.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage.

    Returns:
        `rows` with all answers, `means` by kind and `auc` by kind of fault, each with `value`, `low`, `high`; `told`, the
        faults that are told apart, and `not_told`, the others.
    """
    names = [REFERENCE, *(name for name in FAULTS if name in scores)]
    stacked = np.column_stack([scores[name] for name in names])
    stacked = stacked[~np.isnan(stacked).any(axis=1)]
    if not len(stacked):
        return {"rows": 0, "means": {}, "auc": {}, "told": [], "not_told": names[1:]}
    columns = dict(zip(names, stacked.T, strict=True))
    intervals = {name: mean_interval(column, seed, resamples, level) for name, column in columns.items()}
    means = {name: {"value": one.mean, "low": one.low, "high": one.high} for name, one in intervals.items()}
    curves = {name: auc_interval(columns[REFERENCE], columns[name], seed, resamples, level) for name in names[1:]}
    told = [name for name, one in curves.items() if (one["value"] or 0) >= TELLS and (one["low"] or 0) > 0.5]
    return {
        "rows": len(stacked),
        "means": means,
        "auc": curves,
        "told": told,
        "not_told": [name for name in curves if name not in told],
    }


def trusted(found: Mapping[str, Any]) -> bool | None:
    """Whether all faults are told apart; None where there are too few rows to say."""
    return None if found["rows"] < FEWEST else not found["not_told"]


def verdict(found: Mapping[str, Any]) -> str:
    """One plain sentence on what `calibrate` found of faithfulness."""
    if found["rows"] < FEWEST:
        return (
            f"Whether this judge can be trusted is not known: {found['rows']} calibration rows, at least {FEWEST} are needed."
        )
    if not found["not_told"]:
        return f"On this data this judge tells the right text from {_listed(found['told'])}."
    if not found["told"]:
        return "This judge tells nothing apart on this data: do not use its scores."
    missed = f"This judge cannot tell {_listed(found['not_told'])} from the right one"
    if "shuffled" in found["not_told"]:
        return f"{missed}: do not use its scores."
    return f"{missed}; it tells {_listed(found['told'])}."


def _listed(kinds: Sequence[str]) -> str:
    words = [FAULTS[kind] for kind in kinds]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
