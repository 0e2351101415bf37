import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor, LlamaConfig, LlamaForCausalLM

from modeling_xrec import LightGCN, XRecForCausalLM, XRecModel
from modeling_xrec.evidence import Evidence

from .conftest import beside_its_base

PROCESSOR_FILES = {"catalogue_arguments.py", "processing_xrec.py", "prompt_layout.py", "untrusted_text.py"}
PROMPT = torch.tensor([[1, 9, 104, 12, 105, 30, 31]])
IDS = {"user_ids": torch.tensor([3]), "item_ids": torch.tensor([2])}
OWN_FILES = {
    "backbone_changes.py", "base_xrec.py", "bipartite_graph.py", "checkpoint_files.py", "checkpoint_xrec.py",
    "collaborative_adapter.py", "configuration_xrec.py", "histories.py", "layer_injection.py", "lightgcn.py",
    "marker_placement.py", "modeling_xrec.py", "pipeline_xrec.py", "recommending.py",
}  # fmt: skip


@torch.no_grad()
def logits(model):
    return model(PROMPT, **IDS).logits


def test_full_checkpoint_round_trip(tiny_xrec, tmp_path):
    model = tiny_xrec()
    model.save_pretrained(tmp_path)
    again = XRecForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=0)
    assert again.generation_config.suppress_tokens == [104, 105]
    assert not any(p.requires_grad for name, p in again.named_parameters() if "adapter" not in name)


def test_adapter_checkpoint_holds_our_tensors_only_and_is_completed_from_its_base(adapter_only):
    model, folder = adapter_only
    saved = load_file(folder / "model.safetensors")
    assert set(saved) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(saved) == 2 * 4
    assert (folder / "model.safetensors").stat().st_size < 100_000
    tables = load_file(folder / "collaborative.safetensors")
    assert {name: tuple(table.shape) for name, table in tables.items()} == {
        "user_embeddings": (5, 8), "user_fold_in": (5, 8), "item_embeddings": (7, 8), "item_fold_in": (7, 8),
    }  # fmt: skip
    again = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=0)


def test_a_loaded_model_knows_its_layer_weights_and_takes_scores_apart(tiny_xrec, tmp_path):
    edges = torch.tensor([[0, 0, 1, 1, 2, 3, 3, 4], [0, 1, 1, 2, 3, 4, 6, 5]])
    lightgcn = LightGCN(5, 7, 8, 2, (0.2, 0.3, 0.5)).requires_grad_(False)
    lightgcn.settle(edges)
    lightgcn.to_unit_rows()
    model = beside_its_base(tiny_xrec(), tmp_path)
    model.set_tables(lightgcn)
    model.save_pretrained(tmp_path / "model")
    again = XRecForCausalLM.from_pretrained(tmp_path / "model")
    assert again.lightgcn.layer_weights == (0.2, 0.3, 0.5)
    found = Evidence(again.lightgcn, edges).explain(0, 1)
    wanted = float(lightgcn.user_embeddings[0] @ lightgcn.item_embeddings[1])
    assert found.own + found.history_rest + sum(entry.share for entry in found.history) == pytest.approx(wanted, abs=1e-5)


def test_layer_weights_that_nobody_gave_stay_unknown(tiny_xrec, tmp_path):
    tiny_xrec().save_pretrained(tmp_path)
    assert XRecForCausalLM.from_pretrained(tmp_path).config.layer_weights is None


def test_learned_scales_are_trained_and_saved_with_the_adapters(tiny_xrec, tmp_path):
    model = beside_its_base(tiny_xrec(injection_scale="learned"), tmp_path)
    with torch.no_grad():
        model.injection_scale.normal_()
    model.save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert len(saved) == 2 * 4 + 1
    assert saved["injection_scale"].shape == (2, 3)
    assert set(saved) == {name for name, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model")), logits(model))


def test_layer_maps_and_soft_prompts_are_trained_and_saved_with_the_adapters(tiny_xrec, tmp_path):
    model = beside_its_base(tiny_xrec(layer_maps=True, soft_prompt=True), tmp_path)
    with torch.no_grad():
        model.item_adapter.place_weight.normal_()
        model.user_adapter.prompt_weight.normal_()
    model.save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert len(saved) == 2 * 6
    assert set(saved) == {name for name, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model")), logits(model))


def test_trained_norms_are_saved_with_the_adapters_and_nothing_else_of_the_backbone(tiny_xrec, tmp_path):
    model = beside_its_base(tiny_xrec(trained_norms=True), tmp_path)
    norms = {name: p for name, p in model.language_model.named_parameters() if "norm" in name}
    assert len(norms) == 2 * 2 + 1
    with torch.no_grad():
        for parameter in norms.values():
            parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert len(saved) == 2 * 4 + len(norms)
    assert set(saved) == {name for name, p in model.named_parameters() if p.requires_grad}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(again), logits(model))
    again.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == saved.keys()
    with torch.no_grad():
        again.language_model.lm_head.weight.add_(1.0)
    with pytest.raises(ValueError, match=r"has changed since it was loaded \(\d parameters"):
        again.save_pretrained(tmp_path / "changed")


def test_damaged_norms_of_either_checkpoint_are_refused(tiny_xrec, tmp_path):
    for kind in ("adapter", "full"):
        model = tiny_xrec(trained_norms=True)
        (beside_its_base(model, tmp_path) if kind == "adapter" else model).save_pretrained(tmp_path / kind)
        file = tmp_path / kind / "model.safetensors"
        saved = load_file(file)
        saved["language_model.model.norm.weight"][0] += 1
        save_file(saved, file, {"format": "pt"})
        with pytest.raises(ValueError, match=r"model\.norm\.weight in .* is not what checksums\.json says"):
            XRecForCausalLM.from_pretrained(tmp_path / kind)


def test_both_adapters_of_a_7b_backbone_are_a_file_of_17_megabytes(tmp_path):
    sizes = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 1, "vocab_size": 8, "intermediate_size": 8}
    with torch.device("meta"):
        backbone = LlamaForCausalLM(LlamaConfig(**sizes))
    model = XRecForCausalLM.from_backbone(backbone, user_token_id=5, item_token_id=6, base_model_name_or_path="meta/llama")
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == 4_197_376
    assert (tmp_path / "model.safetensors").stat().st_size < 16.9e6


def test_a_missing_backbone_is_an_error_and_never_random(adapter_only):
    _, folder = adapter_only
    config = json.loads((folder / "config.json").read_text())
    config["base_model_name_or_path"] = str(folder / "nowhere")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(OSError, match="nowhere"):
        XRecForCausalLM.from_pretrained(folder)


def test_a_backbone_given_by_name_makes_adapter_sized_checkpoints(tiny_xrec, tmp_path):
    tiny_xrec().language_model.save_pretrained(tmp_path / "base")
    model = XRecForCausalLM.from_backbone(str(tmp_path / "base"), user_token_id=104, item_token_id=105)
    assert model.config.base_model_name_or_path == str(tmp_path / "base")
    full = XRecForCausalLM.from_backbone(
        str(tmp_path / "base"), user_token_id=104, item_token_id=105, base_model_name_or_path=None
    )
    assert full.config.base_model_name_or_path is None


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_an_incomplete_adapter_checkpoint_is_refused(adapter_only, change):
    _, folder = adapter_only
    weights = load_file(folder / "model.safetensors")
    if change == "missing":
        del weights["item_adapter.gate_weight"]
    else:
        weights["language_model.lm_head.weight"] = torch.zeros(2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"1 {change}"):
        XRecForCausalLM.from_pretrained(folder)


def test_a_full_checkpoint_without_its_backbone_is_refused_instead_of_random(adapter_only):
    _, folder = adapter_only
    config = json.loads((folder / "config.json").read_text())
    config["base_model_name_or_path"] = None
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"21 missing_keys .*base_model_name_or_path"):
        XRecForCausalLM.from_pretrained(folder)


def test_auto_model_gives_the_hidden_states_of_the_same_checkpoint(tiny_xrec, tmp_path):
    model = tiny_xrec()
    model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    assert isinstance(base, XRecModel)
    with torch.no_grad():
        hidden = base(PROMPT, **IDS).last_hidden_state
    torch.testing.assert_close(model.get_output_embeddings()(hidden), logits(model), atol=1e-5, rtol=0)


REMOTE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_xrec", "xrec_training", "xrec_dataset_builder", "xrec_evaluation"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor, LlamaConfig, LlamaForCausalLM
folder, again = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
AutoModel.from_pretrained(folder, trust_remote_code=True)
inputs = processor(user_id="u1", item_id="i2")
out = model.generate(**inputs, max_new_tokens=5, do_sample=False)
print(type(model).__module__.split(".")[0], out[0].tolist())
model.save_pretrained(again)
processor.save_pretrained(again)
"""


def test_the_folder_loads_without_the_package_and_keeps_its_code_when_saved_again(make_xrec, tmp_path):
    processor, model = make_xrec()
    folder, again = tmp_path / "model", tmp_path / "again"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    inputs = processor(user_id="u1", item_id="i2")
    wanted = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0].tolist()
    environment = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "PATH": "", "HOME": str(tmp_path)}
    for source, target in ((folder, again), (again, tmp_path / "third")):
        assert {path.name for path in source.glob("*.py")} >= OWN_FILES | PROCESSOR_FILES
        result = subprocess.run(
            [sys.executable, "-c", REMOTE, source, target], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert result.returncode == 0, result.stderr[-2000:]
        assert result.stdout.split(" ", 1) == ["transformers_modules", f"{wanted}\n"]
    config = json.loads((again / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert AutoProcessor.from_pretrained(folder).item_title("i1") == "Blue Cafe"


@pytest.fixture
def own_code_backbone(tmp_path):
    """A Llama under a type of its own, whose code lies beside its weights."""
    folder = tmp_path / "own"
    config = {"vocab_size": 110, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(folder)
    (folder / "configuration_own.py").write_text(
        "from transformers import LlamaConfig\nclass OwnConfig(LlamaConfig):\n    model_type = 'own_llama'\n"
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\nfrom .configuration_own import OwnConfig\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config: OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own_llama"}
    config["auto_map"] = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_code_of_a_backbone_runs_with_the_callers_consent_only(own_code_backbone, tmp_path):
    markers = {"user_token_id": 104, "item_token_id": 105, "num_users": 5, "num_items": 7}
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        XRecForCausalLM.from_backbone(own_code_backbone, backbone_kwargs={"trust_remote_code": False}, **markers)
    model = XRecForCausalLM.from_backbone(own_code_backbone, backbone_kwargs={"trust_remote_code": True}, **markers)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        XRecForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=False)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert type(again.language_model).__name__ == "OwnForCausalLM"
    torch.testing.assert_close(logits(again), logits(model))


def test_a_full_checkpoint_of_a_backbone_with_own_code_is_refused_by_name(own_code_backbone, tmp_path):
    model = XRecForCausalLM.from_backbone(
        own_code_backbone, backbone_kwargs={"trust_remote_code": True}, user_token_id=104, item_token_id=105
    )
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text()) | {"base_model_name_or_path": None}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"type 'own_llama' is not among those of transformers.*base_model_name_or_path"):
        XRecForCausalLM.from_pretrained(tmp_path / "model")


def test_a_state_dict_that_is_passed_is_saved_whole_and_left_alone(tiny_xrec, tmp_path):
    model = tiny_xrec()
    state = {name: value * 2 for name, value in model.state_dict().items()}
    names = list(state)
    model.save_pretrained(tmp_path, state_dict=state)
    assert list(state) == names
    again = XRecForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(state[name], value) for name, value in again.state_dict().items())


def test_the_callers_configuration_stays_as_it_is(adapter_only):
    _, folder = adapter_only
    config = AutoConfig.from_pretrained(folder)
    for _ in range(2):
        assert AutoModelForCausalLM.from_pretrained(folder, config=config).lightgcn.num_users == 5
    assert config.num_users == 5


def test_generation_settings_are_the_checkpoints_own(tiny_xrec, tmp_path, sized):
    model = sized(tiny_xrec())
    model.generation_config.max_new_tokens, model.generation_config.suppress_tokens = 77, None
    model.save_pretrained(tmp_path / "model")
    found = XRecForCausalLM.from_pretrained(tmp_path / "model").generation_config
    assert (found.max_new_tokens, found.suppress_tokens) == (77, None)
    moved = XRecForCausalLM.from_pretrained(tmp_path / "model", user_token_id=50)
    assert moved.generation_config.suppress_tokens == [50, 105]


def test_overrides_are_validated(adapter_only):
    _, folder = adapter_only
    with pytest.raises(ValueError, match=r"adapter_dropout=7.0 is out of range"):
        XRecForCausalLM.from_pretrained(folder, adapter_dropout=7.0)


def test_variants_are_refused(tiny_xrec, tmp_path):
    with pytest.raises(ValueError, match="expected no variant, found 'fp16'"):
        tiny_xrec().save_pretrained(tmp_path, variant="fp16")
