"""What a Hub gets, by its own client: whole commits or none, nothing twice, and one clear line where it does not take it."""

import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from safetensors.torch import load_file, save_file

from xrec_dataset_builder.errors import DataError
from xrec_hub_card.commands import publish_command
from xrec_hub_card.publish import publish

REPO = "me/why"
OURS = {"licence": "cc0-1.0"}
COMMAND = "import sys; from xrec_hub_card.commands import publish_command; publish_command(sys.argv[1:])"


def pinned(card: bytes) -> set[str]:
    """The commits that a card names."""
    return set(re.findall(r"\b[0-9a-f]{40}\b", card.decode()))


def test_files_come_first_then_a_card_that_names_their_commit(model, hub):
    lines = []
    done = publish(model, REPO, lines.append, **OURS)
    assert len(hub.requests("POST /api/models/me/why/commit/main")) == 2
    assert hub.head(REPO).name == done.commit != done.revision
    at = {path.name for path in (hub.root / REPO / done.revision).iterdir()}
    assert at - {".gitattributes"} == {name for name in done.files if "/" not in name} - {"README.md"}
    files = hub.files(REPO)
    assert pinned(files["README.md"]) == {done.revision}
    assert {name: len(content) for name, content in files.items()} == done.files
    assert f"Model me/why: {len(files)} files" in lines[0]
    assert all(any(line.endswith(f"  {name}") for line in lines) for name in files)


def test_nothing_private_goes_out_by_default(shelf):
    """Neither in what is there, nor in what was ever sent."""
    sent = [path.read_bytes().decode("latin-1") for path in (shelf.hub.root / "me/hashed").rglob("*") if path.is_file()]
    rows = json.loads((shelf.model / "users.json").read_text())
    for secret in [row["user_id"] for row in rows] + [row["user_profile"] for row in rows if row["user_profile"]]:
        assert not any(secret in one for one in sent)
    assert not any(str(shelf.model.parent) in one for one in sent)
    assert all(row["user_id"] in (shelf.hub.head("me/open") / "users.json").read_text() for row in rows)


def test_model_and_dataset_call_the_users_the_same(shelf):
    import polars as pl

    tables = (shelf.hub.head("datasets/me/hashed-data") / "data" / "explanations").glob("*.parquet")
    explained = {user for path in tables for user in pl.read_parquet(path)["user_id"]}
    known = {row["user_id"] for row in json.loads((shelf.hub.head("me/hashed") / "users.json").read_text())}
    assert explained
    assert explained <= known


def test_a_dry_run_measures_the_same_and_sends_nothing(model, own_data, hub):
    both = {"data": own_data, "dataset_repo_id": "me/data"}
    dry = publish(model, REPO, dry_run=True, **both)
    assert hub.requests() == []
    done = publish(model, REPO, **both)
    assert (dry.files, dry.left_out, dry.code_hash) == (done.files, done.left_out, done.code_hash)
    assert dry.dataset.files == done.dataset.files
    assert (dry.revision, dry.commit, dry.changed) == (None, None, False)


def test_the_same_again_makes_no_commit(model, own_data, hub):
    both = {"data": own_data, "dataset_repo_id": "me/data"}
    first = publish(model, REPO, **both)
    before = len(hub.requests())
    second = publish(model, REPO, **both)
    assert [line for line in hub.requests()[before:] if "/commit/" in line or line.startswith("PUT")] == []
    assert (second.revision, second.commit, second.changed) == (first.revision, first.commit, False)


def test_a_changed_card_is_written_again_for_the_files_that_stand(model, hub):
    first = publish(model, REPO, **OURS)
    (hub.head(REPO) / "README.md").write_text("spoiled by hand")
    second = publish(model, REPO, **OURS)
    assert (second.changed, second.revision) == (True, first.commit)  # the newest commit that holds these files
    assert pinned(hub.files(REPO)["README.md"]) == {second.revision}


def test_a_changed_model_moves_the_card_with_it(model, hub):
    first = publish(model, REPO, **OURS)
    (model / "losses.png").unlink()
    second = publish(model, REPO, **OURS)
    assert second.revision not in (first.revision, first.commit)
    assert pinned(hub.files(REPO)["README.md"]) == {second.revision}
    assert "losses.png" not in hub.files(REPO)


def test_pickles_and_files_of_an_earlier_push_go_with_the_same_commit(model, hub):
    publish(model, REPO, **OURS)
    for name in ("training_args.bin", "last-checkpoint/optimizer.pt", "model-00002-of-00002.safetensors", "signals.py"):
        (hub.head(REPO) / name).parent.mkdir(exist_ok=True)
        (hub.head(REPO) / name).write_bytes(b"\x80\x04N.")
    (hub.head(REPO) / "notes.txt").write_text("the owner's own")
    done = publish(model, REPO, **OURS)
    assert set(hub.files(REPO)) == set(done.files) | {"notes.txt"}
    assert {path.name for path in (hub.root / REPO / done.revision).iterdir()} >= {"notes.txt", "config.json"}


def test_a_tag_names_the_commit_and_is_never_moved(model, hub):
    done = publish(model, REPO, tag="v1", **OURS)
    assert (hub.root / REPO / "tags" / "v1").read_text() == done.commit
    assert publish(model, REPO, tag="v1", **OURS).changed is False
    (model / "losses.png").unlink()
    with pytest.raises(DataError, match=f"expected no tag 'v1' or one at .*, found it at {done.commit[:12]}"):
        publish(model, REPO, tag="v1", **OURS)
    assert (hub.root / REPO / "tags" / "v1").read_text() == done.commit


def test_a_public_repository_is_not_taken_for_a_private_one(model, hub):
    publish(model, REPO, **OURS)
    assert not (hub.root / REPO / "private").exists()
    with pytest.raises(DataError, match="expected a private repository, found a public one"):
        publish(model, REPO, private=True, **OURS)
    publish(model, "me/mine", private=True, **OURS)
    assert (hub.root / "me/mine" / "private").exists()


# What is refused before anything is sent


def spoil_tensor(model):
    tensors = load_file(model / "model.safetensors")
    tensors["user_adapter.expert_bias"] += 1
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def truncate(model):
    content = (model / "collaborative.safetensors").read_bytes()
    (model / "collaborative.safetensors").write_bytes(content[:-100])


def configure(**changes):
    def change(model):
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | changes))

    return change


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (shutil.rmtree, "expected a model folder, found no config.json"),
        (configure(model_type="llama"), "expected an XRec model, found 'llama'"),
        (configure(base_model_name_or_path="/home/me/backbone"), "which nobody else has; publish it, or save the model whole"),
        (configure(base_model_name_or_path="me/base"), "expected the commit of the base model me/base, found None"),
        (spoil_tensor, "user_adapter.expert_bias in .* is not what checksums.json says"),
        (truncate, "expected whole files of tensors, found .*incomplete"),
        (lambda model: (model / "checksums.json").unlink(), "expected checksums.json, found none"),
        (lambda model: (model / "users.json").unlink(), "expected users.json, found none"),
        (lambda model: (model / "lightgcn.py").unlink(), "expected code that keeps to itself, found .*lightgcn"),
        (lambda model: (model / "lightgcn.py").write_text("import os"), "found an import of os"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(model, hub, spoil, line):
    spoil(model)
    with pytest.raises(DataError, match=line) as caught:
        publish(model, REPO, **OURS)
    assert "\n" not in str(caught.value)
    assert hub.requests() == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "expected a licence, found none"),
        ({"licence": "My Licence"}, "expected a licence by its id on the Hub"),
        ({"include_reviews": True, **OURS}, "expected a dataset to publish interactions or reviews with, found none"),
        ({"include_interactions": True, **OURS}, "expected a dataset to publish interactions or reviews with, found none"),
        ({"dataset_repo_id": "me/data", **OURS}, "expected the dataset of me/data, found none; give --data"),
    ],
)
def test_what_was_not_asked_for_in_full_is_refused(model, hub, options, line):
    with pytest.raises(DataError, match=line):
        publish(model, REPO, **options)
    assert hub.requests() == []


def test_data_of_an_unknown_licence_are_refused_whatever_the_model_is_licensed_by(model, own_data, hub, tmp_path):
    data = shutil.copytree(own_data, tmp_path / "data")
    build = json.loads((data / "build.json").read_text())
    (data / "build.json").write_text(json.dumps(build | {"source": "amazon-2018"}))
    with pytest.raises(DataError, match="found amazon-2018, whose licence is unknown"):
        publish(model, REPO, data=data, **OURS)
    (data / "build.json").write_text(json.dumps(build | {"source": "yelp"}))
    with pytest.raises(DataError, match="its terms forbid to hand them on"):
        publish(model, REPO, data=data, include_users=True, **OURS)
    assert hub.requests() == []


# What goes wrong on the way


@pytest.mark.parametrize(
    ("match", "fault", "line"),
    [
        ("preupload", {"status": 401}, r"no token that it knows \(401\); run `hf auth login`"),
        ("preupload", {"status": 403}, r"a token without the right to do that \(403\)"),
        ("commit/main", {"status": 404}, r"no such repository, or none that this token may see \(404\)"),
        ("commit/main", {"status": 409}, r"that another change of it is under way .*\(409\)"),
        ("commit/main", {"status": 412}, r"a commit that someone else has made meanwhile \(412\)"),
        ("preupload", {"status": 429, "headers": {"Retry-After": "0"}}, r"that it wants fewer requests \(429\)"),
        ("PUT /lfs", {"status": 403}, r"a token without the right to do that \(403\)"),
        ("commit/main", {"status": 500}, r"that it fails \(500\), at every try"),
        ("commit/main", {"cut": True}, r"no connection that lasts to http://127.*; check the network"),
        ("GET /api/models/me/why", {"cut": True}, "no connection that lasts to"),
    ],
)
def test_one_line_and_the_old_state(model, hub, no_pauses, match, fault, line):
    publish(model, REPO, **OURS)
    old = hub.head(REPO).name, hub.files(REPO)
    spoiled = load_file(model / "model.safetensors")
    (model / "losses.png").write_bytes(b"\x89PNG\r\n\x1a\nother")
    save_file(spoiled, model / "model.safetensors", {"format": "pt", "note": "other bytes"})
    hub.fail(match, **fault)
    with pytest.raises(DataError, match=f"^me/why: expected the Hub to take the model, found {line}") as caught:
        publish(model, REPO, **OURS)
    assert "\n" not in str(caught.value)
    assert (hub.head(REPO).name, hub.files(REPO)) == old
    hub.mend()
    done = publish(model, REPO, **OURS)
    assert hub.files(REPO)["losses.png"] == (model / "losses.png").read_bytes()
    assert pinned(hub.files(REPO)["README.md"]) == {done.revision}


@pytest.mark.parametrize(
    ("match", "fault"),
    [
        ("preupload", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("commit/main", {"status": 500}),
        ("repos/create", {"cut": True}),
        ("PUT /lfs", {"cut": True}),
        ("commit/main", {"cut": True}),
        ("commit/main", {"cut": "answer"}),
    ],
)
def test_what_passes_is_tried_again(model, hub, no_pauses, match, fault):
    hub.fail(match, times=1, **fault)
    done = publish(model, REPO, **OURS)
    assert json.loads((hub.root / "faults.json").read_text())[0]["times"] == 0
    assert set(hub.files(REPO)) == set(done.files)
    assert pinned(hub.files(REPO)["README.md"]) == {done.revision}
    assert {path.name for path in (hub.root / REPO / done.revision).iterdir()} >= {"config.json", "model.safetensors"}
    assert publish(model, REPO, **OURS).changed is False


def test_pauses_are_bounded_whatever_the_hub_asks_for(model, hub, monkeypatch):
    pauses = []
    monkeypatch.setattr("xrec_dataset_builder.hub_trouble.time.sleep", pauses.append)
    hub.fail("repos/create", status=429, headers={"Retry-After": "86400"})
    with pytest.raises(DataError, match="fewer requests"):
        publish(model, REPO, **OURS)
    assert pauses == [60.0, 60.0, 60.0]


def test_no_network_is_one_line(model, hub, no_pauses, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"no connection that lasts to http://127\.0\.0\.1:9 .*; check the network"):
        publish(model, REPO, **OURS)


def test_what_someone_else_pushes_meanwhile_is_not_overwritten(model, hub):
    publish(model, REPO, **OURS)
    save_file(load_file(model / "model.safetensors"), model / "model.safetensors", {"format": "pt", "note": "other bytes"})
    (hub.root / "stall").touch()
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish, model, REPO, **OURS)
        deadline = time.monotonic() + 60
        while not (hub.root / "stalled").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.copytree(hub.head(REPO), hub.root / REPO / ("c" * 40))
        (hub.root / REPO / "main").write_text("c" * 40)
        (hub.root / "stall").unlink()
        with pytest.raises(DataError, match=r"a commit that someone else has made meanwhile \(412\)"):
            publishing.result()
    assert hub.head(REPO).name == "c" * 40


@pytest.mark.slow
def test_a_killed_push_leaves_the_old_revision_and_is_repeated(model, hub):
    publish(model, REPO, **OURS)
    old = hub.head(REPO).name
    save_file(load_file(model / "model.safetensors"), model / "model.safetensors", {"format": "pt", "note": "other bytes"})
    (hub.root / "stall").touch()
    command = [sys.executable, "-c", COMMAND, model, "--repo-id", REPO, "--licence", "cc0-1.0"]
    with subprocess.Popen(command, env=hub.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as pushing:
        deadline = time.monotonic() + 120
        while not (hub.root / "stalled").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        pushing.kill()
    assert (hub.root / "stalled").exists()
    (hub.root / "stall").unlink()
    assert hub.head(REPO).name == old
    said = hub.run(*command)
    assert hub.files(REPO)["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert next(iter(pinned(hub.files(REPO)["README.md"]))) in said
    assert said.splitlines()[-2].startswith("Published: http://127")


def test_the_command_prints_what_it_would_send(model, hub, capsys):
    publish_command([str(model), "--repo-id", REPO, "--licence", "cc0-1.0", "--dry-run", "--check"])
    said = capsys.readouterr().out
    assert hub.requests() == []
    for name in ("model.safetensors", "collaborative.safetensors", "users.json", "modeling_xrec.py"):
        assert f"  {name}\n" in said
    assert f"The key of the user ids stays here: {model}.private/user_key\n" in said
    assert said.endswith("Nothing was sent.\n")


def test_the_command_names_the_commit_and_the_tag_holds_it(model, hub, capsys):
    publish_command([str(model), "--repo-id", REPO, "--licence", "cc0-1.0", "--tag", "v1", "--private", "--include-users"])
    said = capsys.readouterr().out
    (revision,) = pinned(hub.files(REPO)["README.md"])
    assert f"Load it at revision {revision}; code hash " in said
    assert "The key" not in said
    assert (hub.root / REPO / "private").exists()
    assert (hub.root / REPO / "tags" / "v1").read_text() == hub.head(REPO).name
    assert json.loads(hub.files(REPO)["users.json"]) == json.loads((model / "users.json").read_text())
    with pytest.raises(DataError, match="see `xrec publish --help`"):
        publish_command([str(model)])
