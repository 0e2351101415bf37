import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import DatasetFolder
from xrec_evaluation.claim_scores import Match, Vectors
from xrec_evaluation.claims import Claim
from xrec_evaluation.evidence_texts import EvidenceTexts
from xrec_evaluation.grounding_thresholds import Threshold, find_thresholds, lowest_passed, other_pairs


@pytest.fixture(scope="module")
def vectors(encoder):
    return Vectors(encoder)


@pytest.fixture
def copied(tiny_data, tmp_path):
    return DatasetFolder(shutil.copytree(tiny_data, tmp_path / "data"))


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=60), st.floats(0.01, 0.9))
def test_the_threshold_is_the_lowest_score_that_few_enough_exceed(scores, share):
    found = lowest_passed(scores, share)
    allowed = [score for score in set(scores) if sum(one > score for one in scores) <= share * len(scores)]
    assert found == min(allowed)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=12))
def test_a_partner_differs_in_user_and_item(pairs):
    for (user, item), other in zip(pairs, other_pairs(pairs), strict=True):
        possible = [pair for pair in pairs if pair[0] != user and pair[1] != item]
        assert (pairs[other] in possible) if possible else other is None


def test_few_foreign_claims_pass_and_most_own_claims_do(tiny_data, vectors):
    texts = EvidenceTexts(tiny_data)
    found = find_thresholds(tiny_data, texts, vectors)
    assert (found.split, found.pairs, found.target) == ("validation", 58, 0.05)  # every validation pair
    for threshold in (found.item, found.user):
        assert threshold.false_support <= 0.05
        assert threshold.own_support > 0.8
        assert threshold.foreign_claims >= 40
        assert threshold.left_out > 0  # in a world of 24 aspects many are shared by chance
    lax = find_thresholds(tiny_data, texts, vectors, false_support=0.3)
    assert lax.item.cosine < found.item.cosine
    assert found == find_thresholds(tiny_data, texts, vectors)


def test_test_pairs_are_never_looked_at(tiny_data, copied, vectors):
    expected = find_thresholds(tiny_data, EvidenceTexts(tiny_data), vectors)
    for path in (copied.explanations("test"), copied.interactions("test")):
        path.unlink()
    assert find_thresholds(copied.root, EvidenceTexts(copied.root), vectors) == expected


def test_training_pairs_stand_in_where_there_is_no_validation(copied, vectors):
    copied.explanations("validation").unlink()
    found = find_thresholds(copied.root, EvidenceTexts(copied.root), vectors, pairs=60)
    assert found.split == "train"
    assert found.item.own_support < 1.001
    assert found.item.false_support <= 0.05
    copied.explanations("train").unlink()
    with pytest.raises(DataError, match="expected a Parquet file"):
        EvidenceTexts(copied.root).of([("u00001", "i00001")])


def test_too_little_to_calibrate_on_is_refused(tiny_data, vectors):
    texts = EvidenceTexts(tiny_data)
    with pytest.raises(DataError, match="expected at least 40 foreign claims"):
        find_thresholds(tiny_data, texts, vectors, pairs=4)
    with pytest.raises(DataError, match="expected false_support between 0 and 1"):
        find_thresholds(tiny_data, texts, vectors, false_support=0)


def test_support_and_contradiction():
    threshold = Threshold(cosine=0.5, entailment=0.6, contradiction=0.7)

    def match(score, entailment=None, contradiction=None):
        return Match("item_profile", Claim("tea", "Tea."), score, entailment, contradiction)

    assert threshold.supports((match(0.1), match(0.51)))
    assert not threshold.supports((match(0.5),))
    assert threshold.supports((match(0.1, 0.61, 0.0),))
    assert threshold.contradicts((match(0.9, 0.1, 0.71), match(0.9, 0.2, 0.0)))
    assert not threshold.contradicts((match(0.9, 0.1, 0.71), match(0.9, 0.61, 0.0)))  # one source entails it
    assert not Threshold(0.5).contradicts((match(0.0, 0.0, 1.0),))
    assert not threshold.supports(())


class Sure:
    """A classifier that is sure of everything in one way, but for one text in ten."""

    def judge(self, premises, hypotheses):
        entailed = np.arange(len(premises)) % 10 == 0
        return np.stack([np.where(entailed, 0.9, 0.05), np.where(entailed, 0.05, 0.2)], axis=1)


def test_a_label_counts_from_one_half_and_where_few_foreign_claims_reach_it(tiny_data, vectors):
    found = find_thresholds(tiny_data, EvidenceTexts(tiny_data), vectors, Sure())
    assert found.item.entailment == pytest.approx(0.9)  # more than 5 % of the foreign claims have 0.9, so 0.9 is not enough
    assert found.item.contradiction == 0.5
