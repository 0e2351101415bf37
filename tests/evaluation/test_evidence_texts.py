import shutil

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError, LeakError
from xrec_dataset_builder.schema import DatasetFolder
from xrec_evaluation.evidence_texts import CHARACTERS, ITEM_SOURCES, SOURCES, EvidenceTexts, Limits

from . import grounding_world as world


@pytest.fixture
def folder(tmp_path):
    return world.write_world(tmp_path / "data")


def test_each_source_holds_what_its_name_says(folder):
    (found,) = EvidenceTexts(folder).of([("u1", "i2")])
    assert found == {
        "item_title": ("Opal Bar",),
        "item_reviews": ("I came for the review-u3-i2.",),
        "item_explanations": ("The user loved the reason-u3-i2.",),
        "user_profile": ("The user loves old maps.",),
        "user_history": ("Dune Inn", world.PROFILES["i3"][1], "Fern Hall", world.PROFILES["i1"][1]),  # the latest first
        "user_reviews": ("I came for the review-u1-i3.", "I came for the review-u1-i1."),
        "user_explanations": ("The user loved the reason-u1-i3.", "The user loved the reason-u1-i1."),
    }
    assert list(found) == [source for source in SOURCES if source in found]


def test_no_text_of_a_held_out_pair_is_ever_evidence(folder):
    pairs = [(user, item) for user in world.TASTES for item in world.PROFILES]
    gathered = EvidenceTexts(folder).of(pairs)
    allowed = {f"-{user}-{item}." for user, item in world.PAIRS["train"]}
    for (user, item), found in zip(pairs, gathered, strict=True):
        marked = [text for some in found.values() for text in some if "review-" in text or "reason-" in text]
        assert all(any(text.endswith(mark) for mark in allowed) for text in marked)
        assert not any(text.endswith(f"-{user}-{item}.") for text in marked)  # nor the pair's own, in whichever split
        assert world.PROFILES[item][1] not in found.get("user_history", ()) or not world.PROFILES[item][1]
        assert not any("review-u2-i3" in text for text in marked)  # nearly repeated by a held-out review


def test_a_held_out_pair_among_the_training_rows_is_a_leak(tmp_path):
    with pytest.raises(LeakError, match=r"found 1 .*'u1', item 'i2'"):
        EvidenceTexts(world.write_world(tmp_path / "data", held_out_in_training=True))


def test_limits_keep_the_latest(folder):
    (found,) = EvidenceTexts(folder, Limits(history=1, texts=1)).of([("u1", "i2")])
    assert found["user_history"] == ("Dune Inn", world.PROFILES["i3"][1])
    assert found["user_reviews"] == ("I came for the review-u1-i3.",)
    (own,) = EvidenceTexts(folder, Limits(history=1, texts=1)).of([("u1", "i3")])  # its own is no evidence, and takes no place
    assert own["user_history"] == ("Fern Hall", world.PROFILES["i1"][1])
    assert own["item_explanations"] == ("The user loved the reason-u3-i3.",)
    (none,) = EvidenceTexts(folder, Limits(history=0, texts=0)).of([("u1", "i2")])
    assert list(none) == ["item_title", "user_profile"]
    with pytest.raises(DataError, match="limits of at least 0"):
        Limits(texts=-1)


def test_a_block_is_only_faster(folder):
    texts = EvidenceTexts(folder)
    pairs = [(user, item) for user in (*world.TASTES, "new") for item in (*world.PROFILES, "new")]
    assert texts.of(pairs) == [one for pair in pairs for one in texts.of([pair])]
    assert texts.of([]) == []


def test_unknown_ones_and_items_without_texts(folder):
    texts = EvidenceTexts(folder)
    assert texts.of([("new", "new"), ("u2", "i4")])[0] == {}
    assert not set(ITEM_SOURCES) & set(texts.of([("u2", "i4")])[0])
    assert texts.knows_user("u1")
    assert texts.knows_item("i4")
    assert not texts.knows_user("new")
    assert not texts.knows_item("new")


def test_a_published_folder_has_no_reviews(folder):
    shutil.rmtree(DatasetFolder(folder).reviews.parent)
    texts = EvidenceTexts(folder)
    assert not texts.has_reviews
    (found,) = texts.of([("u1", "i2")])
    assert {"item_explanations", "user_explanations"} < set(found)
    assert not {"item_reviews", "user_reviews"} & set(found)


def test_a_long_text_is_cut(folder):
    path = DatasetFolder(folder).items
    pl.read_parquet(path).with_columns(item_profile=pl.lit("nice bread " * 1000)).write_parquet(path)
    (found,) = EvidenceTexts(folder).of([("u1", "i1")])
    assert len(found["item_profile"][0]) <= CHARACTERS


def test_a_folder_without_tables_is_one_line(tmp_path):
    with pytest.raises(DataError, match="expected a Parquet file, found none"):
        EvidenceTexts(tmp_path)
