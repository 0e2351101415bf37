"""Shards of a build end in the bytes of one process, whatever their number and order."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder import json_lines
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.commands import build_command
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.prepare import PrepareOptions
from xrec_dataset_builder.schema import DatasetFolder
from xrec_dataset_builder.shards import Shard
from xrec_dataset_builder.table_files import TableOptions

from .conftest import amazon_rows, write_lines


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch):
    """So that a small file has many blocks."""
    monkeypatch.setattr(json_lines, "BLOCK", 900)


@pytest.fixture
def files(tmp_path: Path, items_file: Path) -> Inputs:
    """Two files whose pairs repeat, the later ones with other texts and at the same time; names beside some."""
    first = [row | {"reviewerName": f"Ruth {row['reviewerID']}"} for row in amazon_rows()]
    second = [row | {"reviewText": f"Again: {row['reviewText']}"} for row in amazon_rows()[::3]]
    paths = [write_lines(tmp_path / f"reviews{number}.json", rows) for number, rows in enumerate((first, second))]
    return Inputs(reviews=paths, items=items_file)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("of", [1, 2, 5, 60])
def test_shards_gather_into_the_bytes_of_one_process(tmp_path: Path, files: Inputs, of: int):
    options = PrepareOptions(k_core=2, min_words=3, max_per_user=4)
    for shard in reversed(Shard.every(of)):
        build("amazon-2018", tmp_path / "sharded", inputs=files, options=options, shard=shard)
    build("amazon-2018", tmp_path / "sharded", inputs=files, options=options, gather=of)
    build("amazon-2018", tmp_path / "whole", inputs=files, options=options)
    assert content(tmp_path / "sharded") == content(tmp_path / "whole")
    assert not (tmp_path / "sharded.shards").exists()
    names = pl.read_parquet(DatasetFolder(tmp_path / "whole").user_names)
    assert names.rows() == sorted((f"U{user}", f"Ruth U{user}") for user in range(20))


def test_broken_rows_are_counted_in_every_shard(tmp_path: Path, files: Inputs):
    path = files.reviews[0]
    lines = path.read_text().splitlines(keepends=True)
    for number in (3, 40, 41, 90):
        lines[number] = "{broken\n"
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=r"reviews0\.json, line 4: expected a JSON object"):
        build("amazon-2018", tmp_path / "out", inputs=files, shard=Shard(1, 1))
    for shard in Shard.every(3):
        build("amazon-2018", tmp_path / "out", inputs=files, skip_bad_rows=True, shard=shard)
    build("amazon-2018", tmp_path / "out", inputs=files, skip_bad_rows=True, gather=3)
    counts = json.loads((tmp_path / "out" / "build.json").read_text())["counts"]
    assert (counts["skipped"], counts["read"]) == (4, len(lines) + len(amazon_rows()[::3]))


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_tables_are_read_in_shards_too(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xrec_dataset_builder.cells.ROWS", 7)
    rows = [{"who": row["reviewerID"], "item_id": row["asin"], "review": row["reviewText"]} for row in amazon_rows()]
    table = pl.DataFrame(rows)
    path = tmp_path / f"interactions.{ending}"
    if ending == "csv":
        table.write_csv(path)
    elif ending == "csv.gz":
        path.write_bytes(gzip.compress(table.write_csv().encode()))
    else:
        table.write_parquet(path)
    inputs, named = Inputs(interactions=path), TableOptions({"user_id": "who"})
    for shard in Shard.every(4):
        build("table", tmp_path / "sharded", inputs=inputs, table=named, shard=shard)
    build("table", tmp_path / "sharded", inputs=inputs, table=named, gather=4)
    build("table", tmp_path / "whole", inputs=inputs, table=named)
    assert content(tmp_path / "sharded") == content(tmp_path / "whole")
    assert not any("unpacked" in name for name in content(tmp_path / "whole"))


def test_shards_that_are_missing_or_were_told_otherwise_are_not_gathered(tmp_path: Path, files: Inputs):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="expected 2 finished shards, found 0; run --shard 1/2 to its end first"):
        build("amazon-2018", out, inputs=files, gather=2)
    build("amazon-2018", out, inputs=files, shard=Shard(1, 2))
    build("amazon-2018", out, inputs=files, shard=Shard(2, 2), options=PrepareOptions(min_words=5))
    with pytest.raises(DataError, match=r"2-of-2: expected a shard with options .*; run it again"):
        build("amazon-2018", out, inputs=files, gather=2)
    build("amazon-2018", out, inputs=files, shard=Shard(2, 2))
    files.reviews[0].write_text(files.reviews[0].read_text() + "\n")
    with pytest.raises(DataError, match=r"1-of-2: expected a shard with inputs .*; run it again"):
        build("amazon-2018", out, inputs=files, gather=2)
    assert not out.exists()
    assert len(content(tmp_path / "out.shards")) > 4


def test_gathering_leaves_the_shards_of_another_number(tmp_path: Path, files: Inputs):
    for shard in (Shard(1, 1), Shard(3, 3)):
        build("amazon-2018", tmp_path / "out", inputs=files, shard=shard)
    build("amazon-2018", tmp_path / "out", inputs=files, gather=1)
    assert [path.name for path in (tmp_path / "out.shards").iterdir()] == ["3-of-3"]


def test_a_key_that_no_shard_saw_is_missed_when_they_are_gathered(tmp_path: Path, items_file: Path):
    rows = [{name: value for name, value in row.items() if name != "overall"} for row in amazon_rows()]
    files = Inputs(reviews=[write_lines(tmp_path / "reviews.json", rows)], items=items_file)
    for shard in Shard.every(2):
        build("amazon-2018", tmp_path / "out", inputs=files, shard=shard)
    with pytest.raises(DataError, match="expected key 'overall', found it in no row"):
        build("amazon-2018", tmp_path / "out", inputs=files, gather=2)


def test_what_cannot_be_shared_out_says_so(tmp_path: Path, files: Inputs):
    with pytest.raises(DataError, match="no --shard and no --gather for source synthetic"):
        build("synthetic", tmp_path / "out", shard=Shard(1, 2))
    with pytest.raises(DataError, match="for source table with --explanations"):
        build("table", tmp_path / "out", inputs=Inputs(interactions=files.reviews[0], explanations=files.items), gather=2)
    with pytest.raises(DataError, match="expected --shard or --gather, found both"):
        build("amazon-2018", tmp_path / "out", inputs=files, shard=Shard(1, 2), gather=2)


def test_the_command_line_divides_and_gathers(tmp_path: Path, files: Inputs):
    words = ["amazon-2018", "--reviews", *map(str, files.reviews), "--items", str(files.items), "--out"]
    for shard in ("1/2", "2/2"):
        build_command([*words, str(tmp_path / "sharded"), "--shard", shard])
    build_command([*words, str(tmp_path / "sharded"), "--gather", "2"])
    build_command([*words, str(tmp_path / "whole")])
    assert content(tmp_path / "sharded") == content(tmp_path / "whole")
