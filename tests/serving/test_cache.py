import random

import pytest

from xrec_serving.cache import AnswerCache


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_cache_forgets_what_was_used_longest_ago(size):
    rng, cache, used = random.Random(0), AnswerCache(size, "r"), []  # a list in order of use is the plain definition
    for step in range(2000):
        key = rng.randrange(12)
        if rng.random() < 0.5:
            cache.put(key, (key, step))
            used = [entry for entry in used if entry[0] != key] + [(key, step)]
            used = used[-size:]
        else:
            expected = next((entry for entry in used if entry[0] == key), None)
            assert cache.get(key) == expected
            if expected:
                used = [entry for entry in used if entry[0] != key] + [expected]
        assert len(cache) == len(used)
    assert min(cache.hits, cache.misses) > 0


def test_hits_and_misses_are_counted():
    cache = AnswerCache(2, "r")
    cache.put("a", 1)
    assert [cache.get(key) for key in ("a", "b", "a")] == [1, None, 1]
    assert (cache.hits, cache.misses) == (2, 1)


def test_a_cache_of_size_0_keeps_nothing():
    cache = AnswerCache(0, "r")
    cache.put("a", 1)
    assert cache.get("a") is None
    assert len(cache) == 0


def test_another_revision_has_no_answers():
    cache = AnswerCache(2, "one")
    cache.put("a", 1)
    cache.revision = "two"
    assert cache.get("a") is None
