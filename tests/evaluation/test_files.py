import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.files import check_folder, write_parquet, write_text


def test_files_are_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old")
    write_text(path, "naïve 店\n")
    assert path.read_text(encoding="utf-8") == "naïve 店\n"
    table = pl.DataFrame({"x": [1]})
    write_parquet(path.with_name("b.parquet"), table)
    assert pl.read_parquet(path.with_name("b.parquet")).equals(table)
    assert sorted(file.name for file in path.parent.iterdir()) == ["a.txt", "b.parquet"]


def test_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(DataError, match="found a file; choose another --out"):
            check_folder(out)
    with pytest.raises(DataError, match="found a file"):
        write_text(tmp_path / "file" / "a.txt", "text")
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "deeper")
