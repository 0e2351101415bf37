import subprocess
import sys

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder import LeakError, leak_report
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.leaks import check_profile_sources, straddling

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20)
TRAIN = {"user_id": [1, 2, 3], "item_id": [7, 8, 9]}
TEXTS = {"user_id": ["1", "2", "4", "4"], "item_id": ["7", "9", "7", "7"], "explanation": ["a", "b", "c", "c"]}


@given(PAIRS, PAIRS)
def test_counts_are_those_of_sets(train: list[tuple[int, int]], explained: list[tuple[int, int]]):
    def table(pairs):
        return {"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs]}

    report = leak_report(table(train), table(explained))
    common = set(train) & set(explained)
    assert (report.count, report.total) == (len(common), len(set(explained)))
    assert report.overlap == (len(common) / len(set(explained)) if explained else 0.0)


@pytest.mark.parametrize("form", [pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.table, datasets.Dataset.from_dict, dict])
@pytest.mark.parametrize("other", [pl.DataFrame, pd.DataFrame])
def test_every_kind_of_table_and_id_is_compared(form, other):
    report = leak_report(form(TRAIN), other(TEXTS))
    assert (report.count, report.total) == (1, 3)
    with pytest.raises(LeakError, match=r"found 1 of 3 \(33\.3 %\).*--repair-leaks"):
        report.check()


def test_rows_that_a_dataset_left_out_do_not_count():
    chosen = datasets.Dataset.from_dict(TRAIN).select([1, 2])
    report = leak_report(chosen, TEXTS)
    assert report.count == 0
    report.check()


def test_integers_that_pandas_made_floats_are_integers():
    floats = pd.DataFrame({"user_id": [1.0, 2.0], "item_id": [7.0, 8.0]})
    assert leak_report(floats, TEXTS).count == 1
    categories = pd.DataFrame({name: pd.Series(TRAIN[name]).astype(str).astype("category") for name in TRAIN})
    assert leak_report(categories, TEXTS).count == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"user": [1], "item_id": [1]}, "expected a table with column 'user_id', found 'item_id'"),
        (pl.DataFrame({"user_id": [1]}), "expected a table with column 'item_id', found 'user_id'"),
        (pd.DataFrame({"user_id": [1.0, None], "item_id": [1, 2]}), "found 1 empty"),
        (pl.DataFrame({"user_id": ["a", None], "item_id": ["x", "y"]}), "found 1 empty"),
        ([1, 2], "found list"),
        (datasets.DatasetDict(train=datasets.Dataset.from_dict(TRAIN)), "DatasetDict; choose a split"),
    ],
)
def test_what_is_no_such_table_is_refused(table, message: str):
    with pytest.raises(DataError, match=message):
        leak_report(table, TEXTS)


def test_straddling_marks_training_copies_only():
    rows = [
        ("train", "Great gift!"),
        ("train", "great  GIFT"),
        ("train", "other"),
        ("test", "Great gift"),
        ("train", "!"),
    ]
    reviews = pl.DataFrame([*rows, ("validation", "")], schema=["split", "review"], orient="row")
    assert straddling(reviews).to_list() == [True, True, False, False, False, False]


@pytest.mark.parametrize(("fed", "leaks"), [("u1", False), ("u2", True), ("u3", True)])
def test_a_profile_fed_by_a_held_out_review_or_its_copy_is_a_leak(fed: str, leaks: bool):
    rows = [("u1", "i", "mine", "train"), ("u2", "i", "theirs", "test"), ("u3", "i", "Theirs!", "train")]
    reviews = pl.DataFrame(rows, schema=["user_id", "item_id", "review", "split"], orient="row")
    sources = reviews.filter(pl.col("user_id") == fed)
    if leaks:
        with pytest.raises(LeakError, match="found 1 held-out reviews"):
            check_profile_sources(sources, reviews)
    else:
        check_profile_sources(sources, reviews)


def test_importing_the_package_loads_no_table_library():
    code = "import sys, xrec_dataset_builder; print({'polars', 'numpy', 'tqdm'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
