"""The first stage tells profiles of items that nothing is tested on, and the second goes on from its adapters."""

import json
import math

import polars as pl
import pytest
from safetensors.torch import load_file

from xrec_dataset_builder.errors import DataError
from xrec_training.finetune import train
from xrec_training.profile_stage import profile_rows
from xrec_training.recipe import read_recipe
from xrec_training.tables import Catalogue

ITEMS = 60


@pytest.fixture
def catalogue():
    items = [{"item_id": f"i{item}", "title": "", "item_profile": f"has {item}" if item % 3 else ""} for item in range(ITEMS)]
    users = [{"user_id": f"u{user}", "user_profile": ""} for user in range(5)]
    return Catalogue(pl.DataFrame(users), pl.DataFrame(items))


def explained(*items):
    return pl.DataFrame({"user_id": ["u1"] * len(items), "item_id": list(items)}, schema={"user_id": str, "item_id": str})


def test_profiles_are_those_of_items_that_are_not_tested(catalogue):
    given = {"train": explained("i1", "i2"), "validation": explained("i4"), "test": explained("i5", "i7")}
    rows = profile_rows(catalogue, given)
    told = pl.concat([rows["train"], rows["validation"]])
    assert set(told["item_id"]) == {f"i{item}" for item in range(ITEMS) if item % 3} - {"i4", "i5", "i7"}
    assert told["item_id"].is_unique().all()
    assert told["explanation"].to_list() == [f"has {item[1:]}" for item in told["item_id"]]
    assert set(told["user_id"]) == {"u1"}
    for text in ("title", "user_profile", "item_profile"):
        assert (told[text] == "").all()
    assert len(rows["validation"]) == math.ceil(0.05 * len(told))
    with pytest.raises(DataError, match="leave profile_epochs and target out"):
        profile_rows(catalogue, given | {"train": explained()})


@pytest.fixture
def start(tiny_run, tiny_data, tiny_graph, recipe_of, tmp_path):
    """Trains on the small world's backbone with overrides, into a folder of a name."""

    def run(name, **overrides):
        settings = {"backbone": str(tiny_run.with_name("model-backbone"))} | overrides
        return train(tiny_data, tiny_graph, tmp_path / name, recipe_of(**settings))

    return run


def item_weight(run):
    return load_file(run / "model.safetensors")["item_adapter.expert_weight"]


def test_explanations_go_on_from_the_profiles_adapters(start, tmp_path):
    start("run", profile_epochs=3, learning_rate=0.0, num_train_epochs=0.1)
    recipes = {name: json.loads((tmp_path / name / "training.json").read_text())["recipe"] for name in ("run", "run-profiles")}
    assert (recipes["run"]["start_from"], recipes["run"]["profile_epochs"]) == ("run-profiles", 0.0)
    first = recipes["run-profiles"]
    assert (first["target"], first["profile_epochs"], first["trainer"]["num_train_epochs"]) == ("item_profile", 0.0, 3)
    trained = start("profiles", target="item_profile", prompt=first["prompt"], num_train_epochs=3)
    # At a rate of 0 every stage leaves the adapters as it found them.
    assert item_weight(tmp_path / "run").equal(item_weight(tmp_path / "run-profiles"))
    assert not item_weight(trained).equal(item_weight(tmp_path / "run"))
    assert item_weight(start("kept", start_from=str(trained), learning_rate=0.0)).equal(item_weight(trained))


def test_a_soft_prompt_is_trained_alone_on_what_the_profiles_taught(start, tmp_path):
    settings = {"profile_epochs": 3, "num_train_epochs": 0.1, "trains": "soft_prompt", "soft_prompt": True}
    start("run", **settings)
    stage, found = (load_file(tmp_path / name / "model.safetensors") for name in ("run-profiles", "run"))
    prompts = {f"{side}_adapter.prompt_weight" for side in ("user", "item")}
    assert set(found) - set(stage) == prompts
    assert all(found[name].equal(stage[name]) for name in stage)
    assert all(found[name].abs().sum() > 0 for name in prompts)


def test_norms_that_the_profiles_trained_are_taken_up_too(start):
    first = start("first", target="item_profile", trained_norms=True, learning_rate=0.05)
    second = start("second", start_from=str(first), trained_norms=True, learning_rate=0.0)
    plain = start("plain", start_from=str(first), learning_rate=0.0)
    expected, found, without = (load_file(run / "model.safetensors") for run in (first, second, plain))
    assert all(found[name].equal(expected[name]) for name in expected)
    norms = {name for name in expected if "norm" in name}
    assert {name for name in expected if not without[name].equal(expected[name])} == norms


def test_a_first_stage_is_taken_up_and_another_one_refused(start, tmp_path):
    settings = {"profile_epochs": 1, "num_train_epochs": 0.1}
    start("run", **settings)
    before = item_weight(tmp_path / "run-profiles")
    (tmp_path / "run").rename(tmp_path / "moved")
    start("run", **settings)
    assert item_weight(tmp_path / "run").equal(item_weight(tmp_path / "moved"))
    assert item_weight(tmp_path / "run-profiles").equal(before)
    (tmp_path / "run").rename(tmp_path / "moved again")
    with pytest.raises(DataError, match="the first stage of this recipe, found another; remove it"):
        start("run", **settings, num_experts=2)


def test_a_backbone_from_scratch_reads_the_explanations_first(tiny_data, tiny_graph, recipe_of, tmp_path):
    train(tiny_data, tiny_graph, tmp_path / "run", recipe_of(profile_epochs=1))
    train(tiny_data, tiny_graph, tmp_path / "plain", recipe_of())
    found, expected = (load_file(tmp_path / f"{name}-backbone" / "model.safetensors") for name in ("run", "plain"))
    assert all(found[name].equal(expected[name]) for name in expected)


def test_adapters_of_another_shape_are_refused(start, tmp_path):
    with pytest.raises(DataError, match="start_from: expected a run folder with"):
        start("run", start_from=str(tmp_path))
    one = start("one")
    with pytest.raises(DataError, match=r"expected item_adapter.expert_bias of shape \(2, "):
        start("two", start_from=str(one), num_experts=2)


def test_stages_that_do_not_go_together_are_refused(recipe_of):
    for settings in ({"soft_prompt": True}, {"profile_epochs": 1}):
        with pytest.raises(DataError, match="found one of them missing"):
            recipe_of(trains="soft_prompt", **settings)
    with pytest.raises(DataError, match="found both"):
        recipe_of(start_from="run", profile_epochs=1)
    with pytest.raises(DataError, match="profile_epochs is for models"):
        read_recipe(None, {"model": "att2seq", "profile_epochs": 1})
