import json

import numpy as np
import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.aspect_f1 import load_truth
from xrec_evaluation.bootstrap import paired_difference
from xrec_evaluation.evaluate import evaluate_predictions, score
from xrec_evaluation.floors import shuffled
from xrec_evaluation.text_metrics import rouge_rows


def refuse(constant):
    raise AssertionError(f"{constant} in metrics.json")


def figures(result, name, key):
    return result["systems"][name]["metrics"][key]


def test_everything_known(predictions, data, tmp_path):
    wrong = ["The user would enjoy it for a band."] * len(predictions)
    result = evaluate_predictions(predictions, tmp_path / "out", data, {"permuted embeddings": wrong})
    kinds = {name: system["kind"] for name, system in result["systems"].items()}
    assert kinds == {
        "model": "model",
        "permuted embeddings": "condition",
        "shuffled": "floor",
        "copied_profile": "floor",
        "template": "floor",
        "other_user": "floor",
        "nearest": "floor",
    }
    assert result["headline"] == "aspect_f1"
    assert figures(result, "model", "aspect_f1")["value"] == 1.0
    # "a band" is live music: two of six rows share it, each among two aspects, so F1 is 2/3 twice.
    assert figures(result, "permuted embeddings", "aspect_f1")["value"] == pytest.approx(2 * (2 / 3) / 6)
    # The profile names craft beer: row 1 shares two aspects, row 3 only that one.
    assert figures(result, "copied_profile", "aspect_f1")["value"] == pytest.approx((2 / 3 + 1) / 6)
    assert figures(result, "template", "aspect_f1")["value"] == pytest.approx(1 / 6)  # right where nothing is shared
    assert result["ceilings"] == {"oracle": {"aspect_f1": 1.0}, "text only": {"aspect_f1": 0.5}}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text(), parse_constant=refuse) == result
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "report.html", "report.md"]


def test_differences_are_paired_on_the_same_rows(predictions, tmp_path):
    rows = predictions.select("prediction", "reference")
    result = evaluate_predictions(rows, tmp_path)
    texts, references = rows["prediction"].to_list(), rows["reference"].to_list()
    model, floor = (rouge_rows(system, references)["rouge_1"] for system in (texts, shuffled(texts)))
    expected = paired_difference(model, floor)
    found = result["systems"]["shuffled"]["model_minus_system"]["rouge_1"]
    assert found == {
        "value": pytest.approx(expected.mean),
        "low": pytest.approx(expected.low),
        "high": pytest.approx(expected.high),
        "effect_size": pytest.approx(expected.effect_size),
        "p_value": expected.p_value,
        "p_holm": pytest.approx(2 * expected.p_value),  # the smaller of two comparisons
    }
    assert result["headline"] == "rouge_1"
    assert set(result["skipped"]) == {"copied_profile", "other_user", "nearest"}
    assert figures(result, "shuffled", "usr") == figures(result, "model", "usr")


def test_two_runs_write_the_same_bytes(predictions, data, tmp_path):
    for name in ("a", "b"):
        evaluate_predictions(predictions, tmp_path / name, data)
    for file in ("metrics.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    evaluate_predictions(predictions.head(3), tmp_path / "a", data)  # an earlier evaluation is replaced
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["rows"] == 3


@pytest.mark.parametrize(
    "texts",
    [
        (["only"], ["only"]),
        (["only"], ["other"]),
        (["", ""], ["a b", "c"]),
        (["", ""], ["", ""]),
        ([None, "x"], ["a", None]),
        (["same"] * 4, ["same"] * 4),
        (["店很好", "店不好"], ["店很好", "店很好"]),
    ],
)
def test_corner_cases_give_finite_figures_and_a_page(texts, tmp_path):
    rows = pl.DataFrame(dict(zip(("prediction", "reference"), texts, strict=True)))
    result = evaluate_predictions(rows, tmp_path)
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text, parse_constant=refuse) == result
    assert all(np.isfinite(f["value"]) for s in result["systems"].values() for f in s["metrics"].values())
    assert "nan" not in (tmp_path / "report.html").read_text().lower()
    assert result["empty_predictions"] == sum(not t for t in texts[0])


def test_score_of_one_system(predictions, data):
    truth = load_truth(data)
    found = score(predictions, truth)
    assert found["metrics"]["aspect_f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "low" not in found["metrics"]["usr"]
    assert "aspect_f1" not in score(predictions)["metrics"]
    with pytest.raises(DataError, match="found no item_id"):
        score(predictions.drop("item_id"), truth)


def test_bad_input_leaves_nothing(predictions, data, tmp_path):
    out = tmp_path / "out"
    cases = [
        ((predictions.clear(), out), "at least one row"),
        ((predictions.drop("reference"), out), "add or rename reference"),
        ((predictions.drop("user_id"), out, data), "found no user_id"),
        ((predictions.with_columns(item_id=pl.lit("i9")), out, data), "6 of 6 missing"),
        ((predictions, out, None, {"other": ["too few"]}), "expected 6 texts of 'other', found 1"),
        ((predictions, out, None, {"shuffled": ["x"] * 6}), "which is taken"),
        ((predictions, out, tmp_path / "nowhere"), "nowhere"),
    ]
    for arguments, message in cases:
        with pytest.raises(DataError, match=message):
            evaluate_predictions(*arguments)
    assert not out.exists()


def test_order_of_rows_is_kept_when_joined(predictions, data, tmp_path):
    turned = predictions.reverse()
    result = evaluate_predictions(turned, tmp_path, data)
    assert figures(result, "model", "aspect_f1")["value"] == 1.0
