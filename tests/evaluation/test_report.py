import copy
from html.parser import HTMLParser

import polars as pl
import pytest

from xrec_evaluation.evaluate import evaluate_predictions
from xrec_evaluation.report import best_floor, verdict

VOID = {"meta", "line", "rect", "link", "br", "img"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def evaluated(predictions, data, tmp_path):
    hostile = predictions.with_columns(prediction=pl.col("prediction") + " <img src=x onerror=alert(1)> & {{ 7*7 }}")
    permuted = ["<b>nothing</b>"] * len(hostile)
    result = evaluate_predictions(hostile, tmp_path / "out", data, {"permuted <i>embeddings</i>": permuted})
    return result, Page((tmp_path / "out" / "report.html").read_text())


def test_page_is_self_contained_and_every_text_is_escaped(evaluated):
    _, page = evaluated
    assert not {"script", "img", "link", "iframe", "b", "i"} & set(page.tags)
    assert not {"src", "href", "onerror", "xlink:href"} & {name for name, _ in page.attributes}
    assert "<img src=x onerror=alert(1)> & {{ 7*7 }}" in page.text
    assert "<script>alert('i1')</script>" in page.text
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert "prefers-color-scheme: dark" in page.text
    assert ("name", "viewport") in page.attributes


def test_page_shows_systems_examples_and_truth(evaluated):
    result, page = evaluated
    for name in ("Model", "Permuted <i>embeddings</i>", "Shuffled", "Copied profile", "Template", "Oracle"):
        assert name in page.text
    assert page.tags.count("article") == result["rows"] == 6
    assert "live music \N{CHECK MARK}" in page.text
    assert verdict(result)[0] in page.text


def test_user_ids_stay_out_of_the_page(predictions, data, tmp_path):
    named = predictions.with_columns(user_id=pl.col("user_id").replace({"u1": "u1"}))
    evaluate_predictions(named, tmp_path / "out", data)
    text = (tmp_path / "out" / "report.html").read_text()
    assert not any(f">{user}<" in text or f"user {user}" in text for user in ("u1", "u2", "u3"))


def test_examples_are_limited_to_ten_from_best_to_worst(tmp_path):
    rows = pl.DataFrame({"prediction": [f"word {i}" for i in range(40)], "reference": ["word 7"] * 40})
    evaluate_predictions(rows, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert page.tags.count("article") == 10
    assert "Row 8" in page.text  # the one perfect row comes first


def test_verdict_tells_above_below_and_equal(predictions, data, tmp_path):
    result = evaluate_predictions(predictions, tmp_path, data)
    floor = best_floor(result)
    assert floor == max(
        ("shuffled", "copied_profile", "template", "other_user", "nearest"),
        key=lambda name: result["systems"][name]["metrics"]["aspect_f1"]["value"],
    )
    for low, high, words in ((0.1, 0.3, "points above"), (-0.3, -0.1, "points below"), (-0.1, 0.1, "cannot be told")):
        changed = copy.deepcopy(result)
        difference = changed["systems"][floor]["model_minus_system"]["aspect_f1"]
        difference |= {"value": (low + high) / 2, "low": low, "high": high}
        assert len(verdict(changed)) == 1
        assert words in verdict(changed)[0]


def test_verdict_of_one_row_claims_nothing(tmp_path):
    result = evaluate_predictions(pl.DataFrame({"prediction": ["a b"], "reference": ["a b"]}), tmp_path)
    assert "One row cannot tell" in verdict(result)[0]
