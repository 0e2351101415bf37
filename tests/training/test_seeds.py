import json

import pytest
from safetensors.torch import load_file

from xrec_dataset_builder.errors import DataError
from xrec_training.seeds import seeds_table, train_seeds


def test_seeds_are_trained_around_one_backbone_and_stand_side_by_side(tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path):
    recipe = recipe_of(backbone=str(tiny_run.with_name("model-backbone")), eval_strategy="epoch", logging_steps=2)
    result = train_seeds(tiny_data, tiny_graph, tmp_path, recipe, [0, 5])
    assert result == json.loads((tmp_path / "seeds.json").read_text())
    logs = [json.loads((tmp_path / f"seed-{seed}" / "training.json").read_text())["log"] for seed in (0, 5)]
    lasts = [[row["eval_loss"] for row in log if "eval_loss" in row][-1] for log in logs]
    assert [run["eval_loss"] for run in result["runs"]] == lasts
    assert result["eval_loss"]["mean"] == pytest.approx(sum(lasts) / 2)
    assert result["eval_loss"]["sd"] == pytest.approx(abs(lasts[0] - lasts[1]) / 2**0.5)
    one, two = (load_file(tmp_path / f"seed-{seed}" / "model.safetensors")["user_adapter.expert_weight"] for seed in (0, 5))
    assert (one != two).any()
    table = seeds_table(result).splitlines()
    assert [line.split()[0] for line in table] == ["seed", "0", "5", "mean", "sd"]
    assert f"{lasts[1]:.4f}" in table[2]
    changed = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed-*/model.safetensors")}
    assert train_seeds(tiny_data, tiny_graph, tmp_path, recipe, [0, 5], resume=True) == result
    assert {path: path.stat().st_mtime_ns for path in changed} == changed


def test_repeated_seeds_are_refused(tiny_data, tiny_graph, recipe_of, tmp_path):
    with pytest.raises(DataError, match="expected different --seeds, found 1 2 1; leave the repeated ones out"):
        train_seeds(tiny_data, tiny_graph, tmp_path, recipe_of(), [1, 2, 1])
