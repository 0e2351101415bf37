"""Tiny baselines with weights large enough to tell pairs apart, and a batch for them."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from xrec_baselines.att2seq import Att2Seq, Att2SeqConfig
from xrec_baselines.nrt import Nrt, NrtConfig
from xrec_baselines.pepler import Pepler, PeplerConfig
from xrec_baselines.peter import Peter, PeterConfig

VOCABULARY, USERS, ITEMS = 23, 6, 5
SHARED = {"vocab_size": VOCABULARY, "num_users": USERS, "num_items": ITEMS, "initializer_range": 0.7}
RATED = {"min_rating": 1.0, "max_rating": 5.0}


def backbone(kind: str = "llama"):
    """A tiny random decoder."""
    torch.manual_seed(1)
    tokens = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.4, **tokens))
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(initializer_range=0.4, **sizes, **tokens))


def build(name: str, **config):
    """A baseline in evaluation mode."""
    settings = SHARED | RATED | config
    torch.manual_seed(0)
    if name == "att2seq":
        model = Att2Seq(Att2SeqConfig(**{"attribute_size": 4, "hidden_size": 8, **settings}))
        model.usual_level.copy_(torch.arange(USERS) % 5)
    elif name == "nrt":
        model = Nrt(NrtConfig(**{"latent_size": 6, "hidden_size": 7, "rating_layers": 3, **settings}))
    elif name.startswith("peter"):
        features = 3 if name == "peter+" else 0
        sizes = {"hidden_size": 8, "intermediate_size": 12, "feature_tokens": features}
        model = Peter(PeterConfig(**{**sizes, **settings}))
        if features:
            model.features.copy_(torch.tensor([[5, 6, 7], [8, 0, 0], [9, 10, 0], [0, 0, 0], [11, 12, 13]]))
    else:
        sizes = {"rating_regularization": "mlp", "rating_hidden_size": 6, "rating_layers": 2}
        model = Pepler(PeplerConfig(**{**sizes, **settings}), backbone("gpt2" if name == "pepler-gpt2" else "llama"))
    return model.eval()


@pytest.fixture
def make_baseline():
    return build


@pytest.fixture
def make_backbone():
    return backbone


@pytest.fixture
def batch():
    """Three texts of 4, 2 and 3 tokens and their ends, the second without a rating."""
    texts = [[5, 9, 12, 7, 2], [6, 8, 2], [14, 5, 11, 2]]
    longest = max(map(len, texts)) + 1
    rows = [[1, *text] + [0] * (longest - 1 - len(text)) for text in texts]
    labels = [[-100, *text] + [-100] * (longest - 1 - len(text)) for text in texts]
    return {
        "user_ids": torch.tensor([0, 3, 5]),
        "item_ids": torch.tensor([4, 1, 2]),
        "rating": torch.tensor([5.0, float("nan"), 2.0]),
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.tensor([[1] * (len(text) + 1) + [0] * (longest - 1 - len(text)) for text in texts]),
        "labels": torch.tensor(labels),
    }
