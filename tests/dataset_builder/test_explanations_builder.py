"""The dataset folder as `datasets` sees it: by the builder, by the card, and by its documentation."""

import re
import subprocess
import sys
from pathlib import Path

import datasets
import polars as pl
import pyarrow.parquet
import pytest

from xrec_dataset_builder import DataError, XRecExplanations
from xrec_dataset_builder.card import write_card
from xrec_dataset_builder.configs import CONFIGS
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.quoting import QuoteOptions
from xrec_dataset_builder.schema import DatasetFolder, read_build

from .published import card_head, make_dataset, read_tables

DOCS = Path(__file__).parents[2] / "docs" / "dataset.md"
NAMES = ("explanations", "interactions", "users", "items")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("built"), cold_users=0.2, cold_items=0.1)


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def split_of(name: str) -> str:
    return "train" if name == "all" else name


def prepared(data: Path, cache: Path, config: str | None = None) -> datasets.DatasetDict:
    builder = XRecExplanations(data, config, cache_dir=str(cache))
    builder.download_and_prepare()
    return builder.as_dataset()


def documented() -> dict[str, dict[str, str]]:
    """Column and type of each table in the documentation, by the heading above it."""
    sections = re.split(r"^### `(\w+)`.*$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rows = {
        name: re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text, re.MULTILINE)
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    return {name: dict(found) for name, found in rows.items()}


@pytest.mark.parametrize("config", NAMES)
def test_builder_card_documentation_and_parquet_have_one_schema(data, tmp_path, config):
    features = {name: feature.dtype for name, feature in prepared(data, tmp_path, config)["train"].features.items()}
    assert documented()[config] == features
    for path in (data / "data" / config).glob("*.parquet"):
        schema = pyarrow.parquet.read_schema(path)
        assert {name: value.dtype for name, value in datasets.Features.from_arrow_schema(schema).items()} == features
    infos = {one["config_name"]: one for one in card_head(data)["dataset_info"]}
    assert {one["name"]: one["dtype"] for one in infos[config]["features"]} == features
    assert [one["config_name"] for one in card_head(data)["configs"]] == list(NAMES) == list(XRecExplanations.builder_configs)


@pytest.mark.parametrize("config", NAMES)
def test_rows_are_those_of_the_files_however_they_are_read(data, tmp_path, config):
    wanted = {split_of(name): table.to_dicts() for name, table in read_tables(data, config).items()}
    assert {"cold_user", "cold_item"} <= set(wanted) or config in ("users", "items")
    built = prepared(data, tmp_path / "a", config)
    assert {split: list(rows) for split, rows in built.items()} == wanted
    assert {split: rows.num_rows for split, rows in built.items()} == {split: len(rows) for split, rows in wanted.items()}
    streamed = XRecExplanations(data, config, cache_dir=str(tmp_path / "a")).as_streaming_dataset()
    assert {split: list(rows) for split, rows in streamed.items()} == wanted
    assert {split: rows.features for split, rows in streamed.items()} == {s: rows.features for s, rows in built.items()}
    loaded = datasets.load_dataset(str(data), config, cache_dir=str(tmp_path / "b"))
    assert {split: list(rows) for split, rows in loaded.items()} == wanted
    assert loaded["train"].features == built["train"].features


def test_explanations_are_the_default(data, tmp_path):
    assert XRecExplanations(data, cache_dir=str(tmp_path)).config.name == "explanations"
    assert "explanation" in datasets.load_dataset(str(data), cache_dir=str(tmp_path))["train"].column_names


def test_a_cache_serves_its_own_folder_only(tmp_path):
    one, two = make_dataset(tmp_path / "one"), make_dataset(tmp_path / "two", seed=1)
    same = make_dataset(tmp_path / "same")
    places = {XRecExplanations(folder, cache_dir=str(tmp_path / "c")).cache_dir for folder in (one, two, same)}
    assert len(places) == 3
    first, second = (prepared(folder, tmp_path / "c")["train"] for folder in (one, two))
    assert list(first) != list(second)
    assert first._fingerprint != second._fingerprint
    by_card = [datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "d"))["train"] for folder in (one, two)]
    assert [list(rows) for rows in by_card] == [list(first), list(second)]


def test_an_unchanged_folder_is_prepared_once(data, tmp_path):
    files = [Path(one["filename"]) for one in prepared(data, tmp_path)["train"].cache_files]
    before = [path.stat().st_mtime_ns for path in files]
    prepared(data, tmp_path)
    assert [path.stat().st_mtime_ns for path in files] == before


def test_a_folder_distilled_again_gives_its_new_rows(tmp_path):
    data = make_dataset(tmp_path / "made")
    old_builder = XRecExplanations(data, cache_dir=str(tmp_path / "c"))
    old_builder.download_and_prepare()
    by_card = list(datasets.load_dataset(str(data), cache_dir=str(tmp_path / "d"))["train"])
    distill(data, quoting=QuoteOptions(profile_sentences=1), progress=False)  # as many rows, other texts
    wanted = read_tables(data, "explanations")["train"].to_dicts()
    assert wanted != by_card
    assert len(wanted) == len(by_card)
    assert list(prepared(data, tmp_path / "c")["train"]) == wanted
    assert list(datasets.load_dataset(str(data), cache_dir=str(tmp_path / "d"))["train"]) == wanted
    for late in (old_builder.download_and_prepare, old_builder.as_streaming_dataset):
        with pytest.raises(DataError, match="expected the folder as it was, found it changed"):
            late()


def test_a_folder_that_changes_while_it_is_prepared_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    data = make_dataset(tmp_path / "made")
    builder = XRecExplanations(data, cache_dir=str(tmp_path / "c"))
    generate = builder._generate_examples

    def meanwhile(**which):
        yield from generate(**which)
        distill(data, quoting=QuoteOptions(profile_sentences=1), progress=False)

    monkeypatch.setattr(builder, "_generate_examples", meanwhile)
    with pytest.raises(DataError, match="found it changed"):
        builder.download_and_prepare()
    assert not list((tmp_path / "c").rglob("*.arrow"))


def test_a_folder_without_explanations_serves_the_rest(tmp_path):
    data = make_dataset(tmp_path / "made", distilled=False)
    with pytest.raises(DataError) as caught:
        XRecExplanations(data, cache_dir=str(tmp_path))
    assert str(caught.value) == (
        f"{data}: expected the files of explanations, found not all of them or no row; run `xrec distill` on it"
    )
    for config in NAMES[1:]:
        wanted = {split_of(name): table.height for name, table in read_tables(data, config).items()}
        assert prepared(data, tmp_path / "c", config).num_rows == wanted
        assert datasets.load_dataset(str(data), config, cache_dir=str(tmp_path / "d")).num_rows == wanted


def test_a_split_without_rows_is_left_out_for_datasets_can_load_none(tmp_path):
    data = make_dataset(tmp_path / "made", distilled=False)
    path = data / "data" / "interactions" / "test.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    write_card(DatasetFolder(data), read_build(DatasetFolder(data)))
    loaded = datasets.load_dataset(str(data), "interactions", cache_dir=str(tmp_path / "d"))
    assert list(prepared(data, tmp_path / "c", "interactions")) == list(loaded) == ["train", "validation"]


def test_row_groups_are_shared_among_processes_and_workers(tmp_path):
    data = make_dataset(tmp_path / "made", distilled=False)
    path = data / "data" / "interactions" / "train.parquet"
    table = pl.read_parquet(path)
    table.write_parquet(path, row_group_size=table.height // 4 + 1)
    builder = XRecExplanations(data, "interactions", cache_dir=str(tmp_path / "c"))
    stream = builder.as_streaming_dataset()["train"]
    assert stream.num_shards == 4
    parts = [list(stream.shard(4, number)) for number in range(4)]
    assert [row for part in parts for row in part] == table.to_dicts()
    builder.download_and_prepare(num_proc=2)
    assert list(builder.as_dataset()["train"]) == table.to_dicts()


def test_rows_come_in_batches_and_never_as_a_whole_table(tmp_path):
    data = make_dataset(tmp_path / "made")
    path = data / "data" / "explanations" / "train.parquet"
    row = pl.read_parquet(path).head(1)
    texts = [f"{number} {'so it is ' * 60}" for number in range(30_000)]
    table = row.select(pl.all().exclude("explanation").repeat_by(len(texts)).explode()).with_columns(
        explanation=pl.Series(texts)
    )
    table.write_parquet(path, row_group_size=2_000)
    before, most, rows = pyarrow.total_allocated_bytes(), 0, 0
    for _ in XRecExplanations(data, cache_dir=str(tmp_path)).as_streaming_dataset()["train"]:
        rows, most = rows + 1, max(most, pyarrow.total_allocated_bytes() - before)
    assert rows == len(texts)
    assert 0 < most < table.estimated_size() / 4


@pytest.mark.parametrize(
    ("where", "config", "message"),
    [
        (None, None, "expected data_dir"),
        ("missing", None, "expected a dataset folder with build.json, found no such folder"),
        (".", None, "expected a dataset folder with build.json, found a folder without it"),
        (".", "reviews", "expected a config among explanations, interactions, users, items, found 'reviews'"),
    ],
)
def test_what_cannot_be_built_says_why(tmp_path, where, config, message):
    with pytest.raises(DataError, match=message):
        XRecExplanations(None if where is None else tmp_path / where, config)


def test_without_datasets_the_package_says_what_to_install():
    code = "import sys; sys.modules['datasets'] = None; from xrec_dataset_builder import XRecExplanations"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""})
    assert "expected the package datasets, found none; pip install 'xrec[datasets]'" in ran.stderr


def test_every_config_says_what_it_is(data):
    for name in NAMES:
        assert CONFIGS[name].about in XRecExplanations(data, name).info.description
        assert CONFIGS[name].about in DOCS.read_text(encoding="utf-8")
