import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.floors import available_floors, copied_profile, nearest, other_user, shuffled, template

TRAINING = pl.DataFrame({"item_id": ["i1", "i1", "i2", "i3"], "explanation": ["one", "two", "three", None]})


@pytest.mark.parametrize("count", [2, 3, 50])
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_keeps_the_texts_and_moves_every_one(count, seed):
    texts = [f"text {index}" for index in range(count)]
    found = shuffled(texts, seed)
    assert sorted(found) == sorted(texts)
    assert all(a != b for a, b in zip(found, texts, strict=True))
    assert found == shuffled(texts, seed)


def test_shuffled_depends_on_the_seed_and_needs_two_rows():
    texts = [str(index) for index in range(50)]
    assert shuffled(texts, 0) != shuffled(texts, 1)
    with pytest.raises(DataError, match="at least two rows"):
        shuffled(["alone"])


def test_template_and_profile():
    assert template(["Blue {title} Bar", None, " "]) == [
        "The user would enjoy Blue {title} Bar.",
        "The user would enjoy this item.",
        "The user would enjoy this item.",
    ]
    assert copied_profile(["fans of beer", None]) == ["fans of beer", ""]


def test_another_users_text_prefers_the_same_item():
    items = ["i1", "i2", "i3", "unknown"] * 25
    found = other_user(items, TRAINING, seed=1)
    by_item = {item: {t for i, t in zip(items, found, strict=True) if i == item} for item in set(items)}
    assert by_item == {
        "i1": {"one", "two"},
        "i2": {"three"},
        "i3": {"one", "two", "three"},
        "unknown": {"one", "two", "three"},
    }
    assert found == other_user(items, TRAINING, seed=1)
    with pytest.raises(DataError, match="none"):
        other_user(["i1"], TRAINING.tail(1))


def test_available_floors_says_what_is_missing_and_why():
    rows = pl.DataFrame({"prediction": ["a", "b"], "item_id": ["i1", "i2"], "title": ["A", "B"], "item_profile": "p"})
    rows = rows.with_columns(user_profile=pl.lit("q"))
    everything = available_floors(
        rows, TRAINING.with_columns(title=pl.lit("A"), item_profile=pl.lit(""), user_profile=pl.lit(""))
    )
    assert list(everything.texts) == ["shuffled", "copied_profile", "template", "other_user", "nearest"]
    assert all(len(texts) == 2 for texts in everything.texts.values())
    assert everything.skipped == {}
    bare = available_floors(pl.DataFrame({"prediction": ["a"]}))
    assert bare.texts == {"template": ["The user would enjoy this item."]}
    assert set(bare.skipped) == {"shuffled", "copied_profile", "other_user", "nearest"}
    blank = available_floors(rows.with_columns(item_profile=pl.lit(" ")), TRAINING.tail(1))
    assert set(blank.skipped) == {"copied_profile", "other_user", "nearest"}


def test_the_nearest_text_is_that_of_the_pair_that_reads_most_alike():
    """Beside cosines of TF-IDF vectors written out."""
    words = [["beer", "music"], ["tea", "cake"], ["beer", "garden"], ["books", "quiet"]]
    training = pl.DataFrame(
        {"title": [a for a, _ in words], "item_profile": [b for _, b in words], "user_profile": [None] * 4}
    )
    training = training.with_columns(explanation=pl.Series(["one", "two", "three", ""]))
    rows = pl.DataFrame(
        {"title": ["Cake", None, "books"], "item_profile": ["tea", "garden", "music"], "user_profile": ["", "", None]}
    )
    assert nearest(rows, training) == ["two", "three", "one"]  # the fourth has no text to lend
    blank = training.with_columns(title=pl.lit(""), item_profile=pl.lit(None, pl.String))
    assert nearest(rows, blank) == ["one"] * 3
    with pytest.raises(DataError, match="found none"):
        nearest(rows, training.tail(1))
