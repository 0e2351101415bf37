import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoProcessor

from modeling_xrec import XRecForCausalLM
from xrec_dataset_builder.errors import DataError
from xrec_training.examples import ExplanationDataset, PadCollator
from xrec_training.finetune import train
from xrec_training.tables import Catalogue, read_explanations


def test_the_run_folder_explains_a_pair_by_its_ids(tiny_run, tiny_data):
    pair = read_explanations(tiny_data, "test").row(0, named=True)
    model, processor = AutoModelForCausalLM.from_pretrained(tiny_run), AutoProcessor.from_pretrained(tiny_run)
    inputs = processor(user_id=pair["user_id"], item_id=pair["item_id"])
    ids = model.generate(**inputs, max_new_tokens=5)
    assert ids.shape[1] > inputs["input_ids"].shape[1]
    assert isinstance(model, XRecForCausalLM)
    assert not list(tiny_run.glob("*.bin"))
    assert not list(tiny_run.glob("checkpoint-*"))
    assert not list(tiny_run.parent.glob(".model*"))


def test_the_backbone_stays_bit_identical_and_the_adapters_move(tiny_run, tiny_graph):
    backbone = load_file(tiny_run.with_name("model-backbone") / "model.safetensors")
    trained = load_file(tiny_run / "model.safetensors")
    assert all(torch.equal(trained[f"language_model.{name}"], value) for name, value in backbone.items())
    assert trained["user_adapter.gate_weight"].abs().sum() > 0  # starts at zero
    graph, tables = (load_file(folder / "collaborative.safetensors") for folder in (tiny_graph, tiny_run))
    assert all(torch.equal(tables[name], value) for name, value in graph.items())


def test_the_same_seed_gives_the_same_weights_and_the_scratch_backbone_is_reused(
    tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path
):
    again = tmp_path / "again"
    backbone = str(tiny_run.with_name("model-backbone"))
    train(tiny_data, tiny_graph, again, recipe_of(backbone=backbone))
    one, two = load_file(tiny_run / "model.safetensors"), load_file(again / "model.safetensors")
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize("settings", [{"signal": "zero"}, {"injection": "input"}, {"injection": "attention"}])
def test_conditions_train(tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path, settings):
    run = train(
        tiny_data, tiny_graph, tmp_path / "run", recipe_of(backbone=str(tiny_run.with_name("model-backbone")), **settings)
    )
    tables = load_file(run / "collaborative.safetensors")
    assert bool(tables["user_embeddings"].any()) == (settings.get("signal") != "zero")
    assert json.loads((run / "config.json").read_text())["injection"] == settings.get("injection", "qkv")


def test_labels_cover_the_answer_and_padding_carries_none(tiny_run, tiny_data):
    processor = AutoProcessor.from_pretrained(tiny_run)
    rows = read_explanations(tiny_data, "train").head(4)
    dataset = ExplanationDataset(processor, rows, Catalogue.read(tiny_data).rows(rows))
    batch = PadCollator(processor)([dataset[n] for n in range(4)])
    for row in range(4):
        kept = batch["labels"][row][batch["labels"][row] != -100]
        assert processor.tokenizer.decode(kept[:-1]).strip() == rows["explanation"][row]
        assert kept[-1] == processor.tokenizer.eos_token_id
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert batch["user_ids"].shape == batch["item_ids"].shape == (4,)


def test_inputs_that_cannot_be_used_leave_nothing_behind(tiny_data, tiny_graph, recipe_of, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else the Hub is waited for
    with pytest.raises(DataError, match=r"expected collaborative.safetensors, found none"):
        train(tiny_data, tmp_path, tmp_path / "run", recipe_of())
    with pytest.raises(DataError, match=r"found 'no/such-backbone', which does not load"):
        train(tiny_data, tiny_graph, tmp_path / "run", recipe_of(backbone="no/such-backbone"))
    assert list(tmp_path.iterdir()) == []
