"""Tiny random backbones of every tested family, awkward on purpose: few key-value heads, odd head widths, biases, norms."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from modeling_xrec import XRecForCausalLM

VOCABULARY = 110
USER_TOKEN, ITEM_TOKEN = 104, 105
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.15,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
# What each family has that a plain Llama with equal widths has not.
FAMILIES = {
    "llama": {},
    "llama-grouped": GROUPED,
    "llama-biased": {"attention_bias": True, "num_key_value_heads": 1},
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 16},
    "mistral": GROUPED | {"head_dim": 4, "sliding_window": 16},
    "gemma2": GROUPED | {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 16},
    "gemma3_text": {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 16},
    "smollm3": GROUPED,
    "olmo2": GROUPED,
    "phi3": GROUPED | {"sliding_window": None},
    "gpt_neox": {"rotary_pct": 0.5},
    "gpt2": {"n_inner": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
}


def tiny_backbone(family: str, seed: int = 0) -> PreTrainedModel:
    """A random backbone of a family, in evaluation mode."""
    torch.manual_seed(seed)
    model_type = family.split("-")[0]
    sizes = {} if model_type == "gpt2" else {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    common = {name: value for name, value in SIZES.items() if model_type != "gpt2" or name not in (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}  # fmt: skip
    config = AutoConfig.for_model(model_type, **(common | sizes | FAMILIES[family]))
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    """Name of a backbone family."""
    return request.param


@pytest.fixture
def backbone_of():
    """Builds a tiny random backbone by its family's name."""
    return tiny_backbone


@pytest.fixture
def xrec_over():
    """Builds XRec over a family's tiny backbone, its adapters strong enough to be heard, tables of 5 users and 7 items."""

    def build(family: str, strength: float = 10.0, **config) -> XRecForCausalLM:
        settings = {"user_token_id": USER_TOKEN, "item_token_id": ITEM_TOKEN, "num_users": 5, "num_items": 7}
        model = XRecForCausalLM.from_backbone(tiny_backbone(family), collaborative_dim=8, **(settings | config))
        torch.manual_seed(1)
        with torch.no_grad():
            for adapter in (model.user_adapter, model.item_adapter):
                adapter.expert_weight.normal_(std=0.02 * strength)
                adapter.gate_weight.normal_()
            for table in (model.lightgcn.user_embeddings, model.lightgcn.item_embeddings):
                table.normal_()
        return model

    return build


def beside_its_base(model: XRecForCausalLM, folder) -> XRecForCausalLM:
    """The model, its checkpoints adapter-sized from now on; the base is saved in the folder."""
    model.language_model.save_pretrained(folder / "base")
    model.config.base_model_name_or_path = str(folder / "base")
    return model


@pytest.fixture(params=["full", "adapter"])
def sized(request, tmp_path):
    """Makes the checkpoints of a model full, or adapter-sized beside their base."""
    return lambda model: beside_its_base(model, tmp_path) if request.param == "adapter" else model


@pytest.fixture
def adapter_only(tiny_xrec, tmp_path):
    """An adapter-sized checkpoint beside its base model."""
    model = beside_its_base(tiny_xrec(), tmp_path)
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"
