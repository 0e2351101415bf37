import json

import pytest

from xrec_dataset_builder.errors import DataError
from xrec_hub_card.facts import ModelFiles


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_the_files_of_a_folder_are_read(published, report):
    files = ModelFiles.read(published, report)
    assert (len(files.users), len(files.items)) == (files.config["num_users"], files.config["num_items"])
    assert files.recipe["signal"] == "graph"
    assert files.checksums == len(json.loads((published / "checksums.json").read_text())["tensors"])
    assert (files.metrics["rows"], files.audit["bits"]["permuted"]["value"], files.judges) == (7, 1.5, None)
    assert ModelFiles.read(published).metrics is None
    for name in ("training.json", "checksums.json", "users.json", "items.json"):
        (published / name).unlink()
    bare = ModelFiles.read(published)
    assert (bare.recipe, bare.checksums, bare.users, bare.items) == (None, None, [], [])


def test_a_backbone_is_named_by_an_id_of_the_hub_or_not_at_all(published):
    assert ModelFiles.read(published).base_model is None  # a scratch backbone, known by a folder of this machine
    change(published, text_config={"model_type": "llama", "_name_or_path": "maker/base"})
    assert ModelFiles.read(published).base_model == ("maker/base", None)
    change(published, base_model_name_or_path="maker/base", base_model_revision="f" * 40)
    files = ModelFiles.read(published)
    assert (files.adapter_sized, files.base_model) == (True, ("maker/base", "f" * 40))
    change(published, base_model_name_or_path="/home/someone/base")
    with pytest.raises(DataError, match="the folder 'base', which no one else has"):
        _ = ModelFiles.read(published).base_model


def test_what_is_no_model_folder_or_no_report_is_refused(published, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected metrics\.json or audit\.json"):
        ModelFiles.read(published, tmp_path / "empty")
    with pytest.raises(DataError, match=r"expected the config.json of an XRec model"):
        ModelFiles.read(tmp_path / "empty")
    change(published, model_type="llama")
    with pytest.raises(DataError, match=r"expected the config.json of an XRec model"):
        ModelFiles.read(published)
    (published / "config.json").write_text("{")
    with pytest.raises(DataError, match="expected JSON"):
        ModelFiles.read(published)


def test_facts_that_name_nothing_are_refused(published, facts_of):
    wrong = [
        {"repo_id": "model"},
        {"repo_id": "a/b/c"},
        {"dataset_repo_id": "data"},
        {"revision": "main"},
        {"licence": "other"},
    ]
    for changes in wrong:
        with pytest.raises(DataError, match="expected"):
            facts_of(published, **changes)
    facts = facts_of(published, licence="other", licence_name="mine", licence_link="https://example.org", revision=None)
    assert (facts.name, facts.language) == ("model", "en")
    assert facts_of(published, build=None).language is None
    build = facts.build | {"source": "table", "options": {"language": "de"}}
    assert facts_of(published, build=build).language == "de"
