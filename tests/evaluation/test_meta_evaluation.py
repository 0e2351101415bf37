import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from xrec_evaluation.meta_evaluation import (
    agreement,
    agreement_differences,
    kendall,
    partial_spearman,
    reliability,
    spearman,
    standardised_mean,
)

SMALL = {"resamples": 200}


def normal(rows, *weights, seed=0):
    """Columns that share a common part with the weights given."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=rows)
    return [weight * common + np.sqrt(1 - weight**2) * rng.normal(size=rows) for weight in weights]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=15))
def test_correlations_are_scipys_ties_included(rows):
    a, b, target = np.array(rows, dtype=float).T
    with np.errstate(invalid="ignore"):
        constant = [np.ptp(x) == 0 or np.ptp(target) == 0 for x in (a, b)]
        for method, library in ((spearman, spearmanr), (kendall, kendalltau)):
            found = method(np.column_stack([a, b]), target)
            for value, column, undefined in zip(found, (a, b), constant, strict=True):
                assert np.isnan(value) if undefined else value == pytest.approx(library(column, target).statistic)


def test_intervals_cover_at_their_level():
    true = spearman(np.column_stack(normal(200_000, 0.8, seed=99)), normal(200_000, 0.8, 0.6, seed=99)[1])[0]
    hits = 0
    for seed in range(60):
        a, b = normal(150, 0.8, 0.6, seed=seed)
        found = agreement({"a": a}, b, seed=seed, resamples=150)["a"]
        hits += found.low <= true <= found.high
    assert 51 <= hits <= 60  # 95 % of 60 is 57; below 51 or so has a chance of one in a thousand


def test_a_difference_is_paired():
    judge, good, bad = normal(400, 0.9, 0.8, 0.3)
    near = good + 0.01 * np.random.default_rng(5).normal(size=400)
    metrics = {"good": good, "near": near, "bad": bad}
    alone = agreement(metrics, judge, **SMALL)
    found = agreement_differences(metrics, judge, "good", **SMALL)
    assert set(found) == {"near", "bad"}
    for name, difference in found.items():
        assert difference.value == pytest.approx(alone["good"].value - alone[name].value)
        assert difference.low <= difference.value <= difference.high
    assert found["bad"].low > 0.1
    # Two metrics that say nearly the same differ by little, though each has a wide interval of its own.
    assert found["near"].high - found["near"].low < (alone["good"].high - alone["good"].low) / 5
    with pytest.raises(ValueError, match="'none' among the metrics"):
        agreement_differences(metrics, judge, "none")


def test_a_constant_metric_has_no_correlation_and_stops_nobody():
    judge, a = normal(30, 0.9, 0.8)
    found = agreement({"flat": np.ones(30), "a": a}, judge, kendall, resamples=50)
    assert found["flat"] == (None, None, None)
    assert found["a"].low < found["a"].value < found["a"].high


def test_partial_correlation_is_that_of_the_residuals_of_ranks():
    from scipy.stats import rankdata

    length, metric, judge = normal(300, 0.9, 0.7, 0.7)
    found = partial_spearman({"metric": metric, "length": length}, judge, length)
    a, b, c = (rankdata(x) - 150.5 for x in (metric, judge, length))
    left = [x - (x @ c) / (c @ c) * c for x in (a, b)]
    assert found["metric"] == pytest.approx(np.corrcoef(*left)[0, 1])
    assert found["length"] is None
    assert found["metric"] < agreement({"m": metric}, judge, resamples=1)["m"].value


def test_alpha_is_cronbachs_and_judges_are_ranked_against_the_others():
    judges = dict(zip("abcd", normal(500, 0.8, 0.8, 0.8, 0.05), strict=True))
    found = reliability({name: 10 * scores + 50 for name, scores in judges.items()})
    matrix = np.array([(s - s.mean()) / s.std(ddof=1) for s in judges.values()])
    expected = 4 / 3 * (1 - matrix.var(axis=1, ddof=1).sum() / matrix.sum(axis=0).var(ddof=1))
    assert found.alpha == pytest.approx(expected)
    assert found.pairs[("a", "b")] == pytest.approx(spearmanr(judges["a"], judges["b"]).statistic)
    assert found.mean_spearman == pytest.approx(np.mean(list(found.pairs.values())))
    others = sum((judges[n] - judges[n].mean()) / judges[n].std() for n in "bcd")
    assert found.against_others["a"] == pytest.approx(spearmanr(judges["a"], others).statistic)
    assert min(found.against_others, key=found.against_others.get) == "d"


def test_no_judge_leads_by_its_spread():
    a, b = normal(200, 0.1, 0.1)
    np.testing.assert_allclose(standardised_mean({"a": a, "b": b}), standardised_mean({"a": 100 * a + 3, "b": b}))


def test_what_cannot_be_correlated_is_refused():
    a = np.arange(5.0)
    for metrics, judge, message in (
        ({}, a, "at least one metric"),
        ({"a": a}, a[:4], r"\[4, 5\]"),
        ({"a": a[:2]}, a[:2], "three rows"),
        ({"a": np.array([1, np.nan, 2])}, a[:3], "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            agreement(metrics, judge)
    with pytest.raises(ValueError, match="tell rows apart"):
        standardised_mean({"a": a, "b": np.ones(5)})
    with pytest.raises(ValueError, match="at least two judges"):
        reliability({"a": a})
    with pytest.raises(ValueError, match="at least one judge"):
        standardised_mean({})
