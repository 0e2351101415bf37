import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.ngrams import overlap
from xrec_evaluation.peter_metrics import google_bleu, peter_metrics, peter_tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "metrics.json"
vocabulary = st.sampled_from(["a", "bar", "live", "music"])
words = st.lists(vocabulary, max_size=7).map(" ".join)
long_texts = st.lists(vocabulary, min_size=4, max_size=7).map(" ".join)  # nltk gives a shorter one a four-gram


def slow_rouge(prediction, reference, n):
    """Precision, recall and F over the sets of n-grams; n of None is ROUGE-L with F's weight (precision / recall)^2."""

    def longest(a, b):
        if not a or not b:
            return 0
        return 1 + longest(a[1:], b[1:]) if a[0] == b[0] else max(longest(a[1:], b), longest(a, b[1:]))

    a, b = prediction.split(), reference.split()
    if n is None:
        shared, sizes = longest(a, b), (len(a), len(b))
    else:
        grams = [{tuple(t[i : i + n]) for i in range(len(t) - n + 1)} for t in (a, b)]
        shared, sizes = len(grams[0] & grams[1]), tuple(map(len, grams))
    p, r = (shared / size if size else 0.0 for size in sizes)
    if not shared:
        return [p, r, 0.0]
    weight = (p / r) ** 2 if n is None else 1.0
    return [p, r, (1 + weight) * p * r / (r + weight * p)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't go, it's (very) loud!!", "Do n't go , it 's ( very ) loud !"),
        ("I'd say they've 3.5 stars...", "I 'd say they 've 3 . 5 stars ."),
        ("Wait: what;no??", "Wait , what . no ?"),
        ("odd,:;. marks", "odd , , . . marks"),
        ("  \n", ""),
    ],
)
def test_contractions_and_punctuation_stand_alone(text, expected):
    assert peter_tokens(text) == expected.split()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(long_texts, words), min_size=1, max_size=5))
def test_bleu_is_nltk(rows):
    predictions, references = map(list, zip(*rows, strict=True))
    found = peter_metrics(predictions, references)
    split = [[r.split()] for r in references], [p.split() for p in predictions]
    for order in (1, 4):
        matched = overlap(zip(split[1], [r[0] for r in split[0]], strict=True), order).clipped.sum(axis=0)
        # Without a match of some order nltk puts the smallest float in place of 0.
        expected = 100 * corpus_bleu(*split, weights=[1 / order] * order) if matched.all() else 0.0
        assert found.bleu[order] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_rouge_is_its_definition(rows):
    found = peter_metrics(*map(list, zip(*rows, strict=True)))
    for name, n in (("rouge_1", 1), ("rouge_2", 2), ("rouge_l", None)):
        expected = [slow_rouge(prediction, reference, n) for prediction, reference in rows]
        np.testing.assert_allclose(found.rouge[name], expected, atol=1e-7)  # its F adds 1e-8 below the line


def test_the_weight_of_rouge_l_is_not_lins():
    found = peter_metrics(["a b"], ["a c d e f g"]).rouge["rouge_l"][0]
    p, r = 1 / 2, 1 / 6
    assert found.tolist() == pytest.approx([p, r, 10 * p * r / (r + 9 * p)])
    assert abs(found[2] - 2 * p * r / (p + r)) > 0.05


def test_a_text_without_four_words_has_no_four_gram():
    found = peter_metrics(["a", "a b c d"], ["a", "a b c e"])
    assert found.bleu[1] == pytest.approx(80)
    assert found.bleu[4] == 0.0
    assert peter_metrics(["a", "a b c d"], ["a", "a b c d"]).bleu[4] == pytest.approx(100)


def test_corner_cases_give_figures():
    for predictions, references in ((["", ""], ["a", ""]), ([""], [""]), (["a"], [""]), ([""], ["a b"])):
        found = peter_metrics(predictions, references)
        assert found.bleu == {1: 0.0, 4: 0.0}
        assert all((values == 0).all() for values in found.rouge.values())
    same = peter_metrics(["这 家 店 很 好"], ["这 家 店 很 好"])
    assert same.bleu == pytest.approx({1: 100, 4: 100})
    with pytest.raises(DataError, match="2 and 1"):
        peter_metrics(["a", "b"], ["a"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yelp", "google"])
def test_published_predictions_give_nltks_recorded_bleu(name):
    folder = os.environ.get("XREC_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set XREC_TEST_DATA to the folder of the published predictions")
    rows = pl.read_parquet(Path(folder) / name / "xrec_llama2_7b_predictions.parquet")
    counts = overlap([(p.split(), r.split()) for p, r in rows.select("prediction", "reference").rows()], 4)
    expected = json.loads(GOLDEN.read_text())[name]
    for order in (1, 4):
        assert google_bleu(counts, order) == pytest.approx(100 * expected[f"nltk_corpus_bleu{order}_split"], abs=1e-9)
