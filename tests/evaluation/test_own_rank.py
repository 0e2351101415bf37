import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from xrec_evaluation.copying import RUN, Source, copied_from_own
from xrec_evaluation.own_rank import WORD, OwnReferences


def texts(count, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in rng.integers(0, 60, 8)) for _ in range(count)]


def test_ranks_by_the_plain_definition():
    """Every cosine written out; with as many candidates as rows, all others are candidates."""
    references, predictions = texts(40, 0), texts(40, 1)
    predictions[:10] = references[:10]
    vectorizer = TfidfVectorizer(token_pattern=WORD, max_df=8).fit(references)
    known, asked = (vectorizer.transform(some).toarray() for some in (references, predictions))
    found = OwnReferences(references).rank(predictions)
    assert found.candidates == 40
    for row in range(40):
        cosines = known @ asked[row]
        better = (cosines > cosines[row] + 1e-6).sum()
        equal = (np.abs(cosines - cosines[row]) <= 1e-6).sum()
        assert found.reciprocal[row] == pytest.approx(1 / (better + (equal + 1) / 2), rel=1e-6)
        assert found.first[row] == pytest.approx((better == 0) / equal)
    assert found.first[:10].all()


def test_texts_that_say_nothing_find_their_own_by_chance():
    references = texts(500, 2)
    own = OwnReferences(references)
    assert own.rank(["nothing known"] * 500).first == pytest.approx(np.full(500, 0.01))
    shuffled = own.rank(references[1:] + references[:1])
    assert shuffled.first.mean() < 0.05
    assert own.rank(references).first.mean() == 1
    assert OwnReferences(["", "."]).rank(["a", ""]).first == pytest.approx([0.5, 0.5])


def test_candidates_are_the_same_for_all_systems_and_large_files_are_drawn_from():
    references = texts(3100, 3)
    own = OwnReferences(references)
    assert len(own.rows) == len(set(own.rows.tolist())) == 3000
    assert all(len(set(row)) == 100 for row in own._candidates.tolist())
    assert (own._candidates[:, 0] == own.rows).all()


def test_an_encoder_can_take_the_place_of_words(encoder):
    references = ["A dog runs in the park.", "Tax law was changed again.", "The soup is hot."]
    found = OwnReferences(references, encode=encoder.encode).rank(["a puppy running", "new rules for taxes", "warm food"])
    assert found.first.tolist() == [1, 1, 1]


def slow_share(text, source):
    words, known = text.lower().replace(".", "").split(), source.lower().replace(".", "").split()
    inside = set()
    for start in range(len(words) - RUN + 1):
        for other in range(len(known) - RUN + 1):
            if words[start : start + RUN] == known[other : other + RUN]:
                inside |= set(range(start, start + RUN))
    return len(inside) / len(words) if words else 0.0


def test_copied_words_by_the_plain_definition():
    rng = np.random.default_rng(0)
    for _ in range(60):
        text, source = (" ".join(f"w{word}" for word in rng.integers(0, 3, size)) for size in (14, 25))
        assert Source([source, None]).copied([text])[0] == pytest.approx(slow_share(text, source))
    assert Source(["One two three four five six."]).copied(["ONE two, three four five! and more", ""]).tolist() == [5 / 7, 0]
    assert Source(["one two three four"]).copied(["one two three four"]).tolist() == [0]
    own = copied_from_own(["a b c d e", "a b c d e"], [["x", "a b c d e f"], [None, "e d c b a"]])
    assert own.tolist() == [1, 0]
