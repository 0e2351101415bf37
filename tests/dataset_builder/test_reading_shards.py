"""Shares of a reading: together they are the whole, in its order, and each reads no more than its own."""

import contextlib
import gzip
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder import cells, json_lines, packed_files
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.reader_amazon_2018 import READER
from xrec_dataset_builder.shards import Shard
from xrec_dataset_builder.sources import Batches
from xrec_dataset_builder.table import TableFiles, raw_batches
from xrec_dataset_builder.table_files import TableOptions
from xrec_dataset_builder.tally import Tally

GOOD, BAD, BLANK = "good", "bad", "blank"
LINES = st.lists(st.tuples(st.sampled_from([GOOD] * 6 + [BAD, BLANK]), st.integers(0, 90)), max_size=25)
FILES = st.lists(LINES, min_size=1, max_size=3)


def line(kind: str, number: int, length: int) -> str:
    row = {"reviewerID": f"u{number}", "asin": "i", "overall": 1.0, "unixReviewTime": number, "reviewText": "é" * length}
    whole = json.dumps(row | {"reviewerName": f"Name {number}"})
    return {GOOD: whole, BAD: whole[:-3], BLANK: ""}[kind]


def write(folder: Path, files: list[list[tuple[str, int]]], packed: bool, ends: bool) -> list[Path]:
    paths = []
    for place, lines in enumerate(files):
        text = "\n".join(line(kind, number, length) for number, (kind, length) in enumerate(lines, start=1)) + "\n" * ends
        paths.append(folder / f"{place}.json{'.gz' if packed else ''}")
        paths[-1].write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return paths


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """What the reader says of broken lines."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    json_lines.logger.addHandler(handler)
    try:
        yield said
    finally:
        json_lines.logger.removeHandler(handler)


def taken(batches: Batches) -> list[tuple[tuple[int, int], list[tuple]]]:
    """Places and rows."""
    return [(place, rows.rows()) for place, rows in batches.placed]


@settings(max_examples=60, deadline=None)
@given(FILES, st.integers(1, 400), st.integers(1, 5), st.booleans(), st.booleans())
def test_shards_put_together_by_place_are_the_unsharded_batches(files, block, count, packed, ends):
    with TemporaryDirectory() as folder, patch.multiple(json_lines, BLOCK=block, CUTS=(200, 50), SHOWN=99):
        paths = write(Path(folder), files, packed, ends)
        batches = [READER.batches(paths, None, True, shard) for shard in Shard.every(count)]
        with logged() as said:
            shares = [taken(one) for one in batches]
    together = sorted(part for share in shares for part in share)
    expected = [f"u{n}" for lines in files for n, (kind, _) in enumerate(lines, start=1) if kind == GOOD]
    assert [row[0] for _, rows in together for row in rows] == expected
    assert len({place for place, _ in together}) == len(together)
    for shard, share in zip(Shard.every(count), shares, strict=True):
        assert all(shard.has(file + number) for (file, number), _ in share)
    tally = Tally.gathered([json.loads(json.dumps(one.review_tally.as_dict())) for one in batches])
    kinds = [[kind for kind, _ in lines] for lines in files]
    broken = [kind.count(BAD) for kind in kinds]
    assert (tally.read, tally.skipped) == (len(expected) + sum(broken), sum(broken))
    assert [(one.rows, one.skipped) for one in tally.files] == [(kind.count(GOOD), kind.count(BAD)) for kind in kinds]
    where = [(path, n) for path, lines in zip(paths, kinds, strict=True) for n, kind in enumerate(lines, 1) if kind == BAD]
    assert sorted(text.split(": ")[1] for text in said) == sorted(f"{path}, line {n}" for path, n in where)
    if all(GOOD in kind for kind in kinds):
        with TemporaryDirectory() as folder, patch.multiple(json_lines, BLOCK=block, CUTS=(200, 50)):
            whole = READER.batches(write(Path(folder), files, packed, ends), None, True)
            assert taken(whole) == together
            assert whole.review_tally.read == tally.read


class Counting(io.FileIO):
    """A file that counts what is read of it."""

    read_bytes = 0

    def readinto(self, buffer):
        """As the file does."""
        count = super().readinto(buffer)
        Counting.read_bytes += count
        return count


def test_a_shard_of_a_plain_file_reads_its_blocks_and_little_beside_them(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "BLOCK", 200_000)
    [path] = write(tmp_path, [[(GOOD, 60)] * 20_000], packed=False, ends=True)
    monkeypatch.setattr(packed_files, "open_plain", lambda path: io.BufferedReader(Counting(path)))
    monkeypatch.setattr(Counting, "read_bytes", 0)
    batches = READER.batches([path], None, False, Shard(2, 5))
    assert sum(rows.height for rows in batches.reviews) == pytest.approx(4000, rel=0.2)
    assert Counting.read_bytes < 0.35 * path.stat().st_size


def test_lines_are_counted_only_where_one_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "BLOCK", 2_000)
    counted = []
    monkeypatch.setattr(packed_files, "line_breaks", lambda content: counted.append(len(content)) or content.count(b"\n"))
    kinds = [GOOD] * 300 + [BAD] + [GOOD] * 50 + [BAD] + [GOOD] * 300
    sound, broken = write(tmp_path, [[(GOOD, 9)] * 300, [(kind, 9) for kind in kinds]], packed=False, ends=True)
    list(READER.batches([sound], None).reviews)
    assert not counted
    with logged() as said:
        list(READER.batches([broken], None, skip_bad_rows=True).reviews)
    assert [text.split(": ")[1].split(", ")[1] for text in said] == ["line 301", "line 352"]
    assert sum(counted) < 0.6 * broken.stat().st_size


def test_what_holds_of_a_whole_file_is_checked_when_shares_are_gathered(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "BLOCK", 100)
    rows = [json.loads(line(GOOD, number, 0)) for number in range(12)]
    for row in rows[:-1]:
        del row["reviewText"]
    for name, kept in (("some.json", rows), ("none.json", rows[:-1])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in kept))
    (tmp_path / "bad.json").write_text("{\n" * 300)
    tallies = {}
    for name in ("some.json", "none.json", "bad.json"):
        shares = [READER.batches([tmp_path / name], None, True, shard) for shard in Shard.every(3)]
        for share in shares:
            list(share.placed)
        tallies[name] = Tally.gathered([share.review_tally.as_dict() for share in shares])
    tallies["some.json"].check()
    with pytest.raises(DataError, match=r"none\.json: expected key 'reviewText', found it in no row"):
        tallies["none.json"].check()
    with pytest.raises(DataError, match=r"bad\.json: expected JSON lines, found 300 broken ones"):
        tallies["bad.json"].check()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_of_a_table_put_together_by_place_are_the_whole(tmp_path, monkeypatch, ending, count):
    monkeypatch.setattr(cells, "ROWS", 4)
    monkeypatch.setattr(json_lines, "BLOCK", 150)
    ratings = [str(number % 5) if number % 6 else "many" for number in range(31)]
    table = pl.DataFrame({"user_id": [f"u{number}" for number in range(31)], "item_id": ["i"] * 31, "rating": ratings})
    path = tmp_path / f"t{ending}"
    {".csv": table.write_csv, ".jsonl": table.write_ndjson, ".parquet": table.write_parquet}[ending](path)
    files = TableFiles(path)
    batches = [raw_batches(files, TableOptions(), True, tmp_path / "room", shard) for shard in Shard.every(count)]
    together = sorted(part for one in batches for part in taken(one))
    assert [row[0] for _, rows in together for row in rows] == [f"u{number}" for number in range(31) if number % 6]
    assert together == taken(raw_batches(files, TableOptions(), True, tmp_path / "room"))
    assert len(together) > 5
    tally = Tally.gathered([one.review_tally.as_dict() for one in batches])
    assert (tally.read, tally.skipped) == (31, 6)
