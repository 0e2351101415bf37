import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoProcessor, LlamaConfig, LlamaForCausalLM

from modeling_xrec import XRecForCausalLM, XRecProcessor
from xrec_dataset_builder.errors import DataError
from xrec_training.finetune import train
from xrec_training.recipe import read_recipe
from xrec_training.tables import read_explanations
from xrec_training.trainer import XRecTrainer

from ..conftest import byte_tokenizer

LORA = {"lora.r": 4, "lora.target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def start(tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path):
    """Trains on the small world's backbone with overrides, into `tmp_path/run`."""

    def run(graph=tiny_graph, resume=False, **overrides):
        settings = {"backbone": str(tiny_run.with_name("model-backbone"))} | overrides
        return train(tiny_data, graph, tmp_path / "run", recipe_of(**settings), resume)

    return run


def logits(model, processor, data):
    row = read_explanations(data, "test").row(0, named=True)
    with torch.no_grad():
        return model.eval()(**processor(user_id=row["user_id"], item_id=row["item_id"])).logits


def test_a_soft_prompt_trains_as_many_parameters_and_hears_the_same_of_everyone(start, tiny_run):
    run = start(model="soft-prompt")
    tables, weights = (load_file(run / f"{name}.safetensors") for name in ("collaborative", "model"))
    assert all((table == table[0, 0]).all() for table in tables.values())
    own = load_file(tiny_run / "model.safetensors")
    assert {n: v.shape for n, v in weights.items()} == {n: v.shape for n, v in own.items()}
    assert weights["user_adapter.gate_weight"].abs().sum() > 0


@pytest.mark.parametrize("settings", [{"model": "prompt"}, {"signal": "none"}, {"injection": "none"}])
def test_the_backbone_alone_trains_nothing_and_ignores_who_is_asked_for(start, tiny_run, tiny_data, settings):
    run = start(**settings)
    assert json.loads((run / "training.json").read_text())["log"] == []
    model, processor = XRecForCausalLM.from_pretrained(run), XRecProcessor.from_pretrained(run)
    backbone = AutoModelForCausalLM.from_pretrained(tiny_run.with_name("model-backbone"))
    row = read_explanations(tiny_data, "test").row(0, named=True)
    inputs = processor(user_id=row["user_id"], item_id=row["item_id"])
    expected = backbone(inputs["input_ids"]).logits
    assert torch.equal(model(**inputs).logits, expected)


def test_a_backbone_that_does_not_know_the_markers_is_prompted_without(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = start(model="prompt", backbone=str(folder))
    processor = XRecProcessor.from_pretrained(run)
    ids = processor.prompt_ids("A title", "likes tea", "serves tea")
    assert not {processor.user_token_id, processor.item_token_id} & set(ids)
    assert "A title. serves tea" in processor.tokenizer.decode(ids)


@pytest.mark.parametrize("more", [{}, {"layer_maps": True, "soft_prompt": True}])
def test_lora_is_trained_beside_the_adapters_and_loads_with_the_run(start, tiny_run, tiny_data, more):
    run = start(**LORA, **more, learning_rate=0.05)
    backbone = load_file(tiny_run.with_name("model-backbone") / "model.safetensors")
    saved = load_file(run / "model.safetensors")
    assert all(torch.equal(saved[f"language_model.{name}"], value) for name, value in backbone.items())
    lora = load_file(run / "lora" / "adapter_model.safetensors")
    assert sum("lora_B" in name for name in lora) == 2
    assert all(value.any() for value in lora.values())
    assert sorted(path.name for path in (run / "lora").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    processor = AutoProcessor.from_pretrained(run)
    found = logits(AutoModelForCausalLM.from_pretrained(run), processor, tiny_data)
    bare = XRecForCausalLM.from_pretrained(run, peft_adapter=None)
    without = logits(bare, processor, tiny_data)
    assert not torch.allclose(found, without, atol=1e-3)
    tuned = PeftModel.from_pretrained(bare, run / "lora")
    assert torch.allclose(logits(tuned, processor, tiny_data), found, atol=1e-6)
    merged = tuned.merge_and_unload()
    merged.config.peft_adapter = None
    merged.save_pretrained(run / "merged")
    again = XRecForCausalLM.from_pretrained(run / "merged")
    assert torch.allclose(logits(again, processor, tiny_data), found, atol=1e-5)


def test_norms_are_trained_beside_the_adapters_and_nothing_else_of_the_backbone(start, tiny_run):
    run = start(trained_norms=True, learning_rate=0.05)
    backbone = load_file(tiny_run.with_name("model-backbone") / "model.safetensors")
    saved = load_file(run / "model.safetensors")
    kept = {name for name, value in backbone.items() if torch.equal(saved[f"language_model.{name}"], value)}
    assert {name for name in backbone if "norm" in name} == set(backbone) - kept
    again = XRecForCausalLM.from_pretrained(run)
    assert torch.equal(again.state_dict()["language_model.model.norm.weight"], saved["language_model.model.norm.weight"])


def test_a_model_with_a_loaded_peft_adapter_is_not_saved_in_part(start, tmp_path):
    model = XRecForCausalLM.from_pretrained(start(**LORA))
    with pytest.raises(ValueError, match="holds a PEFT adapter, which would be saved alone; load it with peft_adapter=None"):
        model.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (LORA | {"injection_scale": "learned"}, "LoRA needs a fixed injection_scale, found 'learned'"),
        (LORA | {"trained_norms": True}, "expected LoRA or trained_norms, found both"),
        (
            {"trained_norms": True, "backbone_dtype": "bfloat16"},
            "needs a backbone in float32, found torch.bfloat16, .*float32$",
        ),
        (LORA | {"lora.modules_to_save": ["lm_head"]}, "lora.modules_to_save is always user_adapter, item_adapter"),
        (
            LORA | {"lora.target_modules": ["no_such"]},
            "expected settings that suit the backbone in section `lora`, found No modules were targeted",
        ),
        (LORA | {"signal": "none"}, "section `lora` needs an injection, found 'none'"),
        (
            {"quantization": "4bit"},
            "quantization 4bit needs the package 'bitsandbytes', found none; install `xrec\\[quantization\\]`",
        ),
        ({"graph": None}, "model 'xrec' needs --graph, found none"),
        ({"report_to": "nobody"}, "found: nobody is not supported, .*; mend section `trainer`"),
        ({"load_best_model_at_end": True, "save_strategy": "steps", "eval_strategy": "epoch"}, "mend section `trainer`"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(start, tmp_path, settings, message):
    with pytest.raises(DataError, match=message):
        start(**settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.quantization
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_quantised_backbone_trains_and_resumes(start, monkeypatch, tiny_data, tmp_path, bits):
    """The backbone of a local folder is saved whole, in its few bits; the adapters in float32."""
    how = {"quantization": bits, "backbone_dtype": "float32", "max_steps": 4, "save_steps": 2}
    step = XRecTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(XRecTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(**how)
    run = start(**how, resume=True)
    model, processor = XRecForCausalLM.from_pretrained(run), XRecProcessor.from_pretrained(run)
    assert model.language_model.model.layers[0].mlp.up_proj.weight.element_size() == 1
    assert model.user_adapter.gate_weight.abs().sum() > 0
    assert logits(model, processor, tiny_data).isfinite().all()


def test_the_papers_prompt_trains_on_a_backbone_that_lacks_its_third_marker(start, tmp_path_factory):
    """As Llama-2 does; the row that it gets stays with the run."""
    folder = tmp_path_factory.mktemp("plain")
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    paper = read_recipe("paper")
    how = {"prompt_style": "reference", "prompt": paper.prompt, "max_profile_tokens": paper.max_profile_tokens}
    run = start(backbone=str(folder), **how, max_steps=2)
    model, processor = XRecForCausalLM.from_pretrained(run), XRecProcessor.from_pretrained(run)
    assert model.get_input_embeddings().weight.shape[0] == processor.explain_token_id + 1
    example = processor.example("A title", "likes tea", "serves tea", "It is quiet.")
    labels = [label for label in example["labels"] if label != -100]
    assert labels[0] == processor.explain_token_id
    assert processor.tokenizer.decode(labels[1:]).strip() == "It is quiet.[/INST]"
