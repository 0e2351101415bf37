"""One system beside another on the same rows: means over seeds, intervals, paired differences, adjusted p-values."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .bootstrap import Interval, holm, mean_intervals, paired_differences
from .metrics import METRICS, Measured

SEED = 0
RESAMPLES = 1000
LEVEL = 0.95


def average(runs: Sequence[Measured]) -> Measured:
    """The same system trained with several seeds: each row's and each corpus figure is the mean over them.

    Args:
        runs: One a seed, of the same rows.

    Returns:
        Their mean; its intervals are over rows, not over seeds.
    """
    first = runs[0]
    if len(runs) == 1:
        return first
    per_row = {key: np.mean([run.per_row[key] for run in runs], axis=0) for key in first.per_row}
    corpus = {key: statistics.fmean(run.corpus[key] for run in runs) for key in first.corpus}
    return Measured(per_row, corpus, first.settings)


def by_seed(runs: Sequence[Measured], headline: str) -> dict[str, Any] | None:
    """The headline figure of each seed and their standard deviation; None for a single one."""
    if len(runs) == 1:
        return None
    values = [float(run.per_row[headline].mean()) for run in runs]
    return {"values": values, "sd": statistics.stdev(values)}


def figures(measured: Measured) -> dict[str, dict[str, float | None]]:
    """Every metric in the order of `METRICS`: `value`, and for means over rows `low` and `high`."""
    stacked = np.column_stack(list(measured.per_row.values()))
    intervals = dict(zip(measured.per_row, mean_intervals(stacked, SEED, RESAMPLES, LEVEL), strict=True))
    found: dict[str, dict[str, float | None]] = {key: figure(interval) for key, interval in intervals.items()}
    found |= {key: {"value": value} for key, value in measured.corpus.items()}
    return _ordered(found)


def differences(model: Measured, system: Measured) -> dict[str, dict[str, float | None]]:
    """Model minus system in what both have: `value`, and where it is paired `low`, `high`, `effect_size`, `p_value`."""
    keys = [key for key in model.per_row if key in system.per_row]
    a, b = (np.column_stack([one.per_row[key] for key in keys]) for one in (model, system))
    paired = dict(zip(keys, paired_differences(a, b, SEED, RESAMPLES, LEVEL), strict=True))
    found: dict[str, dict[str, float | None]] = {
        key: {**figure(one), "effect_size": one.effect_size, "p_value": one.p_value} for key, one in paired.items()
    }
    found |= {key: {"value": model.corpus[key] - system.corpus[key]} for key in model.corpus if key in system.corpus}
    return _ordered(found)


def adjust(systems: Mapping[str, dict[str, Any]], headline: str) -> None:
    """Adds `p_holm` to the headline difference of every system, adjusted for how many there are."""
    compared = [system["model_minus_system"][headline] for system in systems.values() if "model_minus_system" in system]
    for difference, value in zip(compared, holm([one["p_value"] for one in compared]), strict=True):
        difference["p_holm"] = value


def figure(interval: Interval) -> dict[str, float | None]:
    """An interval as it stands in JSON: `value`, `low`, `high`."""
    return {"value": interval.mean, "low": interval.low, "high": interval.high}


def mean_figure(values: np.ndarray) -> dict[str, float | None]:
    """Mean of one column with its interval, as it stands in JSON."""
    return figure(mean_intervals(values[:, None], SEED, RESAMPLES, LEVEL)[0])


def _ordered(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in METRICS if key in found}
