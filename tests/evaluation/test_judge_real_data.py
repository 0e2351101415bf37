"""Four published judges of 3,000 explanations, which are not in the repository: set XREC_TEST_DATA to their folder."""

import os
from pathlib import Path

import polars as pl
import pytest

from xrec_evaluation.judge_agreement import agreement
from xrec_evaluation.judge_calibration import OPPOSITE, contradicting
from xrec_evaluation.judge_prompts import gives_orders

pytestmark = pytest.mark.slow

JUDGES = ("judge_gemma2", "judge_llama3_1", "judge_qwen2_5", "judge_llama3_2")
PUBLISHED = {"yelp": (min, 0.18), "google": (max, 0.61)}
"""The least and the largest rho among the first three, found before this was written; of the fourth, 0.03 to 0.30."""


@pytest.fixture(params=PUBLISHED)
def judged(request) -> tuple[str, pl.DataFrame]:
    folder = os.environ.get("XREC_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set XREC_TEST_DATA to the folder of the public data")
    return request.param, pl.read_parquet(Path(folder) / request.param / "judged_predictions.parquet")


def test_the_published_judges_agree_as_little_as_was_found(judged):
    name, table = judged
    found = agreement({one: table[one].to_numpy()[:, None] for one in JUDGES}, ["model"], resamples=100)
    rho = {frozenset(one["judges"]): one["spearman"] for one in found["pairs"]}
    three = [one["value"] for pair, one in rho.items() if "judge_llama3_2" not in pair]
    extreme, value = PUBLISHED[name]
    assert round(extreme(three), 2) == value
    assert 0.17 < min(three) < max(three) < 0.62
    fourth = [one["value"] for pair, one in rho.items() if "judge_llama3_2" in pair]
    assert 0.03 <= min(fourth) <= max(fourth) < 0.305
    # Judges who use the scale differently hardly agree on scores at all.
    assert -0.07 < found["alpha"]["low"] < found["alpha"]["high"] < 0.06


def test_rules_hold_for_real_texts(judged):
    """No honest text is withheld from a judge, and nearly every reference has a verb to turn round."""
    _, table = judged
    assert not any(map(gives_orders, (*table["prediction"], *table["reference"])))
    opposites = [contradicting(text) for text in table["reference"]]
    assert sum(text == OPPOSITE for text in opposites) < 10
    assert not any(text == own for text, own in zip(opposites, table["reference"], strict=True))
