import pytest

from xrec_evaluation.metrics import METRICS, measure


def test_measure_covers_the_described_metrics_and_nothing_else():
    found = measure(["live music here"], ["live music there"])
    assert {*found.per_row, *found.corpus} == set(METRICS) - {"aspect_f1"}
    assert found.per_row["words"].tolist() == [3.0]
    assert found.settings["rouge_tokenizer"] == "rouge_score"


def test_other_scripts_are_named_in_the_settings():
    found = measure(["这家店很好"], ["这家店很好"])
    assert found.per_row["rouge_l"].tolist() == [1.0]
    assert found.corpus["bleu_4"] == pytest.approx(100)
    assert found.settings["rouge_tokenizer"] == "unicode characters"
    assert "tok:char" in found.settings["bleu"]


def test_shown_uses_the_scale_and_a_real_minus_sign():
    assert METRICS["rouge_l"].shown(0.27931) == "27.9"
    assert METRICS["rouge_l"].shown(-0.021, signed=True) == "\N{MINUS SIGN}2.1"
    assert METRICS["rouge_l"].shown(0.021, signed=True) == "+2.1"
    assert METRICS["rouge_l"].shown(-0.0001) == "0.0"
    assert METRICS["bleu_4"].shown(11.04) == "11.0"
