import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from modeling_xrec import XRecForCausalLM
from modeling_xrec.backbone_changes import added_rows, changed_parameters, fingerprints


@pytest.fixture
def phi():
    """A backbone whose head has a bias, with a parameter that is a single number."""
    sizes = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = PhiForCausalLM(PhiConfig(**sizes))
    model.strength = torch.nn.Parameter(torch.tensor(2.0))
    return model


def test_nothing_has_changed_by_rounding_or_moving_to_another_precision(phi):
    before = fingerprints(phi)
    assert changed_parameters(phi, before) == []
    assert changed_parameters(phi.to(torch.bfloat16), before) == []


@pytest.mark.parametrize("name", ["strength", "lm_head.bias", "model.embed_tokens.weight", "model.layers.0.mlp.fc1.weight"])
def test_a_change_is_found_by_its_name(phi, name):
    before = fingerprints(phi)
    with torch.no_grad():
        phi.get_parameter(name).add_(0.5)
    assert changed_parameters(phi, before) == [name]


def test_embedding_and_head_may_grow_and_nothing_else_may(phi):
    before = fingerprints(phi)
    phi.lm_head.bias = None
    phi.resize_token_embeddings(23, mean_resizing=False)
    assert changed_parameters(phi, before) == []
    assert {key: tuple(rows.shape) for key, rows in added_rows(phi, before).items()} == {
        "added_tokens.embedding": (3, 32), "added_tokens.head": (3, 32),
    }  # fmt: skip
    fc1 = phi.model.layers[0].mlp.fc1
    fc1.weight = torch.nn.Parameter(torch.cat([fc1.weight, fc1.weight[:1]]))
    assert changed_parameters(phi, before) == ["model.layers.0.mlp.fc1.weight"]


def test_added_rows_of_a_head_with_a_bias_are_refused_for_the_bias_has_no_place(phi, tmp_path):
    del phi.strength
    phi.save_pretrained(tmp_path / "base")
    model = XRecForCausalLM.from_backbone(str(tmp_path / "base"), user_token_id=18, item_token_id=19)
    model.resize_token_embeddings(23, mean_resizing=False)
    with pytest.raises(ValueError, match=r"1 parameters, such as lm_head.bias.*=None to save it whole"):
        model.save_pretrained(tmp_path / "model")


def test_a_changed_backbone_is_not_lost_in_an_adapter_sized_checkpoint(adapter_only, tmp_path):
    _, folder = adapter_only
    model = XRecForCausalLM.from_pretrained(folder)
    model.to(torch.bfloat16).to(torch.float32).save_pretrained(tmp_path / "rounded")
    with torch.no_grad():
        model.language_model.model.layers[1].mlp.up_proj.weight.mul_(1.1)
    with pytest.raises(ValueError, match=r"1 parameters, such as model.layers.1.mlp.up_proj.weight.*=None to save it whole"):
        model.save_pretrained(tmp_path / "again")
    model.config.base_model_name_or_path = None
    model.save_pretrained(tmp_path / "whole")
    again = XRecForCausalLM.from_pretrained(tmp_path / "whole")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("tied", [False, True])
def test_rows_of_added_tokens_are_in_the_adapter_file(tmp_path, tied):
    sizes = {"vocab_size": 110, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=tied)).save_pretrained(tmp_path / "base")
    model = XRecForCausalLM.from_backbone(str(tmp_path / "base"), user_token_id=104, item_token_id=105, collaborative_dim=8)
    model.resize_token_embeddings(115, mean_resizing=False)
    torch.nn.init.normal_(model.get_input_embeddings().weight[110:])
    prompt = torch.tensor([[1, 9, 104, 112, 105, 114, 31]])
    embeds = {"user_embeds": torch.randn(1, 8), "item_embeds": torch.randn(1, 8)}
    with torch.no_grad():
        wanted = model(prompt, **embeds).logits
    for place in ("once", "twice"):
        model.save_pretrained(tmp_path / place)
        saved = load_file(tmp_path / place / "model.safetensors")
        assert saved["added_tokens.embedding"].shape == saved["added_tokens.head"].shape == (5, 32)
        model = XRecForCausalLM.from_pretrained(tmp_path / place)
        with torch.no_grad():
            torch.testing.assert_close(model(prompt, **embeds).logits, wanted)
