from itertools import permutations

import numpy as np
import pytest

from xrec_evaluation.judge_agreement import STATISTICS, agreement, kendall, krippendorff_alpha, spearman, with_interval

NAN = np.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Example E of Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), whose alpha for interval data is 0.849."""


def slow_alpha(scores):
    """Over coincidences: every ordered pair of scores of an item counts 1 / (scores of the item - 1)."""
    items = [[one for one in column if not np.isnan(one)] for column in scores.T]
    items = [one for one in items if len(one) > 1]
    total = sum(map(len, items))
    observed = sum((a - b) ** 2 / (len(one) - 1) for one in items for a, b in permutations(one, 2)) / total
    values = [one for item in items for one in item]
    expected = sum((a - b) ** 2 for a, b in permutations(values, 2)) / (total * (total - 1))
    return 1 - observed / expected


def test_alpha_is_the_published_one_and_that_of_the_definition():
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(slow_alpha(KRIPPENDORFF), abs=1e-12)
    draw = np.random.default_rng(0)
    for judges, items, missing in ((2, 30, 0.0), (4, 25, 0.3), (3, 8, 0.6)):
        scores = draw.normal(1000, 1, (judges, items))
        scores[draw.random(scores.shape) < missing] = NAN
        assert krippendorff_alpha(scores) == pytest.approx(slow_alpha(scores), abs=1e-9)


def test_alpha_of_equal_constant_and_lone_scores():
    draw = np.random.default_rng(0)
    one = draw.normal(size=200)
    assert krippendorff_alpha(np.stack([one, one])) == pytest.approx(1)
    assert abs(krippendorff_alpha(draw.normal(size=(2, 5000)))) < 0.05
    assert krippendorff_alpha(np.stack([one, one + 5])) < 0.2  # the same ranks, another use of the scale
    assert krippendorff_alpha(np.full((2, 9), 3.0)) is None
    assert krippendorff_alpha(np.array([[1.0, NAN], [NAN, 2.0]])) is None


def slow_spearman(one, two):
    def ranks(values):
        return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]

    return np.corrcoef(ranks(one), ranks(two))[0, 1]


def slow_kendall(one, two):
    """Tau-b by looking at every pair."""
    pairs = [(i, j) for i in range(len(one)) for j in range(i)]
    signs = [(np.sign(one[i] - one[j]), np.sign(two[i] - two[j])) for i, j in pairs]
    free = [sum(sign[side] != 0 for sign in signs) for side in (0, 1)]
    return sum(a * b for a, b in signs) / np.sqrt(free[0] * free[1])


def test_correlations_are_those_of_the_definitions_where_both_have_scores():
    draw = np.random.default_rng(1)
    scores = draw.integers(1, 6, (2, 40)).astype(float)
    scores[1] = np.clip(scores[0] + scores[1] - 3, 1, 5)
    scores[0, 3] = scores[1, 7] = NAN
    kept = scores[:, ~np.isnan(scores).any(axis=0)]
    assert kept.shape[1] == 38
    assert spearman(scores) == pytest.approx(slow_spearman(*kept), abs=1e-12)
    assert kendall(scores) == pytest.approx(slow_kendall(*kept), abs=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("digits", [True, False])
def test_a_resampled_statistic_is_the_plain_one_of_the_drawn_items(name, digits, monkeypatch):
    monkeypatch.setattr("xrec_evaluation.judge_agreement.PAIRS_AT_ONCE", 7)
    plain, resampled = STATISTICS[name]
    draw = np.random.default_rng(9)
    scores = draw.integers(1, 6, (2, 40)).astype(float) if digits else draw.normal(50, 9, (2, 40))
    scores[1] += scores[0]
    scores[0, 3] = scores[1, 7] = NAN
    drawn = [draw.integers(40, size=40) for _ in range(20)]
    counts = np.stack([np.bincount(one, minlength=40) for one in drawn]).astype(float)
    assert resampled(scores, counts) == pytest.approx([plain(scores[:, one]) for one in drawn], abs=1e-9)
    flat = np.stack([scores[0], np.full(40, 2.0)])
    assert name == "alpha" or np.isnan(resampled(flat, counts)).all()


def test_a_constant_judge_correlates_with_nobody_and_nothing_is_nan():
    scores = {"a": np.random.default_rng(0).normal(size=(30, 2)), "b": np.full((30, 2), 4.0)}
    found = agreement(scores, ["model", "plain"], resamples=50)
    assert found["pairs"][0]["spearman"] == {"value": None, "low": None, "high": None}
    assert found["alpha"]["value"] is not None
    assert found["means"]["b"] == {"model": 4.0, "plain": 4.0}


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Two judges who see one quality with noise of the same size: their correlation is 0.5."""
    draw, inside, value = np.random.default_rng(2), 0, 0.0
    population = draw.normal(size=400_000)
    value = spearman(np.stack([population + draw.normal(size=400_000), population + draw.normal(size=400_000)]))
    for trial in range(100):
        quality = draw.normal(size=80)
        scores = np.stack([quality + draw.normal(size=80) for _ in range(2)])[:, :, None]
        found = with_interval("spearman", scores, seed=trial, resamples=200)
        inside += found["low"] <= value <= found["high"]
    assert 86 <= inside <= 100


def test_rows_are_drawn_whole():
    """Ten systems with the same scores in a row are no ten rows: the interval stays as wide."""
    draw = np.random.default_rng(3)
    one = np.stack([(quality := draw.normal(size=50)) + draw.normal(size=50), quality + draw.normal(size=50)])[:, :, None]
    alone, tenfold = (with_interval("spearman", np.repeat(one, count, axis=2), resamples=200) for count in (1, 10))
    assert tenfold["high"] - tenfold["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.05)


def test_judges_that_order_systems_differently_are_told():
    draw = np.random.default_rng(4)
    base = draw.normal(size=(20, 1))
    a, b = base + np.array([0.0, 1.0]), base + np.array([1.0, 0.0])
    a[3, 0] = NAN
    found = agreement({"a": a, "b": b}, ["model", "plain"], resamples=50)
    assert found["order"] == {"a": ["plain", "model"], "b": ["model", "plain"]}
    assert not found["same_order"]
    assert found["items"] == 39
    whole = np.delete(base, 3)  # means rest on the rows that all judged whole
    assert found["means"]["b"]["plain"] == pytest.approx(whole.mean())
    assert agreement({"a": b, "b": b + 1}, ["model", "plain"], resamples=50)["same_order"]
