from importlib import resources
from pathlib import Path

import pytest

from modeling_xrec.signals import SIGNALS
from xrec_dataset_builder.errors import DataError
from xrec_training.finetune import training_arguments
from xrec_training.recipe import _packaged, parse_overrides, read_recipe


def test_overrides_find_their_section():
    given = ["--injection", "input", "--learning_rate=1e-3", "--signal", "zero", "--scratch.seed", "7", "--seed", "3"]
    recipe = read_recipe("demo", parse_overrides(given))
    assert recipe.config["injection"] == "input"
    assert recipe.trainer["learning_rate"] == 0.001
    assert recipe.signal == "zero"
    assert (recipe.scratch["seed"], recipe.trainer["seed"]) == (7, 3)


def test_a_recipe_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("backbone: some/model\nconfig:\n  injection: attention\n")
    recipe = read_recipe(str(path))
    assert (recipe.backbone, recipe.config) == ("some/model", {"injection": "attention"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config:\n  injections: qkv\n", "unknown name 'injections'; did you mean 'injection'"),
        ("trainer:\n  learning_rat: 1\n", "did you mean 'learning_rate'"),
        ("back: x\n", "unknown name 'back'; did you mean 'backbone'"),
        ("signal: louder\n", f"expected a signal among {', '.join(SIGNALS)}, found 'louder'"),
        ("quantization: 3bit\n", "expected a quantization among None, 4bit, 8bit, found '3bit'"),
        ("model: gpt\n", "expected a model among xrec, soft-prompt, prompt, att2seq, .*, found 'gpt'"),
        ("- a\n", "found list"),
        ("a: [\n", "expected YAML"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_recipe(str(path))


def test_unknown_recipe_and_override_are_refused():
    with pytest.raises(DataError, match=r"one of .*demo.*small-gpu, found 'nothing'"):
        read_recipe("nothing")
    with pytest.raises(DataError, match="did you mean 'injection'"):
        read_recipe("demo", {"injektion": "input"})
    with pytest.raises(DataError, match="expected `--name value`, found 'stray'"):
        parse_overrides(["stray"])


@pytest.mark.parametrize("name", _packaged())
def test_packaged_recipes_read_and_say_what_each_key_is_for(name):
    recipe = read_recipe(name)
    path = resources.files("xrec_training") / "recipes" / f"{name}.yaml"
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert sum("#" in line for line in lines) >= len(lines) / 4
    if not {"fsdp", "deepspeed", "bf16", "fp16"} & set(recipe.trainer):
        assert training_arguments(recipe, Path("x")).learning_rate == recipe.trainer["learning_rate"]


def test_a_model_brings_its_own_recipe():
    assert read_recipe(None, {"model": "peter"}).model == "peter"
    assert read_recipe(None, {"model": "soft-prompt"}).model == "soft-prompt"
    assert read_recipe().model == "xrec"
