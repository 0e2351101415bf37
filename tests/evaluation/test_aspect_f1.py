import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.aspect_f1 import aspect_f1, load_truth, named_aspects

ASPECTS = {"music": ["live music", "music"], "beer": ["craft beer", "a.b"], "life": ["live"], "café": ["Café"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LIVE Music!", {"music"}),  # the longer form wins over "live"
        ("We live here, craft\n beer", {"life", "beer"}),
        ("musical lively craftbeer", set()),
        ("un café.", {"café"}),
        ("cafés", set()),
        ("axb", set()),  # a full stop in a form is a full stop
        ("a.b", {"beer"}),
        ("", set()),
    ],
)
def test_named_aspects(text, expected):
    assert named_aspects(text, ASPECTS) == expected


def test_no_aspects_and_shared_forms():
    assert named_aspects("anything", {}) == set()
    assert named_aspects("a pub", {"x": ["pub", ""], "y": ["Pub"]}) == {"x", "y"}


@given(st.lists(st.sampled_from(["red", "RED", "redder", "blue sky", "blue", "sky", "-", "green."]), max_size=8))
def test_naming_is_whole_word_search(tokens):
    text = " ".join(tokens)
    aspects = {"r": ("red",), "b": ("blue sky",), "g": ("green",)}
    expected = {n for n, (form,) in aspects.items() if re.search(rf"\b{form}\b", text, re.IGNORECASE)}
    assert named_aspects(text, aspects) == expected


def test_aspect_f1_by_hand():
    found = aspect_f1([{"a", "b"}, {"a"}, set(), set(), {"c"}], [{"a"}, {"a"}, set(), {"a"}, {"a"}])
    np.testing.assert_allclose(found, [2 / 3, 1, 1, 0, 0])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        aspect_f1([{"a"}], [])


def test_load_truth(data, tmp_path):
    truth = load_truth(data)
    assert truth.aspects["live music"] == ("live music", "a band")
    assert (truth.oracle_f1, truth.text_f1, truth.graph_bits_upper_bound) == (1.0, 0.5, None)
    assert truth.shared(["u2", "u1"], ["i3", "i1"]) == [frozenset(), frozenset({"live music", "craft beer"})]
    with pytest.raises(DataError, match=r"1 of 2 missing \(first: user 'u7', item 'i1'\)"):
        truth.shared(["u1", "u7"], ["i1", "i1"])
    assert load_truth(tmp_path) is None


@pytest.mark.parametrize("content", ["{", json.dumps({"oracle_f1": 1}), json.dumps({"aspects": 3}), "[]"])
def test_broken_truth_is_one_clear_line(data, content):
    (data / "truth" / "truth.json").write_text(content)
    with pytest.raises(DataError, match="expected a readable truth") as caught:
        load_truth(data)
    assert "\n" not in str(caught.value)


def test_truth_without_pairs(data):
    (data / "truth" / "pairs.parquet").unlink()
    with pytest.raises(DataError, match=r"pairs\.parquet"):
        load_truth(data)
