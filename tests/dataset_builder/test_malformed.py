"""What a user can get wrong in a file, and the one line that each mistake is answered with."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.table_files import TableOptions

YELP = {"review_id": "r", "user_id": "u", "business_id": "b", "stars": 4.0, "date": "2018-07-07 22:09:11", "text": "Fine."}
AMAZON = {
    "user_id": "u",
    "parent_asin": "p",
    "asin": "a",
    "rating": 5.0,
    "title": "t",
    "text": "Fine.",
    "timestamp": 1_600_000_000_000,
}
GOOGLE = {"user_id": "1", "name": "Ann", "time": 1_600_000_000_000, "rating": 5, "text": None, "gmap_id": "0x1:0x2"}
OLD = {"reviewerID": "u", "asin": "i", "overall": 4.0, "unixReviewTime": 10, "reviewText": "Fine."}
DUMPS = {"yelp": YELP, "amazon-2023": AMAZON, "google-local": GOOGLE, "amazon-2018": OLD}
LISTS = b"[" * 100_000


def line(row: dict[str, object], **changes: object) -> bytes:
    return json.dumps(row | changes).encode()


def without(row: dict[str, object], key: str) -> bytes:
    return json.dumps({name: value for name, value in row.items() if name != key}).encode()


BAD_LINES = [
    ("yelp", b"{nonsense", "expected a JSON object, found expecting property name enclosed in double quotes at column 2"),
    ("yelp", b'{"user_id": "u", "business_id"', "expected a JSON object, found expecting ':' delimiter at column 31"),
    ("yelp", line(YELP)[:-10], "expected a JSON object, found expecting ':' delimiter at column 107"),
    ("yelp", line(YELP) + b" " + line(YELP), "expected a JSON object, found extra data at column 118"),
    ("yelp", line(YELP) + b"}", "expected a JSON object, found extra data at column 117"),
    ("yelp", line(YELP)[:-1] + b",}", "expected a JSON object, found "),
    (
        "yelp",
        str(YELP).encode(),
        "expected a JSON object, found expecting property name enclosed in double quotes at column 2",
    ),
    (
        "yelp",
        b"\xef\xbb\xbf" + line(YELP),
        "expected a JSON object, found unexpected utf-8 bom (decode using utf-8-sig) at column 1",
    ),
    ("yelp", b"\x1f\x8b\x08\x00", "expected UTF-8 text, found other bytes"),
    ("yelp", line(YELP).replace(b"Fine", b"\xff\xfe"), "expected UTF-8 text, found other bytes"),
    ("yelp", line(YELP).replace(b"Fine", b"Caf\xe9"), "expected UTF-8 text, found other bytes"),
    ("yelp", line(YELP).replace(b"Fine", b"a\tb"), "expected a JSON object, found invalid control character at at column"),
    ("yelp", line(YELP).replace(b"Fine", b"a\\x"), "expected a JSON object, found invalid \\escape"),
    ("yelp", b"[1, 2]", "expected a JSON object, found list"),
    ("yelp", b"null", "expected a JSON object, found NoneType"),
    ("yelp", b"true", "expected a JSON object, found bool"),
    ("yelp", b"3", "expected a JSON object, found int"),
    ("yelp", b'"text"', "expected a JSON object, found str"),
    ("yelp", b"<html>", "expected a JSON object, found expecting value at column 1"),
    ("yelp", b"user_id,business_id,stars", "expected a JSON object, found expecting value at column 1"),
    ("yelp", LISTS, "expected a JSON object, found one nested too deeply"),
    ("yelp", b"\x00", "expected a JSON object, found expecting value at column 1"),
    ("yelp", line(YELP, user_id=None), "expected a value of key 'user_id', found none"),
    ("yelp", line(YELP, user_id=""), "expected a value of key 'user_id', found none"),
    ("yelp", without(YELP, "user_id"), "expected a value of key 'user_id', found none"),
    ("yelp", without(YELP, "business_id"), "expected a value of key 'business_id', found none"),
    ("yelp", line(YELP, user_id=["u"]), "expected a text of key 'user_id', found list"),
    ("yelp", line(YELP, business_id={"id": 1}), "expected a text of key 'business_id', found dict"),
    ("yelp", line(YELP, stars="four"), "expected a number of key 'stars', found 'four'"),
    ("yelp", line(YELP, stars=""), "expected a number of key 'stars', found ''"),
    ("yelp", line(YELP, stars=True), "expected a number of key 'stars', found 'True'"),
    ("yelp", line(YELP, stars=[4]), "expected a number of key 'stars', found list"),
    ("yelp", line(YELP, stars=float("nan")), "expected a number of key 'stars', found 'nan'"),
    ("yelp", line(YELP, stars=float("inf")), "expected a number of key 'stars', found 'inf'"),
    ("yelp", line(YELP).replace(b"4.0", b"1e999"), "expected a number of key 'stars', found 'inf'"),
    ("yelp", line(YELP).replace(b"4.0", b"04"), "expected a JSON object, found expecting ',' delimiter at column"),
    ("yelp", line(YELP, date="yesterday"), "expected a date such as 2018-07-07 22:09:11 of key 'date', found 'yesterday'"),
    (
        "yelp",
        line(YELP, date="2018-13-07 22:09:11"),
        "expected a date such as 2018-07-07 22:09:11 of key 'date', found '2018-13",
    ),
    ("yelp", line(YELP, date="2018-02-30"), "expected a date such as 2018-07-07 22:09:11 of key 'date', found '2018-02-30'"),
    ("yelp", line(YELP, date=1_530_965_351), "expected a date such as 2018-07-07 22:09:11 of key 'date', found '1530965351'"),
    ("yelp", line(YELP, text={"a": 1}), "expected a text of key 'text', found dict"),
    ("yelp", line(YELP, text=["a"]), "expected a text of key 'text', found list"),
    ("yelp", line(YELP, text=[["a"]]), "expected a text of key 'text', found list"),
    ("amazon-2023", line(AMAZON, parent_asin=None), "expected a value of key 'parent_asin', found none"),
    ("amazon-2023", line(AMAZON, timestamp="soon"), "expected a number of key 'timestamp', found 'soon'"),
    (
        "amazon-2023",
        line(AMAZON, timestamp=10**30),
        "expected a number of key 'timestamp', found '1000000000000000000000000000000'",
    ),
    ("amazon-2023", line(AMAZON, timestamp=False), "expected a number of key 'timestamp', found 'False'"),
    ("google-local", line(GOOGLE, gmap_id=""), "expected a value of key 'gmap_id', found none"),
    ("google-local", line(GOOGLE, time={"$date": 1}), "expected a number of key 'time', found dict"),
    ("google-local", line(GOOGLE, text=[]), "expected a text of key 'text', found list"),
    ("amazon-2018", line(OLD, unixReviewTime="09 13, 2009"), "expected a number of key 'unixReviewTime', found '09 13, 2009'"),
    ("amazon-2018", line(OLD, reviewerID=None), "expected a value of key 'reviewerID', found none"),
]
"""A source, a line that cannot be used, and what is said of it."""


@pytest.mark.parametrize(("source", "bad", "message"), BAD_LINES)
def test_a_bad_line_is_named_by_file_and_number_or_counted(
    tmp_path: Path, source: str, bad: bytes, message: str, caplog: pytest.LogCaptureFixture
):
    good = line(DUMPS[source], text="Fine, a good place to be.") if source != "amazon-2018" else line(OLD)
    key = {"yelp": "business_id", "amazon-2023": "parent_asin", "google-local": "gmap_id", "amazon-2018": "asin"}[source]
    others = [line(DUMPS[source], **{key: f"i{n}"}) for n in range(10)]
    path = tmp_path / "dump.json"
    path.write_bytes(b"\n".join([good, b"", bad, *others]) + b"\n")
    with pytest.raises(DataError) as caught:
        build(source, tmp_path / "out", inputs=Inputs([path]))
    text = str(caught.value)
    assert f"{path}, line 3: {message}" in text
    assert "\n" not in text
    assert text.endswith("; mend the line, or leave such lines out with --skip-bad-rows")
    assert len(text) < len(str(path)) + 300
    build(source, tmp_path / "out", inputs=Inputs([path]), skip_bad_rows=True)
    counts = json.loads((tmp_path / "out" / "build.json").read_text())["counts"]
    assert (counts["read"], counts["skipped"], counts["kept"]) == (12, 1, 11)
    assert f"line 3: {message}" in caplog.text


def csv(text: str) -> bytes:
    return ("user_id,item_id,rating,timestamp,split\n" + text).encode()


def parquet(folder: Path, **columns: object) -> bytes:
    pl.DataFrame(columns).write_parquet(folder / "made.parquet")
    return (folder / "made.parquet").read_bytes()


BAD_FILES = [
    ("t.csv", b"", "{path}: expected a readable csv table, found empty CSV"),
    ("t.csv", csv(""), "{path}: expected rows, found none"),
    ("t.csv", b"user;item\n1;2\n", "{path}: expected column 'user_id', found 'user;item'"),
    ("t.csv", b"user_id,item\n1,2\n", "{path}: expected column 'item_id', found 'user_id', 'item'"),
    ("t.csv", csv("a,x,5,1,train,more\n"), "{path}, line 2: expected at most as many cells as the header has, found more"),
    ("t.csv", csv("a,x,5,1,train\n\na,y,5,1,train,\n"), "{path}, line 4: expected at most as many cells as the header has"),
    ("t.csv", csv("a,x,5,1,train\n,y,5,1,train\n"), "{path}, line 3: expected a value of column 'user_id', found none"),
    ("t.csv", csv("a,x,5,1,train\nb, ,5,1,train\n"), "{path}, line 3: expected a value of column 'item_id', found none"),
    ("t.csv", csv("a,x,good,1,train\n"), "{path}, line 2: expected a number of column 'rating', found 'good'"),
    ("t.csv", csv("a,x,nan,1,train\n"), "{path}, line 2: expected a number of column 'rating', found 'nan'"),
    ("t.csv", csv("a,x,5,noon,train\n"), "{path}, line 2: expected a number of column 'timestamp', found 'noon'"),
    ("t.csv", csv("a,x,5,1,dev\n"), "{path}: expected split train, validation or test in every row, found 'dev'"),
    ("t.csv", csv("a,x,5,1,train\nb,x,5,1,\n"), "expected a split in every row or in none, found some without"),
    ("t.csv", csv('a,"x,5,1,train\n'), "{path}: expected a readable csv table, found"),
    (
        "t.csv",
        csv("a,\udcff,5,1,train\n".encode("utf-8", "surrogateescape").decode("latin1")).replace(b"\xc3\xbf", b"\xff"),
        "{path}: expected a readable csv table, found invalid utf-8 sequence",
    ),
    ("t.tsv", csv("a,x,5,1,train\n"), "{path}: expected column 'user_id', found 'user_id,item_id,rating,timestamp,split'"),
    ("t.parquet", b"PAR1", "{path}: expected a readable parquet table, found"),
    ("t.parquet", b"", "{path}: expected a readable parquet table, found"),
    ("t.jsonl", b"", "{path}: expected JSON lines, found none"),
    ("t.jsonl", b"\n\n", "{path}: expected JSON lines, found none"),
    ("t.jsonl", b'{"user": 1}\n', "{path}: expected key 'user_id', found it in no row"),
    ("t.jsonl", b'[{"user_id": 1, "item_id": 2}]\n', "{path}, line 1: expected a JSON object, found list"),
    ("t.jsonl", b'{\n"user_id": 1, "item_id": 2\n}\n', "{path}, line 1: expected a JSON object, found expecting property"),
    ("t.jsonl.gz", b"no gzip", "{path}: expected a readable gzip file, found Not a gzipped file"),
    (
        "t.jsonl.gz",
        gzip.compress(b'{"user_id": 1, "item_id": 2}\n' * 9, mtime=0)[:-9],
        "{path}: expected a readable gzip file, found",
    ),
    ("t.jsonl.zst", b"no zstd", "{path}: expected a readable zstd file, found"),
    ("t.csv.gz", b"no gzip", "{path}: expected a readable csv table, found Not a gzipped file"),
    (
        "t.xlsx",
        b"",
        "{path}: expected a file ending in .csv, .tsv, .tab, .jsonl, .ndjson, .json, .parquet, .pq, found '.xlsx'",
    ),
    ("t", b"", "{path}: expected a file ending in .csv, .tsv, .tab, .jsonl, .ndjson, .json, .parquet, .pq, found ''"),
]
"""A file's name, its content, and what is said of it."""


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_table_is_named_and_leaves_nothing(tmp_path: Path, name: str, content: bytes, message: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        build("table", tmp_path / "out", inputs=Inputs(interactions=path))
    text = str(caught.value)
    assert message.format(path=path) in text
    assert "\n" not in text
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": ["a", None], "item_id": ["x", "y"]}, "row 2: expected a value of column 'user_id', found none"),
        (
            {"user_id": ["a"], "item_id": ["x"], "rating": ["so so"]},
            "row 1: expected a number of column 'rating', found 'so so'",
        ),
        ({"user_id": ["a"], "items": ["x"]}, "expected column 'item_id', found 'user_id', 'items'"),
        ({"user_id": ["a"], "item_id": [["x"]]}, "expected a readable parquet table, found"),
    ],
)
def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path, columns: dict, message: str):
    path = tmp_path / "t.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(DataError) as caught:
        build("table", tmp_path / "out", inputs=Inputs(interactions=path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"user": "u"}}, "expected a column among user_id, item_id"),
        ({"columns": {"user_id": "id", "item_id": "id"}}, "expected one column for user_id, found 'id' meant twice"),
        ({"columns": {"user_id": "item_id"}}, "expected one column for user_id, found 'item_id' meant twice"),
        ({"timestamp_unit": "hours"}, "expected --timestamp-unit among seconds, milliseconds, date, found 'hours'"),
    ],
)
def test_names_of_columns_that_cannot_be_meant_are_refused(options: dict, message: str):
    with pytest.raises(DataError, match=message):
        TableOptions(**options)


@pytest.mark.parametrize("source", DUMPS)
def test_another_sources_dump_is_told_at_once(tmp_path: Path, source: str):
    other = "amazon-2018" if source != "amazon-2018" else "yelp"
    path = tmp_path / "dump.json"
    path.write_bytes(b"\n".join(line(DUMPS[other]) for _ in range(5)))
    for skip in (False, True):
        with pytest.raises(DataError, match="found it in no row; check that the file is of this source"):
            build(source, tmp_path / "out", inputs=Inputs([path]), skip_bad_rows=skip)


def test_the_table_has_sixty_mistakes_and_more():
    assert len(BAD_LINES) + len(BAD_FILES) >= 60
