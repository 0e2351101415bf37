"""What a judge's answers come to: means with intervals, paired differences, preferences, calibration, and agreement."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from .bootstrap import mean_interval, mean_intervals, paired_difference
from .judge import CALIBRATED, CALIBRATION, MODEL, PAIR, SYSTEM
from .judge_agreement import agreement
from .judge_calibration import auc_interval, calibrate, trusted, verdict
from .judge_prompts import CRITERIA, SCORED

SEED, RESAMPLES, LEVEL = 0, 1000, 0.95
UNSURE = 0.5
"""Mass on the digits below which a judge mostly wanted to say something else."""


def summarise(table: pl.DataFrame) -> dict[str, Any]:
    """What one judge's answers come to.

    Args:
        table: Rows of one judge, with the columns of `judge.COLUMNS`.

    Returns:
        `rows`, `criteria`, `prompt_versions`, `scored_by`, `digit_mass`, `answered_by`, `fingerprints`, `tokens`, `systems`,
        `differences` (the model minus each), `preferences`, `calibration`, `trusted`, `verdict`, `notes`; figures are
        `value`, `low`, `high` and for differences `effect_size`, over the rows with an answer for every system.

    Raises:
        ValueError: There is no answer.
    """
    if table.is_empty():
        raise ValueError("expected at least one answer of a judge, found none")
    criteria = [name for name in CRITERIA if name in table["criterion"].unique().to_list()]
    calibration = _calibration(table)
    main = calibration.get(CALIBRATED[0]) or next(iter(calibration.values()), None)
    mass = table["mass"].drop_nulls()
    entry: dict[str, Any] = {
        "rows": table["row"].n_unique(),
        "criteria": criteria,
        "prompt_versions": {name: _distinct(table.filter(pl.col("criterion") == name), "prompt_version") for name in criteria},
        "scored_by": dict(sorted(table["scored_by"].value_counts().iter_rows())),
        "digit_mass": float(mass.mean()) if len(mass) else None,  # type: ignore[arg-type]
        "answered_by": _distinct(table, "answered_by"),
        "fingerprints": _distinct(table, "fingerprint"),
        "tokens": {side: int(_asked(table)[f"{side}_tokens"].sum()) for side in ("prompt", "completion")},
        "systems": _systems(table),
        "differences": _differences(table),
        "preferences": _preferences(table.filter(pl.col("kind") == PAIR)),
        "calibration": calibration,
        "trusted": None if main is None else trusted(main),
        "verdict": "Whether this judge can be trusted is not known: nothing was calibrated."
        if main is None
        else verdict(main),
    }
    return entry | {"notes": _notes(entry)}


def agree(table: pl.DataFrame, texts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Agreement of all judges that judged the same texts, by criterion.

    Args:
        table: Rows of all judges.
        texts: By judge: a digest of each system's texts, and of the references under "reference".

    Returns:
        By criterion what `judge_agreement.agreement` returns; criteria without two judges of common rows are left out.
    """
    found: dict[str, Any] = {}
    for name in SCORED:
        of = table.filter((pl.col("criterion") == name) & (pl.col("kind") == SYSTEM))
        judges = [judge for judge in texts if judge in of["judge"].unique().to_list()]
        judges = [one for one in judges if texts[one]["reference"] == texts[judges[-1]]["reference"]]
        systems = [one for one in texts[judges[-1]] if one != "reference"] if judges else []
        systems = [one for one in systems if len({texts[judge].get(one) for judge in judges}) == 1]
        if len(judges) < 2 or not systems:
            continue
        rows = sorted(of["row"].unique())
        scores = {judge: _matrix(of.filter(pl.col("judge") == judge), rows, systems) for judge in judges}
        together = np.stack(list(scores.values()))
        common = ~np.isnan(together).all(axis=2).any(axis=0)
        if common.any():
            found[name] = agreement({judge: one[common] for judge, one in scores.items()}, systems, SEED, RESAMPLES)
    return found


def _systems(table: pl.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    systems: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, matrix, names in _complete(table):
        for system, one in zip(names, mean_intervals(matrix, SEED, RESAMPLES, LEVEL), strict=True):
            systems.setdefault(system, {})[name] = {"value": one.mean, "low": one.low, "high": one.high}
    return systems


def _differences(table: pl.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    differences: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, matrix, names in _complete(table):
        for place, system in enumerate(names):
            if system != MODEL and MODEL in names:
                found = paired_difference(matrix[:, names.index(MODEL)], matrix[:, place], SEED, RESAMPLES, LEVEL)
                figures = {"value": found.mean, "low": found.low, "high": found.high, "effect_size": found.effect_size}
                differences.setdefault(system, {})[name] = figures
    return differences


def _complete(table: pl.DataFrame) -> list[tuple[str, np.ndarray, list[str]]]:
    """By criterion the scores of the rows in which every system has one, `(rows, systems)`, and the systems."""
    found = []
    of = table.filter(pl.col("kind") == SYSTEM)
    systems = of["system"].unique(maintain_order=True).to_list()
    systems = [MODEL, *(one for one in systems if one != MODEL)] if MODEL in systems else systems
    for name in SCORED:
        one = of.filter(pl.col("criterion") == name)
        matrix = _matrix(one, sorted(one["row"].unique()), systems)
        matrix = matrix[~np.isnan(matrix).any(axis=1)]
        if len(matrix):
            found.append((name, matrix, systems))
    return found


def _matrix(table: pl.DataFrame, rows: Sequence[int], columns: Sequence[str]) -> np.ndarray:
    places = {row: place for place, row in enumerate(rows)}
    found = np.full((len(rows), len(columns)), np.nan)
    for row, system, score in table.select("row", "system", "score").iter_rows():
        if system in columns:
            found[places[row], columns.index(system)] = score
    return found


def _calibration(table: pl.DataFrame) -> dict[str, Any]:
    of = table.filter(pl.col("kind") == CALIBRATION)
    found = {}
    for name in CALIBRATED:
        one = of.filter(pl.col("criterion") == name)
        if len(one):
            kinds = one["system"].unique(maintain_order=True).to_list()
            matrix = _matrix(one, sorted(one["row"].unique()), kinds)
            found[name] = calibrate(dict(zip(kinds, matrix.T, strict=True)), SEED, RESAMPLES, LEVEL)
            if (own := _own_against_shuffled(table.filter(pl.col("criterion") == name))) is not None:
                found[name]["model_against_shuffled"] = own
    return found


def _own_against_shuffled(table: pl.DataFrame) -> dict[str, float | None] | None:
    """The AUC of the model's own texts against the same texts shuffled, over rows with both; None without any."""
    own = table.filter((pl.col("kind") == SYSTEM) & (pl.col("system") == MODEL)).select("row", own="score")
    other = table.filter((pl.col("kind") == CALIBRATION) & (pl.col("system") == "shuffled")).select("row", other="score")
    both = own.join(other, on="row", how="inner").sort("row")
    if both.is_empty():
        return None
    return auc_interval(both["own"].to_numpy(), both["other"].to_numpy(), SEED, RESAMPLES, LEVEL)


def _preferences(pairs: pl.DataFrame) -> dict[str, Any]:
    """By system the model is compared with: wins and losses in both orders, all else ties, and the pull of the first place."""
    found: dict[str, Any] = {}
    mine = pairs.filter(pl.col("system") == MODEL).select("row", "other", first=pl.col("score"))
    theirs = pairs.filter(pl.col("other") == MODEL).select("row", other=pl.col("system"), second=pl.col("score"))
    both = mine.join(theirs, on=("row", "other"), how="inner", maintain_order="left")
    for other in both["other"].unique(maintain_order=True).to_list():
        one = both.filter(pl.col("other") == other)
        first, second = one["first"].to_numpy(), one["second"].to_numpy()
        # `score` is the probability of the text shown second: the model's in the second order.
        wins, losses = (first < 0.5) & (second > 0.5), (first > 0.5) & (second < 0.5)
        shown_first = ((first < 0.5).astype(float) + (second < 0.5) + 0.5 * (first == 0.5) + 0.5 * (second == 0.5)) / 2
        bias = mean_interval(shown_first, SEED, RESAMPLES, LEVEL)
        margin = mean_interval(wins.astype(float) - losses, SEED, RESAMPLES, LEVEL)
        found[other] = {
            "rows": len(one),
            "wins": int(wins.sum()),
            "losses": int(losses.sum()),
            "ties": int((~wins & ~losses).sum()),
            "win_minus_loss": {"value": margin.mean, "low": margin.low, "high": margin.high},
            "changed_with_order": float(((first - 0.5) * (second - 0.5) > 0).mean()),
            "first_chosen": {"value": bias.mean, "low": bias.low, "high": bias.high},
        }
    return found


def _asked(table: pl.DataFrame) -> pl.DataFrame:
    """One row a question that was asked: rows that share one were asked once."""
    return table.filter(pl.col("request").is_not_null()).unique("request", maintain_order=True)


def _distinct(table: pl.DataFrame, column: str) -> list[str]:
    return sorted(one for one in table[column].unique() if one)


def _notes(entry: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures must know."""
    notes = []
    by = entry["scored_by"]
    if by.get("digit") and by.get("probabilities"):
        notes.append(f"{by['digit']} of {sum(by.values())} scores are single digits, the others expected values.")
    elif by.get("digit"):
        notes.append("No probabilities were given: scores are single digits, which are coarser.")
    if by.get("rule"):
        notes.append(f"{by['rule']} scores are by rule: those texts give orders to their reader and were not shown.")
    if entry["digit_mass"] is not None and entry["digit_mass"] < UNSURE:
        notes.append(
            f"The judge puts {100 * entry['digit_mass']:.1f} % of its probability on digits: it wants to say other things."
        )
    if len(entry["fingerprints"]) > 1 or len(entry["answered_by"]) > 1:
        notes.append("More than one build of the model answered: the judge is not pinned.")
    for other, one in entry["preferences"].items():
        span = one["first_chosen"]
        if span["low"] is not None and not span["low"] <= 0.5 <= span["high"]:
            place = "first" if span["value"] > 0.5 else "second"
            share = span["value"] if place == "first" else 1 - span["value"]
            notes.append(
                f"Against {other} the text shown {place} was chosen in {100 * share:.0f} % of questions: position bias."
            )
    return notes
