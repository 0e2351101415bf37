import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor

from modeling_xrec import XRecForCausalLM, XRecModel

PROMPT = torch.tensor([[1, 9, 104, 12, 105, 30, 31]])
IDS = {"user_ids": torch.tensor([3]), "item_ids": torch.tensor([2])}
OWN_FILES = {
    "checkpoint_xrec.py", "collaborative_adapter.py", "configuration_xrec.py", "layer_injection.py", "lightgcn.py",
    "marker_placement.py", "modeling_xrec.py",
}  # fmt: skip


@torch.no_grad()
def logits(model):
    return model(PROMPT, **IDS).logits


@pytest.fixture
def adapter_only(tiny_xrec, tmp_path):
    """An adapter-sized checkpoint beside its base model."""
    model = tiny_xrec()
    model.language_model.save_pretrained(tmp_path / "base")
    model.config.base_model_name_or_path = str(tmp_path / "base")
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


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
    assert {name.split(".")[0] for name in saved} == {"user_adapter", "item_adapter", "lightgcn"}
    assert len(saved) == 2 * 4 + 4
    assert (folder / "model.safetensors").stat().st_size < 100_000
    again = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=0)


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
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor
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
        assert OWN_FILES | {"processing_xrec.py"} <= {path.name for path in source.glob("*.py")}
        result = subprocess.run(
            [sys.executable, "-c", REMOTE, source, target], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert result.returncode == 0, result.stderr[-2000:]
        assert result.stdout.split(" ", 1) == ["transformers_modules", f"{wanted}\n"]
    config = json.loads((again / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert AutoProcessor.from_pretrained(folder).item_title("i1") == "Blue Cafe"
