import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import Qwen2Config

from modeling_xrec import XRecConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"collaborative_dim": 0}, {"num_experts": -1}, {"adapter_dropout": 1.0}, {"injection": "everywhere"},
        {"num_users": -1}, {"markers_per_side": 0}, {"collaborative_dim": "64"}, {"injection_scale": float("inf")},
        {"layer_maps": True, "injection": "input"},
        {"top_k_experts": 0},
        {"top_k_experts": 9},
        {"user_token_id": 5, "item_token_id": 5},
    ],
)  # fmt: skip
def test_wrong_values_are_refused(wrong):
    with pytest.raises((ValueError, StrictDataclassError)):
        XRecConfig(**wrong)


def test_a_typo_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no field 'num_expert'; did you mean 'num_experts'"):
        XRecConfig(num_expert=4)


def test_round_trip_keeps_every_field(tmp_path):
    config = XRecConfig(text_config=Qwen2Config(hidden_size=32, tie_word_embeddings=True), injection="attention", num_users=3)
    config.save_pretrained(tmp_path)
    again = XRecConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.text_config.model_type == "qwen2"
    assert again.tie_word_embeddings
