from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.feature_metrics import feature_coverage, feature_diversity, feature_matching

sets = st.sets(st.sampled_from("abcd"))


@given(st.lists(sets, min_size=2, max_size=8))
def test_div_is_the_mean_over_all_pairs(named):
    shared = [len(a & b) for a, b in combinations(named, 2)]
    assert feature_diversity(named) == pytest.approx(sum(shared) / len(shared))


@given(st.lists(st.tuples(st.sampled_from("abcd"), sets), min_size=1, max_size=8))
def test_fmr_with_one_feature_a_row_is_the_share_of_rows_that_name_it(rows):
    found = feature_matching([named for _, named in rows], [{feature} for feature, _ in rows])
    assert found.tolist() == [float(feature in named) for feature, named in rows]


def test_fmr_of_several_features_and_of_none():
    named = [{"a", "b"}, {"a"}, set(), {"a"}]
    assert feature_matching(named, [{"a", "c"}, {"a"}, set(), set()]).tolist() == [0.5, 1.0, 1.0, 0.0]


def test_fcr_counts_each_feature_once():
    assert feature_coverage([{"a"}, {"a", "b"}, set()], "abcd") == 0.5
    assert feature_coverage([set()], "ab") == 0.0


def test_what_cannot_be_computed_is_one_line():
    with pytest.raises(DataError, match="at least two rows"):
        feature_diversity([{"a"}])
    with pytest.raises(DataError, match="as many rows"):
        feature_matching([{"a"}], [])
    with pytest.raises(DataError, match="at least one row"):
        feature_matching([], [])
    with pytest.raises(DataError, match="1 others beside 1 features"):
        feature_coverage([{"x"}], ["a"])
    with pytest.raises(DataError, match="0 features"):
        feature_coverage([set()], [])
