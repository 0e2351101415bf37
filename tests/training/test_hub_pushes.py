"""Pushes of a run while it trains: every one a whole repository, and nobody's ids or pickles in it."""

import json
import sys

import pytest

from modeling_xrec import XRecForCausalLM, XRecProcessor
from xrec_dataset_builder.errors import DataError
from xrec_training.finetune import train
from xrec_training.model_files import code_names

from ..hub_card.loopback import hub, own_data  # noqa: F401 - fixtures

REPO = "me/run"
WHOLE = {
    "config.json", "generation_config.json", "model.safetensors", "collaborative.safetensors", "checksums.json", "users.json",
    "items.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"
}  # fmt: skip


@pytest.fixture
def start(tiny_run, own_data, tiny_graph, recipe_of, tmp_path):  # noqa: F811
    """Trains on the small world's backbone with overrides, into `tmp_path/run`."""

    def run(**overrides):
        settings = {"backbone": str(tiny_run.with_name("model-backbone")), "logging_steps": 1, "push_to_hub": True,
                    "hub_always_push": True, "hub_model_id": REPO}  # fmt: skip
        return train(own_data, tiny_graph, tmp_path / "run", recipe_of(**(settings | overrides)))

    return run


def commits(hub):  # noqa: F811
    """The folders of the commits that a push made."""
    return [path for path in (hub.root / REPO).iterdir() if path.is_dir() and (path / "config.json").exists()]


def test_every_save_is_a_whole_repository(hub, start, own_data, tmp_path):  # noqa: F811
    run = start(max_steps=4, save_steps=2)
    assert len(commits(hub)) == 3  # steps 2 and 4, and the finished run
    assert (hub.root / REPO / "private").exists()
    known = [row["user_id"] for row in json.loads((run / "users.json").read_text())]
    for commit in commits(hub):
        names = {path.name for path in commit.iterdir()} - {".gitattributes"}
        finished = {"training.json", "losses.png"} & names
        assert names - finished == WHOLE | set(code_names(commit))
        assert set(code_names(commit)) > {"modeling_xrec.py", "processing_xrec.py", "pipeline_xrec.py"}
        everything = "".join(path.read_text("latin-1") for path in commit.iterdir())
        assert not any(user in everything for user in known)
        assert str(tmp_path) not in everything
        XRecForCausalLM.from_pretrained(commit)
        assert len(XRecProcessor.from_pretrained(commit).users) == len(known)
    head = hub.head(REPO)
    assert (head / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert {"training.json", "losses.png"} <= {path.name for path in head.iterdir()}
    assert not list(tmp_path.glob("**/.pushing-*"))


def test_at_the_end_alone_where_that_is_asked_for(hub, start):  # noqa: F811
    start(max_steps=2, save_steps=1, hub_strategy="end")
    assert len(commits(hub)) == 1


def test_a_push_that_fails_does_not_stop_the_training(hub, start, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr("xrec_dataset_builder.hub_trouble.time.sleep", lambda _: None)
    hub.fail("commit/main", times=4, status=500)
    start(max_steps=2, save_steps=1)
    assert "a push of this run failed, training goes on: me/run: expected the Hub to take the model" in caplog.text
    assert len(commits(hub)) == 2


def test_a_last_push_that_fails_leaves_the_run(hub, start, tmp_path):  # noqa: F811
    hub.fail("commit/main", status=403)
    with pytest.raises(DataError, match="a token without the right"):
        start(max_steps=2, save_steps=2)
    XRecForCausalLM.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"hub_strategy": "checkpoint"}, "which would publish the optimizer's pickles"),
        (
            {"lora.r": 2, "lora.target_modules": ".*q_proj"},
            "expected a model that is whole at every save to push it, found LoRA or a baseline",
        ),
    ],
)
def test_what_could_not_be_whole_is_refused_before_it_trains(hub, start, overrides, line):  # noqa: F811
    with pytest.raises(DataError, match=line):
        start(**overrides)
    assert hub.requests() == []


@pytest.mark.slow
def test_a_push_loads_by_the_code_that_came_with_it(hub, start, tmp_path):  # noqa: F811
    start(max_steps=2, save_steps=1)
    code = (
        "import sys\nfrom transformers import pipeline\n"
        "pipe = pipeline('recommendation-explanation', model='me/run', revision=sys.argv[1], trust_remote_code=True)\n"
        "user, item = pipe.processor.users[0]['user_id'], pipe.processor.items[0]['item_id']\n"
        "print(type(pipe.model).__module__, len(pipe({'user_id': user, 'item_id': item}, max_new_tokens=5)['explanation']))"
    )
    for commit in commits(hub):
        said = hub.run(sys.executable, "-c", code, commit.name, HF_HOME=str(tmp_path / commit.name)).split()
        assert said[0].startswith("transformers_modules.")
