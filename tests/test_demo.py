"""The main job: `xrec demo` with its defaults, and what it must show."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "xrec_training.cli", "demo", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return out, result.stdout


@pytest.mark.timeout(900)
def test_the_demo_leaves_everything(demo):
    out, printed = demo
    assert {"data", "graph", "model", "report"} <= {path.name for path in out.iterdir()}
    assert printed.count("  truth:  ") == 5
    assert "The graph closes" in printed
    assert (out / "report" / "report.html").stat().st_size > 1000
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    assert used < 4, f"{used:.1f} GB"


def test_the_graph_closes_half_of_the_gap_and_permuting_it_undoes_that(demo):
    out, _ = demo
    result = json.loads((out / "report" / "metrics.json").read_text())
    f1 = {name: system["metrics"]["aspect_f1"]["value"] for name, system in result["systems"].items()}
    oracle = result["ceilings"]["oracle"]["aspect_f1"]
    assert f1["model"] - f1["no signal"] >= 0.5 * (oracle - f1["no signal"])
    assert f1["permuted embeddings"] <= f1["no signal"] + 0.05
    assert result["systems"]["no signal"]["model_minus_system"]["aspect_f1"]["low"] > 0


def test_the_demos_model_explains_what_the_readme_asks(demo):
    out, _ = demo
    readme = (ROOT / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0].replace('"demo/model"', repr(str(out / "model")))
    history = readme.split("```python\n")[2].split("```")[0]
    result = subprocess.run([sys.executable, "-c", code + history], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().endswith(".")
