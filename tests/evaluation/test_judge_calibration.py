import numpy as np
import polars as pl
import pytest

from xrec_evaluation.judge_calibration import (
    OPPOSITE,
    auc,
    auc_interval,
    calibrate,
    calibration_texts,
    contradicting,
    trusted,
    verdict,
)


@pytest.mark.parametrize(
    ("text", "opposite"),
    [
        ("The user would enjoy it because it is quiet.", "The user would not enjoy it because it is quiet."),
        ("The user may not enjoy it.", "The user may enjoy it."),
        ("The bar isn't loud.", "The bar is loud."),
        ("The user enjoys tea.", "The user dislikes tea."),
        ("Customers love the view.", "Customers dislike the view."),
        ("The soup is hot and was cheap.", "The soup is not hot and was cheap."),
        ("Great tea.", OPPOSITE),
        ("", OPPOSITE),
    ],
)
def test_a_text_is_turned_into_its_opposite(text, opposite):
    assert contradicting(text) == opposite


def test_calibration_texts_are_made_of_the_rows_whatever_number_is_judged():
    rows = pl.DataFrame({"prediction": [f"p{row}" for row in range(9)], "reference": [f"It is {row}." for row in range(9)]})
    about = pl.DataFrame({"item_profile": [f"portrait {row}" if row else None for row in range(9)]})
    texts = calibration_texts(rows, about, 0)
    assert list(texts) == ["reference", "shuffled", "contradicting", "copied_profile", "empty"]
    assert texts["reference"] == rows["reference"].to_list()
    assert sorted(texts["shuffled"]) == sorted(rows["prediction"])
    assert not any(a == b for a, b in zip(texts["shuffled"], rows["prediction"], strict=True))
    assert texts["copied_profile"] == ["", *(f"portrait {row}" for row in range(1, 9))]
    assert texts["contradicting"][2] == "It is not 2."
    assert set(texts["empty"]) == {""}
    assert list(calibration_texts(rows.head(1), pl.DataFrame(), 0)) == ["reference", "contradicting", "empty"]


def test_auc_counts_pairs():
    draw = np.random.default_rng(0)
    for size in (1, 3, 40):
        better, worse = draw.integers(1, 6, size).astype(float), draw.integers(0, 5, size + 2).astype(float)
        pairs = [(a > b) + 0.5 * (a == b) for a in better for b in worse]
        assert auc(better, worse) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_an_auc_interval_covers_the_truth_about_as_often_as_it_says():
    draw, inside = np.random.default_rng(1), 0
    for trial in range(100):
        better, worse = draw.normal(1, 1, 60), draw.normal(0, 1, 60)
        found = auc_interval(better, worse, trial, 200, 0.95)
        inside += found["low"] <= 0.76025 <= found["high"]  # Phi(1 / sqrt 2)
    assert 86 <= inside <= 100
    assert auc_interval(np.ones(1), np.zeros(1), 0, 9, 0.95) == {"value": 1.0, "low": None, "high": None}


def scores(**shifts):
    draw = np.random.default_rng(5)
    return {kind: 3 - shift + 0.3 * draw.normal(size=60) for kind, shift in {"reference": 0.0, **shifts}.items()}


def test_a_judge_that_orders_all_texts_is_trusted():
    found = calibrate(scores(shuffled=2, contradicting=1, empty=3, copied_profile=1), resamples=100)
    assert trusted(found)
    assert found["told"] == ["shuffled", "contradicting", "copied_profile", "empty"]
    assert verdict(found).startswith("On this data this judge tells the right text from a shuffled text, a text that says")


def test_a_judge_that_misses_one_fault_says_which():
    found = calibrate(scores(shuffled=0, contradicting=1, empty=3), resamples=100)
    assert trusted(found) is False
    assert verdict(found) == "This judge cannot tell a shuffled text from the right one: do not use its scores."
    found = calibrate(scores(shuffled=2, contradicting=0, empty=3), resamples=100)
    assert verdict(found) == (
        "This judge cannot tell a text that says the opposite from the right one; it tells a shuffled text and an empty text."
    )
    # Texts that score above the reference are not told apart in the right direction.
    assert calibrate(scores(shuffled=-2, empty=3), resamples=100)["not_told"] == ["shuffled"]


def test_a_constant_judge_is_found_useless():
    found = calibrate({kind: np.full(40, 4.0) for kind in ("reference", "shuffled", "contradicting", "empty")}, resamples=100)
    assert {one["value"] for one in found["auc"].values()} == {0.5}
    assert trusted(found) is False
    assert verdict(found) == "This judge tells nothing apart on this data: do not use its scores."


def test_a_noisy_judge_is_not_trusted():
    draw = np.random.default_rng(6)
    found = calibrate({kind: draw.normal(size=200) for kind in ("reference", "shuffled", "empty")}, resamples=100)
    assert found["told"] == []


def test_a_judge_that_sees_a_little_is_not_trusted():
    """Surely better than chance, and still wrong in three of ten pairs."""
    draw = np.random.default_rng(7)
    found = calibrate({"reference": draw.normal(0.75, 1, 400), "shuffled": draw.normal(0, 1, 400)}, resamples=100)
    assert 0.6 < found["auc"]["shuffled"]["low"] < found["auc"]["shuffled"]["high"] < 0.78
    assert found["not_told"] == ["shuffled"]


def test_few_rows_say_nothing():
    found = calibrate({kind: one[:19] for kind, one in scores(shuffled=2, empty=3).items()}, resamples=50)
    assert trusted(found) is None
    assert "19 calibration rows" in verdict(found)
    missing = scores(shuffled=2)
    missing["shuffled"][:] = np.nan
    assert calibrate(missing)["rows"] == 0
    assert trusted(calibrate(missing)) is None
