"""Shares of a run: every thing belongs to exactly one, and names say which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.shards import Shard, missing, require_all, shard_folder


@given(st.integers(1, 9), st.integers(0, 100))
def test_slices_lie_side_by_side_and_are_as_large(of, things):
    slices = [shard.slice(things) for shard in Shard.every(of)]
    assert [place for start, stop in slices for place in range(start, stop)] == list(range(things))
    sizes = [stop - start for start, stop in slices]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 9), st.integers(0, 100))
def test_every_place_belongs_to_exactly_one_share(of, place):
    assert sum(shard.has(place) for shard in Shard.every(of)) == 1


def test_a_share_is_written_as_a_fraction():
    assert Shard.parse(" 3/8 ") == Shard(3, 8)
    assert Shard(3, 8).name == "3-of-8"


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "a/b", "-1/8", "1/0", "1/2/3", "1.0/2"])
def test_anything_else_is_refused(text):
    with pytest.raises(DataError, match=r"expected --shard I/N"):
        Shard.parse(text)


def test_the_first_missing_share_is_named(tmp_path):
    for number in (1, 3):
        folder = shard_folder(tmp_path, Shard(number, 3))
        folder.mkdir()
        (folder / "done").touch()
    assert missing(tmp_path, 3, "done") == [Shard(2, 3)]
    with pytest.raises(DataError, match=r"expected 3 finished shards, found 2; run --shard 2/3"):
        require_all(tmp_path, 3, "done")
    with pytest.raises(DataError, match="--gather"):
        require_all(tmp_path, 0, "done")
