import os
from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import USERS, DatasetFolder, atomic_folder, read_build, read_table, write_json, write_table

TABLE = pl.DataFrame({"user_id": ["a", "b"], "user_profile": ["", "likes tea"]})


def test_a_table_comes_back_as_it_was_and_equal_tables_are_equal_bytes(tmp_path: Path):
    first, second = tmp_path / "x" / "1.parquet", tmp_path / "2.parquet"
    write_table(TABLE, first, USERS)
    write_table(pl.concat([TABLE[:1], TABLE[1:]]).with_columns(extra=1), second, USERS)
    assert read_table(first, USERS).equals(TABLE)
    assert first.read_bytes() == second.read_bytes()


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a" / "x.json"
    write_json({"b": 1}, path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_json({"b": 2}, path)
    assert path.read_text() == '{\n  "b": 1\n}\n'
    assert os.listdir(path.parent) == ["x.json"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop("user_profile"), r"expected column 'user_profile', found 'user_id'"),
        (TABLE.with_columns(user_id=pl.Series([1, 2])), r"expected column 'user_id' to hold String, found Int64"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, table: pl.DataFrame, message: str):
    path = tmp_path / "users.parquet"
    table.write_parquet(path)
    with pytest.raises(DataError, match=message):
        read_table(path, USERS)
    with pytest.raises(DataError, match=message):
        write_table(table, tmp_path / "other.parquet", USERS)
    assert not (tmp_path / "other.parquet").exists()


def test_missing_and_broken_files_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"users\.parquet: expected a Parquet file, found none"):
        read_table(tmp_path / "users.parquet", USERS)
    (tmp_path / "users.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="found something else"):
        read_table(tmp_path / "users.parquet", USERS)
    with pytest.raises(DataError, match="expected a split among train, validation, test, cold_user, cold_item, found 'dev'"):
        DatasetFolder(tmp_path).interactions("dev")


@pytest.mark.parametrize(("content", "message"), [(None, "build.json, found a folder"), ("{", "broken"), ("[]", "list")])
def test_a_folder_without_a_usable_build_json_is_refused(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "build.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_build(DatasetFolder(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        read_build(DatasetFolder(tmp_path / "none"))


def test_atomic_folder_appears_whole_or_not_at_all(tmp_path: Path):
    out = tmp_path / "deep" / "out"

    def stopped() -> None:
        with atomic_folder(out) as root:
            (root / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert os.listdir(tmp_path / "deep") == []
    out.mkdir()
    with atomic_folder(out) as root:
        (root / "whole").write_text("x")
        assert not (out / "whole").exists()
    assert os.listdir(tmp_path / "deep") == ["out"]
    assert (out / "whole").read_text() == "x"


def test_a_full_folder_and_a_file_are_refused_and_kept(tmp_path: Path):
    (tmp_path / "mine").write_text("x")
    with (
        pytest.raises(DataError, match="found files in it; remove it or choose another --out"),
        atomic_folder(tmp_path),
    ):
        raise AssertionError
    with pytest.raises(DataError, match="found a file"), atomic_folder(tmp_path / "mine"):
        raise AssertionError
    assert (tmp_path / "mine").read_text() == "x"
