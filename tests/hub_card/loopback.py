"""A model and its dataset to publish, and a Hub on the loopback interface to publish them on; fixtures for `conftest`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub.constants
import pytest

from xrec_hub_card.publish import Publication, publish

HUB = Path(__file__).parents[1] / "loopback_hub.py"


@dataclass(frozen=True)
class Hub:
    """A running Hub: its folder and its address."""

    root: Path
    address: str

    @property
    def environment(self) -> dict[str, str]:
        """Of a client that has nothing yet, and nothing of this machine's."""
        home = self.root.parent / "home"
        return {
            "HF_ENDPOINT": self.address, "HF_HOME": str(home), "HOME": str(self.root.parent), "PATH": "", "HF_TOKEN": "hf_x",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def head(self, repo: str, branch: str = "main") -> Path:
        """The files that a branch stands at."""
        return self.root / repo / (self.root / repo / branch).read_text()

    def files(self, repo: str) -> dict[str, bytes]:
        """Path to content of what `main` holds, but for git's own."""
        head = self.head(repo)
        found = {str(path.relative_to(head)): path.read_bytes() for path in head.rglob("*") if path.is_file()}
        return {name: content for name, content in found.items() if name != ".gitattributes"}

    def requests(self, matching: str = "") -> list[str]:
        log = self.root / "requests.log"
        return [line for line in log.read_text().splitlines() if matching in line] if log.exists() else []

    def fail(self, match: str, times: int = 99, **fault) -> None:
        """Let requests that match fail; `fault` is `status` and perhaps `headers`, or `cut`."""
        (self.root / "faults.json").write_text(json.dumps([{"match": match, "times": times, **fault}]))

    def mend(self) -> None:
        (self.root / "faults.json").unlink()

    def run(self, *command: str | Path, **environment: str) -> str:
        """What a client of this Hub prints."""
        cwd = self.root.parent
        ran = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=self.environment | environment)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout

    def python(self, code: str, *arguments: str | Path, **environment: str) -> str:
        return self.run(sys.executable, "-c", code, *arguments, **environment)


@contextmanager
def running_hub(root: Path) -> Iterator[Hub]:
    """A Hub on an empty folder, and this process one of its clients."""
    root.mkdir(parents=True)
    with subprocess.Popen([sys.executable, HUB, root], stdout=subprocess.PIPE, text=True) as server:
        hub = Hub(root, server.stdout.readline().strip())
        with aimed_at(hub):
            yield hub
        server.kill()


@contextmanager
def aimed_at(hub: Hub) -> Iterator[None]:
    """This process as a client of a Hub."""
    with pytest.MonkeyPatch.context() as patch:
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
        template = template.replace(huggingface_hub.constants.ENDPOINT, hub.address)
        patch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        patch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr("transformers.utils.hub._hf_api", None)  # it keeps the first address that it was asked with
        patch.setenv("HF_TOKEN", "hf_x")
        yield


@pytest.fixture
def hub(tmp_path):
    with running_hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture(scope="session")
def own_data(tiny_data, tmp_path_factory) -> Path:
    """The small world's dataset, where a key may be made."""
    return shutil.copytree(tiny_data, tmp_path_factory.mktemp("own") / "data")


@pytest.fixture
def model(tiny_run, tmp_path) -> Path:
    """The small world's model, to be changed."""
    return shutil.copytree(tiny_run, tmp_path / "model")


@dataclass(frozen=True)
class Shelf:
    """A Hub with a model published in both ways, its users as they are and under keyed hashes, and both datasets."""

    hub: Hub
    model: Path
    data: Path
    open: Publication
    hashed: Publication


@pytest.fixture(scope="session")
def shelf(tiny_run, own_data, tmp_path_factory) -> Iterator[Shelf]:
    root = tmp_path_factory.mktemp("shelf") / "hub"
    root.mkdir()
    with subprocess.Popen([sys.executable, HUB, root], stdout=subprocess.PIPE, text=True) as server:
        hub = Hub(root, server.stdout.readline().strip())
        with aimed_at(hub):
            everything = {"include_users": True, "include_interactions": True, "include_reviews": True}
            opened = publish(tiny_run, "me/open", data=own_data, dataset_repo_id="me/open-data", **everything)
            hashed = publish(tiny_run, "me/hashed", data=own_data, dataset_repo_id="me/hashed-data")
        yield Shelf(hub, tiny_run, own_data, opened, hashed)
        server.kill()


@pytest.fixture
def no_pauses(monkeypatch):
    """Tries follow one another at once."""
    monkeypatch.setattr("xrec_dataset_builder.hub_trouble.time.sleep", lambda _: None)
