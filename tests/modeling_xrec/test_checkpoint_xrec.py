import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor, LlamaConfig, LlamaForCausalLM

from modeling_xrec import XRecForCausalLM, XRecModel

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
    assert set(saved) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(saved) == 2 * 4
    assert (folder / "model.safetensors").stat().st_size < 100_000
    tables = load_file(folder / "collaborative.safetensors")
    assert {name: tuple(table.shape) for name, table in tables.items()} == {
        "user_embeddings": (5, 8), "user_fold_in": (5, 8), "item_embeddings": (7, 8), "item_fold_in": (7, 8),
    }  # fmt: skip
    again = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=0)


def test_learned_scales_are_trained_and_saved_with_the_adapters(tiny_xrec, tmp_path):
    model = tiny_xrec(injection_scale="learned")
    model.language_model.save_pretrained(tmp_path / "base")
    model.config.base_model_name_or_path = str(tmp_path / "base")
    with torch.no_grad():
        model.injection_scale.normal_()
    model.save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert len(saved) == 2 * 4 + 1
    assert saved["injection_scale"].shape == (2, 3)
    assert set(saved) == {name for name, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model")), logits(model))


def test_both_adapters_of_a_7b_backbone_are_a_file_of_17_megabytes(tmp_path):
    sizes = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 1, "vocab_size": 8, "intermediate_size": 8}
    with torch.device("meta"):
        backbone = LlamaForCausalLM(LlamaConfig(**sizes))
    model = XRecForCausalLM.from_backbone(backbone, user_token_id=5, item_token_id=6, base_model_name_or_path="meta/llama")
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == 4_197_376
    assert (tmp_path / "model.safetensors").stat().st_size < 16.9e6


@pytest.mark.parametrize("size", ["full", "adapter"])
def test_large_tables_are_saved_in_shards(tiny_xrec, tmp_path, size):
    model = tiny_xrec(num_users=400, num_items=300)
    if size == "adapter":
        model.language_model.save_pretrained(tmp_path / "base")
        model.config.base_model_name_or_path = str(tmp_path / "base")
    model.save_pretrained(tmp_path / "model", max_shard_size="13KB")
    assert len(list((tmp_path / "model").glob("collaborative-*.safetensors"))) == 4
    again = XRecForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert (again.config.num_users, again.config.num_items) == (400, 300)


@pytest.mark.parametrize("size", ["full", "adapter"])
def test_tables_stay_away_where_the_caller_passes_embeddings(tiny_xrec, tmp_path, size):
    model = tiny_xrec()
    if size == "adapter":
        model.language_model.save_pretrained(tmp_path / "base")
        model.config.base_model_name_or_path = str(tmp_path / "base")
    model.save_pretrained(tmp_path / "model")
    embeds = {
        "user_embeds": model.lightgcn.user_embeddings[IDS["user_ids"]],
        "item_embeds": model.lightgcn.item_embeddings[IDS["item_ids"]],
    }
    (tmp_path / "model" / "collaborative.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no collaborative.safetensors.*5 users and 7 items.*load_tables=False"):
        XRecForCausalLM.from_pretrained(tmp_path / "model")
    light = XRecForCausalLM.from_pretrained(tmp_path / "model", load_tables=False)
    assert (light.config.num_users, light.lightgcn.num_users) == (0, 0)
    with torch.no_grad():
        torch.testing.assert_close(light(PROMPT, **embeds).logits, logits(model))
    with pytest.raises(ValueError, match="the model stores 0 users; use indices below that, or pass user_embeds"):
        light(PROMPT, **IDS)


def flip_a_bit(file, tensor):
    """Flips one bit of the middle of a tensor's bytes."""
    raw = bytearray(file.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    start, end = json.loads(raw[8 : 8 + length])[tensor]["data_offsets"]
    raw[8 + length + (start + end) // 2] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize("size", ["full", "adapter"])
@pytest.mark.parametrize(
    ("file", "tensor", "name"),
    [
        ("model.safetensors", "item_adapter.expert_weight", "item_adapter.expert_weight"),
        ("collaborative.safetensors", "user_fold_in", "lightgcn.user_fold_in"),
    ],
)
def test_a_flipped_bit_is_noticed(tiny_xrec, tmp_path, size, file, tensor, name):
    model = tiny_xrec()
    if size == "adapter":
        model.language_model.save_pretrained(tmp_path / "base")
        model.config.base_model_name_or_path = str(tmp_path / "base")
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    XRecForCausalLM.from_pretrained(folder)
    flip_a_bit(folder / file, tensor)
    with pytest.raises(ValueError, match=rf"{name} in .* is not what checksums.json says.*damaged"):
        XRecForCausalLM.from_pretrained(folder)
    (folder / "checksums.json").unlink()
    XRecForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("name", ["user_adapter.gate_weight", "lightgcn.item_embeddings"])
def test_nan_is_noticed_even_when_it_was_saved_so(adapter_only, name):
    model, folder = adapter_only
    with torch.no_grad():
        model.get_parameter(name)[0, 0] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=f"{name} in .* has 1 NaN or infinite values"):
        XRecForCausalLM.from_pretrained(folder)


def test_tables_of_other_sizes_than_announced_are_refused(adapter_only):
    _, folder = adapter_only
    config = json.loads((folder / "config.json").read_text())
    config["num_users"] = 6
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"holds .*\(5, 8\).*expected .*\(6, 8\)"):
        XRecForCausalLM.from_pretrained(folder)


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


@pytest.mark.parametrize("size", ["full", "adapter"])
@pytest.mark.parametrize("order", [("50GB", "3KB"), ("3KB", "50GB")])
def test_a_save_over_an_older_one_leaves_the_newest_weights(tiny_xrec, tmp_path, order, size):
    old, new = tiny_xrec(), tiny_xrec()
    for model, shard_size in zip((old, new), order, strict=True):
        if size == "adapter":
            model.language_model.save_pretrained(tmp_path / "base")
            model.config.base_model_name_or_path = str(tmp_path / "base")
        with torch.no_grad():
            model.user_adapter.gate_weight.normal_()
            model.lightgcn.user_embeddings.normal_()
        model.save_pretrained(tmp_path / "model", max_shard_size=shard_size)
    again = XRecForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in new.state_dict().items())


def test_a_state_dict_that_is_passed_is_saved_whole_and_left_alone(tiny_xrec, tmp_path):
    model = tiny_xrec()
    state = {name: value * 2 for name, value in model.state_dict().items()}
    names = list(state)
    model.save_pretrained(tmp_path, state_dict=state)
    assert list(state) == names
    again = XRecForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(state[name], value) for name, value in again.state_dict().items())


def test_a_changed_backbone_is_not_lost_in_an_adapter_sized_checkpoint(adapter_only, tmp_path):
    _, folder = adapter_only
    model = XRecForCausalLM.from_pretrained(folder)
    model.to(torch.bfloat16).to(torch.float32).save_pretrained(tmp_path / "rounded")
    with torch.no_grad():
        model.language_model.model.layers[1].mlp.up_proj.weight.mul_(1.1)
    with pytest.raises(ValueError, match=r"1 parameters, such as model.layers.1.mlp.up_proj.weight.*=None to save it whole"):
        model.save_pretrained(tmp_path / "again")
    model.config.base_model_name_or_path = None
    model.save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(XRecForCausalLM.from_pretrained(tmp_path / "whole")), logits(model))


@pytest.mark.parametrize("tied", [False, True])
def test_rows_of_added_tokens_are_in_the_adapter_file(tmp_path, tied):
    sizes = {"vocab_size": 110, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=tied)).save_pretrained(tmp_path / "base")
    model = XRecForCausalLM.from_backbone(str(tmp_path / "base"), user_token_id=104, item_token_id=105, collaborative_dim=8)
    model.resize_token_embeddings(115, mean_resizing=False)
    torch.nn.init.normal_(model.get_input_embeddings().weight[110:])
    prompt = torch.tensor([[1, 9, 104, 112, 105, 114, 31]])
    embeds = {"user_embeds": torch.randn(1, 8), "item_embeds": torch.randn(1, 8)}
    with torch.no_grad():
        wanted = model(prompt, **embeds).logits
    for place in ("once", "twice"):
        model.save_pretrained(tmp_path / place)
        saved = load_file(tmp_path / place / "model.safetensors")
        assert saved["added_tokens.embedding"].shape == saved["added_tokens.head"].shape == (5, 32)
        model = XRecForCausalLM.from_pretrained(tmp_path / place)
        with torch.no_grad():
            torch.testing.assert_close(model(prompt, **embeds).logits, wanted)


def test_the_callers_configuration_stays_as_it_is(adapter_only):
    _, folder = adapter_only
    config = AutoConfig.from_pretrained(folder)
    for _ in range(2):
        assert AutoModelForCausalLM.from_pretrained(folder, config=config).lightgcn.num_users == 5
    assert config.num_users == 5


@pytest.mark.parametrize("size", ["full", "adapter"])
def test_generation_settings_are_the_checkpoints_own(tiny_xrec, tmp_path, size):
    model = tiny_xrec()
    if size == "adapter":
        model.language_model.save_pretrained(tmp_path / "base")
        model.config.base_model_name_or_path = str(tmp_path / "base")
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


def test_tables_are_in_single_precision_like_the_adapters(tiny_xrec, tmp_path):
    tiny_xrec().to(torch.bfloat16).save_pretrained(tmp_path)
    model = XRecForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {t.dtype for t in model.lightgcn.state_dict().values()} == {torch.float32}
    assert model.user_adapter.gate_weight.dtype == torch.float32
