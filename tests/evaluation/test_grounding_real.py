"""Published Yelp explanations, which are not in the repository: set XREC_TEST_DATA to their folder."""

import os
from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table
from xrec_evaluation.evidence_texts import Limits
from xrec_evaluation.floors import shuffled
from xrec_evaluation.grounding import Options, ground

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path):
    folder = os.environ.get("XREC_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set XREC_TEST_DATA to the folder of the public data")
    yelp = Path(folder) / "yelp"
    inputs = Inputs(
        interactions=yelp / "interactions.parquet",
        explanations=yelp / "explanations.parquet",
        items=yelp / "item_profiles.parquet",
    )
    build("table", tmp_path / "data", inputs=inputs, repair_leaks=True)
    return tmp_path / "data"


def test_copies_are_supported_and_shuffled_texts_are_not(data, encoder):
    rows = read_table(DatasetFolder(data).explanations("test"), EXPLANATIONS).head(80)
    ids = rows.select("user_id", "item_id")
    options = Options(limits=Limits(history=0, texts=5), calibration_pairs=100)
    own = ground(ids.with_columns(prediction=rows["explanation"]), data, encoder, options=options)
    found = {"references": own.summary()}
    for name, texts in {"copied": rows["item_profile"].to_list(), "shuffled": shuffled(rows["explanation"].to_list())}.items():
        texts_of = ids.with_columns(prediction=pl.Series(texts))
        found[name] = ground(texts_of, data, encoder, thresholds=own.thresholds, options=options).summary()
    assert found["copied"]["precision"]["value"] > 0.99
    assert found["copied"]["unfounded_words_per_row"]["value"] == 0
    assert found["references"]["precision"]["difference"]["low"] > 0
    assert found["shuffled"]["precision"]["difference"]["low"] < 0 < found["shuffled"]["precision"]["difference"]["high"]
