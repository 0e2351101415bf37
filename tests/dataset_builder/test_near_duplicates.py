import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder import near_duplicates
from xrec_dataset_builder.near_duplicates import near_copies

TEXTS = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)
ROWS = st.lists(st.tuples(st.sampled_from(["train", "train", "validation", "test", "cold_user"]), TEXTS), max_size=25)


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.sub(r"[\W_]+", " ", text.lower()).split()
    return {tuple(words[start : start + 3]) for start in range(max(len(words) - 2, 1))} if words else set()


def plainly(rows: list[tuple[str, str]]) -> list[bool]:
    held_out = [shingles(text) for split, text in rows if split != "train" and shingles(text)]

    def marked(split: str, text: str) -> bool:
        own = shingles(text)
        return split == "train" and bool(own) and any(5 * len(own & one) >= 4 * len(own | one) for one in held_out)

    return [marked(*row) for row in rows]


def table(rows: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"split": pl.String, "review": pl.String}, orient="row")


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(0, 25), st.sampled_from([4, 20_000]))
def test_exactly_the_pairs_of_the_definition_are_found_however_the_texts_come(rows: list, cut: int, at_a_time: int):
    whole = table(rows)
    before, near_duplicates.ROWS = near_duplicates.ROWS, at_a_time
    try:
        found = near_copies(lambda: [whole[:cut], whole[cut:]]).tolist()
    finally:
        near_duplicates.ROWS = before
    assert found == plainly(rows)


def test_one_word_of_a_long_text_makes_no_other_text_of_it_and_many_do():
    words = [f"w{n}" for n in range(60)]
    changed = [words.copy() for _ in range(3)]
    changed[0][30] = "other"  # 3 of 58 triples on either side: 55 / 61
    changed[1][10] = changed[1][50] = "other"  # 6: 52 / 64 = 0.8125
    changed[2][10] = changed[2][30] = changed[2][50] = "other"  # 9: 49 / 67
    rows = [("test", " ".join(words)), *(("train", " ".join(one)) for one in changed)]
    assert near_copies(lambda: [table(rows)]).tolist() == [False, True, True, False]


def test_four_fifths_exactly_are_enough():
    held_out = "a b c d e f"  # 4 triples
    rows = [("test", held_out), ("train", held_out + " g"), ("train", held_out + " g h")]  # 4 / 5 and 4 / 6
    assert near_copies(lambda: [table(rows)]).tolist() == [False, True, False]


@pytest.mark.parametrize("rows", [[], [("train", "a b c")], [("test", "a b c")], [("train", ""), ("test", "")]])
def test_with_one_side_only_nothing_straddles(rows: list):
    assert not near_copies(lambda: [table(rows)]).any()


def test_shared_counters_cost_no_match(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(near_duplicates, "SLOTS", 1)
    rows = [("test", f"one two three four five {n} seven eight") for n in range(30)]
    rows += [("train", f"one two three four five {n} seven eight nine") for n in range(40)]
    assert near_copies(lambda: [table(rows)]).tolist() == plainly(rows)
    assert sum(plainly(rows)) == 30
