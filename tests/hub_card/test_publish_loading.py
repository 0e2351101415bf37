"""What a stranger gets of what was published, through the real clients: each a process of its own with an empty cache."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_xrec import XRecForCausalLM, XRecProcessor
from xrec_dataset_builder.errors import DataError
from xrec_hub_card.check import check
from xrec_hub_card.publish import publish

from .loopback import aimed_at

LOAD = """
import json, sys
task = json.loads(sys.argv[1])
if task["without"]:
    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "modeling_xrec" or name.startswith("xrec"):
                raise ModuleNotFoundError(name)
    sys.meta_path.insert(0, Blocker())
else:
    import modeling_xrec
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoProcessor, pipeline
from transformers.utils import logging
logging.set_verbosity_error()
consent = {"trust_remote_code": True} if task["without"] else {}
said, logits = {}, {}
for repo, revision in task["repos"].items():
    model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, **consent)
    processor = AutoProcessor.from_pretrained(repo, revision=revision, **consent)
    ids = torch.tensor([processor.prompt_ids(**task["texts"])])
    with torch.no_grad():
        logits[repo] = model(input_ids=ids, user_ids=torch.tensor([3]), item_ids=torch.tensor([5])).logits
    said[repo] = [type(model).__module__.split(".")[0]]
row = {"user_id": processor.users[3]["user_id"], "item_id": processor.items[5]["item_id"]} | task["texts"]
task_name = () if task["pipeline_alone"] else ("recommendation-explanation",)
pipe = pipeline(*task_name, model=repo, revision=revision, trust_remote_code=True)
said[repo].append(pipe(row, max_new_tokens=20)["explanation"])
save_file({name.replace("/", "-"): one.contiguous() for name, one in logits.items()}, task["out"])
print(json.dumps(said))
"""
DATASETS = """
import json, sys
from datasets import get_dataset_config_names, load_dataset
repo, out = sys.argv[1], {}
for name in get_dataset_config_names(repo):
    out[name] = {split: rows.num_rows for split, rows in load_dataset(repo, name).items()}
first = next(iter(load_dataset(repo, streaming=True)["test"]))
assert first == load_dataset(repo, "explanations", split="test")[0]
print(json.dumps(out))
"""
SNAPSHOT = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], revision=sys.argv[2]))
"""


def texts(run: Path) -> dict[str, str]:
    """The texts of the pair that is explained: they are the same, whether or not the profiles of users are published."""
    user, item = (json.loads((run / f"{name}.json").read_text())[row] for name, row in (("users", 3), ("items", 5)))
    return {"title": item["title"], "user_profile": user["user_profile"], "item_profile": item["item_profile"]}


def at_home(run: Path) -> tuple[torch.Tensor, str]:
    """Logits `(1, length, vocabulary)` and text of that pair before anything was published."""
    model, processor = XRecForCausalLM.from_pretrained(run), XRecProcessor.from_pretrained(run)
    ids = torch.tensor([processor.prompt_ids(**texts(run))])
    signal = {"user_ids": torch.tensor([3]), "item_ids": torch.tensor([5])}
    with torch.no_grad():
        logits = model(input_ids=ids, **signal).logits
    rows = model.generate(ids, attention_mask=torch.ones_like(ids), **signal, max_new_tokens=20, do_sample=False)
    return logits, processor.read_answers(rows[:, ids.shape[1] :])[0]


def round_trip(shelf, tmp_path, package: str, home: Path, **environment) -> dict[str, list[str]]:
    """Load both models and compare their logits with those at home; returns what they say."""
    logits, text = at_home(shelf.model)
    task = {
        "repos": {"me/open": shelf.open.revision, "me/hashed": shelf.hashed.revision}, "texts": texts(shelf.model),
        "without": package == "without", "out": str(tmp_path / "logits"), "pipeline_alone": "HF_HUB_OFFLINE" in environment,
    }  # fmt: skip
    said = json.loads(shelf.hub.python(LOAD, json.dumps(task), HF_HOME=str(home), **environment))
    for loaded in load_file(tmp_path / "logits").values():
        torch.testing.assert_close(loaded, logits, rtol=0, atol=1e-5)
    assert said["me/hashed"][1] == text
    return said


@pytest.mark.parametrize("package", ["without", pytest.param("with", marks=pytest.mark.slow)])
def test_logits_and_texts_are_what_they_were_at_home_online_then_offline(shelf, tmp_path, package):
    module = {"with": "modeling_xrec", "without": "transformers_modules"}[package]
    online = round_trip(shelf, tmp_path, package, tmp_path / "home")
    assert {one[0] for one in online.values()} == {module}
    before = shelf.hub.requests()
    assert any("/me/hashed/resolve/" in line and line.endswith("/collaborative.safetensors") for line in before)
    offline = round_trip(shelf, tmp_path, package, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert shelf.hub.requests() == before
    assert offline == online


def test_the_command_line_of_hugging_face_downloads_it(shelf, tmp_path):
    hf = Path(sys.executable).with_name("hf")
    shelf.hub.run(hf, "download", "me/hashed", "--revision", shelf.hashed.revision, "--local-dir", tmp_path / "got")
    wanted = shelf.hub.root / "me/hashed" / shelf.hashed.revision
    for path in wanted.iterdir():
        assert (tmp_path / "got" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_stranger_can_check_it(shelf):
    """The base model is none here; what is loaded is the repository's own code, twice, into a cache of its own."""
    before = len(shelf.hub.requests())
    with aimed_at(shelf.hub):
        checked = check("me/hashed", shelf.hashed.revision, shelf.hashed.code_hash)
    assert checked.code_hash == shelf.hashed.code_hash
    assert (checked.repo_id, checked.revision) == ("me/hashed", shelf.hashed.revision)
    assert checked.user_id == json.loads((shelf.hub.head("me/hashed") / "users.json").read_text())[0]["user_id"]
    fetched = [line for line in shelf.hub.requests()[before:] if line.startswith("GET") and "/resolve/" in line]
    assert len(fetched) == len(set(fetched)) > 20
    assert checked.explanation in checked.summary()


@pytest.mark.slow
def test_a_check_says_what_is_wrong(model, hub):
    done = publish(model, "me/why", licence="cc0-1.0")
    with pytest.raises(DataError, match=f"expected code with the hash {'0' * 64}, found {done.code_hash}"):
        check("me/why", done.revision, "0" * 64)
    (hub.root / "me/why" / done.revision / "lightgcn.py").unlink()
    with pytest.raises(DataError, match=r"^me/why: expected it to load online at \w{40}, found .*lightgcn\.py") as caught:
        check("me/why", done.revision)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_datasets_load_by_config_and_streaming(shelf):
    closed = json.loads(shelf.hub.python(DATASETS, "me/hashed-data"))
    assert set(closed) == {"explanations", "items"}
    everything = json.loads(shelf.hub.python(DATASETS, "me/open-data"))
    assert set(everything) == {"explanations", "interactions", "users", "items", "reviews"}
    assert everything["explanations"] == closed["explanations"]


@pytest.mark.slow
def test_a_snapshot_loads_from_its_folder(shelf, tmp_path):
    folder = shelf.hub.python(SNAPSHOT, "me/open", shelf.open.commit, HF_HOME=str(tmp_path / "home")).strip()
    assert {path.name for path in Path(folder).iterdir()} >= {"README.md", "users.json", "pipeline_xrec.py"}
    logits, text = at_home(shelf.model)
    assert at_home(Path(folder))[1] == text
    torch.testing.assert_close(at_home(Path(folder))[0], logits, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_an_adapter_sized_model_comes_with_its_base_at_the_commit_that_it_was_trained_on(make_xrec, hub, tmp_path):
    old, new = "a" * 40, "b" * 40
    processor, model = make_xrec()
    base = hub.root / "me" / "base"
    model.language_model.save_pretrained(base / old)
    torch.nn.init.normal_(model.language_model.lm_head.weight, generator=torch.Generator().manual_seed(1))
    model.language_model.save_pretrained(base / new)
    (base / "main").write_text(new)  # the base has moved on
    model.config.base_model_name_or_path, model.config.base_model_revision = "me/base", old
    _, fresh = make_xrec()
    model.language_model.load_state_dict(fresh.language_model.state_dict())
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    done = publish(tmp_path / "model", "me/adapters", licence="cc0-1.0", include_users=True)
    assert done.files["model.safetensors"] < (base / old / "model.safetensors").stat().st_size
    checked = check("me/adapters", done.revision, done.code_hash)
    batch = processor(user_id=checked.user_id, item_id=checked.item_id)
    rows = fresh.eval().generate(**batch, max_new_tokens=80, do_sample=False)
    assert checked.explanation == processor.read_answers(rows[:, batch["input_ids"].shape[1] :])[0]
    assert hub.requests(f"/me/base/resolve/{old}/model.safetensors")
    assert not hub.requests(new)
