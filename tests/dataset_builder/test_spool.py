import json
from pathlib import Path

import datasets
import polars as pl
import pytest

from xrec_dataset_builder import spool
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.leaks import straddling
from xrec_dataset_builder.prepare import PrepareOptions, prepare
from xrec_dataset_builder.reader_amazon_2018 import READER
from xrec_dataset_builder.schema import COLD_SPLITS, SPLITS, DatasetFolder

OPTIONS = PrepareOptions(min_rating=2, min_words=5, max_per_user=4, cold_users=0.1, cold_items=0.1)


@pytest.mark.parametrize("bucket", [1, 600, 1 << 30])
def test_texts_that_waited_on_disk_come_as_from_memory(
    tmp_path: Path, reviews_file: Path, items_file: Path, bucket: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spool, "BUCKET", bucket)
    monkeypatch.setattr(spool, "ROW_GROUP", 7)
    build("amazon-2018", tmp_path / "out", inputs=Inputs([reviews_file], items=items_file), options=OPTIONS)
    folder = DatasetFolder(tmp_path / "out")
    expected = prepare(READER.read([reviews_file], items_file), OPTIONS)
    assert pl.read_parquet(folder.reviews).equals(expected.reviews)
    about = json.loads(folder.build_json.read_text())
    assert {name: about["counts"][name] for name in expected.counts} == expected.counts
    assert about["straddling_reviews"]["training_reviews"] == straddling(expected.reviews).sum()
    assert {path.name for path in folder.root.iterdir()} == {"data", "private", "build.json", "README.md"}


def test_cold_splits_stand_beside_the_three_others_for_load_dataset(tmp_path: Path, reviews_file: Path):
    options = PrepareOptions(cold_users=0.15, cold_items=0.2)
    build("amazon-2018", tmp_path / "out", inputs=Inputs([reviews_file]), options=options)
    loaded = datasets.load_dataset(str(tmp_path / "out"), "interactions", cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == [*SPLITS, *COLD_SPLITS]
    known = {name: set(loaded["train"][name]) for name in ("user_id", "item_id")}
    assert not set(loaded["cold_user"]["user_id"]) & known["user_id"]
    assert not set(loaded["cold_item"]["item_id"]) & known["item_id"]
    assert len(set(loaded["cold_user"]["user_id"])) == 3
    assert sum(rows.num_rows for rows in loaded.values()) == 100
    build("amazon-2018", tmp_path / "warm", inputs=Inputs([reviews_file]))
    assert not DatasetFolder(tmp_path / "warm").interactions("cold_user").exists()
    card = DatasetFolder(tmp_path / "out").card.read_text()
    assert "| | train | validation | test | cold_user | cold_item |" in card
    assert "cold" not in DatasetFolder(tmp_path / "warm").card.read_text()
