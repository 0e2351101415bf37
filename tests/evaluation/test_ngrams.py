from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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
    found = overlap(pairs, 3)
    for row, pair in enumerate(pairs):
        assert found.lengths[row].tolist() == [len(pair[0]), len(pair[1])]
        for n in (1, 2, 3):
            a, b = (Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in pair)
            assert found.clipped[row, n - 1] == sum((a & b).values())
            assert found.shared_types[row, n - 1] == len(set(a) & set(b))
            assert found.types[row, n - 1].tolist() == [len(a), len(b)]
            np.testing.assert_array_equal(found.totals()[row, n - 1], [sum(a.values()), sum(b.values())])


def test_a_word_is_split_by_its_rule_once():
    seen = []

    def rule(word):
        seen.append(word)
        return list(word)

    assert WordTokens(rule)("ab  c\nab") == ["a", "b", "c", "a", "b"]
    assert seen == ["ab", "c"]
    assert list(ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
