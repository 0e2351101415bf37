import json
import logging

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.predictions import read_predictions

TABLE = pl.DataFrame(
    {
        "user_id": ["007", "8"],
        "item_id": ["i1", "i2"],
        "prediction": ['good, "live" music', "naïve 店"],
        "reference": ["live music", "a shop"],
        "extra": [1.5, 2.5],
    }
)


def write(table, path):
    {".parquet": table.write_parquet, ".csv": table.write_csv}.get(path.suffix.lower(), table.write_ndjson)(path)
    return path


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.jsonl", "p.ndjson", "P.JSONL"])
def test_formats_agree(tmp_path, name):
    assert read_predictions(write(TABLE, tmp_path / name)).equals(TABLE.drop("extra"))


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.jsonl"])
def test_nulls_become_empty_and_are_counted(tmp_path, caplog, name):
    table = TABLE.drop("user_id", "item_id").with_columns(prediction=pl.Series([None, "b"]))
    with caplog.at_level(logging.WARNING):
        found = read_predictions(write(table, tmp_path / name))
    assert found["prediction"].to_list() == ["", "b"]
    assert "1 of 2 rows have no prediction" in caplog.text


def test_whole_number_ids_become_strings(tmp_path):
    table = TABLE.with_columns(user_id=pl.Series([7, 8]))
    for name in ("p.parquet", "p.csv", "p.jsonl"):
        assert read_predictions(write(table, tmp_path / name))["user_id"].to_list() == ["7", "8"]


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.jsonl"])
def test_missing_column_and_missing_id(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: expected the columns .* add or rename reference"):
        read_predictions(write(TABLE.drop("reference"), tmp_path / name))
    with pytest.raises(DataError, match="expected an id in every row, found 1 without"):
        read_predictions(write(TABLE.with_columns(item_id=pl.Series([None, "i2"])), tmp_path / name))


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_no_rows(tmp_path, name):
    with pytest.raises(DataError, match="at least one row"):
        read_predictions(write(TABLE.clear(), tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.parquet", b"not parquet", "expected a readable .parquet file"),
        ("p.csv", b"", "p.csv"),
        ("p.jsonl", b"", "expected the columns"),
        ("p.jsonl", b'{"prediction": "a", "reference": "b"}\n\n{"prediction"\n', "line 3 of p.jsonl"),
        ("p.jsonl", b"[1]\n", "JSON object in line 1"),
        ("p.jsonl", b'{"prediction": "\xff"}', "p.jsonl"),
        ("p.txt", b"a", "found p.txt: convert"),
    ],
)
def test_broken_files_give_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="found nothing at"):
        read_predictions(tmp_path / "p.csv")


def test_text_fields_of_json_lines_may_be_absent_in_some_rows(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ({"prediction": "a", "reference": "b"}, {"reference": "c"})))
    assert read_predictions(path)["prediction"].to_list() == ["a", ""]
