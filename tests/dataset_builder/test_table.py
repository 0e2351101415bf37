import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from backports import zstd

from xrec_dataset_builder import cells
from xrec_dataset_builder.errors import DataError, LeakError
from xrec_dataset_builder.prepare import PrepareOptions
from xrec_dataset_builder.table import TableFiles, raw_batches, read_explained
from xrec_dataset_builder.table_files import TableOptions, read_file

PAIRS = [(user, item) for user in range(8) for item in range(5)]


def save(table: pl.DataFrame, path: Path) -> Path:
    {".csv": table.write_csv, ".jsonl": table.write_ndjson, ".parquet": table.write_parquet}[path.suffix](path)
    return path


def interactions(path: Path, split: bool = True) -> Path:
    table = pl.DataFrame(PAIRS, schema=["user_id", "item_id"], orient="row")
    names = ["train", "train", "train", "val", "tst"]
    return save(table.with_columns(split=pl.col("item_id").replace_strict(range(5), names)) if split else table, path)


def explanations(path: Path, count: int = 20, **columns: object) -> Path:
    table = pl.DataFrame(PAIRS[:count], schema=["user_id", "item_id"], orient="row")
    table = table.with_columns(explanation=pl.format("because {}", pl.int_range(pl.len())))
    return save(table.with_columns(**{name: pl.lit(value) for name, value in columns.items()}), path)


def read_raw(path: Path, skip_bad_rows: bool = False, **options: object) -> tuple[pl.DataFrame, int, int]:
    """All rows, how many were read, and how many were skipped."""
    batches = raw_batches(TableFiles(path), TableOptions(**options), skip_bad_rows, path.parent / "room")
    return pl.concat(batches.reviews), batches.review_tally.read, batches.review_tally.skipped


def packed(path: Path, ending: str) -> Path:
    pack = {".gz": gzip.compress, ".zst": zstd.compress}[ending]
    path.with_name(path.name + ending).write_bytes(pack(path.read_bytes()))
    return path.with_name(path.name + ending)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_integer_ids_become_strings_and_what_is_missing_is_null(tmp_path: Path, ending: str):
    reviews, read, _ = read_raw(interactions(tmp_path / f"i{ending}"))
    assert reviews.select("user_id", "item_id").rows() == [(str(user), str(item)) for user, item in PAIRS]
    assert reviews["rating"].null_count() == reviews["timestamp"].null_count() == len(PAIRS) == read
    assert reviews["split"].value_counts().sort("count").rows()[-1] == ("train", 24)


def test_ids_of_csv_keep_their_zeros(tmp_path: Path):
    (tmp_path / "i.csv").write_text("user_id,item_id,rating\n007,0010,5\n")
    assert read_raw(tmp_path / "i.csv")[0].row(0)[:3] == ("007", "0010", 5.0)


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same_rows_under_names_of_ones_own(tmp_path: Path, ending: str, compression: str):
    rows = [("ann", "x", 4.5, 1_530_965_351_000, 'Fine,\n"cheap"\tand 日本'), ("bob", "y", None, None, None)]
    table = pl.DataFrame(rows, schema=["who", "what", "stars", "at", "said"], orient="row").with_columns(extra=pl.lit(1))
    path = tmp_path / f"t{ending}"
    write = {".csv": table.write_csv, ".jsonl": table.write_ndjson, ".parquet": table.write_parquet}
    write.get(ending, lambda to: table.write_csv(to, separator="\t"))(path)
    names = {"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "at", "review": "said"}
    found, read, _ = read_raw(packed(path, compression) if compression else path, columns=names, timestamp_unit="milliseconds")
    assert found.drop("split", "user_name").rows() == [
        ("ann", "x", 4.5, 1_530_965_351, 'Fine,\n"cheap"\tand 日本'),
        ("bob", "y", None, None, ""),
    ]
    assert read == 2


def test_dates_are_read_from_text_and_from_times_of_parquet(tmp_path: Path):
    table = pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "timestamp": [datetime(2018, 7, 7, 22, 9, 11)]})
    table.write_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("user_id,item_id,timestamp\na,b,2018-07-07 22:09:11\na,c,2018-07-07\n")
    seconds = int(datetime(2018, 7, 7, 22, 9, 11, tzinfo=UTC).timestamp())
    midnight = seconds - (22 * 60 + 9) * 60 - 11
    assert read_raw(tmp_path / "t.parquet")[0]["timestamp"].to_list() == [seconds]
    assert read_raw(tmp_path / "t.csv", timestamp_unit="date")[0]["timestamp"].to_list() == [seconds, midnight]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_broken_rows_of_a_table_are_named_or_counted(tmp_path: Path, ending: str):
    rows = [("a", "x", "4"), ("b", "", "5"), ("c", "y", "many"), ("d", "z", "3.5")]
    path = save(pl.DataFrame(rows, schema=["user_id", "item_id", "rating"], orient="row"), tmp_path / f"t{ending}")
    where = {".csv": "line 3", ".jsonl": "line 2", ".parquet": "row 2"}[ending]
    with pytest.raises(
        DataError, match=rf"{where}: expected a value of (column|key) 'item_id', found none; .*--skip-bad-rows"
    ):
        read_raw(path)
    found, read, skipped = read_raw(path, skip_bad_rows=True)
    assert (found.select("user_id", "rating").rows(), read, skipped) == ([("a", 4.0), ("d", 3.5)], 4, 2)


def test_a_broken_row_after_cells_with_line_breaks_is_named_by_its_own_line(tmp_path: Path):
    (tmp_path / "t.csv").write_text('user_id,item_id,review,rating\na,x,"one\ntwo\nthree",5\n\nb,y,"four\nfive",bad\n')
    with pytest.raises(DataError, match=r"line 6: expected a number of column 'rating', found 'bad'"):
        read_raw(tmp_path / "t.csv")


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_rows_with_too_many_cells_are_named_or_counted_as_other_broken_ones(
    tmp_path: Path, rows: int, ending: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(cells, "ROWS", rows)
    path = tmp_path / "t.csv"
    path.write_text('user_id,item_id,review\na,x,"one\ntwo"\nb,y,cold, wet\n\nc,,fine\nd,z,good\ne,z,good,,\nf,z\n')
    path = packed(path, ending) if ending else path
    with pytest.raises(DataError, match=r"line 4: expected at most as many cells as the header has, found more; mend the row"):
        read_raw(path)
    found, read, skipped = read_raw(path, skip_bad_rows=True)
    assert (found["user_id"].to_list(), read, skipped) == (["a", "d", "f"], 6, 3)
    assert found["review"].to_list() == ["one\ntwo", "good", ""]
    lines = ["line 4: expected at most", "line 6: expected a value of column 'item_id'", "line 8: expected at most"]
    assert [text for text in lines if text in caplog.text] == lines


def test_rows_that_came_before_one_with_too_many_cells_come_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "t.csv").write_text("user_id,item_id\n" + "".join(f"u{n},i{',' * (n == 7)}\n" for n in range(10)))
    scan = cells.Cells._scan

    class Late:
        """A scan that meets the row only after some batches, as one of a large file does."""

        def __init__(self, whole: pl.LazyFrame) -> None:
            self.collect_schema = whole.collect_schema
            self.whole = whole

        def collect_batches(self, chunk_size: int) -> Iterator[pl.DataFrame]:
            yield from list(self.whole.collect_batches(chunk_size=chunk_size))[:3]
            raise pl.exceptions.ComputeError("found more fields")

    monkeypatch.setattr(cells, "ROWS", 2)
    monkeypatch.setattr(
        cells.Cells, "_scan", lambda self, path, cut: (lambda one: one if cut else Late(one))(scan(self, path, True))
    )
    found, read, skipped = read_raw(tmp_path / "t.csv", skip_bad_rows=True)
    assert (found["user_id"].to_list(), read, skipped) == ([f"u{n}" for n in range(10) if n != 7], 10, 1)


def test_broken_rows_of_tables_with_explanations_are_named_or_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tables = {
        "interactions": ("i.csv", "user_id,item_id,rating\na,x,5\na,y,bad\nb,x,4\nb,y,3,7\nc,x,1\nc,y,2\nd,x,2\nd,y,2\n"),
        "explanations": ("e.csv", "user_id,item_id,explanation\na,x,why\na,y,\nb,x,so\nc,x,because\n"),
        "items": ("items.jsonl", '{"item_id": "x", "title": "Inn"}\n{"title": "none"}\n'),
        "users": ("users.tsv", "user_id\tuser_profile\na\ttea\n\tcoffee\nb\tmilk\tmore\n"),
    }
    for name, text in tables.values():
        (tmp_path / name).write_text(text)
    files = TableFiles(**{role: tmp_path / name for role, (name, _) in tables.items()})
    with pytest.raises(DataError, match=r"e\.csv, line 3: expected a value of column 'explanation', found none"):
        read_explained(files, PrepareOptions(), repair_leaks=True)
    made = read_explained(files, PrepareOptions(fractions=(0.4, 0.3, 0.3)), repair_leaks=True, skip_bad_rows=True)
    names = ("read", "skipped", "explanations_read", "explanations_skipped", "items_skipped", "users_skipped")
    assert [made.counts[name] for name in names] == [8, 2, 4, 1, 1, 2]
    assert made.explanations.select("user_id", "user_profile").sort("user_id").rows() == [("a", "tea"), ("b", ""), ("c", "")]
    for where in ("i.csv, line 3", "i.csv, line 5", "e.csv, line 3", "items.jsonl, line 2", "users.tsv, line 3"):
        assert where in caplog.text


def test_a_published_split_that_leaks_is_refused_with_both_counts(tmp_path: Path):
    files = TableFiles(interactions(tmp_path / "i.csv"), explanations(tmp_path / "e.jsonl"))
    with pytest.raises(LeakError, match=r"found 12 of 20 \(60\.0 %\)"):
        read_explained(files, PrepareOptions())


def test_repairing_takes_all_explanation_pairs_out_and_keeps_the_published_split(tmp_path: Path):
    files = TableFiles(interactions(tmp_path / "i.csv"), explanations(tmp_path / "e.csv"))
    tables = read_explained(files, PrepareOptions(), repair_leaks=True)
    explained = set(tables.explanations.select("user_id", "item_id").rows())
    graph = {(user, item): split for user, item, _, _, split in tables.interactions.rows()}
    assert not explained & set(graph)
    assert len(explained) + len(graph) == len(PAIRS)
    assert {item: split for (_, item), split in graph.items()} == dict(
        zip("01234", ["train", "train", "train", "validation", "test"], strict=True)
    )
    assert (tables.counts["read"], tables.counts["removed_explanation_pairs"], tables.counts["kept"]) == (40, 20, 20)
    assert (tables.published.count, tables.report.count) == (12, 0)
    assert [tables.counts[f"explanations_{name}"] for name in ("train", "validation", "test")] == [16, 2, 2]
    assert tables.unverified


def test_explanations_with_a_split_may_train_on_training_edges(tmp_path: Path):
    table = pl.DataFrame(PAIRS, schema=["user_id", "item_id"], orient="row")
    names = ["train", "train", "train", "valid", "test"]
    table = table.with_columns(split=pl.col("item_id").replace_strict(range(5), names), explanation=pl.lit("because"))
    files = TableFiles(interactions(tmp_path / "i.csv"), save(table, tmp_path / "e.csv"))
    tables = read_explained(files, PrepareOptions())
    assert (tables.published.count, tables.published.total) == (0, 16)
    assert tables.interactions.height == 40


def test_interactions_without_a_split_follow_their_explanation(tmp_path: Path):
    files = TableFiles(interactions(tmp_path / "i.csv", split=False), explanations(tmp_path / "e.csv", count=30))
    tables = read_explained(files, PrepareOptions(fractions=(0.6, 0.2, 0.2)))
    joined = tables.interactions.join(tables.explanations, on=["user_id", "item_id"])
    assert (joined["split"] == joined["split_right"]).all()
    assert joined.height == 30
    assert tables.report.count == 0
    assert tables.interactions["split"].n_unique() == 3


def test_profiles_come_from_every_table_and_none_is_empty(tmp_path: Path):
    texts = {"title": "Inn", "user_profile": "None", "item_profile": "cosy"}
    items = pl.DataFrame({"item_id": [0, 4, 9], "item_profile": ["warm", "None", "elsewhere"]})
    users = pl.DataFrame({"user_id": [0], "user_profile": ["likes tea"]})
    files = TableFiles(
        interactions(tmp_path / "i.csv"),
        explanations(tmp_path / "e.csv", count=4, **texts),
        save(items, tmp_path / "items.parquet"),
        save(users, tmp_path / "users.csv"),
    )
    tables = read_explained(files, PrepareOptions(fractions=(0.5, 0.25, 0.25)), repair_leaks=True)
    assert tables.counts["none_profiles"] == 5
    assert tables.items.rows()[0] == ("0", "Inn", "warm")
    assert tables.items.rows()[3:] == [("3", "Inn", "cosy"), ("4", "", "")]
    assert tables.users.rows()[:2] == [("0", "likes tea"), ("1", "")]
    assert tables.users.height == 8
    assert tables.explanations["user_profile"].unique().to_list() == ["likes tea"]
    assert tables.explanations["item_profile"].unique().to_list() == ["cosy"]


def test_the_same_seed_draws_the_same_split_whatever_the_order(tmp_path: Path):
    first = explanations(tmp_path / "e.csv", count=15)
    second = save(pl.read_csv(first).reverse(), tmp_path / "r.csv")
    splits = []
    for path in (first, second):
        files = TableFiles(interactions(tmp_path / "i.csv"), path)
        splits.append(read_explained(files, PrepareOptions(seed=5), repair_leaks=True).explanations)
    assert splits[0].equals(splits[1])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "user_id,item\n1,2\n", "expected column 'item_id', found 'user_id', 'item'"),
        ("x.csv", "user_id,item_id\n1,\n", "line 2: expected a value of column 'item_id', found none"),
        ("x.csv", "user_id,item_id\n", "expected rows, found none"),
        ("x.csv", "", "expected a readable csv table"),
        ("x.csv", "user_id,item_id,rating\n1,2,good\n", "line 2: expected a number of column 'rating', found 'good'"),
        ("x.jsonl", '{"user_id": 1, "item_id"\n', "line 1: expected a JSON object"),
        ("x.parquet", "PAR1", "expected a readable parquet table"),
        ("x.xlsx", "", r"expected a file ending in \.csv, .*, found '\.xlsx'"),
    ],
)
def test_unusable_tables_say_what_is_wrong(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_file(tmp_path / name, ("user_id", "item_id"))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_an_unknown_split_and_a_graph_of_explanations_only_are_refused(tmp_path: Path):
    (tmp_path / "i.csv").write_text("user_id,item_id,split\n1,2,train\n1,3,dev\n")
    with pytest.raises(DataError, match="expected split train, validation or test in every row, found 'dev'"):
        read_raw(tmp_path / "i.csv")
    files = TableFiles(interactions(tmp_path / "j.csv"), explanations(tmp_path / "e.csv", count=40))
    with pytest.raises(DataError, match="expected training interactions, found none beside the explanation pairs"):
        read_explained(files, PrepareOptions(), repair_leaks=True)
