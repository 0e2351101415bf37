import hashlib
import json
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import datasets
import polars as pl
import pytest

from xrec_dataset_builder import leak_report
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.prepare import PrepareOptions
from xrec_dataset_builder.reader_amazon_2018 import READER as AMAZON_2018
from xrec_dataset_builder.schema import SPLITS, DatasetFolder
from xrec_dataset_builder.sources import RawData


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_every_pair_once_and_its_counts_add_up(built: Path, reviews_file: Path):
    folder = DatasetFolder(built)
    about = json.loads(folder.build_json.read_text())
    pairs = pl.concat([pl.read_parquet(folder.interactions(split)) for split in SPLITS])
    assert pairs.select("user_id", "item_id").is_duplicated().sum() == 0
    counts = about["counts"]
    gone = ("skipped", "duplicates", "low_rating", "outside_k_core")
    assert counts["read"] == len(reviews_file.read_text().splitlines()) == pairs.height + sum(counts[n] for n in gone)
    assert pl.read_parquet(folder.users)["user_id"].to_list() == sorted(pairs["user_id"].unique())
    assert pl.read_parquet(folder.items)["item_id"].to_list() == sorted(pairs["item_id"].unique())
    assert counts["unknown_items_in_metadata"] == 2
    held_out = pl.concat([pl.read_parquet(folder.interactions(split)) for split in SPLITS[1:]])
    assert about["leak_report"] == leak_report(pl.read_parquet(folder.interactions("train")), held_out).as_dict()
    assert about["files"][0] == {
        "role": "reviews",
        "name": "reviews.json",
        "sha256": hashlib.sha256(reviews_file.read_bytes()).hexdigest(),
    }


def test_two_runs_are_the_same_bytes_wherever_they_run(tmp_path: Path, reviews_file: Path, items_file: Path):
    folders = []
    for name in ("one", "two"):
        place = tmp_path / name
        place.mkdir()
        moved = place / "reviews.json"
        moved.write_bytes(reviews_file.read_bytes())
        build("amazon-2018", place / "data", inputs=Inputs(reviews=[moved], items=items_file))
        distill(place / "data", progress=False)
        folders.append(content(place / "data"))
    assert folders[0] == folders[1]
    assert not any(str(tmp_path).encode() in text for text in folders[0].values())


def test_the_folder_loads_with_datasets(built: Path, tmp_path: Path):
    options = {"cache_dir": str(tmp_path / "cache")}
    assert datasets.load_dataset(str(built), "interactions", **options)["train"].num_rows == 80
    with pytest.raises(ValueError, match="explanations"):
        datasets.load_dataset(str(built), "explanations", **options)
    distill(built, progress=False)
    explained = datasets.load_dataset(str(built), **options)
    columns = ["user_id", "item_id", "title", "user_profile", "item_profile", "explanation"]
    assert {split: rows.column_names for split, rows in explained.items()} == dict.fromkeys(SPLITS, columns)
    assert datasets.load_dataset(str(built), "users", **options)["train"].num_rows == 20
    assert datasets.load_dataset(str(built), "items", **options)["train"].column_names == [
        "item_id",
        "title",
        "item_profile",
    ]


@pytest.mark.parametrize(
    ("source", "inputs", "message"),
    [
        ("imdb", {}, "expected a source among synthetic, amazon-2018, amazon-2023, google-local, yelp, table, found 'imdb'"),
        ("amazon-2018", {}, "expected --reviews FILE for source amazon-2018, found none"),
        (
            "amazon-2018",
            {"reviews": ["r"], "users": "u"},
            "expected --reviews, --items for source amazon-2018, found --users",
        ),
        ("synthetic", {"items": "i"}, "expected no files for source synthetic, found --items"),
        ("table", {"explanations": "e"}, "expected --interactions FILE for source table, found none"),
        ("amazon-2018", {"reviews": [Path("none.json")]}, r"none\.json: expected a file, found none"),
    ],
)
def test_wrong_inputs_are_refused_and_leave_nothing(tmp_path: Path, source: str, inputs: dict, message: str):
    with pytest.raises(DataError, match=message) as caught:
        build(source, tmp_path / "out", inputs=Inputs(**inputs))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_failing_build_leaves_nothing_and_a_full_folder_is_kept(tmp_path: Path, reviews_file: Path, built: Path):
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(DataError, match=r"found none .*outside k core"):
        build("amazon-2018", tmp_path / "out", inputs=Inputs([reviews_file]), options=PrepareOptions(k_core=50))
    assert sorted(os.listdir(tmp_path)) == before
    with pytest.raises(DataError, match="remove it or choose another --out"):
        build("amazon-2018", built, inputs=Inputs([reviews_file]))


def test_broken_rows_are_counted_when_asked(tmp_path: Path, reviews_file: Path):
    reviews_file.write_text(reviews_file.read_text() + "{broken\n")
    with pytest.raises(DataError, match=r"line 101: .*--skip-bad-rows"):
        build("amazon-2018", tmp_path / "out", inputs=Inputs([reviews_file]))
    build("amazon-2018", tmp_path / "out", inputs=Inputs([reviews_file]), skip_bad_rows=True)
    counts = json.loads((tmp_path / "out" / "build.json").read_text())["counts"]
    assert (counts["read"], counts["skipped"], counts["kept"]) == (101, 1, 100)


def test_a_table_with_reviews_goes_the_common_way(tmp_path: Path, reviews_file: Path):
    raw = AMAZON_2018.read([reviews_file], None).reviews
    raw.write_parquet(tmp_path / "table.parquet")
    build("table", tmp_path / "out", inputs=Inputs(interactions=tmp_path / "table.parquet"))
    assert distill(tmp_path / "out", progress=False)
    build("amazon-2018", tmp_path / "same", inputs=Inputs([reviews_file]))
    distill(tmp_path / "same", progress=False)
    data = [content(tmp_path / name / "data") for name in ("out", "same")]
    assert data[0] == data[1]


def test_filters_beside_explanations_are_refused(tmp_path: Path):
    (tmp_path / "i.csv").write_text("user_id,item_id\n1,2\n")
    inputs = Inputs(interactions=tmp_path / "i.csv", explanations=tmp_path / "i.csv")
    with pytest.raises(DataError, match="expected no --k-core and no --min-rating beside --explanations"):
        build("table", tmp_path / "out", inputs=inputs, options=PrepareOptions(k_core=2))


@dataclass(frozen=True)
class FakeWorld:
    raw: RawData

    def write_truth(self, folder: DatasetFolder) -> None:
        assert folder.build_json.is_file()
        folder.truth_json.parent.mkdir()
        folder.truth_json.write_text("{}")


def test_the_built_in_world_takes_the_same_way_and_adds_its_truth(
    tmp_path: Path, reviews_file: Path, items_file: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = {}
    fake = types.ModuleType("xrec_dataset_builder.synthetic")

    def generate_world(seed: int, **sizes: int) -> FakeWorld:
        asked.update(sizes, seed=seed)
        return FakeWorld(AMAZON_2018.read([reviews_file], items_file))

    fake.generate_world = generate_world
    monkeypatch.setitem(sys.modules, "xrec_dataset_builder.synthetic", fake)
    build("synthetic", tmp_path / "out", world={"users": 9}, options=PrepareOptions(seed=4))
    assert asked == {"seed": 4, "users": 9}
    assert DatasetFolder(tmp_path / "out").truth_json.is_file()
    assert "license: cc0-1.0" in DatasetFolder(tmp_path / "out").card.read_text()
    assert "truth" not in DatasetFolder(tmp_path / "out").card.read_text()
