import copy
import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.evaluate import evaluate_predictions
from xrec_evaluation.report import render_report, verdict, write_report
from xrec_evaluation.report_markdown import markdown
from xrec_evaluation.report_tables import best_floor

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


@pytest.fixture
def audit():
    """An audit as `audit.json` holds it, with hostile names."""
    figure = {"value": 1.5, "low": 1.25, "high": 1.75}
    names = ("permuted", "average", "permuted user", "permuted item", "zero", "noise")
    change = {"changed": figure, "alike": figure, "lost": {"<b>quiet</b>": 3}, "gained": {"loud": 1}}
    return {
        "verdicts": {
            "depends_on_vector": {"answer": True, "text": "Yes: <i>so</i> it is."},
            "depends_on_structure": {"answer": None, "text": "Not asked: nobody was held out."},
        },
        "rows": 40,
        "bits": dict.fromkeys(names, figure),
        "held_out": {"share": 0.3, "rows": 40, "models": [], "permuted": figure, "random_fixed": {**figure, "value": -0.5}},
        "dilution": {"by_place": [{"first": 1, "last": 2, "rows": 9, **figure}, {"first": 3, "last": 3, "rows": 4, **figure}]},
        "ablations": {"layers": [{"name": "layer 0", **figure}]},
        "histories": {"user": {"rows": 9, "carrying": figure, "any": figure}, "item": {"rows": 0, "skipped": "none"}},
        "texts": {"rows": 4, "permuted": change},
        "gates": {"user": [figure, figure]},
        "map": {
            "points": [[0, 0], [1, 2]],
            "clusters": [0, 1],
            "titles": ["<script>Bar</script>", "Cafe"],
            "about": [{"group": 0, "size": 1, "words": ["beer"]}, {"group": 1, "size": 1, "words": []}],
        },
    }


def test_the_audit_has_its_section_alone_and_beside_scores(audit, predictions, data, tmp_path):
    page = Page(render_report(None, audit))
    assert "Does the text depend on the graph?" in page.text
    assert "Yes: <i>so</i> it is." in page.text
    assert "<script>Bar</script>" in page.text
    assert not {"script", "i"} & set(page.tags)
    assert page.tags.count("circle") == 2 + 2  # the curve's points and the map's
    assert "\N{MINUS SIGN}0.50" in page.text
    evaluate_predictions(predictions, tmp_path, data)
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    write_report(tmp_path)
    both = Page((tmp_path / "report.html").read_text())
    assert "beside the floors" in both.text
    assert "What the embeddings are worth" in both.text
    evaluate_predictions(predictions, tmp_path, data)  # a new evaluation keeps the audit
    assert "What the embeddings are worth" in (tmp_path / "report.html").read_text()


def test_an_audit_of_a_model_without_injection_leaves_sections_out(audit):
    audit |= {"ablations": {}, "gates": {}, "map": None, "texts": {}, "histories": {}}
    audit["held_out"] = {"share": 0.0, "rows": 0, "models": [], "skipped": "nobody"}
    text = Page(render_report(None, audit)).text
    for missing in ("Which part", "Which experts", "The items", "How the text changes", "One entry"):
        assert missing not in text


def test_markdown_holds_the_figures_and_no_markup_of_texts(audit, predictions, data, tmp_path):
    result = evaluate_predictions(predictions, tmp_path, data, {"a | b <i>": ["nothing"] * 6})
    judges = {"judges": {"m|1": {"verdict": "Useless <b>judge</b>."}}, "agreement": {}}
    text = markdown(result, audit, judges, verdict(result))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows[:10]} == {len(re.findall(r"\|", rows[0]))}
    assert "<i>" not in text
    assert "<b>" not in text
    assert "A \\| b &lt;i>" in text
    assert "1.50 (1.25 to 1.75)" in text
    assert (tmp_path / "report.md").read_text().startswith("### Scores beside their floors")


def test_what_judges_say_is_shown_with_what_they_are_worth():
    figure, nothing = {"value": 3.25, "low": 3.0, "high": 3.5}, {"value": None, "low": None, "high": None}
    entry = {
        "verdict": "This judge cannot tell <b>a shuffled text</b> from the right one.",
        "notes": ["Half the digits were unsure."],
        "systems": {"model": {"fluency": figure}, "permuted embeddings": {"fluency": nothing}},
        "preferences": {"permuted embeddings": {"wins": 4, "losses": 1, "ties": 2, "rows": 7}},
        "calibration": {"fluency": {"auc": {"shuffled": {"value": 0.5, "low": 0.4, "high": 0.6}}}},
    }
    pair = {"judges": ["a", "b"], "spearman": {"value": 0.3, "low": 0.1, "high": 0.5}, "kendall": nothing}
    agreement = {"fluency": {"pairs": [pair], "alpha": nothing, "same_order": False}}
    page = Page(render_report(None, None, {"judges": {"a": entry, "b": entry}, "agreement": agreement}))
    for text in ("<b>a shuffled text</b>", "3.25", "4 of 7", "1 lost, 2 tied", "shuffled 0.50", "unsure"):
        assert text in page.text
    assert "a and b: Spearman's rho 0.30 (0.10 to 0.50)" in page.text
    assert "alpha" not in page.text
    assert "order the systems differently" in page.text


def test_tables_by_groups_show_every_metric_once(predictions, data, tmp_path):
    result = evaluate_predictions(predictions, tmp_path, data)
    text = (tmp_path / "report.html").read_text()
    for key in result["systems"]["model"]["metrics"]:
        from xrec_evaluation.metrics import METRICS

        assert text.count(f">{METRICS[key].label} ") + text.count(f">{METRICS[key].label}<") >= 1
    assert "p (Holm)" in text
    assert "Does the text point at its own pair?" in text
    assert result["own_rank"]["chance"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(("text", "found"), [("{", "expected JSON"), ("[]", "another file"), ('{"rows": 3}', "another file")])
def test_a_foreign_file_is_one_line(text, found, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=found):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
