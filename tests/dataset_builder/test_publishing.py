"""What goes out to the Hub, through its own client, and what stays at home."""

import hashlib
import json
import logging
import re
import stat
import subprocess
import sys
import time

import huggingface_hub.constants
import polars as pl
import pytest

from xrec_dataset_builder import DataError, DatasetFolder, Publication, push_to_hub
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.publishing import user_key

from .published import REPO, card_head, loopback_hub, make_dataset, personal_rows, read_tables

ACCEPTED = {"accept_unknown_licence": True}
LOAD = """
import json, sys
from datasets import get_dataset_config_names, load_dataset
repo, out = sys.argv[1], {}
for name in get_dataset_config_names(repo):
    whole = load_dataset(repo, name)
    out[name] = {split: [rows.num_rows, {k: v.dtype for k, v in rows.features.items()}] for split, rows in whole.items()}
stream, whole = load_dataset(repo, streaming=True), load_dataset(repo)
assert {split: list(rows) for split, rows in stream.items()} == {split: list(rows) for split, rows in whole.items()}
print(json.dumps(out))
"""
PUSH = """
import sys
from xrec_dataset_builder import push_to_hub
print(push_to_hub(sys.argv[1], sys.argv[2], accept_unknown_licence=True).commit)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("published"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with loopback_hub(tmp_path / "hub") as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_dummy")
        yield hub


def keyed_hash(user_id: str, key: bytes) -> str:
    """HMAC-SHA-256 as RFC 2104 defines it, for a key of less than a block."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + user_id.encode()).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).hexdigest()


def everything_sent(hub) -> list[str]:
    """All that the Hub ever got: its files as they are and, of tables, every cell."""
    sent = [path.read_bytes().decode("latin-1") for path in hub.root.rglob("*") if path.is_file()]
    for path in hub.root.rglob("*.parquet"):
        sent += [str(cell) for row in pl.read_parquet(path).rows() for cell in row]
    return sent


def test_nothing_private_goes_out_by_default(data, hub):
    done = push_to_hub(data, REPO, **ACCEPTED)
    sent = everything_sent(hub)
    texts = [row["reviewText"] for row in personal_rows()] + [f"Table {user} by door" for user in range(30)]
    for secret in {str(row["reviewerID"]) for row in personal_rows()} | {"AREVIEWER", *texts}:
        assert not any(secret in one for one in sent)
    key = DatasetFolder(data).root / "private" / "user_key"
    assert not any(key.read_bytes().decode("latin-1") in one or key.read_bytes().hex() in one for one in sent)
    assert set(hub.files()) - {".gitattributes"} == set(done.files) == {
        "README.md", "data/items/all.parquet", *(f"data/explanations/{s}.parquet" for s in ("train", "validation", "test"))
    }  # fmt: skip
    assert (hub.repository() / "private").exists()


def test_what_goes_out_is_what_is_there_under_keyed_hashes(data, hub):
    push_to_hub(data, REPO, **ACCEPTED)
    key = (data / "private" / "user_key").read_bytes()
    for split, rows in read_tables(data, "explanations").items():
        wanted = [
            (keyed_hash(user, key), item, title, "", profile, text) for user, item, title, _, profile, text in rows.rows()
        ]
        assert read_tables(hub.head(), "explanations")[split].rows() == sorted(wanted)
    assert read_tables(hub.head(), "items")["all"].equals(read_tables(data, "items")["all"])


def test_the_key_is_made_once_for_its_owner_alone(data):
    folder = DatasetFolder(data)
    first = user_key(folder)
    assert user_key(folder) == first
    assert stat.S_IMODE((data / "private" / "user_key").stat().st_mode) == 0o600


def test_a_broken_key_is_refused(tmp_path):
    data = make_dataset(tmp_path)
    (data / "private" / "user_key").write_bytes(b"short")
    with pytest.raises(DataError, match="expected a key of 32 bytes, found 5"):
        push_to_hub(data, REPO, dry_run=True, **ACCEPTED)


def test_a_dry_run_measures_and_sends_nothing(data, hub):
    dry = push_to_hub(data, REPO, dry_run=True, **ACCEPTED)
    assert hub.requests() == []
    done = push_to_hub(data, REPO, **ACCEPTED)
    assert dry == Publication(REPO, done.files, done.left_out)
    assert done.files == {name: hub.files()[name].stat().st_size for name in done.files}
    card = (hub.head() / "README.md").read_text()
    assert all(f"- {note}\n" in card for note in dry.left_out)
    assert "Raw reviews are not published." in dry.left_out


def test_the_real_client_loads_what_was_pushed(data, hub, tmp_path):
    push_to_hub(data, REPO, include_users=True, include_interactions=True, include_reviews=True, private=False, **ACCEPTED)
    assert not (hub.repository() / "private").exists()
    ran = subprocess.run([sys.executable, "-c", LOAD, REPO], capture_output=True, text=True, env=hub.environment, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    loaded = json.loads(ran.stdout)
    head = card_head(hub.head())
    assert list(loaded) == [one["config_name"] for one in head["configs"]] == [
        "explanations", "interactions", "users", "items", "reviews"
    ]  # fmt: skip
    stated = {one["config_name"]: {f["name"]: f["dtype"] for f in one["features"]} for one in head["dataset_info"]}
    reviews = pl.read_parquet(data / "private" / "reviews.parquet")
    for name, splits in loaded.items():
        assert all(features == stated[name] for _, features in splits.values())
        if name == "reviews":
            wanted = dict(reviews["split"].value_counts().rows())
        else:
            wanted = {"train" if s == "all" else s: rows.height for s, rows in read_tables(data, name).items()}
        assert {split: rows for split, (rows, _) in splits.items()} == wanted
    assert read_tables(hub.head(), "users")["all"].equals(read_tables(data, "users")["all"])
    assert read_tables(hub.head(), "interactions")["test"].equals(read_tables(data, "interactions")["test"])


def test_pseudonyms_are_the_same_in_all_tables(data, hub):
    push_to_hub(data, REPO, include_interactions=True, include_reviews=True, **ACCEPTED)
    pairs = {
        config: {row[:2] for rows in read_tables(hub.head(), config).values() for row in rows.rows()}
        for config in ("explanations", "interactions", "reviews")
    }
    assert pairs["explanations"] <= pairs["interactions"] == pairs["reviews"]
    assert all(re.fullmatch("[0-9a-f]{64}", user) for user, _ in pairs["interactions"])


def test_a_second_push_of_the_same_makes_no_commit(data, hub, caplog):
    caplog.set_level(logging.ERROR)
    first = push_to_hub(data, REPO, **ACCEPTED)
    commits = [line for line in hub.requests() if "/commit/" in line]
    assert len(commits) == 1
    before = len(hub.requests())
    second = push_to_hub(data, REPO, **ACCEPTED)
    assert second == Publication(REPO, first.files, first.left_out, first.commit, second.url)
    assert not [line for line in hub.requests()[before:] if "/commit/" in line or line.startswith("PUT")]


def test_what_no_longer_belongs_goes_with_the_same_commit(data, hub):
    push_to_hub(data, REPO, include_users=True, include_interactions=True, **ACCEPTED)
    (hub.head() / "notes.txt").write_text("the owner's own")
    push_to_hub(data, REPO, **ACCEPTED)
    assert "notes.txt" in hub.files()
    assert {name.split("/")[1] for name in hub.files() if name.startswith("data/")} == {"explanations", "items"}
    assert [one["config_name"] for one in card_head(hub.head())["configs"]] == ["explanations", "items"]
    assert len([line for line in hub.requests() if "/commit/" in line]) == 2


def test_a_killed_push_leaves_the_old_revision(tmp_path, hub):
    push_to_hub(make_dataset(tmp_path / "old"), REPO, **ACCEPTED)
    old, data = hub.files(), make_dataset(tmp_path / "new", seed=1)
    (hub.root / "stall").touch()
    with subprocess.Popen([sys.executable, "-c", PUSH, data, REPO], env=hub.environment, stderr=subprocess.DEVNULL) as pushing:
        deadline = time.monotonic() + 60
        while not (hub.root / "stalled").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        pushing.kill()
    assert (hub.root / "stalled").exists()
    (hub.root / "stall").unlink()
    assert hub.files() == old
    push_to_hub(data, REPO, **ACCEPTED)
    assert hub.files() != old
    assert read_tables(hub.head(), "explanations")["train"].height == read_tables(data, "explanations")["train"].height


def test_a_refused_upload_is_one_line_and_changes_nothing(tmp_path, data, hub):
    push_to_hub(data, REPO, **ACCEPTED)
    old = hub.files()
    (hub.root / "refuse").touch()
    with pytest.raises(DataError, match=r"^me/why: expected the Hub to take the dataset, found .*403") as caught:
        push_to_hub(make_dataset(tmp_path, seed=1), REPO, **ACCEPTED)
    assert "\n" not in str(caught.value)
    assert hub.files() == old


def test_a_branch_is_made_and_main_stays(data, hub):
    done = push_to_hub(data, REPO, revision="v2", **ACCEPTED)
    assert hub.head(branch="v2").name == done.commit
    assert list(hub.files()) == [".gitattributes"]


def test_a_public_repository_is_not_taken_for_a_private_one(data, hub):
    push_to_hub(data, REPO, private=False, **ACCEPTED)
    with pytest.raises(DataError, match="expected a private repository, found a public one"):
        push_to_hub(data, REPO, include_reviews=True, **ACCEPTED)


def test_an_unknown_licence_is_refused_unless_told_to(data):
    with pytest.raises(DataError, match="found amazon-2018, whose licence is unknown"):
        push_to_hub(data, REPO, dry_run=True)
    with pytest.raises(DataError, match="not yours to license"):
        push_to_hub(data, REPO, licence="cc-by-4.0", dry_run=True)


def test_a_table_of_ones_own_may_state_its_licence(tmp_path, hub):
    (tmp_path / "i.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(5)))
    (tmp_path / "e.csv").write_text("user_id,item_id,explanation\n" + "".join(f"{u},7,why {u}\n" for u in range(9)))
    inputs = Inputs(interactions=tmp_path / "i.csv", explanations=tmp_path / "e.csv")
    build("table", tmp_path / "out", inputs=inputs)
    with pytest.raises(DataError, match="for data of your own, state its licence"):
        push_to_hub(tmp_path / "out", REPO)
    with pytest.raises(DataError, match="expected a licence by its id on the Hub"):
        push_to_hub(tmp_path / "out", REPO, licence="My Licence")
    with pytest.raises(DataError, match="expected raw reviews, found none"):
        push_to_hub(tmp_path / "out", REPO, licence="cc-by-4.0", include_reviews=True)
    push_to_hub(tmp_path / "out", REPO, licence="cc-by-4.0")
    assert card_head(hub.head())["license"] == "cc-by-4.0"


def test_yelps_own_data_go_into_no_public_repository(tmp_path):
    rows = [
        {"review_id": str(n), "user_id": f"u{n % 9}", "business_id": f"b{n % 7}", "stars": 4.0, "date": "2018-07-07 22:09:11",
         "text": f"I loved the pizza because it was fresh. Number {n}."}
        for n in range(63)
    ]  # fmt: skip
    (tmp_path / "r.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build("yelp", tmp_path / "out", inputs=Inputs([tmp_path / "r.json"]))
    with pytest.raises(DataError, match="its terms forbid to hand them on"):
        push_to_hub(tmp_path / "out", REPO, private=False, include_interactions=True, dry_run=True)
    with pytest.raises(
        DataError, match="its terms forbid to hand them on"
    ):  # raw ids beside explained items are the same pairs
        push_to_hub(tmp_path / "out", REPO, private=False, include_users=True, dry_run=True)


@pytest.mark.parametrize("name", ["why", "a/b/c", "me/", "me/w?y", ""])
def test_a_repository_is_written_as_owner_and_name(data, name):
    with pytest.raises(DataError, match="expected a repository as owner/name"):
        push_to_hub(data, name, dry_run=True, **ACCEPTED)


def test_a_folder_that_is_not_distilled_is_refused(tmp_path):
    with pytest.raises(
        DataError, match="expected the files of explanations, found not all of them or no row; run `xrec distill`"
    ):
        push_to_hub(make_dataset(tmp_path, distilled=False), REPO, dry_run=True, **ACCEPTED)
