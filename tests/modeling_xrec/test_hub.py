"""Loading by Hub id, from a Hub on the loopback interface: online, then offline; with and without the package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HUB = Path(__file__).parents[1] / "loopback_hub.py"
OLD, NEW = "a" * 40, "b" * 40
OURS = "c" * 40
"""Commit of a model, which is none of its base's."""
LOAD = """
import sys
repo, revision, blocked = sys.argv[1], sys.argv[2], sys.argv[3] == "without"
if blocked:
    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "modeling_xrec":
                raise ModuleNotFoundError(name)
    sys.meta_path.insert(0, Blocker())
else:
    import modeling_xrec
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor
from transformers.utils import logging
logging.set_verbosity_error()
consent = {"trust_remote_code": True} if blocked else {}
config = AutoConfig.from_pretrained(repo, revision=revision, **consent)
model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, **consent)
processor = AutoProcessor.from_pretrained(repo, revision=revision, **consent)
hidden = AutoModel.from_pretrained(repo, revision=revision, **consent)
inputs = processor(user_id="u1", item_id="i2")
with torch.no_grad():
    logits = model(**inputs).logits
    states = hidden(**inputs).last_hidden_state
assert torch.allclose(model.get_output_embeddings()(states), logits, atol=1e-5)
print(type(model).__module__.split(".")[0], f"{float(logits.double().sum()):.4f}")
"""


@pytest.fixture
def hub(tmp_path):
    """An empty Hub: its folder and the environment of its clients."""
    folder = tmp_path / "hub"
    folder.mkdir()
    with subprocess.Popen([sys.executable, HUB, folder], stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().strip()
        environment = {
            "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "PATH": "",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HOME": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        yield folder, environment
        server.kill()


def client(environment, cwd, *args, **extra):
    return subprocess.run(
        [sys.executable, "-c", LOAD, *args], capture_output=True, text=True, cwd=cwd, env=environment | extra
    )


def wanted(processor, model):
    with torch.no_grad():
        return f"{float(model(**processor(user_id='u1', item_id='i2')).logits.double().sum()):.4f}"


@pytest.mark.parametrize("package", [pytest.param("with", marks=pytest.mark.slow), "without"])
def test_adapter_sized_models_load_by_id_online_and_offline(make_xrec, hub, tmp_path, package):
    folder, environment = hub
    processor, model = make_xrec()
    base = folder / "owner" / "base"
    model.language_model.save_pretrained(base / OLD)
    _, other = make_xrec()
    torch.nn.init.normal_(other.language_model.lm_head.weight)
    other.language_model.save_pretrained(base / NEW)
    (base / "main").write_text(NEW)  # the base has moved on; the model is pinned to what it was trained on
    model.config.base_model_name_or_path, model.config.base_model_revision = "owner/base", OLD
    repo = folder / "owner" / "model"
    model.save_pretrained(repo / OURS)
    processor.save_pretrained(repo / OURS)
    (repo / "main").write_text(OURS)
    arguments = ("owner/model", OURS, package)
    online = client(environment, tmp_path, *arguments)
    assert online.returncode == 0, online.stderr[-1500:]
    module = {"with": "modeling_xrec", "without": "transformers_modules"}[package]
    assert online.stdout.split() == [module, wanted(processor, model)]
    requests = (folder / "requests.log").read_text()
    assert f"/owner/base/resolve/{OLD}/model.safetensors" in requests
    assert NEW not in requests
    offline = client(environment, tmp_path, *arguments, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr[-1500:]
    assert offline.stdout == online.stdout
    assert (folder / "requests.log").read_text() == requests


def test_every_file_of_a_load_comes_from_one_commit(make_xrec, hub, tmp_path):
    """`main` may move while a model loads; the configuration's commit decides for weights, tables and checksums."""
    folder, environment = hub
    processor, model = make_xrec()
    repo = folder / "owner" / "model"
    model.save_pretrained(repo / OLD)
    processor.save_pretrained(repo / OLD)
    (repo / "main").write_text(OLD)
    code = "from modeling_xrec import XRecForCausalLM; print(XRecForCausalLM.from_pretrained('owner/model').config.num_users)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr[-1500:]
    requests = (folder / "requests.log").read_text().splitlines()
    files = [line for line in requests if "/resolve/" in line]
    assert {line.split("/")[-1] for line in files} >= {"model.safetensors", "collaborative.safetensors", "checksums.json"}
    assert all(f"/resolve/{OLD}/" in line for line in files)


def test_the_commit_of_a_backbone_is_recorded(make_xrec, hub, tmp_path):
    folder, environment = hub
    _, model = make_xrec()
    base = folder / "owner" / "base"
    model.language_model.save_pretrained(base / OLD)
    (base / "main").write_text(OLD)
    code = (
        "from modeling_xrec import XRecForCausalLM\n"
        "m = XRecForCausalLM.from_backbone('owner/base', user_token_id=270, item_token_id=271)\n"
        f"m.save_pretrained({str(tmp_path / 'out')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-1500:]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["base_model_name_or_path"], config["base_model_revision"]) == ("owner/base", OLD)
