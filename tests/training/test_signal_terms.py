"""Contrast, alignment, balance and dropped profiles: each is its plain definition, and a run has them in training alone."""

import math

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from modeling_xrec.processing_xrec import XRecProcessor
from xrec_dataset_builder.errors import DataError
from xrec_training.examples import ExplanationDataset
from xrec_training.finetune import train
from xrec_training.recipe import Recipe
from xrec_training.signal_terms import SignalTerms, alignment, balance, contrast, exchanged


@pytest.fixture
def batch():
    """Three rows of the tiny model: prompt with both markers, then an answer of two, three and four tokens."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 90, (3, 9), generator=generator)
    ids[:, 1], ids[:, 3] = 100, 101
    labels = ids.clone()
    labels[:, :5] = -100
    labels[0, 7:], labels[1, 8:] = -100, -100
    return {"input_ids": ids, "labels": labels, "user_ids": torch.tensor([0, 1, 2]), "item_ids": torch.tensor([3, 4, 5])}


@pytest.fixture
def model(tiny_xrec):
    model = tiny_xrec(user_token_id=100, item_token_id=101, adapter_dropout=0.0)
    torch.nn.init.normal_(model.lightgcn.user_embeddings.data)
    torch.nn.init.normal_(model.lightgcn.item_embeddings.data)
    return model.eval()


def test_contrast_is_its_definition_and_vanishes_when_the_text_is_told_apart():
    labels = torch.tensor([[-100, 1, 2, 3], [-100, -100, 4, 5]])  # 2.5 tokens a text
    own, other = torch.tensor(1.2), torch.tensor(1.5)
    expected = math.log(1 + math.exp(2.5 * (1.2 - 1.5))) / 2.5
    assert contrast(own, other, labels).item() == pytest.approx(expected, rel=1e-6)
    assert contrast(own, own + 20, labels).item() < 1e-9


def test_every_row_hears_another(batch):
    other = exchanged(batch)
    assert other["user_ids"].tolist() == [2, 0, 1]
    assert other["item_ids"].tolist() == [5, 3, 4]
    assert other["input_ids"] is batch["input_ids"]


def test_alignment_is_its_definition(model, batch):
    table = model.get_input_embeddings().weight
    answers = [[token for token in row if token != -100] for row in batch["labels"].tolist()]
    targets = torch.stack([torch.stack([table[token] for token in row]).mean(dim=0) for row in answers])
    targets = targets - targets.mean(dim=0)
    cosines = []
    for adapter, rows in (
        (model.user_adapter, model.lightgcn.user_embeddings[batch["user_ids"]]),
        (model.item_adapter, model.lightgcn.item_embeddings[batch["item_ids"]]),
    ):
        vectors = adapter(rows)[:, 0]
        vectors = vectors - vectors.mean(dim=0)
        cosines += [F.cosine_similarity(a, t, dim=0) for a, t in zip(vectors, targets, strict=True)]
    assert alignment(model, batch).item() == pytest.approx(1 - torch.stack(cosines).mean().item(), rel=1e-5)


def test_balance_is_its_definition_and_nothing_where_experts_are_used_alike(model, batch):
    assert balance(model, batch).item() == pytest.approx(0, abs=1e-12)  # untrained gates are all alike
    squared = []
    for adapter, rows in (
        (model.user_adapter, model.lightgcn.user_embeddings[batch["user_ids"]]),
        (model.item_adapter, model.lightgcn.item_embeddings[batch["item_ids"]]),
    ):
        torch.nn.init.normal_(adapter.gate_weight)
        used = np.sum([(row @ adapter.gate_weight).softmax(-1).tolist() for row in rows], axis=0)
        squared.append((np.std(used) / np.mean(used)) ** 2)
    assert balance(model, batch).item() == pytest.approx(np.mean(squared), rel=1e-5)
    assert balance(model, batch).item() > 0.01


def test_the_terms_reach_the_adapters_alone(model, batch):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for adapter in (model.user_adapter, model.item_adapter):
        adapter.requires_grad_(True)
    alignment(model, batch).backward()
    assert model.item_adapter.expert_weight.grad.abs().sum() > 0
    assert model.user_adapter.expert_weight.grad.abs().sum() > 0


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_loss_of_a_step_has_all_terms(model, batch, share):
    torch.nn.init.normal_(model.item_adapter.gate_weight)

    def mean_loss(inputs):
        return model(**inputs).loss

    with torch.no_grad():
        own, other = mean_loss(batch), mean_loss(exchanged(batch))
        terms = SignalTerms(contrast=0.5, align=2.0, balance=3.0)
        found = terms.add(share * own, lambda inputs: share * mean_loss(inputs), model, batch, share)
        expected = own + 0.5 * contrast(own, other, batch["labels"]) + 2.0 * alignment(model, batch)
        expected += 3.0 * balance(model, batch)
    assert found.item() == pytest.approx(share * expected.item(), rel=1e-5)


def test_a_single_row_has_nobody_to_be_exchanged_with(model, batch):
    one = {name: value[:1] for name, value in batch.items()}
    loss = torch.tensor(3.0)
    assert SignalTerms(1.0, 1.0, 1.0).add(loss, pytest.fail, model, one) == loss


@pytest.fixture
def dataset(tiny_run):
    processor = XRecProcessor.from_pretrained(str(tiny_run))
    row = {"title": "Casa", "user_profile": "likes food", "item_profile": "has food", "explanation": "It has food."}
    rows = pl.DataFrame([row] * 400)

    def build(share, seed=0):
        return ExplanationDataset(processor, rows, np.zeros((2, len(rows)), dtype=np.int64), share, seed)

    return build


def lengths(dataset):
    return np.array([len(dataset[index]["input_ids"]) for index in range(len(dataset))])


def test_profiles_are_dropped_from_the_given_share_anew_every_epoch(dataset):
    whole, bare = lengths(dataset(0.0))[0], lengths(dataset(1.0))[0]
    assert bare < whole
    mixed = dataset(0.3)
    first = lengths(mixed) == bare
    assert 0.2 < first.mean() < 0.4
    mixed.set_epoch(1)
    second = lengths(mixed) == bare
    assert 0.2 < second.mean() < 0.4
    assert (first != second).any()
    mixed.set_epoch(0)
    assert (lengths(mixed) == bare).tolist() == first.tolist()
    assert (lengths(dataset(0.3, seed=1)) == bare).tolist() != first.tolist()


def test_a_run_hears_the_terms_in_training_alone(tiny_data, tiny_graph, tmp_path, recipe_of, monkeypatch):
    seen = []
    plain = SignalTerms.add

    def spy(self, loss, loss_of, model, inputs, share=1.0):
        found = plain(self, loss, loss_of, model, inputs, share)
        seen.append((model.training, share, found.item() > loss.item()))
        return found

    monkeypatch.setattr(SignalTerms, "add", spy)
    epochs = []
    monkeypatch.setattr(ExplanationDataset, "set_epoch", lambda self, epoch, old=ExplanationDataset.set_epoch: (
        epochs.append(epoch), old(self, epoch)
    ))  # fmt: skip
    settings = {"contrast": 0.5, "align": 0.5, "balance": 0.5, "top_k_experts": 2, "profile_dropout": 0.5}
    settings |= {"eval_strategy": "epoch", "max_steps": 2}
    settings |= {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 8}
    run = train(
        tiny_data, tiny_graph, tmp_path / "run", recipe_of(**settings), backbone_place=tiny_graph.parent / "model-backbone"
    )
    assert len(seen) == 4
    assert all(training and above for training, _, above in seen)
    assert [sum(share for _, share, _ in seen[step : step + 2]) for step in (0, 2)] == pytest.approx([1.0, 1.0])
    assert epochs.count(0) > 2  # both datasets as they are made, and the training's when its epoch begins
    weights = load_file(run / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrast": -1}, "contrast to be a number"),
        ({"align": float("nan")}, "align to be a number"),
        ({"balance": -0.1}, "balance to be a number"),
        ({"profile_dropout": 1.5}, "profile_dropout from 0 to 1"),
        ({"model": "nrt", "align": 1.0}, "align is for models xrec and soft-prompt, found 'nrt'"),
        ({"model": "peter", "profile_dropout": 0.5}, "profile_dropout is for models xrec"),
    ],
)
def test_recipes_refuse_what_cannot_be(settings, message):
    with pytest.raises(DataError, match=message):
        Recipe(**settings)
