import json
import math
import subprocess
import sys

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.commands import evaluate_command


def test_predictions_file(predictions, data, tmp_path, capsys):
    predictions.write_csv(tmp_path / "p.csv")
    out = tmp_path / "out"
    evaluate_command(["--predictions", str(tmp_path / "p.csv"), "--out", str(out), "--data", str(data)])
    printed = capsys.readouterr().out
    assert "Copied profile" in printed
    assert f"Report: {out / 'report.html'}" in printed
    assert json.loads((out / "metrics.json").read_text())["headline"] == "aspect_f1"
    assert pl.read_parquet(out / "predictions.parquet").equals(predictions)
    evaluate_command(["--predictions", str(out / "predictions.parquet"), "--out", str(out)])  # reads its own output


def test_model_is_compared_with_permuted_embeddings_and_other_models(predictions, data, tmp_path, monkeypatch, capsys):
    calls = []

    def explain_split(model, data, split="test", limit=None, batch_size=32, signal="graph", processes=None, likelihood=False):
        calls.append((str(model), split, limit, batch_size, signal))
        nats = -20.0 if signal == "graph" else -40.0
        rows = predictions.head(limit).with_columns(nats=pl.lit(nats if str(model) == "model" else None), tokens=pl.lit(10))
        return rows if str(model) == "model" and signal == "graph" else rows.with_columns(prediction=pl.lit("nothing"))

    monkeypatch.setattr("xrec_evaluation.explain.explain_split", explain_split)
    monkeypatch.setattr("xrec_evaluation.explain.hears_graph", lambda model: str(model) == "model")
    out = tmp_path / "out"
    sizes = ["--limit", "4", "--batch-size", "2"]
    evaluate_command(["model", "--data", str(data), "--out", str(out), *sizes, "--compare", "no signal=other"])
    assert calls == [
        ("model", "test", 4, 2, "graph"),
        ("model", "test", 4, 2, "permuted"),
        ("other", "test", 4, 2, "graph"),
    ]
    result = json.loads((out / "metrics.json").read_text())
    assert result["rows"] == 4
    assert {result["systems"][name]["kind"] for name in ("permuted embeddings", "no signal")} == {"condition"}
    assert "Permuted embeddings" in capsys.readouterr().out
    saved = pl.read_parquet(out / "predictions.parquet")
    assert saved.columns == ["user_id", "item_id", "reference", "prediction", "permuted embeddings", "no signal"]
    nll = {name: system["metrics"].get("nll", {}).get("value") for name, system in result["systems"].items()}
    assert (nll["model"], nll["permuted embeddings"], nll["no signal"]) == (2.0, 4.0, None)
    assert result["systems"]["permuted embeddings"]["metrics"]["perplexity"]["value"] == pytest.approx(math.exp(4))
    assert result["systems"]["permuted embeddings"]["model_minus_system"]["nll"]["value"] == -2
    evaluate_command(["other", "--data", str(data), "--out", str(tmp_path / "deaf"), *sizes])
    assert "permuted embeddings" not in json.loads((tmp_path / "deaf" / "metrics.json").read_text())["systems"]


def test_a_folder_of_seeds_is_one_system(predictions, data, tmp_path, monkeypatch):
    """Figures are means over its runs; floors and what is compared stand beside the mean."""
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "seeds.json").write_text(json.dumps({"runs": [{"folder": "seed-0"}, {"folder": "seed-1"}]}))

    def explain_split(model, *_, **__):
        rows = predictions.with_columns(nats=pl.lit(None, pl.Float64), tokens=pl.lit(None, pl.Int64))
        return rows.with_columns(prediction=pl.lit("nothing")) if model.name == "seed-1" else rows

    monkeypatch.setattr("xrec_evaluation.explain.explain_split", explain_split)
    monkeypatch.setattr("xrec_evaluation.explain.hears_graph", lambda model: False)
    evaluate_command([str(runs), "--data", str(data), "--out", str(tmp_path / "out")])
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    model = result["systems"]["model"]
    nothing = 1 / 6  # right where nothing is shared
    assert model["seeds"]["values"] == pytest.approx([1.0, nothing])
    assert model["metrics"]["aspect_f1"]["value"] == pytest.approx((1 + nothing) / 2)
    assert model["seeds"]["sd"] == pytest.approx((1 - nothing) / math.sqrt(2))
    assert pl.read_parquet(tmp_path / "out" / "predictions-2.parquet")["prediction"].unique().to_list() == ["nothing"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "o"], "either MODEL"),
        (["model", "--predictions", "p.csv", "--out", "o"], "either MODEL"),
        (["model", "--out", "o"], "needs --data"),
        (["--predictions", "p.csv", "--out", "o", "--limit", "3"], "--limit goes with MODEL"),
        (["model", "--data", "d", "--out", "o", "--limit", "0"], "at least 1"),
        (["model", "--data", "d", "--out", "o", "--compare", "other"], "expects NAME=MODEL, found 'other'"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(DataError, match=message):
        evaluate_command(arguments)


def test_bad_file_leaves_no_folder(tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        evaluate_command(["--predictions", str(tmp_path / "p.csv"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_importing_the_command_is_light():
    code = "import sys, xrec_evaluation.commands; print([m for m in ('torch', 'polars', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
