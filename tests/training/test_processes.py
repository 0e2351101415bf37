import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_xrec import XRecForCausalLM
from xrec_training.finetune import train

SCRIPT = Path(__file__).with_name("two_processes.py")
FSDP = {"fsdp": True, "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                                      "state_dict_type": "FULL_STATE_DICT"}}  # fmt: skip
STEPS = {"max_steps": 8, "logging_steps": 1, "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4, "disable_tqdm": True,
         "train_sampling_strategy": "sequential", "adapter_dropout": 0.0, "learning_rate": 0.01}  # fmt: skip
TWO = {"per_device_train_batch_size": 8, "ddp_backend": "gloo"}


@pytest.fixture(scope="module")
def one_process(tiny_run, tiny_data, tiny_graph, tmp_path_factory):
    """The run of one process with batches as large as both have together: its weights and its log."""
    from xrec_training.recipe import read_recipe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", torch.zeros_like)
        recipe = read_recipe("demo", settings(tiny_run) | {"per_device_train_batch_size": 16})
        return result(train(tiny_data, tiny_graph, tmp_path_factory.mktemp("one") / "run", recipe))


def settings(tiny_run) -> dict:
    return STEPS | {"backbone": str(tiny_run.with_name("model-backbone"))}


def result(run: Path) -> tuple[dict, list]:
    return load_file(run / "model.safetensors"), json.loads((run / "training.json").read_text())["log"]


def torchrun(job: Path, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT, job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert not check or done.returncode == 0, done.stderr[-4000:]
    return done


def job_of(folder: Path, tiny_run, tiny_data, tiny_graph, recipe, resume=False) -> Path:
    job = {"data": str(tiny_data), "graph": str(tiny_graph), "out": str(folder / "run"), "resume": resume}
    path = folder / "job.json"
    path.write_text(json.dumps(job | {"recipe": settings(tiny_run) | TWO | recipe}))
    return path


@pytest.mark.parametrize("engine", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_train_as_one(engine, one_process, tiny_run, tiny_data, tiny_graph, tmp_path):
    torchrun(job_of(tmp_path, tiny_run, tiny_data, tiny_graph, FSDP if engine == "fsdp2" else {}))
    weights, log = result(tmp_path / "run")
    expected_weights, expected_log = one_process
    for key in ("loss", "eval_loss", "learning_rate"):
        found, expected = ([row[key] for row in rows if key in row] for rows in (log, expected_log))
        assert found == pytest.approx(expected, rel=1e-5), key
    assert weights.keys() == expected_weights.keys()
    for name, value in weights.items():
        assert torch.allclose(value, expected_weights[name], atol=1e-5), name
    XRecForCausalLM.from_pretrained(tmp_path / "run")
    assert not (tmp_path / "run.partial").exists()


@pytest.mark.slow
def test_two_processes_train_both_stages_as_one(tiny_run, tiny_data, tiny_graph, tmp_path, monkeypatch):
    from xrec_training.recipe import read_recipe

    stages = {"profile_epochs": 1, "max_steps": 2, "eval_steps": 2, "save_steps": 2}
    torchrun(job_of(tmp_path, tiny_run, tiny_data, tiny_graph, stages))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    recipe = read_recipe("demo", settings(tiny_run) | stages | {"per_device_train_batch_size": 16})
    one = train(tiny_data, tiny_graph, tmp_path / "one", recipe)
    for run, expected in (("run-profiles", one.with_name("one-profiles")), ("run", one)):
        weights, expected_weights = result(tmp_path / run)[0], result(expected)[0]
        assert weights.keys() == expected_weights.keys()
        for name, value in weights.items():
            assert torch.allclose(value, expected_weights[name], atol=1e-5), (run, name)


@pytest.mark.slow
def test_two_processes_train_with_every_term(tiny_run, tiny_data, tiny_graph, tmp_path):
    """Every process exchanges rows among its own, so the terms are not those of one process: here they end, and are finite."""
    terms = {"contrast": 0.5, "align": 0.5, "balance": 0.5, "max_steps": 2, "eval_steps": 2, "save_steps": 2}
    torchrun(job_of(tmp_path, tiny_run, tiny_data, tiny_graph, terms))
    weights, log = result(tmp_path / "run")
    assert all(value.isfinite().all() for value in weights.values())
    assert len([row for row in log if "loss" in row]) == 2
