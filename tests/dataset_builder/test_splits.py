from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.leaks import LeakError, check_cold
from xrec_dataset_builder.preparation_arrays import capped, core, latest_pairs
from xrec_dataset_builder.prepare import PrepareOptions, prepare
from xrec_dataset_builder.schema import COLD_SPLITS
from xrec_dataset_builder.sources import RAW_ITEM_COLUMNS, RAW_REVIEWS, RawData
from xrec_dataset_builder.splits import assign_split

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), unique=True, min_size=20, max_size=70)
SETTINGS = settings(max_examples=60, deadline=None)


def table(pairs: list[tuple[int, int]]) -> pl.DataFrame:
    rows = [(f"u{u}", f"i{i}", (u * 7 + i * 13) % 11) for u, i in pairs]
    return pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row")


def prepared(rows: list[tuple], **options: object) -> pl.DataFrame:
    raw = RawData(pl.DataFrame(rows, schema=RAW_REVIEWS, orient="row"), pl.DataFrame(schema=RAW_ITEM_COLUMNS), 0, len(rows))
    done = prepare(raw, PrepareOptions(**options))
    gone = ("skipped", "duplicates", "low_rating", "too_short", "other_language", "user_not_sampled", "over_cap")
    assert done.counts["read"] == sum(done.counts[name] for name in (*gone, "outside_k_core", "kept"))
    return done.reviews


def rows(count: int, users: int = 40, items: int = 30) -> list[tuple]:
    draws = np.random.default_rng(0).integers([0, 0, 1, 0], [users, items, 6, 50], (count, 4))
    return [(f"u{u}", f"i{i}", float(r), int(t), f"text {n}") for n, (u, i, r, t) in enumerate(draws)]


@SETTINGS
@given(PAIRS, st.sampled_from(["random", "temporal", "leave-one-out"]), st.randoms())
def test_a_split_depends_on_the_pairs_and_not_on_their_order(pairs: list[tuple[int, int]], method: str, rng):
    options = PrepareOptions(split=method, seed=5, cold_users=0.2, cold_items=0.2)
    first = table(pairs)
    shuffled = table(rng.sample(pairs, len(pairs)))
    try:
        found = [one.with_columns(split=assign_split(one, options)).sort("user_id", "item_id") for one in (first, shuffled)]
    except DataError:
        return
    assert found[0].equals(found[1])


@SETTINGS
@given(PAIRS, st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_cold_users_and_items_have_no_other_pair(pairs: list[tuple[int, int]], users: float, items: float):
    given_pairs = table(pairs)
    try:
        options = PrepareOptions(cold_users=users, cold_items=items)
        split = given_pairs.with_columns(split=assign_split(given_pairs, options))
    except DataError:
        return
    check_cold(split)
    by = {name: defaultdict(set) for name in ("user", "item")}
    for user, item, _, name in split.rows():
        by["user"][user].add(name)
        by["item"][item].add(name)
    cold_users = [user for user, names in by["user"].items() if "cold_user" in names]
    cold_items = [item for item, names in by["item"].items() if "cold_item" in names]
    assert all(by["user"][user] == {"cold_user"} for user in cold_users)
    assert all(by["item"][item] <= {"cold_item", "cold_user"} for item in cold_items)
    assert len(cold_users) == round(users * len(by["user"]))
    assert len(cold_items) <= round(items * len(by["item"]))


@SETTINGS
@given(PAIRS)
def test_leave_one_out_tests_each_users_latest_pair(pairs: list[tuple[int, int]]):
    given_pairs = table(pairs)
    histories = defaultdict(list)
    for user, item, _ in sorted(given_pairs.rows(), key=lambda row: (row[0], row[2], row[1])):
        histories[user].append((user, item))
    expected = {}
    for history in histories.values():
        names = ["train"] * len(history)
        if len(history) >= 3:
            names[-2:] = ["validation", "test"]
        expected |= dict(zip(history, names, strict=True))
    split = assign_split(given_pairs, PrepareOptions(split="leave-one-out"))
    assert {(user, item): name for (user, item, _), name in zip(given_pairs.rows(), split, strict=True)} == expected


def test_leave_one_out_says_what_it_lacks():
    two = table([(u, i) for u in range(9) for i in range(2)])
    with pytest.raises(DataError, match="users with three pairs or more for --split leave-one-out, found none"):
        assign_split(two, PrepareOptions(split="leave-one-out"))
    timeless = two.with_columns(timestamp=pl.lit(None, pl.Int64))
    with pytest.raises(DataError, match="a time of every interaction for --split leave-one-out, found 18 without"):
        assign_split(timeless, PrepareOptions(split="leave-one-out"))


@SETTINGS
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), unique=True), st.integers(1, 4))
def test_a_core_is_what_is_left_when_nothing_more_can_be_taken(pairs: list[tuple[int, int]], k: int):
    left = set(pairs)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        good = {(u, i) for u, i in left if users[u] >= k and items[i] >= k}
        if good == left:
            break
        left = good
    users, items = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    assert {pair for pair, kept in zip(pairs, core(users, items, k), strict=True) if kept} == left


def test_a_long_chain_is_peeled_from_its_end_in_one_go_through_its_pairs():
    chain = np.arange(10_000)
    users, items = np.repeat(chain, 2)[1:-1], np.repeat(chain, 2)[:-2]
    assert not core(users, items, 2).any()


@SETTINGS
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.one_of(st.none(), st.integers(-3, 3)))))
def test_the_latest_row_of_each_pair_wins_and_the_last_of_equal_times(given_rows: list[tuple]):
    best = {}
    for place, (user, item, when) in enumerate(given_rows):
        key = (when is not None, when or 0, place)
        best[f"{user}", f"{item}"] = max(best.get((f"{user}", f"{item}"), key), key)
    columns = [pl.Series([f"{row[side]}" for row in given_rows], dtype=pl.String) for side in (0, 1)]
    found = latest_pairs(*columns, pl.Series([row[2] for row in given_rows], dtype=pl.Int64))
    ids = zip(found.user_ids.gather(found.users.tolist()), found.item_ids.gather(found.items.tolist()), strict=True)
    assert list(zip(ids, found.rows.tolist(), strict=True)) == [(pair, best[pair][2]) for pair in sorted(best)]


@SETTINGS
@given(st.lists(st.integers(0, 5)), st.integers(1, 4), st.integers(0, 3))
def test_a_cap_leaves_each_group_its_most_and_no_less(groups: list[int], most: int, seed: int):
    kept = capped(np.array(groups, dtype=np.int64), most, np.random.default_rng(seed))
    left = Counter(group for group, stays in zip(groups, kept, strict=True) if stays)
    assert left == {group: min(count, most) for group, count in Counter(groups).items()}


def test_caps_samples_and_lengths_hold():
    capped_rows = prepared(rows(900), max_per_user=12, max_per_item=10)
    assert capped_rows.group_by("user_id").len()["len"].max() <= 12
    assert capped_rows.group_by("item_id").len()["len"].max() == 10
    every = prepared(rows(900))
    sampled = prepared(rows(900), sample_users=0.25)
    assert sampled["user_id"].n_unique() == 10
    assert sampled.drop("split").equals(every.drop("split").filter(pl.col("user_id").is_in(sampled["user_id"].implode())))
    texts = [(f"u{n}", f"i{n % 9}", 5.0, n, " ".join(["word"] * (n % 7))) for n in range(70)]
    assert prepared(texts, min_words=3)["review"].str.split(" ").list.len().min() == 3
    assert prepared(texts, min_words=3).height == 40


def test_a_short_latest_review_takes_its_pair_with_it():
    texts = [("u", "i", 5.0, 1, "a long enough review"), ("u", "i", 5.0, 2, "ok")]
    texts += [(f"u{n}", "i", 5.0, n, "a long enough review") for n in range(20)]
    assert "u" not in prepared(texts, min_words=3)["user_id"].to_list()


def test_reviews_in_another_language_go_and_short_ones_stay():
    english = "The staff was friendly and the bread was fresh every morning."
    german = "Das Personal war freundlich und das Brot war jeden Morgen frisch."
    texts = [(f"u{n}", f"i{n % 3}", 5.0, n, (english, german, "Gut!")[n % 3]) for n in range(60)]
    assert set(prepared(texts, language="en")["review"]) == {english, "Gut!"}
    with pytest.raises(DataError, match="expected a --language such as en, de or zh, found 'english'"):
        PrepareOptions(language="english")


def test_draws_follow_the_seed():
    asked = {"max_per_user": 9, "sample_users": 0.5, "cold_users": 0.1, "cold_items": 0.1}
    first, again, other = (prepared(rows(900), seed=seed, **asked) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    assert set(COLD_SPLITS) < set(first["split"].unique())


def test_a_cold_user_with_a_training_edge_is_a_leak():
    pairs = pl.DataFrame({"user_id": ["a", "a"], "item_id": ["x", "y"], "split": ["train", "cold_user"]})
    with pytest.raises(LeakError, match="expected no training edge of a cold user, found 1 with one"):
        check_cold(pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_rating": float("nan")}, "a number of --min-rating"),
        ({"min_words": -1}, "--min-words of at least 0"),
        ({"sample_users": 0.0}, "--sample-users above 0"),
        ({"sample_users": float("nan")}, "--sample-users above 0"),
        ({"max_per_user": 0}, "--max-per-user of at least 1"),
        ({"max_per_item": 0}, "--max-per-item of at least 1"),
        ({"cold_users": 1.0}, "--cold-users of at least 0 and below 1"),
        ({"cold_items": -0.1}, "--cold-items of at least 0 and below 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str):
    with pytest.raises(DataError, match=message):
        PrepareOptions(**options)
