import numpy as np
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.embedding_metrics import EmbeddingScorer, embedding_similarity, pairwise_cosine

NEAR = "The user would love the live music at this bar."


def test_pairwise_cosine_is_the_mean_over_all_pairs():
    vectors = np.random.default_rng(0).normal(size=(7, 5)) + 0.3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = [vectors[a] @ vectors[b] for a in range(7) for b in range(a)]
    assert pairwise_cosine(vectors) == pytest.approx(np.mean(cosines), abs=1e-12)
    assert pairwise_cosine(np.repeat(vectors[:1], 4, axis=0).astype(np.float32)) == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="at least two texts"):
        pairwise_cosine(vectors[:1])


def test_similarity_orders_texts_by_meaning(encoder):
    texts = [NEAR, "A bar with concerts, which you would enjoy.", "The charger broke after two days.", "  "]
    found = embedding_similarity(texts, [NEAR] * 4, encoder)
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found[0] > found[1] > found[2] + 0.2
    assert found[3] == 0.0
    assert np.abs(found).max() <= 1


class Counting:
    """An encoder that counts what it is asked for."""

    name, revision = "counting", None

    def __init__(self, encoder):
        self.encoder, self.asked = encoder, 0

    def encode(self, texts):
        self.asked += len(texts)
        return self.encoder.encode(texts)


def test_the_references_are_encoded_once_for_all_systems(encoder):
    counting = Counting(encoder)
    scorer = EmbeddingScorer(counting)
    references = [NEAR, "Good cake."]
    first = scorer.score(["Nice cake.", "Bad cake."], references)
    second = scorer.score(["Bad cake.", "Nice cake."], list(references))
    assert counting.asked == 2 + 2 + 2
    assert first[1] == pytest.approx(second[1])
    np.testing.assert_array_equal(second[0], embedding_similarity(["Bad cake.", "Nice cake."], references, encoder))
    third = scorer.score(["Bad cake."], ["Bad cake."])
    assert third[0][0] == pytest.approx(1, abs=1e-6)
    assert third[1] is None
    assert scorer.setting == "counting, cosine"
    with pytest.raises(DataError, match="1 and 2"):
        scorer.score(["a"], references)
