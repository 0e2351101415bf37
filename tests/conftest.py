"""Shared fixtures: golden cases, a tiny backbone with a tokenizer, and a tiny dataset with its graph."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from modeling_xrec import XRecForCausalLM, XRecProcessor
from xrec_dataset_builder.build import build
from xrec_dataset_builder.distill import distill
from xrec_training.encode import EncodeOptions, encode
from xrec_training.finetune import train
from xrec_training.recipe import read_recipe

GOLDEN = Path(__file__).parent / "golden"
USER_TOKEN, ITEM_TOKEN = 104, 105
TINY_TRAINING = {"max_steps": 4, "disable_tqdm": True, "scratch.epochs": 0.3, "scratch.hidden_size": 32, "scratch.layers": 1}
USERS = [{"user_id": "u1", "user_profile": "likes quiet"}, {"user_id": "u2", "user_profile": ""}]
ITEMS = [
    {"item_id": "i1", "title": "Blue Cafe", "item_profile": "serves tea"},
    {"item_id": "i2", "title": "Red Bar", "item_profile": ""},
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")


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


def byte_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes and a few control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=chat_template
    )


@pytest.fixture
def make_processor():
    """Builds a processor with two users and two items."""

    def build(chat_template: str | None = None, **settings) -> XRecProcessor:
        return XRecProcessor(byte_tokenizer(chat_template), users=USERS, items=ITEMS, **settings)

    return build


@pytest.fixture
def make_xrec(make_processor):
    """Builds a processor and a tiny untrained model that belong together."""

    def build(**config) -> tuple[XRecProcessor, XRecForCausalLM]:
        processor = make_processor()
        torch.manual_seed(0)
        backbone = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=280, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                pad_token_id=0, bos_token_id=1, eos_token_id=2,
            )
        )  # fmt: skip
        settings = {"user_token_id": processor.user_token_id, "item_token_id": processor.item_token_id}
        settings |= {"collaborative_dim": 8, "num_users": 2, "num_items": 2}
        return processor, XRecForCausalLM.from_backbone(backbone, **(settings | config))

    return build


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A small built-in world, distilled."""
    data = tmp_path_factory.mktemp("world") / "data"
    build("synthetic", data, world={"users": 60, "items": 40, "interactions": 600})
    distill(data, progress=False)
    return data


@pytest.fixture(scope="session")
def tiny_graph(tiny_data) -> Path:
    """The graph of the small world."""
    graph = tiny_data.parent / "graph"
    encode(tiny_data, graph, EncodeOptions(dim=8, epochs=2), progress=False)
    return graph


@pytest.fixture(scope="session")
def tiny_run(tiny_data, tiny_graph) -> Path:
    """A model trained for a few steps on the small world, its scratch backbone beside it."""
    run = tiny_data.parent / "model"
    train(tiny_data, tiny_graph, run, read_recipe("demo", TINY_TRAINING))
    return run


@pytest.fixture
def recipe_of():
    """Builds the demo recipe with few steps and overrides."""

    def build_recipe(**overrides):
        return read_recipe("demo", TINY_TRAINING | overrides)

    return build_recipe
