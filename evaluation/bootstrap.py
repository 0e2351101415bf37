"""Percentile bootstrap over rows: intervals of means and of paired differences.

Rows are drawn with replacement, and one draw serves every column, so differences are paired. Each interval stands for
one comparison: among twenty of them at 95 %, one misses by chance. `holm` adjusts p-values of comparisons made together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over rows with its bootstrap interval.

    Attributes:
        mean: Mean of the rows.
        low: Lower end; None when a single row leaves nothing to resample.
        high: Upper end; None likewise.
    """

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference(Interval):
    """The mean of `a - b` over rows with its bootstrap interval.

    Attributes:
        effect_size: The mean difference over the standard deviation of the differences (Cohen's d for pairs);
            0 when every difference is 0, None when it is undefined (one row, or all rows differ alike).
        p_value: Two-sided: twice the share of draws whose mean is on the other side of 0, or at it, counting the data as one
            draw more; None when a single row leaves nothing to resample.
    """

    effect_size: float | None
    p_value: float | None


def mean_interval(values: np.ndarray, seed: int = 0, resamples: int = 1000, level: float = 0.95) -> Interval:
    """Mean of one column with its percentile interval.

    Args:
        values: `(rows,)`, finite.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage, between 0 and 1.

    Returns:
        The interval. With fewer than about 20 rows it covers less than its level.

    Raises:
        ValueError: If there is no row, a value is not finite, or an option is out of range.
    """
    return mean_intervals(np.asarray(values, dtype=float)[:, None], seed, resamples, level)[0]


def mean_intervals(columns: np.ndarray, seed: int = 0, resamples: int = 1000, level: float = 0.95) -> list[Interval]:
    """`mean_interval` of several columns with one set of draws.

    Args:
        columns: `(rows, columns)`, finite.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage, between 0 and 1.

    Returns:
        One interval a column.

    Raises:
        ValueError: If there is no row, a value is not finite, or an option is out of range.
    """
    columns = np.asarray(columns, dtype=float)
    _check(columns, resamples, level)
    return _intervals(columns, resampled_means(columns, seed, resamples), level)


def paired_difference(a: np.ndarray, b: np.ndarray, seed: int = 0, resamples: int = 1000, level: float = 0.95) -> Difference:
    """Mean of `a - b` over the same rows, with its interval and effect size.

    Args:
        a: `(rows,)`, finite.
        b: `(rows,)`, the same rows.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage, between 0 and 1.

    Returns:
        The difference.

    Raises:
        ValueError: If the shapes differ, there is no row, a value is not finite, or an option is out of range.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return paired_differences(a[:, None], b[:, None], seed, resamples, level)[0]


def paired_differences(
    a: np.ndarray, b: np.ndarray, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> list[Difference]:
    """`paired_difference` of several columns with one set of draws.

    Args:
        a: `(rows, columns)`, finite.
        b: `(rows, columns)`, the same rows and columns.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage, between 0 and 1.

    Returns:
        One difference a column.

    Raises:
        ValueError: If the shapes differ, there is no row, a value is not finite, or an option is out of range.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"expected paired values of one shape, found {np.shape(a)} and {np.shape(b)}")
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    _check(differences, resamples, level)
    drawn = resampled_means(differences, seed, resamples)
    intervals = _intervals(differences, drawn, level)
    return [
        Difference(
            interval.mean, interval.low, interval.high, _effect_size(column), None if len(column) == 1 else _p_value(means)
        )
        for interval, column, means in zip(intervals, differences.T, drawn.T, strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values of comparisons that are made together (Holm 1979), so that one false finding in all stays as rare.

    Args:
        p_values: One a comparison; None is passed through and does not count.

    Returns:
        Adjusted values in the same order.
    """
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min((len(known) - rank) * value, 1.0))
        adjusted[place] = largest
    return adjusted


def resampled_means(columns: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Column means of each draw of rows with replacement.

    Args:
        columns: `(rows, columns)`.
        seed: Seed of the draws; the draws depend on it and the number of rows only.
        resamples: Number of draws.

    Returns:
        `(resamples, columns)`.
    """
    rng = np.random.default_rng(seed)
    rows = len(columns)
    means = np.empty((resamples, columns.shape[1]))
    for draw in range(resamples):  # one draw at a time keeps memory linear in rows
        counts = np.bincount(rng.integers(rows, size=rows), minlength=rows)
        means[draw] = counts @ columns / rows
    return means


def _check(columns: np.ndarray, resamples: int, level: float) -> None:
    if columns.ndim != 2 or not len(columns):
        raise ValueError(f"expected at least one row of values, found an array of shape {columns.shape}")
    if not np.isfinite(columns).all():
        raise ValueError("expected finite values, found NaN or infinity")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"expected resamples >= 1 and 0 < level < 1, found {resamples} and {level}")


def _intervals(columns: np.ndarray, drawn: np.ndarray, level: float) -> list[Interval]:
    means = columns.mean(axis=0)
    if len(columns) == 1:
        return [Interval(float(mean), None, None) for mean in means]
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [Interval(float(m), float(a), float(b)) for m, a, b in zip(means, low, high, strict=True)]


def _p_value(means: np.ndarray) -> float:
    side = min((means <= 0).sum(), (means >= 0).sum())
    return min(2 * (float(side) + 1) / (len(means) + 1), 1.0)


def _effect_size(differences: np.ndarray) -> float | None:
    mean = float(differences.mean())
    if not differences.any():
        return 0.0
    if np.ptp(differences) <= 1e-12 * abs(mean):  # constant up to rounding, or one row
        return None
    return mean / float(differences.std(ddof=1))
