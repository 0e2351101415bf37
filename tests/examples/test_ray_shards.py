"""The example on a local Ray, in a process of its own as a user starts it: the same files as one process makes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REASONS = ("the crust was fresh", "the staff was friendly", "the soup was cold", "the garden was quiet")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    rows = [
        f'{{"reviewerID": "U{user}", "asin": "B{item}", "overall": 5.0, "unixReviewTime": {1_500_000_000 + user}, '
        f'"reviewText": "I loved place {user} by door {item} because {REASONS[(user + item) % 4]}."}}\n'
        for user in range(40)
        for item in range(6)
    ]
    (tmp_path / "reviews.json").write_text("".join(rows))
    return tmp_path


def run(here: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_shards_on_ray_make_the_files_of_one_process(here: Path):
    example, whole = str(ROOT / "examples" / "ray_shards.py"), ["-m", "xrec_training.cli"]
    build = ["build", "amazon-2018", "--reviews", "reviews.json", "--k-core", "2", "--out"]
    run(here, example, "3", *build, "sharded")
    run(here, *whole, *build, "plain")
    run(here, example, "3", "distill", "sharded")
    run(here, *whole, "distill", "plain")
    assert content(here / "sharded") == content(here / "plain")
    assert len(content(here / "plain")) > 10


def test_what_a_shard_refuses_is_said_in_one_line(here: Path):
    example = str(ROOT / "examples" / "ray_shards.py")
    words = [sys.executable, example, "2", "distill", "nowhere"]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "expected a dataset folder with build.json, found no such folder" in done.stderr.splitlines()[-1]
