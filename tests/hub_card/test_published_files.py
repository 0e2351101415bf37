"""What of a model folder goes out, and in which form: by exact lists, not by what happens to be there."""

import hashlib
import hmac
import json
import stat

import pytest

from xrec_dataset_builder.errors import DataError
from xrec_hub_card.published_files import is_stale, lay_out
from xrec_training.model_files import without_paths

CODE = {
    "answer_loss.py", "backbone_changes.py", "base_xrec.py", "bipartite_graph.py", "catalogue_arguments.py",
    "checkpoint_files.py", "checkpoint_xrec.py", "collaborative_adapter.py", "configuration_xrec.py", "histories.py",
    "layer_injection.py", "lightgcn.py", "marker_placement.py", "modeling_xrec.py", "pipeline_xrec.py", "processing_xrec.py",
    "prompt_layout.py", "prompt_prefix.py", "recommending.py", "reference_prompt.py", "untrusted_text.py"
}  # fmt: skip
FILES = CODE | {
    "checksums.json", "collaborative.safetensors", "config.json", "generation_config.json", "items.json", "losses.png",
    "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json", "training.json", "users.json"
}  # fmt: skip
STRANGERS = [
    "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "catalogue.parquet", "notes.txt", ".env", "mine.py",
    "pytorch_model.bin", "private/user_key", "checkpoint-3/model.safetensors", "run.partial/run.json", "model.safetensors.bak",
    "lora/optimizer.pt", "metrics.json.tmp", "data/train.parquet", "users.json.bak", "diverged.json"
]  # fmt: skip


@pytest.fixture
def staged(tmp_path):
    (tmp_path / "staged").mkdir()
    return tmp_path / "staged"


def test_only_what_is_on_the_list_goes_out(model, staged):
    for name in STRANGERS:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"\x80\x04N.")
    (model / "lora" / "adapter_config.json").write_text('{"base_model_name_or_path": "/home/me/backbone", "r": 8}')
    (model / "lora" / "adapter_model.safetensors").write_bytes(b"x")
    (model / "model-00001-of-00002.safetensors").write_bytes(b"x")
    (model / "collaborative.safetensors.index.json").write_text("{}")
    files = lay_out(model, staged)
    more = {
        "lora/adapter_config.json", "lora/adapter_model.safetensors", "model-00001-of-00002.safetensors",
        "collaborative.safetensors.index.json"
    }  # fmt: skip
    assert set(files.names) == FILES | more
    assert {str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()} == FILES | more
    assert json.loads((staged / "lora" / "adapter_config.json").read_text()) == {"base_model_name_or_path": "backbone", "r": 8}
    tops = {name.split("/")[0] for name in STRANGERS} - {"lora"}
    assert {name.rstrip("/") for name in files.skipped} == tops


def test_files_go_out_as_they_are_but_for_users_and_places(model, staged):
    config = json.loads((model / "config.json").read_text())
    assert config["text_config"]["_name_or_path"].startswith("/")
    training = json.loads((model / "training.json").read_text())
    training["recipe"]["trainer"] |= {"hub_token": "hf_secret", "logging_dir": "/home/me/logs"}
    (model / "training.json").write_text(json.dumps(training))
    files = lay_out(model, staged, include_users=True)
    changed = {name for name, path in files.paths().items() if path.read_bytes() != (model / name).read_bytes()}
    assert changed <= {
        "config.json",
        "training.json",
        "processor_config.json",
        "tokenizer_config.json",
        "generation_config.json",
    }
    config["text_config"]["_name_or_path"] = "model-backbone"
    assert json.loads((staged / "config.json").read_text()) == config
    published = json.loads((staged / "training.json").read_text())
    del training["recipe"]["trainer"]["hub_token"]
    training["recipe"]["trainer"]["logging_dir"] = "logs"
    assert published == training
    assert "hf_secret" not in "".join(path.read_text("latin-1") for path in files.paths().values())


def test_users_keep_their_rows_under_keyed_hashes(model, staged, own_data):
    rows = json.loads((model / "users.json").read_text())
    assert any(row["user_profile"] for row in rows)
    files = lay_out(model, staged, own_data)
    key = (own_data / "private" / "user_key").read_bytes()
    wanted = [{"user_id": hmac.new(key, row["user_id"].encode(), "sha256").hexdigest(), "user_profile": ""} for row in rows]
    assert json.loads((staged / "users.json").read_text()) == wanted
    assert files.private_users
    assert files.key_file == own_data / "private" / "user_key"


def test_without_data_the_key_lies_beside_the_model_and_stays_the_same(model, staged, tmp_path):
    files = lay_out(model, staged)
    key = model.with_name("model.private") / "user_key"
    assert files.key_file == key
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert model not in key.parents
    first = (staged / "users.json").read_bytes()
    assert key.read_bytes() not in first
    again = tmp_path / "again"
    again.mkdir()
    lay_out(model, again)
    assert (again / "users.json").read_bytes() == first


def test_a_report_gives_its_figures_and_nothing_else(model, staged, tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    example = {"title": "Cafe", "prediction": "good", "reference": "held out words", "claims": [{"evidence": "a review"}]}
    (report / "metrics.json").write_text(json.dumps({"rows": 2, "examples": [example], "model": "/home/me/run-3"}))
    (report / "audit.json").write_text('{"verdicts": {}}')
    for name in ("audit.png", "predictions.parquet", "report.html", "evidence.parquet"):
        (report / name).write_bytes(b"x")
    files = lay_out(model, staged, report=report)
    assert set(files.names) == FILES | {"metrics.json", "audit.json", "audit.png"}
    assert json.loads((staged / "metrics.json").read_text()) == {
        "rows": 2, "examples": [{"title": "Cafe", "prediction": "good"}], "model": "run-3"
    }  # fmt: skip
    lay_out(model, staged, report=report, include_texts=True)
    assert "held out words" in (staged / "metrics.json").read_text()
    assert "a review" not in (staged / "metrics.json").read_text()
    lay_out(model, staged, report=report, include_texts=True, include_reviews=True)
    assert json.loads((staged / "metrics.json").read_text())["examples"] == [example]
    (report / "metrics.json").unlink()
    (report / "audit.json").unlink()
    with pytest.raises(DataError, match=r"expected metrics\.json or audit\.json, found neither"):
        lay_out(model, staged, report=report)


def test_a_dataset_of_others_is_refused(model, staged, own_data):
    rows = json.loads((model / "users.json").read_text())
    (model / "users.json").write_text(json.dumps([*rows, {"user_id": "nobody", "user_profile": ""}]))
    with pytest.raises(DataError, match="found none with user_id 'nobody'"):
        lay_out(model, staged, own_data)


@pytest.mark.parametrize("value", ["/home/me/x", "~/runs/x", "C:\\Users\\me\\x", "file:///home/me/x", "/home/me/x/"])
def test_of_a_place_its_last_part_stays(value):
    assert without_paths({"a": [value]}) == {"a": ["x"]}


@pytest.mark.parametrize(
    "value", ["owner/name", "User: {user_marker} a/b/c\nWhy:", "/", "</s>", "</s></s>", "modeling_xrec.X", ""]
)
def test_other_texts_stay_as_they_are(value):
    assert without_paths({"a": value, "b": [value], "c": 1}) == {"a": value, "b": [value], "c": 1}


@pytest.mark.parametrize(
    ("path", "stale"),
    [
        ("training_args.bin", True), ("last-checkpoint/optimizer.pt", True), ("model-00001-of-00003.safetensors", True),
        ("signals.py", True), ("audit.png", True), ("notes.txt", False), ("handler.py", False), ("README.md", False),
        ("docs/lightgcn.py", False), ("onnx/model.onnx", False),
    ],
)  # fmt: skip
def test_of_what_was_there_only_ours_and_pickles_go(path, stale):
    assert is_stale(path) is stale


def test_hashing_is_what_it_says(model, staged):
    """Not a plain hash, which anyone could compute for a known id."""
    lay_out(model, staged)
    sent = (staged / "users.json").read_text()
    for row in json.loads((model / "users.json").read_text())[:20]:
        assert hashlib.sha256(row["user_id"].encode()).hexdigest() not in sent
        assert row["user_id"] not in sent
