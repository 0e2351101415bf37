import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from xrec_dataset_builder.errors import DataError
from xrec_training.finetune import train

SCRIPT = Path(__file__).with_name("killed_runs.py")
STEPS = {"max_steps": 24, "save_steps": 3, "logging_steps": 5, "eval_strategy": "steps", "eval_steps": 7,
         "num_train_epochs": 3, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2,
         "adapter_dropout": 0.2, "disable_tqdm": True}  # fmt: skip


@pytest.fixture(scope="module")
def job(tiny_run, tiny_data, tiny_graph, tmp_path_factory):
    """Runs a job of `killed_runs` in a new folder and returns what it saw, the run's weights and its log."""
    backbone = str(tiny_run.with_name("model-backbone"))

    def run(recipe: dict, **how):
        out = tmp_path_factory.mktemp("killed") / "run"
        path = out.with_name("job.json")
        places = {"data": str(tiny_data), "graph": str(tiny_graph), "out": str(out)}
        path.write_text(json.dumps(places | how | {"recipe": STEPS | recipe | {"backbone": backbone}}))
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, env=env, check=True)
        seen = json.loads(done.stdout)
        assert seen["code"] == 0, done.stderr[-3000:]
        assert not out.with_name("run.partial").exists()
        return seen["kills"], load_file(out / "model.safetensors"), json.loads((out / "training.json").read_text())["log"]

    return run


@pytest.fixture(scope="module")
def undisturbed(job):
    return job({})


def assert_same(found, expected):
    weights, log = found
    assert all((value == expected[0][name]).all() for name, value in weights.items())
    assert log == expected[1]


def test_a_run_killed_at_several_steps_ends_as_if_undisturbed(job, undisturbed):
    kills, *found = job({}, kills=[2, 8, 17, 24])
    assert [kill["code"] for kill in kills] == [-9] * 4
    assert [kill["checkpoint"] for kill in kills] == [None, "checkpoint-6", "checkpoint-15", "checkpoint-21"]
    assert_same(found, undisturbed[1:])


@pytest.mark.slow
def test_another_seed_gives_other_weights(job, undisturbed):
    _, weights, log = job({"seed": 7})
    assert any((value != undisturbed[1][name]).any() for name, value in weights.items())
    assert log != undisturbed[2]


def test_the_log_counts_every_step_once(undisturbed):
    log = undisturbed[2]
    assert [row["step"] for row in log if "loss" in row] == [5, 10, 15, 20]
    assert [row["step"] for row in log if "eval_loss" in row] == [7, 14, 21, 24]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("recipe", [{}, {"signal": "random-fresh", "early_stopping_patience": 9, "save_strategy": "steps"}])
def test_ten_kills_at_random_steps(job, recipe):
    expected = job(recipe | {"save_steps": 7})[1:]
    kills, *found = job(recipe | {"save_steps": 7}, kills=[3, 9, 8, 12, 15, 15, 17, 20, 23, 24])
    assert [kill["code"] for kill in kills] == [-9] * 10
    assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_while_every_step_is_saved(job):
    many = {"save_steps": 1, "max_steps": 400, "num_train_epochs": 100, "eval_steps": 100}
    expected = job(many | {"save_steps": 1000})[1:]
    kills, *found = job(many, random_kills=20)
    assert [kill["code"] for kill in kills] == [-9] * 20
    assert all(kill["checkpoint"] for kill in kills)
    assert sum(".saving" in kill["left"] for kill in kills) > 0  # some died while they saved
    assert_same(found, expected)


def test_an_unfinished_run_is_neither_lost_nor_mixed_with_another(tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path):
    backbone = str(tiny_run.with_name("model-backbone"))
    (tmp_path / "run.partial" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"run.partial: expected no unfinished run, found one at checkpoint-3; go on with --re"
    ):
        train(tiny_data, tiny_graph, tmp_path / "run", recipe_of(backbone=backbone))
    with pytest.raises(DataError, match=r"go on from checkpoint-3 expected the same recipe and overrides; repeat that run's"):
        train(tiny_data, tiny_graph, tmp_path / "run", recipe_of(backbone=backbone), resume=True)
    assert (tmp_path / "run.partial" / "checkpoint-3").is_dir()
