"""A distilled dataset whose ids and texts are easy to find again, and a Hub to publish it on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import yaml

from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.prepare import PrepareOptions

from .conftest import amazon_rows, write_lines

HUB = Path(__file__).parents[1] / "loopback_hub.py"
REPO = "me/why"


def personal_rows(seed: int = 0) -> list[dict[str, object]]:
    """Reviews by people whose ids occur nowhere by chance."""
    rows = amazon_rows(users=30, seed=seed)
    return [row | {"reviewerID": f"AREVIEWER{str(row['reviewerID'])[1:]:>04}QZ"} for row in rows]


def make_dataset(root: Path, seed: int = 0, distilled: bool = True, **options) -> Path:
    """Build a dataset folder `root`/data of an Amazon dump."""
    root.mkdir(parents=True, exist_ok=True)
    reviews = write_lines(root / "reviews.json", personal_rows(seed))
    items = write_lines(
        root / "meta.json", [{"asin": f"B{n}", "title": f"Cafe {n}", "description": ["Open late."]} for n in range(10)]
    )
    build("amazon-2018", root / "data", inputs=Inputs([reviews], items=items), options=PrepareOptions(**options))
    if distilled:
        distill(root / "data", progress=False)
    return root / "data"


def read_tables(root: Path, config: str) -> dict[str, pl.DataFrame]:
    """The Parquet files of a config, by file name."""
    return {path.stem: pl.read_parquet(path) for path in sorted((root / "data" / config).glob("*.parquet"))}


def card_head(root: Path) -> dict:
    """The YAML of a card."""
    return yaml.safe_load((root / "README.md").read_text().split("---\n")[1])


@dataclass(frozen=True)
class LoopbackHub:
    """A running Hub: its folder, its address and the environment of its clients."""

    root: Path
    address: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HF_ENDPOINT": self.address, "HF_HOME": str(self.root.parent / "home"), "HOME": str(self.root.parent), "PATH": "",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_TOKEN": "hf_dummy", "POLARS_MAX_THREADS": "1",
        }  # fmt: skip

    def repository(self, repo: str = REPO) -> Path:
        return self.root / "datasets" / repo

    def head(self, repo: str = REPO, branch: str = "main") -> Path:
        """The files that a branch stands at."""
        return self.repository(repo) / (self.repository(repo) / branch).read_text()

    def files(self, repo: str = REPO, branch: str = "main") -> dict[str, Path]:
        head = self.head(repo, branch)
        return {str(path.relative_to(head)): path for path in head.rglob("*") if path.is_file()}

    def requests(self) -> list[str]:
        log = self.root / "requests.log"
        return log.read_text().splitlines() if log.exists() else []


@contextmanager
def loopback_hub(root: Path) -> Iterator[LoopbackHub]:
    """Run a Hub on an empty folder."""
    root.mkdir(parents=True)
    with subprocess.Popen([sys.executable, HUB, root], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield LoopbackHub(root, server.stdout.readline().strip())
        server.kill()
