import time

import numpy as np
import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.aspect_f1 import Truth
from xrec_evaluation.metric_options import Models
from xrec_evaluation.metrics import METRICS, measure

TRUTH = Truth({"music": ("live music", "a band"), "beer": ("beer",), "cake": ("cake",)}, pl.DataFrame())
LIKELIHOOD = {"nll", "perplexity"}
FEATURES = {"aspect_f1", "fmr", "fcr", "div"}


def figures(found):
    return {name: values.mean() for name, values in found.per_row.items()} | found.corpus


def of_group(*groups):
    return {name for name, metric in METRICS.items() if metric.group in groups}


def test_measure_covers_the_described_metrics_and_nothing_else():
    found = measure(["live music here"], ["live music there"])
    assert {*found.per_row, *found.corpus} == of_group("overlap", "variety", "length") - {"pairwise_cosine"}
    assert found.per_row["words"].tolist() == [3.0]
    assert found.settings["rouge_tokenizer"] == "rouge_score"
    assert "PETER" in found.settings["peter"]
    assert of_group("truth") == FEATURES
    assert of_group("likelihood") == LIKELIHOOD


def test_the_truth_adds_aspects():
    shared = [frozenset({"music"}), frozenset({"beer", "cake"}), frozenset()]
    found = measure(["Live music!", "beer and a band", "nothing"], ["a", "b", "c"], TRUTH, shared)
    assert found.per_row["aspect_f1"].tolist() == [1.0, 0.5, 1.0]
    assert found.per_row["fmr"].tolist() == [1.0, 0.5, 1.0]
    assert found.corpus["fcr"] == pytest.approx(2 / 3)
    assert found.corpus["div"] == pytest.approx(1 / 3)  # only the first two share one
    alone = measure(["Live music!"], ["a"], TRUTH)
    assert FEATURES & {*alone.per_row, *alone.corpus} == {"fcr"}


class OneModel:
    """Stands for a scorer."""

    setting = "one model"

    def rows(self, predictions, references):
        return {"bleurt": np.array([float(len(p) - len(r)) for p, r in zip(predictions, references, strict=True)])}


def test_models_add_their_rows_and_settings():
    found = measure(["abc"], ["a"], models=Models(scorers={"bleurt": OneModel()}))
    assert found.per_row["bleurt"].tolist() == [2.0]
    assert found.settings["bleurt"] == "one model"


def test_other_scripts_are_named_in_the_settings():
    found = measure(["这家店很好"], ["这家店很好"])
    assert found.per_row["rouge_l"].tolist() == [1.0]
    assert found.corpus["bleu_4"] == pytest.approx(100)
    assert found.settings["rouge_tokenizer"] == "unicode characters"
    assert "tok:char" in found.settings["bleu"]


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        (["", ""], ["", ""]),
        (["", "a"], ["a b c d e", ""]),
        (["one row"], ["of text"]),
        (["the same"] * 5, ["the same"] * 5),
        (["Пользователь полюбит", "مرحبا بالعالم"], ["Пользователь", "مرحبا"]),
        (["😀", "\u200b"], ["😀 😀", "\n"]),
    ],
)
def test_every_corner_gives_finite_figures(predictions, references):
    found = measure(predictions, references, TRUTH, [frozenset()] * len(predictions))
    assert all(len(values) == len(predictions) for values in found.per_row.values())
    assert all(np.isfinite(values).all() for values in [*found.per_row.values(), *found.corpus.values()])


def test_no_row_is_one_clear_error():
    with pytest.raises(DataError, match="at least one row"):
        measure([], [])


def test_shown_uses_the_scale_and_a_real_minus_sign():
    assert METRICS["rouge_l"].shown(0.27931) == "27.9"
    assert METRICS["rouge_l"].shown(-0.021, signed=True) == "\N{MINUS SIGN}2.1"
    assert METRICS["rouge_l"].shown(0.021, signed=True) == "+2.1"
    assert METRICS["rouge_l"].shown(-0.0001) == "0.0"
    assert METRICS["bleu_4"].shown(11.04) == "11.0"
    assert METRICS["bart_recall"].shown(-3.8035) == "\N{MINUS SIGN}3.80"


def test_what_is_better_is_said_of_each():
    better = {kind: {name for name, metric in METRICS.items() if metric.better == kind} for kind in ("less", "")}
    assert better == {"less": {"div", "pairwise_cosine", "over_word_limit"} | LIKELIHOOD, "": {"words"}}


def corpus(rows):
    """Texts of about forty words each, most of them in a template."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(20_000)])
    drawn = words[(rng.pareto(1.0, size=(rows, 40)) * 20).astype(int) % len(words)]
    return ["The user would enjoy this, because it's " + " ".join(row) + "." for row in drawn]


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_a_minute_at_most_and_time_is_linear():
    seconds = {}
    for rows in (10_000, 100_000):
        predictions, references = corpus(rows), corpus(rows)[::-1]
        shared = [frozenset({"beer"})] * rows
        start = time.process_time()  # others may be using the machine
        measure(predictions, references, TRUTH, shared)
        seconds[rows] = time.process_time() - start
    assert seconds[100_000] <= 60
    assert seconds[100_000] / seconds[10_000] < 15
