import numpy as np
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.encoders import SentenceEncoder


def test_vectors_are_unit_and_tell_meanings_apart(encoder):
    texts = ["A dog runs.", "A puppy is running.", "Tax law changed.", "", "A dog runs."]
    vectors = encoder.encode(texts)
    assert vectors.shape == (5, encoder.width)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]
    np.testing.assert_array_equal(vectors[0], vectors[4])


def test_a_text_has_the_same_vector_alone_and_in_a_batch(encoder):
    texts = ["Quiet.", "A long walk by the river ends at a small place with a good band.", "Cheap beer"]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-5)


def test_no_text_gives_no_vector(encoder):
    assert encoder.encode([]).shape == (0, encoder.width)


def test_a_missing_encoder_is_one_line(tmp_path):
    with pytest.raises(DataError, match="expected a sentence encoder"):
        SentenceEncoder(tmp_path / "nothing")
