import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder import json_lines
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.fields import DATE, MILLISECONDS, NUMBER, PARAGRAPHS, SECONDS, TEXT, Field
from xrec_dataset_builder.json_lines import Tally, read_batches
from xrec_dataset_builder.source_names import reader_names
from xrec_dataset_builder.sources import find_reader

PUBLISHED = {
    "yelp": (
        {
            "review_id": "KU_O5udG6zpxOg-VcAEodg", "user_id": "mh_-eMZ6K5RLWhZyISBhwA",
            "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw", "stars": 3.0, "useful": 0, "funny": 0, "cool": 0,
            "text": " If you\n\nwant ", "date": "2018-07-07 22:09:11",
        },
        ("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", 3.0, 1_531_001_351, "If you\n\nwant"),
        {
            "business_id": "b", "name": "St Honore", "address": "", "city": "Philadelphia", "state": "PA",
            "postal_code": "19107", "latitude": 39.9, "longitude": -75.1, "stars": 4.0, "review_count": 80, "is_open": 1,
            "attributes": {"WiFi": "u'free'"}, "categories": "Bakeries, Food", "hours": {"Monday": "7:0-20:0"},
        },
        ("b", "St Honore", "Bakeries, Food Philadelphia"),
    ),
    "amazon-2023": (
        {
            "rating": 5.0, "title": "Such a lovely scent", "text": "This spray<br />is nice.", "images": [],
            "asin": "B00YQ6X8EO", "parent_asin": "B00YQ6X8E0", "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
            "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": True,
        },
        ("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B00YQ6X8E0", 5.0, 1588687728, "This spray<br />is nice."),
        {
            "main_category": "All Beauty", "title": "Spray &amp; Go", "average_rating": 4.8, "rating_number": 10,
            "features": ["Light.", "Sweet."], "description": [], "price": None, "images": [], "videos": [], "store": "Howard",
            "categories": ["Beauty", "Hair"], "details": {"UPC": "1"}, "parent_asin": "p", "bought_together": None,
        },
        ("p", "Spray & Go", "Light. Sweet. Beauty, Hair"),
    ),
    "google-local": (
        {
            "user_id": "101463350189962023774", "name": "Jordan Adams", "time": 1627750414677, "rating": 5, "text": None,
            "pics": None, "resp": None, "gmap_id": "0x80c2c778e3b73d33:0xbdc58662a4a97d49",
        },
        ("101463350189962023774", "0x80c2c778e3b73d33:0xbdc58662a4a97d49", 5.0, 1627750414, ""),
        {
            "name": "City Textile", "address": "3001 E Pico Blvd", "gmap_id": "g", "description": None, "latitude": 34.0,
            "longitude": -118.2, "category": ["Textile exporter", "Shop"], "avg_rating": 4.5, "num_of_reviews": 6,
            "hours": [["Thursday", "8AM-5PM"]], "MISC": None, "state": "Open", "relative_results": None, "url": "https://a.b",
        },
        ("g", "City Textile", "Textile exporter, Shop"),
    ),
    "amazon-2018": (
        {
            "overall": 5.0, "verified": True, "reviewTime": "06 17, 2018", "reviewerID": "A3", "asin": "B0",
            "style": {"A:": " 5"}, "reviewerName": "john", "reviewText": "Another great gift.", "summary": "Five",
            "unixReviewTime": 1529193600,
        },
        ("A3", "B0", 5.0, 1529193600, "Another great gift."),
        {"category": ["Gift"], "description": ["One.", "Two."], "title": "Card", "asin": "B0", "also_buy": [], "price": ""},
        ("B0", "Card", "One. Two."),
    ),
}  # fmt: skip


def dump(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("source", PUBLISHED)
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_published_row_is_read_as_its_source_means_it(tmp_path: Path, source: str, ending: str):
    review, expected, item, described = PUBLISHED[source]
    paths = []
    texts = {"google-local": "text"}.get(source)
    for name, rows in (("reviews.json", [review, review | ({texts: "Nice."} if texts else {})]), ("meta.json", [item])):
        path = dump(tmp_path / name, *rows)
        if ending:
            pack = {".gz": gzip.compress, ".zst": zstd.compress}[ending]
            path = path.with_name(name + ending)
            path.write_bytes(pack((tmp_path / name).read_bytes()))
        paths.append(path)
    raw = find_reader(source).read([paths[0]], paths[1])
    assert raw.reviews.row(0) == expected
    assert raw.items.rows() == [described]


def test_every_reader_module_is_a_source_that_is_tested_here():
    assert set(reader_names()) == set(PUBLISHED)
    with pytest.raises(DataError, match="found 'reader_yelp'"):
        find_reader("reader_yelp")


def test_a_new_module_is_a_new_source_and_touches_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import xrec_dataset_builder as package

    lines = (
        "from xrec_dataset_builder.fields import TEXT, Field",
        "from xrec_dataset_builder.sources import JsonLinesReader",
        "ids = {'user_id': [Field('u', TEXT, required=True)], 'item_id': [Field('i', TEXT, required=True)]}",
        "READER = JsonLinesReader(ids, ids, 'a new dump')",
    )
    (tmp_path / "reader_brand_new.py").write_text("\n".join(lines))
    monkeypatch.setattr("xrec_dataset_builder.source_names.__file__", str(tmp_path / "source_names.py"))
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert reader_names() == ("brand-new",)
    assert find_reader("brand-new").about == "a new dump"


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-9, 9).map(lambda n: n / 4),
    st.text(max_size=6), st.just("2018-07-07 22:09:11"), st.just("5.0"),
    st.lists(st.one_of(st.text(max_size=3), st.none(), st.integers()), max_size=2),
    st.dictionaries(st.sampled_from(["a", "u"]), st.integers(), max_size=1),
    st.sampled_from(["[1]", '{"a": 1}', "[a", "\ud800", "a\0b", " x ", "1e5"]),
)  # fmt: skip
HUGE = st.floats(min_value=1e6)
ROW = st.fixed_dictionaries(
    {}, optional={**{key: ODD for key in "udltz"}, **{key: ODD | HUGE | st.just(2**63) for key in "nsm"}}
)
COLUMNS = {
    "user": [Field("u", TEXT, required=True)],
    "number": [Field("n", NUMBER)],
    "seconds": [Field("s", SECONDS)],
    "milliseconds": [Field("m", MILLISECONDS)],
    "date": [Field("d", DATE)],
    "text": [Field("l", PARAGRAPHS), Field("t", TEXT)],
}


@settings(max_examples=300, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_what_the_fast_way_accepts_the_line_by_line_way_reads_the_same(rows: list[dict]):
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    fast = json_lines._parse_fast(content, COLUMNS)
    if fast is not None:
        slow = json_lines._parse_slowly(content, COLUMNS)
        assert slow.problems == []
        assert fast.rows() == slow.rows.rows()


def test_a_good_block_is_read_the_fast_way():
    row = {"u": "a", "n": 1.5, "s": 3, "m": 4000, "d": "2018-07-07", "l": ["x", "y"], "t": "[sic] 日本"}
    assert json_lines._parse_fast(json.dumps(row).encode(), COLUMNS).row(0)[:6] == (
        "a",
        1.5,
        3,
        4,
        1530921600,
        "x y [sic] 日本",
    )


@pytest.mark.parametrize("block", [1, 200, 5000])
@pytest.mark.parametrize("packed", [False, True])
def test_blocks_change_neither_rows_nor_line_numbers(
    tmp_path: Path, block: int, packed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(json_lines, "BLOCK", block)
    monkeypatch.setattr(json_lines, "CUTS", (300, 100))
    lines = [json.dumps({"u": f"u{n}", "n": n, "s": n, "m": n, "d": None, "l": [], "t": "x" * (n % 50)}) for n in range(300)]
    lines[41] = "{broken"
    lines[42] = ""
    lines[200] = json.dumps({"u": ""})
    lines[299] = lines[299][:-1]
    text = "\n".join(lines).encode()
    path = tmp_path / ("t.json.gz" if packed else "t.json")
    path.write_bytes(gzip.compress(text) if packed else text)
    columns = {name: [Field(f.key, f.kind, f.required, True) for f in fields] for name, fields in COLUMNS.items()}
    tally = Tally()
    rows = pl.concat(list(read_batches(path, columns, tally, skip_bad_rows=True)))
    assert rows["user"].to_list() == [f"u{n}" for n in range(299) if n not in (41, 42, 200)]
    assert (tally.read, tally.skipped) == (299, 3)
    assert "line 42: " in caplog.text
    assert "line 201: " in caplog.text
    assert "line 300: " in caplog.text


def test_only_a_few_bad_lines_are_named_and_all_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "t.json"
    path.write_text("{bad\n" * 50 + '{"u": "a"}\n')
    tally = Tally()
    list(read_batches(path, {"user": [Field("u", TEXT, required=True)]}, tally, skip_bad_rows=True))
    assert (tally.read, tally.skipped, caplog.text.count("left out")) == (51, 50, json_lines.SHOWN)
