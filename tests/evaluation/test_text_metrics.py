import json
import math
import os
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from xrec_dataset_builder.errors import DataError
from xrec_evaluation import text_metrics as tm

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "metrics.json"
words = st.lists(st.sampled_from(["cosy", "bar", "a", "live", "music", "12"]), max_size=7).map(" ".join)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=6)
MARKS = ["a", "b", "don't", "3.5", "1,000", "x,", "-", "&amp;", "<skipped>", "5-", "...", "é", "$", "A"]
marks = st.sampled_from([*MARKS, "\n", "\t"])
texts = st.lists(marks, max_size=9).flatmap(lambda parts: st.sampled_from(["", " "]).map(lambda gap: gap.join(parts)))
marked_pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)


def slow_rouge(prediction, reference):
    """ROUGE-1, ROUGE-2 and ROUGE-L F by their definitions, the last by trying every subsequence length recursively."""

    def grams(tokens, n):
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    def common(a, b):
        if not a or not b:
            return 0
        if a[0] == b[0]:
            return 1 + common(a[1:], b[1:])
        return max(common(a[1:], b), common(a, b[1:]))

    def f(overlap, a, b):
        return 2 * overlap / (a + b) if overlap else 0.0

    p, r = prediction.split(), reference.split()
    out = []
    for n in (1, 2):
        a, b = grams(p, n), grams(r, n)
        out.append(f(sum((a & b).values()), sum(a.values()), sum(b.values())))
    return [*out, f(common(p, r), len(p), len(r))]


def test_usr_compares_whitespace_tokens():
    assert tm.unique_sentence_ratio(["a b", " a  b\n", "a B", "b a"]) == 3 / 4


def test_distinct_counts_ngrams_inside_texts_only():
    assert tm.distinct_n(["a b a", "b a"], 1) == 2 / 5
    assert tm.distinct_n(["a b a", "b a"], 2) == 2 / 3  # ab, ba, ba: "a b" never spans two texts
    assert tm.distinct_n(["a", "b"], 2) == 0.0
    with pytest.raises(ValueError, match="at least 1"):
        tm.distinct_n(["a"], 0)


def test_lengths_and_word_limit():
    texts = ["a b c", "", "a " * 51]
    assert tm.lengths(texts) == {"mean": 18.0, "max": 51.0}
    assert tm.word_limit_violations(texts) == 1 / 3
    assert tm.word_limit_violations(texts, limit=2) == 2 / 3


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_rouge_is_its_definition(rows):
    predictions, references = map(list, zip(*rows, strict=True))
    found = tm.rouge_rows(predictions, references)
    for index, (prediction, reference) in enumerate(rows):
        expected = slow_rouge(prediction, reference)
        assert [found[k][index] for k in ("rouge_1", "rouge_2", "rouge_l")] == pytest.approx(expected, abs=1e-12)
    assert tm.rouge(predictions, references)["rouge_l"] == pytest.approx(found["rouge_l"].mean())


@settings(max_examples=200, deadline=None)
@given(marked_pairs, st.sampled_from(["13a", "char", "intl", "none"]))
@example([("a well-\nknown bar, 5-\n", "a wellknown bar, 5")], "13a")  # a hyphen that ends a line
def test_bleu_is_sacrebleu_to_the_last_digit(rows, tokenizer):
    predictions, references = map(list, zip(*rows, strict=True))
    found = tm.bleu_orders(predictions, references, (1, 2, 4), tokenizer)
    for order in (1, 2, 4):
        library = BLEU(max_ngram_order=order, tokenize=tokenizer, force=True)
        score = library.corpus_score(predictions, [references]).score
        assert found[order] == (score, str(library.get_signature())) == tm.bleu(predictions, references, order, tokenizer)
    library = BLEU(tokenize=tokenizer, effective_order=True, force=True)
    by_row = [library.sentence_score(p, [r]).score for p, r in rows]
    assert tm.bleu_rows(predictions, references, tokenizer).tolist() == by_row


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(texts | st.text(max_size=12), texts | st.text(max_size=12)), min_size=1, max_size=4))
def test_rouge_is_rouge_score(rows):
    predictions, references = map(list, zip(*rows, strict=True))
    found = tm.rouge_rows(predictions, references)
    library = RougeScorer(list(tm.ROUGE_KEYS), use_stemmer=False)
    for index, (prediction, reference) in enumerate(rows):
        scores = library.score(reference, prediction)
        expected = [scores[name].fmeasure for name in tm.ROUGE_KEYS]
        assert [found[key][index] for key in tm.ROUGE_KEYS.values()] == pytest.approx(expected, abs=1e-14)


def test_distinct_inside_texts():
    rows = ["a b a", "b a", "", "a"]
    assert tm.distinct_n_rows(rows, 1).tolist() == [2 / 3, 1.0, 0.0, 1.0]
    assert tm.distinct_n_rows(rows, 2).tolist() == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="at least 1"):
        tm.distinct_n_rows(rows, 0)


def test_usr_of_endings_does_not_see_the_title():
    rows = [f"The user would enjoy {title} because of the food and the service." for title in ("A", "B C", "D")]
    assert tm.unique_sentence_ratio(rows) == 1.0
    assert tm.unique_ending_ratio(rows, words=7) == 1 / 3
    assert tm.unique_ending_ratio(rows, words=8) == 1.0
    assert tm.unique_ending_ratio(["", "", "a"]) == 2 / 3
    with pytest.raises(ValueError, match="at least 1"):
        tm.unique_ending_ratio(rows, words=0)


def test_bleu_is_nltk_where_no_smoothing_acts():
    predictions = ["the user would enjoy the live music here", "a quiet place with good coffee and cake"]
    references = ["the user would enjoy the live music and beer", "it is a quiet place with good coffee"]
    split = [[r.split()] for r in references], [p.split() for p in predictions]
    assert tm.bleu(predictions, references).score == pytest.approx(100 * corpus_bleu(*split), abs=1e-9)
    one = tm.bleu(predictions, references, max_order=1)
    assert one.score == pytest.approx(100 * corpus_bleu(*split, weights=(1.0,)), abs=1e-9)
    assert "case:mixed" in one.signature
    assert "tok:13a" in one.signature


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=4))
def test_no_text_gives_nan_or_leaves_the_range(rows):
    predictions, references = map(list, zip(*rows, strict=True))
    script = tm.writing(references)
    figures = [tm.unique_sentence_ratio(predictions), tm.distinct_n(predictions, 1), tm.distinct_n(predictions, 2)]
    figures += [
        tm.unique_ending_ratio(predictions),
        *tm.distinct_n_rows(predictions, 2),
        *(tm.bleu_rows(predictions, references) / 100),
    ]
    figures += [tm.word_limit_violations(predictions), *tm.rouge(predictions, references, script).values()]
    figures += [tm.bleu(predictions, references, order).score / 100 for order in (1, 4)]
    assert all(math.isfinite(figure) and 0 <= figure <= 1 + 1e-9 for figure in figures)


def test_corner_cases_give_figures():
    assert tm.bleu(["", ""], ["a b c d", "e"]).score == 0.0
    assert tm.rouge(["", ""], ["a b", ""]) == {"rouge_1": 0.0, "rouge_2": 0.0, "rouge_l": 0.0}
    assert tm.rouge(["a b"], ["a b"])["rouge_2"] == 1.0
    assert tm.unique_sentence_ratio(["a"] * 4) == 1 / 4


@pytest.mark.parametrize(
    ("text", "changed", "script"),
    [
        ("Пользователь полюбит живую музыку", "Пользователь любит живую музыку", "words"),
        ("उपयोगकर्ता को संगीत पसंद है", "उपयोगकर्ता को खाना पसंद है", "words"),
        ("这家店的咖啡很好喝", "这家店的茶很好喝", "characters"),
    ],
)
def test_other_scripts_are_not_thrown_away(text, changed, script):
    assert tm.rouge([text], [text])["rouge_1"] == 0.0  # rouge_score's own tokenizer keeps ASCII only
    assert tm.writing([text]) == script
    assert tm.rouge([text], [text], script)["rouge_l"] == 1.0
    assert 0.5 < tm.rouge([changed], [text], script)["rouge_1"] < 1.0
    assert tm.bleu([text], [text], tokenizer="char").score == pytest.approx(100)


def test_writing_of_latin_and_of_nothing():
    assert tm.writing(["Le café est très agréable", "42"]) == "latin"
    assert tm.writing(["", "42!"]) == "latin"


def test_bad_lists_are_refused():
    with pytest.raises(DataError, match="2 and 1"):
        tm.rouge(["a", "b"], ["a"])
    for metric in (tm.unique_sentence_ratio, tm.unique_ending_ratio, tm.lengths, tm.word_limit_violations):
        with pytest.raises(DataError, match="at least one row"):
            metric([])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yelp", "google"])
def test_published_predictions_give_the_recorded_figures(name):
    folder = os.environ.get("XREC_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set XREC_TEST_DATA to the folder of the published predictions")
    rows = pl.read_parquet(Path(folder) / name / "xrec_llama2_7b_predictions.parquet")
    predictions, references = rows["prediction"].to_list(), rows["reference"].to_list()
    expected = json.loads(GOLDEN.read_text())[name]
    found = {
        "usr_ref_impl": tm.unique_sentence_ratio(predictions),
        "usr_of_references": tm.unique_sentence_ratio(references),
        "sacrebleu_bleu4": tm.bleu(predictions, references).score,
        "sacrebleu_bleu1": tm.bleu(predictions, references, 1).score,
        "distinct1_corpus_pred": tm.distinct_n(predictions, 1),
        "distinct2_corpus_pred": tm.distinct_n(predictions, 2),
        "distinct1_corpus_ref": tm.distinct_n(references, 1),
        "distinct2_corpus_ref": tm.distinct_n(references, 2),
        "mean_words_pred": tm.lengths(predictions)["mean"],
        "max_words_ref": tm.lengths(references)["max"],
        "distinct1_sentence_mean_pred": tm.distinct_n_rows(predictions, 1).mean(),
        "distinct2_sentence_mean_pred": tm.distinct_n_rows(predictions, 2).mean(),
    }
    means = tm.rouge(predictions, references)
    found |= {f"{name}_fmeasure": means[key] for name, key in tm.ROUGE_KEYS.items()}
    assert found == pytest.approx({key: expected[key] for key in found}, abs=1e-9)
