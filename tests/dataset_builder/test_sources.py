import gzip
import json
from pathlib import Path

import pytest

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.reader_amazon_2018 import READER as AMAZON_2018
from xrec_dataset_builder.sources import plain_text

GOOD = {"reviewerID": "u", "asin": "i", "overall": 4.0, "unixReviewTime": 10, "reviewText": " Fine & cheap. "}


def lines(path: Path, *rows: object) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def test_rows_come_as_a_plain_json_loop_reads_them(reviews_file: Path):
    raw = AMAZON_2018.read([reviews_file], None)
    loop = [json.loads(line) for line in reviews_file.read_text().splitlines()]
    keys = ("reviewerID", "asin", "overall", "unixReviewTime", "reviewText")
    assert raw.reviews.rows() == [tuple(row[key] for key in keys) for row in loop]
    assert (raw.read_rows, raw.skipped_rows) == (len(loop), 0)


def test_the_slow_way_reads_the_same_as_the_fast_one(tmp_path: Path, reviews_file: Path):
    broken = tmp_path / "broken.json"
    broken.write_text(reviews_file.read_text() + "{nonsense\n")
    slow = AMAZON_2018.read([broken], None, skip_bad_rows=True)
    fast = AMAZON_2018.read([reviews_file], None)
    assert slow.reviews.equals(fast.reviews)
    assert (slow.skipped_rows, slow.read_rows) == (1, fast.read_rows + 1)


def test_several_files_and_gzip(tmp_path: Path, reviews_file: Path):
    packed = tmp_path / "reviews.json.gz"
    packed.write_bytes(gzip.compress(reviews_file.read_bytes()))
    one, two = AMAZON_2018.read([packed], None), AMAZON_2018.read([reviews_file, packed], None)
    assert two.reviews.height == 2 * one.reviews.height == two.read_rows
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="readable gzip"):
        AMAZON_2018.read([packed], None)


def test_reviews_without_text_rating_or_time_stay(tmp_path: Path):
    bare = {"reviewerID": "v", "asin": "i"}
    raw = AMAZON_2018.read([lines(tmp_path / "r.json", GOOD, "", bare)], None)
    assert raw.reviews.rows() == [("u", "i", 4.0, 10, "Fine & cheap."), ("v", "i", None, None, "")]
    assert raw.read_rows == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{nonsense", "expected a JSON object, found expecting property name"),
        ('{"reviewerID": "u", "asin"', "expected a JSON object"),
        ("[1, 2]", "expected a JSON object, found list"),
        ("null", "expected a JSON object, found NoneType"),
        ({**GOOD, "asin": None}, "expected a value of key 'asin', found none"),
        ({**GOOD, "asin": ""}, "expected a value of key 'asin', found none"),
        ({"asin": "i", "overall": 1.0}, "expected a value of key 'reviewerID', found none"),
        ({**GOOD, "overall": "many"}, "expected a number of key 'overall', found 'many'"),
        ('{"reviewerID": "u", "asin": "i", "overall": NaN}', "expected a number of key 'overall', found 'nan'"),
        ({**GOOD, "unixReviewTime": "yesterday"}, "expected a number of key 'unixReviewTime', found 'yesterday'"),
        ({**GOOD, "reviewText": {"a": 1}}, "expected a text of key 'reviewText', found dict"),
        ({**GOOD, "reviewerID": [1]}, "expected a text of key 'reviewerID', found list"),
    ],
)
def test_a_broken_line_is_named_or_counted(tmp_path: Path, bad: object, message: str):
    path = lines(tmp_path / "r.json", GOOD, "", bad, {**GOOD, "asin": "j"})
    with pytest.raises(DataError) as caught:
        AMAZON_2018.read([path], None)
    text = str(caught.value)
    assert "\n" not in text
    assert f"{path}, line 3: {message}" in text
    assert "--skip-bad-rows" in text
    raw = AMAZON_2018.read([path], None, skip_bad_rows=True)
    assert (raw.reviews["item_id"].to_list(), raw.skipped_rows, raw.read_rows) == (["i", "j"], 1, 3)


def test_other_bytes_are_a_broken_line(tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"reviewerID": "\xff\xfe", "asin": "i"}\n')
    with pytest.raises(DataError, match=r"line 2: expected UTF-8 text, found other bytes"):
        AMAZON_2018.read([path], None)


def test_numbers_in_quotes_are_numbers(tmp_path: Path):
    path = lines(tmp_path / "r.json", {**GOOD, "overall": "5.0", "reviewerID": 7})
    assert AMAZON_2018.read([path], None).reviews.row(0)[:3] == ("7", "i", 5.0)


@pytest.mark.parametrize("key", ["reviewerID", "asin", "overall", "unixReviewTime", "reviewText"])
def test_a_key_that_is_in_no_row_is_named(tmp_path: Path, key: str):
    rows = [{name: value for name, value in GOOD.items() if name != key}] * 2
    with pytest.raises(DataError, match=f"expected key '{key}', found it in no row"):
        AMAZON_2018.read([lines(tmp_path / "r.json", *rows)], None)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.json: expected a file, found none"):
        AMAZON_2018.read([tmp_path / "none.json"], None)
    with pytest.raises(DataError, match="found a folder"):
        AMAZON_2018.read([tmp_path], None)


def test_items_are_plain_text_and_the_first_row_of_an_item_counts(tmp_path: Path, reviews_file: Path):
    items = lines(
        tmp_path / "meta.json",
        {"asin": "a", "title": "Tom &amp;amp; <b>Jerry</b>", "description": ["One.", "Two <br/> three."]},
        {"asin": "a", "title": "Second", "description": []},
        {"asin": "b", "title": "var aPageStart = (new Date()).getTime();", "description": "Plain text"},
        {"asin": "c"},
    )
    raw = AMAZON_2018.read([reviews_file], items)
    assert raw.items.rows() == [("a", "Tom & Jerry", "One. Two three."), ("b", "", "Plain text"), ("c", "", "")]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("<style>p {}</style>Hi<!-- no -->&nbsp;there\u200b", "Hi there"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
    ],
)
def test_plain_text(text: str, plain: str):
    assert plain_text(text) == plain
