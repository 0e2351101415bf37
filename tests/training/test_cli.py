import subprocess
import sys

import polars as pl
import pytest

from xrec_training.cli import COMMANDS, main
from xrec_training.tables import read_explanations


def test_help_names_every_command_and_imports_nothing_heavy():
    code = "import sys; from xrec_training.cli import main; main(['--help']); print({'torch', 'polars'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(name in printed for name in COMMANDS)
    assert printed.endswith("set()\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"xrec {command}" in capsys.readouterr().out


def test_a_pair_a_file_and_a_history(tiny_run, tiny_data, tmp_path, capsys):
    rows = read_explanations(tiny_data, "test").head(3)
    user, item = rows.row(0)[:2]
    assert main(["explain", str(tiny_run), "--user", user, "--item", item]) == 0
    one = capsys.readouterr().out.strip()
    rows.select("user_id", "item_id").write_csv(tmp_path / "pairs.csv")
    assert (
        main(["explain", str(tiny_run), "--pairs", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out.parquet")]) == 0
    )
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table.select("user_id", "item_id").equals(rows.select("user_id", "item_id"))
    assert table["explanation"][0] == one
    capsys.readouterr()
    assert main(["explain", str(tiny_run), "--history", ",".join(rows["item_id"]), "--item", item]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "{run}", "--user", "nobody", "--item", "i00001"], "unknown user 'nobody'"),
        (["explain", "{run}", "--user", "u00001", "--item", "nothing"], "unknown item 'nothing'"),
        (["explain", "{run}", "--user", "u00001"], "expected --user U --item I, --history"),
        (["explain", "{out}", "--user", "u00001", "--item", "i00001"], "expected a model folder"),
        (["explain", "{run}", "--pairs", "{out}/none.csv", "--out", "{out}/x.parquet"], "found no file"),
        (["encode", "{out}/none", "--out", "{out}/g"], "expected a Parquet file, found none"),
        (["encode", "{data}", "--out", "{out}/g", "--objective", "als"], "expected --objective among softmax, bpr"),
        (["train", "{data}", "--graph", "{out}", "--out", "{out}/m"], "expected collaborative.safetensors, found none"),
        (["train", "{data}", "--graph", "{graph}", "--out", "{out}/m", "--injektion", "x"], "did you mean 'injection'"),
        (["train", "{data}", "--graph", "{graph}", "--out", "{run}"], "expected a new or empty folder"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(tiny_run, tiny_data, tiny_graph, tmp_path, capsys, arguments, message):
    places = {"run": tiny_run, "data": tiny_data, "graph": tiny_graph, "out": tmp_path}
    assert main([word.format(**places) for word in arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith(f"xrec {arguments[0]}: ")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_its_tables_is_refused(tiny_run, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    (copy / "users.json").unlink()
    assert main(["explain", str(copy), "--user", "u00001", "--item", "i00001"]) == 1
    assert "expected the tables of users and items, found none" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="expected a Parquet file"):
        main(["encode", str(tmp_path / "none"), "--out", str(tmp_path / "g"), "--debug"])


def test_an_unknown_command_is_named(capsys):
    assert main(["explane"]) == 2
    assert "found 'explane'" in capsys.readouterr().err


def test_a_recipes_seed_is_not_taken_for_seeds(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("xrec_training.finetune.train", lambda data, graph, out, recipe, resume: asked.append(recipe))
    assert main(["train", "data", "--graph", "graph", "--out", str(tmp_path / "run"), "--seed", "3"]) == 0
    assert asked[0].trainer["seed"] == 3
