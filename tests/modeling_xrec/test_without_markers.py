"""Prompts without any marker, for the backbone alone: `markers_per_side=0` with `injection="none"`."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM

from modeling_xrec import RecommendationExplanationPipeline, XRecConfig, XRecForCausalLM, XRecProcessor

BARE = {"injection": "none", "markers_per_side": 0}


@pytest.fixture
def bare(make_processor, make_xrec):
    """A processor and a model without markers, and the model's backbone."""
    _, model = make_xrec(**BARE)
    return make_processor(markers_per_side=0), model


@pytest.mark.parametrize("injection", ["qkv", "attention", "input"])
def test_nothing_can_be_injected_without_a_marker(injection):
    with pytest.raises(StrictDataclassError, match=f"markers_per_side=0 leaves injection='{injection}' no place"):
        XRecConfig(injection=injection, markers_per_side=0, user_token_id=1, item_token_id=2)


def test_loss_and_texts_are_the_backbones(bare):
    processor, model = bare
    examples = [processor.example("Cafe", "quiet", "tea", "It is calm."), processor.example("Bar", "", "beer", "Loud.")]
    batch = processor.pad(examples)
    signal = {"user_ids": torch.tensor([0, 1]), "item_ids": torch.tensor([1, 0])}
    assert torch.equal(model(**batch, **signal).loss, model.language_model(**batch).loss)
    prompts = processor(user_id=["u1", "u2"], item_id=["i1", "i2"])
    texts = {name: prompts[name] for name in ("input_ids", "attention_mask")}
    wanted = model.language_model.generate(**texts, max_new_tokens=8, do_sample=False)
    assert torch.equal(model.generate(**prompts, max_new_tokens=8, do_sample=False), wanted)


def test_saved_is_loaded(bare, tmp_path):
    processor, model = bare
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, loaded = XRecProcessor.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, XRecForCausalLM)
    assert (again.markers_per_side, loaded.config.markers_per_side) == (0, 0)
    asked = {"user_id": ["u1", "u2"], "item_id": ["i1", "i2"]}
    options = {"max_new_tokens": 8, "do_sample": False}
    assert torch.equal(loaded.generate(**again(**asked), **options), model.generate(**processor(**asked), **options))


def test_counts_are_zero_everywhere(bare):
    processor, model = bare
    batch = processor(user_id=["u1", "u2"], item_id=["i1", "i2"])
    assert model.marker_columns(batch["input_ids"]).shape == (2, 0)
    assert model.collaborative_vectors(user_ids=batch["user_ids"], item_ids=batch["item_ids"]).shape == (2, 0, 32)
    with_marker = torch.tensor([[1, processor.user_token_id]])
    with pytest.raises(ValueError, match="row 0 of the prompt has 1 user markers, expected 0"):
        model.marker_columns(with_marker)


def test_no_token_ids_are_needed(make_xrec):
    _, model = make_xrec(**BARE, user_token_id=None, item_token_id=None)
    assert model.marker_columns(torch.tensor([[1, 2, 3]])).shape == (1, 0)


def test_the_pipeline_takes_it(bare):
    processor, model = bare
    found = RecommendationExplanationPipeline(model, processor=processor)({"user_id": "u1", "item_id": "i1"}, max_new_tokens=4)
    assert set(found) >= {"explanation", "score"}
