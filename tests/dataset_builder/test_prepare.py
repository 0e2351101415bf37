import networkx
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.prepare import PrepareOptions, k_core, latest, prepare
from xrec_dataset_builder.sources import RAW_ITEM_COLUMNS, RAW_REVIEWS, RawData
from xrec_dataset_builder.splits import assign_split


def raw(rows: list[tuple], skipped: int = 0) -> RawData:
    reviews = pl.DataFrame(rows, schema=RAW_REVIEWS, orient="row")
    return RawData(reviews, pl.DataFrame(schema=RAW_ITEM_COLUMNS), skipped, len(rows) + skipped)


def random_rows(count: int = 400, seed: int = 0) -> list[tuple]:
    rng = np.random.default_rng(seed)
    draws = rng.integers([0, 0, 1, 0], [30, 20, 6, 50], (count, 4))
    return [(f"u{u}", f"i{i}", float(r), int(t), f"text {n}") for n, (u, i, r, t) in enumerate(draws)]


def test_the_latest_review_of_a_pair_wins_and_the_last_of_equal_times():
    rows = [("a", "x", 1.0, 5, "old"), ("a", "x", 2.0, 9, "new"), ("a", "x", 3.0, 7, "mid")]
    rows += [("b", "x", 1.0, None, "no time"), ("b", "x", 2.0, 1, "time")]
    rows += [("c", "x", 1.0, None, "first"), ("c", "x", 1.0, None, "last")]
    assert latest(raw(rows).reviews)["review"].to_list() == ["new", "time", "last"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), unique=True), st.integers(1, 5))
def test_k_core_is_that_of_the_bipartite_graph(pairs: list[tuple[int, int]], k: int):
    table = pl.DataFrame({"user_id": [f"{u}" for u, _ in pairs], "item_id": [f"{i}" for _, i in pairs]})
    table = table.cast(pl.String)
    graph = networkx.Graph((("u", f"{u}"), ("i", f"{i}")) for u, i in pairs)
    core = networkx.k_core(graph, k) if pairs else graph
    expected = [(u, i) for u, i in table.rows() if core.has_edge(("u", u), ("i", i))]
    assert k_core(table, k).rows() == expected


def test_counts_add_up_and_name_each_filter():
    prepared = prepare(raw(random_rows(), skipped=3), PrepareOptions(min_rating=2, k_core=5))
    counts = prepared.counts
    gone = ("skipped", "duplicates", "low_rating", "outside_k_core", "kept")
    assert counts["read"] == 403 == sum(counts[name] for name in gone)
    assert all(counts[name] > 0 for name in gone)
    assert counts["train"] + counts["validation"] + counts["test"] == counts["kept"] == prepared.reviews.height
    assert prepared.reviews["rating"].min() == 2.0  # at least, not more than
    degrees = [prepared.reviews.group_by(name).len()["len"].min() for name in ("user_id", "item_id")]
    assert min(degrees) >= 5
    assert prepared.reviews.select("user_id", "item_id").is_duplicated().sum() == 0


@pytest.mark.parametrize("method", ["random", "temporal"])
def test_a_split_has_its_sizes_and_ignores_the_order_of_rows(method: str):
    pairs = latest(raw(random_rows()).reviews)
    options = PrepareOptions(split=method, seed=3)
    split = assign_split(pairs, options)
    sizes = [int((split == name).sum()) for name in ("train", "validation", "test")]
    assert sizes == [round(pairs.height * 0.8), round(pairs.height * 0.9) - round(pairs.height * 0.8), sizes[2]]
    assert sum(sizes) == pairs.height
    shuffled = pairs.sample(fraction=1, shuffle=True, seed=1)
    keys = ["user_id", "item_id"]
    again = shuffled.with_columns(split=assign_split(shuffled, options)).sort(keys)["split"]
    assert again.equals(pairs.with_columns(split=split).sort(keys)["split"])


def test_a_temporal_split_puts_the_latest_into_test():
    pairs = latest(raw(random_rows()).reviews)
    times = pairs.with_columns(split=assign_split(pairs, PrepareOptions(split="temporal"))).group_by("split")
    found = {name: (low, high) for name, low, high in times.agg(a=pl.min("timestamp"), b=pl.max("timestamp")).rows()}
    assert found["train"][1] <= found["validation"][0] <= found["validation"][1] <= found["test"][0]


def test_seeds_differ_and_repeat():
    pairs = latest(raw(random_rows()).reviews)
    splits = [assign_split(pairs, PrepareOptions(seed=seed)) for seed in (0, 0, 1)]
    assert splits[0].equals(splits[1])
    assert not splits[0].equals(splits[2])


def test_ids_that_the_graph_will_not_know_are_counted():
    rows = [(f"u{n}", "popular", None, None, "") for n in range(20)]
    counts = prepare(raw(rows), PrepareOptions()).counts
    assert counts["users_without_training_interactions"] == 4
    assert counts["items_without_training_interactions"] == 0
    assert counts["without_text"] == 20


def test_straddling_texts_are_counted():
    rows = [(f"u{n}", "i", None, n, "Great gift!" if n % 2 else f"text {n}") for n in range(20)]
    rows[-1] = ("u19", "i", None, 19, "GREAT  gift")
    counts = prepare(raw(rows), PrepareOptions(split="temporal")).counts
    assert counts["straddling_training_reviews"] == 8  # the odd ones among the first 16


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, r"found none \(read 0\); lower"),
        (random_rows(), {"min_rating": 9}, r"low rating \d+"),
        (random_rows(), {"k_core": 99}, r"outside k core \d+"),
        (random_rows(3), {}, "enough pairs for a train, a validation and a test split, found 3"),
        (
            [("u", f"i{n}", 1.0, None, "") for n in range(20)],
            {"split": "temporal"},
            "found 20 without; use --split random",
        ),
    ],
)
def test_what_leaves_nothing_says_so(rows: list[tuple], options: dict, message: str):
    with pytest.raises(DataError, match=message) as caught:
        prepare(raw(rows), PrepareOptions(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_core": 0}, "--k-core of at least 1"),
        ({"split": "by-user"}, "--split among random, temporal"),
        ({"fractions": (0.8, 0.1, 0.2)}, "add up to 1"),
        ({"fractions": (1.0, 0.0, 0.0)}, "above 0"),
        ({"fractions": (float("nan"), 0.5, 0.5)}, "above 0"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str):
    with pytest.raises(DataError, match=message):
        PrepareOptions(**options)
