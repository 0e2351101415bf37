from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.ngrams import WordTokens, common_subsequence, ngrams, overlap

tokens = st.lists(st.sampled_from("abc"), max_size=8)


def slow_subsequence(a, b):
    if not a or not b:
        return 0
    if a[0] == b[0]:
        return 1 + slow_subsequence(a[1:], b[1:])
    return max(slow_subsequence(a[1:], b), slow_subsequence(a, b[1:]))


@settings(max_examples=150, deadline=None)
@given(tokens, tokens)
def test_the_common_subsequence_is_the_one_that_trying_all_finds(a, b):
    assert common_subsequence(a, b) == slow_subsequence(a, b)


def test_long_texts_need_no_table():
    a = [str(i) for i in range(3000)]
    assert common_subsequence(a, a[::2]) == 1500
    assert common_subsequence(a, a[::-1]) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=4))
def test_overlap_counts_what_multisets_and_sets_share(pairs):
    found = overlap(iter(pairs), 3, longest=True)
    for row, pair in enumerate(pairs):
        assert found.longest[row] == slow_subsequence(*pair)
        assert found.lengths[row].tolist() == [len(pair[0]), len(pair[1])]
        for n in (1, 2, 3):
            a, b = (Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in pair)
            assert found.clipped[row, n - 1] == sum((a & b).values())
            assert found.shared_types[row, n - 1] == len(set(a) & set(b))
            assert found.types[row, n - 1].tolist() == [len(a), len(b)]
            np.testing.assert_array_equal(found.totals()[row, n - 1], [sum(a.values()), sum(b.values())])


def test_many_rows_and_long_texts_are_counted_in_parts():
    rng = np.random.default_rng(0)
    many = [tuple([str(t) for t in rng.integers(6, size=5)] for _ in range(2)) for _ in range(5000)]
    found = overlap(many, 4)
    for row in (0, 4095, 4096, 4999):
        for n in range(4):
            np.testing.assert_array_equal(found.types[row, n], overlap([many[row]], 4).types[0, n])
            assert found.clipped[row, n] == overlap([many[row]], 4).clipped[0, n]
    long = [str(i) for i in range(9000)]  # 14 bits a token leave 5 for the rows
    rows = [(long, long[1:]), *many[:40], (long, ["x"])]
    found = overlap(rows, 4)
    assert found.clipped[0].tolist() == [8999, 8998, 8997, 8996]
    assert found.clipped[-1].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(found.clipped[1:-1], overlap(many[:40], 4).clipped)
    with pytest.raises(DataError, match="40001 in one row"):
        overlap([([str(i) for i in range(40_001)], [])], 4)


def test_a_word_is_split_by_its_rule_once():
    seen = []

    def rule(word):
        seen.append(word)
        return list(word)

    assert WordTokens(rule)("ab  c\nab") == ["a", "b", "c", "a", "b"]
    assert seen == ["ab", "c"]
    assert list(ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
