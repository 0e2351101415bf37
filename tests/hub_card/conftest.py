"""A small model folder as it is published, what is known of it, and a report of a few rows."""

import json
import shutil
from pathlib import Path

import pytest

from xrec_hub_card.code_scan import code_files, code_hash
from xrec_hub_card.facts import ModelFacts

from .loopback import hub, model, no_pauses, own_data, shelf  # noqa: F401 - fixtures
from .made_up_report import AUDIT, COMMIT, scores


@pytest.fixture
def published(tiny_run, tmp_path) -> Path:
    """A copy of the small model that a test may change, in `owner/model` of an own folder."""
    folder = tmp_path / "owner" / "model"
    shutil.copytree(tiny_run, folder)
    return folder


@pytest.fixture
def facts_of(tiny_data):
    """Builds what is known of a model folder."""

    def build(folder: Path, **changes) -> ModelFacts:
        code = code_files(folder)
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        known = {
            "repo_id": "owner/model", "revision": COMMIT, "dataset_repo_id": "owner/data", "licence": "cc0-1.0",
            "files": sizes, "code": code, "code_hash": code_hash(code), "left_out": ("Reviews stay at home.",),
            "private_users": True, "build": json.loads((tiny_data / "build.json").read_text()),
        }  # fmt: skip
        return ModelFacts(**(known | changes))

    return build


@pytest.fixture
def report(tmp_path) -> Path:
    """A folder with figures: of the model, of a condition, of two floors; and of an audit."""
    folder = tmp_path / "report"
    folder.mkdir()
    names = {"model": "model", "permuted embeddings": "condition", "template": "floor", "Rival | [a](b) <i>": "system"}
    (folder / "metrics.json").write_text(json.dumps(scores(names)))
    (folder / "audit.json").write_text(json.dumps(AUDIT))
    return folder
