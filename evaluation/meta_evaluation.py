"""Which metrics agree with judges, text by text? Rank correlations with intervals, and how reliable the judges are.

The level is the single text: systems can be told apart by a metric that orders no two texts rightly (Bhandari et al.,
EMNLP 2020). Rows are drawn with replacement, one draw for all metrics, so that differences of correlations are paired.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau, rankdata

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Correlation(NamedTuple):
    """A rank correlation with its percentile bootstrap interval.

    Attributes:
        value: From -1 to 1; None where it is undefined, for a metric or judge that says the same of every row.
        low: Lower end of the interval, None likewise.
        high: Upper end of the interval, None likewise.
    """

    value: float | None
    low: float | None
    high: float | None


class Reliability(NamedTuple):
    """How far judges agree, each scoring every row.

    Attributes:
        alpha: Cronbach's alpha of the standardised judges: the share of their mean's variance that they have in common.
        mean_spearman: Mean Spearman correlation of two judges.
        pairs: Spearman correlation of every two judges.
        against_others: Spearman correlation of each judge with the mean of the other ones, standardised: what a further
            judge of this kind would reach as a metric.
    """

    alpha: float
    mean_spearman: float
    pairs: dict[tuple[str, str], float]
    against_others: dict[str, float]


def spearman(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Spearman's rho of each column with the target, mean ranks for ties.

    Args:
        columns: `(rows, columns)`.
        target: `(rows,)`.

    Returns:
        `(columns,)`; NaN where a side is constant.
    """
    ranks = rankdata(np.column_stack([columns, target]), axis=0)
    ranks -= ranks.mean(axis=0)
    norms = np.sqrt(np.square(ranks).sum(axis=0))
    with np.errstate(invalid="ignore"):
        return (ranks[:, -1] @ ranks[:, :-1]) / (norms[:-1] * norms[-1])


def kendall(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each column with the target, as scipy has it.

    Args:
        columns: `(rows, columns)`.
        target: `(rows,)`.

    Returns:
        `(columns,)`; NaN where a side is constant.
    """
    return np.array([kendalltau(column, target).statistic for column in columns.T])


def agreement(
    metrics: Mapping[str, np.ndarray],
    judge: np.ndarray,
    method: Method = spearman,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Correlation]:
    """Correlate metrics with a judge over the same rows.

    Args:
        metrics: `(rows,)` values of each metric, finite.
        judge: `(rows,)` scores, finite.
        method: `spearman` or `kendall`.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage, between 0 and 1.

    Returns:
        One correlation a metric.

    Raises:
        ValueError: There are fewer than three rows or no metric, lengths differ, or a value is not finite.
    """
    columns, judge = _checked(metrics, judge)
    draws = _draws(columns, judge, method, seed, resamples)
    return _intervals(metrics, method(columns, judge), draws, level)


def agreement_differences(
    metrics: Mapping[str, np.ndarray],
    judge: np.ndarray,
    best: str,
    method: Method = spearman,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Correlation]:
    """How much further one metric agrees with a judge than each other metric does.

    Args:
        metrics: `(rows,)` values of each metric, finite.
        judge: `(rows,)` scores, finite.
        best: The metric compared with the others.
        method: `spearman` or `kendall`.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage, between 0 and 1.

    Returns:
        Correlation of `best` minus that of each other metric, from the same draws.

    Raises:
        ValueError: As in `agreement`, or `best` is not among the metrics.
    """
    if best not in metrics:
        raise ValueError(f"expected {best!r} among the metrics, found {', '.join(metrics)}")
    columns, judge = _checked(metrics, judge)
    first = list(metrics).index(best)
    values, draws = method(columns, judge), _draws(columns, judge, method, seed, resamples)
    found = _intervals(metrics, values[first] - values, draws[:, [first]] - draws, level)
    return {name: correlation for name, correlation in found.items() if name != best}


def partial_spearman(metrics: Mapping[str, np.ndarray], judge: np.ndarray, control: np.ndarray) -> dict[str, float | None]:
    """Spearman's rho of each metric with a judge at equal ranks of a third variable, such as the length.

    `(r_mj - r_mc r_jc) / sqrt((1 - r_mc^2)(1 - r_jc^2))`.

    Args:
        metrics: `(rows,)` values of each metric, finite.
        judge: `(rows,)` scores, finite.
        control: `(rows,)` values held equal, finite.

    Returns:
        One correlation a metric; None where it is undefined, as for the control itself.

    Raises:
        ValueError: As in `agreement`.
    """
    columns, judge = _checked(metrics, judge)
    _, control = _checked(metrics, control)
    with_judge, with_control = spearman(columns, judge), spearman(columns, control)
    both = float(spearman(judge[:, None], control)[0])
    left = (1 - with_control**2) * (1 - both**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(left > 1e-9, (with_judge - with_control * both) / np.sqrt(np.maximum(left, 0)), np.nan)
    return {name: float(value) if np.isfinite(value) else None for name, value in zip(metrics, values, strict=True)}


def standardised_mean(judges: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean of judges that each have mean 0 and standard deviation 1, so that none leads by its spread.

    Args:
        judges: `(rows,)` scores of each judge.

    Returns:
        `(rows,)`.

    Raises:
        ValueError: There is no judge, or one gives every row the same score.
    """
    if not judges:
        raise ValueError("expected at least one judge, found none")
    constant = [name for name, scores in judges.items() if np.ptp(scores) == 0]
    if constant:
        raise ValueError(f"expected judges that tell rows apart, found one score for all rows of {', '.join(constant)}")
    return np.mean([(scores - scores.mean()) / scores.std() for scores in judges.values()], axis=0)


def reliability(judges: Mapping[str, np.ndarray]) -> Reliability:
    """Measure how far judges agree.

    Args:
        judges: `(rows,)` scores of each judge, at least two judges.

    Returns:
        The reliability.

    Raises:
        ValueError: There are fewer than two judges, or one gives every row the same score.
    """
    names = list(judges)
    if len(names) < 2:
        raise ValueError(f"expected at least two judges, found {len(names)}")
    common = np.square(standardised_mean(judges)).mean()  # (k + 2 sum of correlations) / k^2
    alpha = len(names) / (len(names) - 1) * (1 - 1 / (len(names) * common))
    pairs = {(a, b): float(spearman(judges[a][:, None], judges[b])[0]) for i, a in enumerate(names) for b in names[i + 1 :]}
    others = {
        name: float(spearman(judges[name][:, None], standardised_mean({k: v for k, v in judges.items() if k != name}))[0])
        for name in names
    }
    return Reliability(float(alpha), float(np.mean(list(pairs.values()))), pairs, others)


def _checked(metrics: Mapping[str, np.ndarray], judge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not metrics:
        raise ValueError("expected at least one metric, found none")
    judge = np.asarray(judge, dtype=float)
    lengths = {len(values) for values in metrics.values()} | {len(judge)}
    if len(lengths) > 1 or len(judge) < 3:
        raise ValueError(f"expected at least three rows, as many of each metric as of the judge, found {sorted(lengths)}")
    columns = np.column_stack([np.asarray(values, dtype=float) for values in metrics.values()])
    if not (np.isfinite(columns).all() and np.isfinite(judge).all()):
        raise ValueError("expected finite values, found NaN or infinity")
    return columns, judge


def _draws(columns: np.ndarray, judge: np.ndarray, method: Method, seed: int, resamples: int) -> np.ndarray:
    """Correlations of each draw, `(resamples, columns)`; a draw in which a side is constant shows none, 0."""
    rng = np.random.default_rng(seed)
    found = np.empty((resamples, columns.shape[1]))
    for draw in range(resamples):
        rows = rng.integers(len(judge), size=len(judge))
        found[draw] = method(columns[rows], judge[rows])
    return np.nan_to_num(found)


def _intervals(
    metrics: Mapping[str, np.ndarray], values: np.ndarray, draws: np.ndarray, level: float
) -> dict[str, Correlation]:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return {
        name: Correlation(float(value), float(a), float(b)) if np.isfinite(value) else Correlation(None, None, None)
        for name, value, a, b in zip(metrics, values, low, high, strict=True)
    }
