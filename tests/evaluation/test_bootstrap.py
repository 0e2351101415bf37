import numpy as np
import pytest

from xrec_evaluation.bootstrap import holm, mean_interval, mean_intervals, paired_difference


def test_interval_is_near_the_plain_definition():
    """Ours draws rows as counts; here each resample is written out, with draws of its own."""
    values = np.random.default_rng(1).exponential(size=400)
    rng = np.random.default_rng(2)
    means = sorted(float(np.mean(rng.choice(values, size=400))) for _ in range(4000))
    found = mean_interval(values, resamples=4000)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((means[100], means[3899]), abs=0.01)


def test_intervals_cover_at_their_nominal_rate():
    """400 samples of a skewed distribution with mean 1: the share of covering intervals is binomial(400, 0.9)."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(400):
        found = mean_interval(rng.gamma(4, 0.25, size=80), seed=seed, resamples=300, level=0.9)
        hits += found.low <= 1 <= found.high
    assert 0.85 <= hits / 400 <= 0.94


def test_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(3)
    b = rng.normal(0, 10, size=200)
    a = b + rng.normal(0.5, 0.1, size=200)
    found = paired_difference(a, b)
    assert 0.4 < found.low < found.mean < found.high < 0.6
    assert found.effect_size == pytest.approx((a - b).mean() / (a - b).std(ddof=1))
    back = paired_difference(b, a)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=0.01)


def test_same_seed_same_interval_and_columns_do_not_disturb_each_other():
    values = np.random.default_rng(0).random((50, 3))
    assert mean_interval(values[:, 1]) == mean_interval(values[:, 1])
    assert mean_interval(values[:, 1], seed=1) != mean_interval(values[:, 1], seed=2)
    together = mean_intervals(values)[1]
    alone = mean_interval(values[:, 1])
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-12)


def test_one_row_and_equal_rows():
    single = mean_interval(np.array([0.3]))
    assert (single.mean, single.low, single.high) == (0.3, None, None)
    equal = mean_interval(np.full(10, 0.3))
    assert (equal.low, equal.high) == pytest.approx((0.3, 0.3))
    assert paired_difference(np.ones(5), np.ones(5)).effect_size == 0.0
    assert paired_difference(np.full(5, 0.3), np.full(5, 0.1)).effect_size is None
    assert paired_difference(np.array([2.0]), np.array([1.0])).effect_size is None


@pytest.mark.parametrize(
    ("values", "options"),
    [([], {}), ([1.0, np.nan], {}), ([1.0, 2.0], {"level": 1.0}), ([1.0, 2.0], {"resamples": 0})],
)
def test_bad_input_is_refused(values, options):
    with pytest.raises(ValueError, match="expected"):
        mean_interval(np.array(values), **options)


def test_pairs_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.ones(3), np.ones(2))


def test_p_values_are_uniform_where_nothing_differs_and_small_where_much_does():
    """Under no difference a p-value is below t in a share t of the samples; 400 of them, three standard deviations."""
    rng = np.random.default_rng(0)
    found = np.array([paired_difference(rng.normal(size=60), rng.normal(size=60), seed, 300).p_value for seed in range(400)])
    for bound in (0.05, 0.2, 0.5):
        assert abs((found <= bound).mean() - bound) < 3 * np.sqrt(bound * (1 - bound) / 400) + 0.015
    assert paired_difference(np.arange(50.0) + 1, np.arange(50.0)).p_value == pytest.approx(2 / 1001)
    assert paired_difference(np.ones(5), np.ones(5)).p_value == 1
    assert paired_difference(np.array([2.0]), np.array([1.0])).p_value is None


def test_holm_by_its_paper():
    """Step down: the k-th smallest of m times m - k + 1, never below an earlier one, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    rng = np.random.default_rng(1)
    false_findings = sum(min(holm(list(rng.random(10)))) <= 0.05 for _ in range(2000)) / 2000
    assert 0.03 < false_findings < 0.07  # any one in ten tests
