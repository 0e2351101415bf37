"""Shared fixtures: golden cases, a tiny backbone with a tokenizer, and a tiny dataset with its graph."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from modeling_xrec import XRecForCausalLM

GOLDEN = Path(__file__).parent / "golden"
USER_TOKEN, ITEM_TOKEN = 104, 105


@dataclass(frozen=True)
class GoldenCase:
    """One recorded case of the reference: its tensors and an XRec model with the same weights."""

    name: str
    io: dict[str, torch.Tensor]
    model: XRecForCausalLM

    @property
    def signal(self) -> dict[str, torch.Tensor]:
        return {"user_embeds": self.io["user_cf"], "item_embeds": self.io["item_cf"]}


def golden_model(name: str, attention: str = "sdpa", **config) -> XRecForCausalLM:
    """The model of a golden case, with the reference's weights."""
    folder = GOLDEN / name
    sizes = json.loads((folder / "case.json").read_text())["config"]
    backbone = LlamaForCausalLM(LlamaConfig(**json.loads((folder / "config.json").read_text())))
    backbone.load_state_dict(load_file(folder / "model.safetensors"))
    backbone.set_attn_implementation(attention)
    config = {"user_token_id": USER_TOKEN, "item_token_id": ITEM_TOKEN, **config}
    model = XRecForCausalLM.from_backbone(
        backbone, collaborative_dim=sizes["embedding_dim"], num_experts=sizes["n_experts"], **config
    )
    for side in ("user", "item"):
        getattr(model, f"{side}_adapter").load_reference_state_dict(load_file(folder / f"{side}_converter.safetensors"))
    return model


@pytest.fixture
def golden_case():
    """Builds golden cases by name."""

    def build(name: str, attention: str = "sdpa", **config) -> GoldenCase:
        return GoldenCase(name, load_file(GOLDEN / name / "io.safetensors"), golden_model(name, attention, **config))

    return build


@pytest.fixture
def tiny_xrec():
    """Builds a tiny untrained XRec model over a random Llama, with tables of 5 users and 7 items."""

    def build(**config) -> XRecForCausalLM:
        torch.manual_seed(0)
        backbone = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=110, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                pad_token_id=0, bos_token_id=1, eos_token_id=2,
            )
        )  # fmt: skip
        settings = {"user_token_id": USER_TOKEN, "item_token_id": ITEM_TOKEN, "num_users": 5, "num_items": 7}
        return XRecForCausalLM.from_backbone(backbone, collaborative_dim=8, **(settings | config))

    return build
