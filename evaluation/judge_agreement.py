"""Do judges agree? Rank correlations of pairs of judges, Krippendorff's alpha of all, and whether they order systems alike."""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr

LEAST = 1e-18
"""What counts as no spread."""
DRAWS_AT_ONCE, PAIRS_AT_ONCE = 100, 500


def krippendorff_alpha(scores: np.ndarray) -> float | None:
    """Krippendorff's alpha for interval data (Krippendorff, Content Analysis, 2004, section 11.3).

    1 minus the mean squared difference within items over that among all scores. It asks for equal scores, not equal ranks:
    judges who rank alike but one of whom is milder agree less.

    Args:
        scores: `(judges, items)`, NaN where a judge has no score; items with fewer than two are left out.

    Returns:
        1 for equal scores, about 0 for chance, below it for worse; None when all scores are the same or none can be paired.
    """
    counts = (~np.isnan(scores)).sum(axis=0)
    kept, counts = scores[:, counts >= 2], counts[counts >= 2]
    total = counts.sum()
    if not total:
        return None
    kept = kept - np.nanmean(kept)  # squares of small numbers round less
    within = 2 * (counts * np.nansum(kept**2, axis=0) - np.nansum(kept, axis=0) ** 2)
    observed = (within / (counts - 1)).sum() / total
    expected = 2 * (total * np.nansum(kept**2) - np.nansum(kept) ** 2) / (total * (total - 1))
    return None if expected <= LEAST else float(1 - observed / expected)


def spearman(scores: np.ndarray) -> float | None:
    """Spearman's rho of two judges over the items both scored; None when one of them scores all alike.

    Args:
        scores: `(2, items)`, NaN where a judge has no score.
    """
    return _correlated(scores, spearmanr)


def kendall(scores: np.ndarray) -> float | None:
    """Kendall's tau-b of two judges over the items both scored; None when one of them scores all alike.

    Args:
        scores: `(2, items)`, NaN where a judge has no score.
    """
    return _correlated(scores, kendalltau)


def with_interval(
    statistic: str, scores: np.ndarray, seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> dict[str, float | None]:
    """A statistic of judges with its percentile interval; rows are drawn, and with a row all systems' texts of it.

    Args:
        statistic: `spearman`, `kendall` or `alpha`.
        scores: `(judges, rows, systems)`, NaN where a judge has no score.
        seed: Seed of the draws.
        resamples: Number of draws.
        level: Nominal coverage.

    Returns:
        `value`, `low`, `high`; the ends are None where more than one draw in twenty has no value, and for a single row.
    """
    plain, resampled = STATISTICS[statistic]
    judges, rows, systems = scores.shape
    items = scores.reshape(judges, -1)
    value = plain(items)
    empty = {"value": value, "low": None, "high": None}
    if value is None or rows < 2:
        return empty
    rng = np.random.default_rng(seed)
    draws = np.stack([np.bincount(rng.integers(rows, size=rows), minlength=rows) for _ in range(resamples)])
    parts = np.array_split(draws, -(-resamples // DRAWS_AT_ONCE))
    found = np.concatenate([resampled(items, np.repeat(part, systems, axis=1).astype(float)) for part in parts])
    if np.isnan(found).mean() > 0.05:
        return empty
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return {"value": value, "low": float(low), "high": float(high)}


def resampled_alpha(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`krippendorff_alpha` of items taken several times each.

    Args:
        scores: `(judges, items)`, NaN where a judge has no score.
        counts: `(draws, items)`, how often each is taken.

    Returns:
        `(draws,)`, NaN where it is not defined.
    """
    each = (~np.isnan(scores)).sum(axis=0)
    kept, counts, each = scores[:, each >= 2], counts[:, each >= 2], each[each >= 2]
    kept = kept - np.nanmean(kept)
    squares, sums = np.nansum(kept**2, axis=0), np.nansum(kept, axis=0)
    total = counts @ each
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = counts @ (2 * (each * squares - sums**2) / (each - 1)) / total
        expected = 2 * (total * (counts @ squares) - (counts @ sums) ** 2) / (total * (total - 1))
        return np.where(expected > LEAST, 1 - observed / expected, np.nan)


def resampled_spearman(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`spearman` of items taken several times each; arguments and result as for `resampled_alpha`, of two judges."""
    both = ~np.isnan(scores).any(axis=0)
    scores, counts = scores[:, both], counts[:, both]
    total = counts.sum(axis=1, keepdims=True)
    one, two = (_resampled_ranks(row, counts) - (total + 1) / 2 for row in scores)  # the mean rank is (n + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return _ratio((counts * one * two).sum(axis=1), (counts * one**2).sum(axis=1), (counts * two**2).sum(axis=1))


def resampled_kendall(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`kendall` of items taken several times each; arguments and result as for `resampled_alpha`, of two judges.

    A pair of items counts as often as the product of their counts; pairs are looked at in blocks, so that memory stays flat.
    """
    both = ~np.isnan(scores).any(axis=0)
    (one, two), counts = scores[:, both], counts[:, both]
    sums = np.zeros((3, len(counts)))
    for start in range(0, len(one), PAIRS_AT_ONCE):
        block = slice(start, start + PAIRS_AT_ONCE)
        signs = [np.sign(row[block, None] - row[None]).astype(np.float32) for row in (one, two)]
        for place, found in enumerate((signs[0] * signs[1], np.abs(signs[0]), np.abs(signs[1]))):
            # Whole numbers below 2^24, so that single precision is exact.
            sums[place] += (counts[:, block] * (counts.astype(np.float32) @ found.T)).sum(axis=1)
    return _ratio(*sums)


def _resampled_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks among items taken several times each, equal values sharing the mean of theirs, `(draws, items)`."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    ranks = np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2
    return ranks[:, group]


def _ratio(product: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    scale = np.sqrt(one * two)
    return np.where(scale > LEAST, product / np.where(scale > LEAST, scale, 1), np.nan)


def agreement(scores: Mapping[str, np.ndarray], systems: list[str], seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """How far judges agree about the same texts.

    Args:
        scores: By judge `(rows, systems)`, NaN where it has no score; at least two judges.
        systems: Names of the systems.
        seed: Seed of the draws.
        resamples: Number of draws.

    Returns:
        `items` that all judged; `pairs`, each with `judges`, `spearman` and `kendall`; `alpha`; `means` by judge and system,
        over the rows all judged; `order` by judge, the best system first; `same_order`.
    """
    names = list(scores)
    stacked = np.stack([scores[name] for name in names])
    pairs = [
        {
            "judges": [names[one], names[two]],
            "spearman": with_interval("spearman", stacked[[one, two]], seed, resamples),
            "kendall": with_interval("kendall", stacked[[one, two]], seed, resamples),
        }
        for one, two in combinations(range(len(names)), 2)
    ]
    whole = stacked[:, ~np.isnan(stacked).any(axis=(0, 2))]
    means = {name: _means(whole[place], systems) for place, name in enumerate(names)} if whole.size else {}
    order = {name: sorted(one, key=lambda system: -one[system]) for name, one in means.items()}
    return {
        "items": int((~np.isnan(stacked)).all(axis=0).sum()),
        "pairs": pairs,
        "alpha": with_interval("alpha", stacked, seed, resamples),
        "means": means,
        "order": order,
        "same_order": len({tuple(one) for one in order.values()}) <= 1 if order else None,
    }


def _means(scores: np.ndarray, systems: list[str]) -> dict[str, float]:
    return dict(zip(systems, map(float, scores.mean(axis=0)), strict=True))


def _correlated(scores: np.ndarray, measure: Callable[..., Any]) -> float | None:
    one, two = scores[:, ~np.isnan(scores).any(axis=0)]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    return float(measure(one, two).statistic)


STATISTICS: Mapping[str, tuple[Callable[[np.ndarray], float | None], Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "spearman": (spearman, resampled_spearman),
    "kendall": (kendall, resampled_kendall),
    "alpha": (krippendorff_alpha, resampled_alpha),
}
"""By name a statistic of scores, and the same of resampled ones."""
