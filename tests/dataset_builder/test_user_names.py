import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder import user_names
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.schema import USER_NAMES, DatasetFolder, read_table
from xrec_dataset_builder.sources import find_reader
from xrec_dataset_builder.spool import Spool
from xrec_dataset_builder.table import TableFiles, raw_batches
from xrec_dataset_builder.table_files import TableOptions
from xrec_dataset_builder.user_names import NAMES_OF_NOBODY, UserNames

from .conftest import amazon_rows, write_lines
from .test_readers import PUBLISHED

NAMES = st.none() | st.sampled_from(
    ["Ann", "ann", " Ann  Lee ", "Ann\tLee", "", "  ", "Amazon Customer", "a GOOGLE user", "Bo"]
)
BATCHES = st.lists(st.lists(st.tuples(st.sampled_from("uvwx"), NAMES), max_size=6), max_size=6)


def rows(*pairs: tuple[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"user_id": pl.String, "user_name": pl.String}, orient="row")


@pytest.mark.parametrize(("source", "name"), [("google-local", "Jordan Adams"), ("amazon-2018", "john"), ("yelp", None)])
def test_a_published_name_is_read_beside_its_review(tmp_path: Path, source: str, name: str | None):
    review = PUBLISHED[source][0] | ({"text": "Fine."} if source == "google-local" else {})
    path = write_lines(tmp_path / "reviews.json", [review])
    batches = list(find_reader(source).batches([path], None).reviews)
    assert [table["user_name"].to_list() for table in batches] == [[name]]
    if name is not None:
        write_lines(path, [{key: value for key, value in review.items() if value != name}])
        assert next(find_reader(source).batches([path], None).reviews)["user_name"].to_list() == [None]


def test_a_table_names_its_users_by_a_column_of_its_own(tmp_path: Path):
    (tmp_path / "t.csv").write_text("user_id,item_id,who\na,x,Ann Lee\nb,x,\n")
    batches = raw_batches(TableFiles(tmp_path / "t.csv"), TableOptions({"user_name": "who"}), False, tmp_path)
    assert pl.concat(batches.reviews)["user_name"].to_list() == ["Ann Lee", None]


@settings(max_examples=100, deadline=None)
@given(BATCHES, st.sets(st.sampled_from("uvwx")), st.integers(0, 3))
def test_names_are_distinct_sorted_of_users_that_stay_and_of_somebody(batches, users, least):
    names, other = UserNames(), UserNames()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_names, "LEAST", least)
        for number, batch in enumerate(batches):
            (names if number % 2 else other).add(rows(*batch))
        names.merge(other.table())
    plain = {(user, " ".join((name or "").split())) for batch in batches for user, name in batch}
    meant = {(user, name) for user, name in plain if name and name.lower() not in NAMES_OF_NOBODY}
    assert names.table().rows() == sorted(meant)
    stay = pl.Series(sorted(users), dtype=pl.String)
    assert names.table(stay).rows() == sorted((user, name) for user, name in meant if user in users)


def test_what_is_held_grows_with_names_and_not_with_reviews(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(user_names, "LEAST", 50)
    names, most = UserNames(), 0
    for _ in range(100):
        names.add(rows(*((f"u{number}", "Ann") for number in range(20))))
        most = max(most, sum(table.height for table in names._tables))
    assert most <= 70


def test_names_are_written_as_the_lesson_reads_them_or_not_at_all(tmp_path: Path):
    names, folder = UserNames(), DatasetFolder(tmp_path)
    names.add(rows(("u", None), ("v", "Anonymous")))
    names.write(folder.user_names)
    assert not folder.user_names.exists()
    names.add(rows(("u", "Ann"), ("w", "Bo")))
    names.write(folder.user_names, pl.Series(["u", "v"]))
    assert read_table(folder.user_names, USER_NAMES).rows() == [("u", "Ann")]


def test_no_name_reaches_a_public_table_a_review_or_what_waits_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_lines(tmp_path / "r.json", [row | {"reviewerName": "Zebulon Quirke"} for row in amazon_rows()])
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "remove", lambda self: None)
        build("amazon-2018", tmp_path / "kept", inputs=Inputs([path]))
    waiting = list((tmp_path / "kept").rglob("*.arrow"))
    assert waiting
    assert not any("user_name" in pl.read_ipc_schema(part) for part in waiting)
    build("amazon-2018", tmp_path / "out", inputs=Inputs([path]))
    folder = DatasetFolder(tmp_path / "out")
    for table in [*folder.root.glob("data/**/*.parquet"), folder.reviews]:
        assert "Zebulon" not in json.dumps(pl.read_parquet(table).rows())
        assert "user_name" not in pl.read_parquet_schema(table)
