import json

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.commands import evaluate_command
from xrec_evaluation.encoders import SentenceEncoder
from xrec_evaluation.evaluate import evaluate_predictions
from xrec_evaluation.grounded_examples import Grounder
from xrec_evaluation.grounding import Options, ground


@pytest.fixture(scope="module")
def rows(tiny_data):
    table = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet").head(40)
    nonsense = pl.lit("The user loved the golden submarine and the loud volcano.")
    texts = pl.when(pl.int_range(pl.len()) % 2 == 0).then("reference").otherwise(nonsense)
    return table.select("user_id", "item_id", reference="explanation").with_columns(prediction=texts)


def test_an_evaluation_shows_claims_with_their_evidence(rows, tiny_data, encoder, tmp_path):
    result = evaluate_predictions(
        rows.with_columns(prediction=rows["prediction"]), tmp_path, tiny_data, grounder=Grounder(encoder)
    )
    own, true = result["grounding"]["model"], result["grounding"]["reference"]
    alone = ground(rows.select("user_id", "item_id", "prediction"), tiny_data, encoder, options=Options())
    assert own == json.loads(json.dumps(alone.summary()))
    assert own["thresholds"] == true["thresholds"]
    assert true["precision"]["value"] > own["precision"]["value"] + 0.3
    assert {"submarine", "volcano"} <= {one["text"] for one in own["unfounded_words"]}
    assert all(example["claims"] for example in result["examples"])
    page = (tmp_path / "report.html").read_text()
    assert "Are the claims grounded?" in page
    assert "volcano" in page
    assert json.loads((tmp_path / "metrics.json").read_text()) == result


def test_too_little_to_calibrate_on_is_said(predictions, data, encoder, tmp_path):
    result = evaluate_predictions(predictions, tmp_path, data, grounder=Grounder(encoder))
    assert "expected" in result["grounding"]["skipped"]
    assert "Not looked at: " in (tmp_path / "report.html").read_text()


def test_flags_lead_to_models(rows, tiny_data, minilm, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(SentenceEncoder, "encode", lambda self, texts: made.append(self.name) or _hashes(texts))
    rows.write_parquet(tmp_path / "p.parquet")
    file = ["--predictions", str(tmp_path / "p.parquet"), "--out", str(tmp_path / "out")]
    evaluate_command([*file, "--data", str(tiny_data), "--encoder", str(minilm)])
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(made) == {str(minilm)}
    assert found["systems"]["shuffled"]["metrics"]["embedding_similarity"]["value"] < 1
    assert "grounding" in found
    with pytest.raises(DataError, match="--nli goes with --encoder"):
        evaluate_command([*file, "--nli", "some/model"])


def _hashes(texts):
    """Unit vectors that are equal for equal texts, and little else."""
    import zlib

    import numpy as np

    vectors = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=16) for text in texts]
    return np.array([vector / np.linalg.norm(vector) for vector in vectors], dtype=np.float32).reshape(len(texts), 16)
