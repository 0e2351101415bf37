import subprocess
import sys
from pathlib import Path

import pytest

from xrec_dataset_builder.commands import build_command, distill_command
from xrec_dataset_builder.errors import DataError, LeakError
from xrec_dataset_builder.schema import DatasetFolder, read_build


def test_build_and_distill_pass_their_flags_on(tmp_path: Path, reviews_file: Path, items_file: Path):
    out = tmp_path / "out"
    flags = ["--k-core", "2", "--min-rating", "2", "--split", "temporal", "--skip-bad-rows"]
    flags += ["--min-words", "2", "--sample-users", "0.9", "--max-per-user", "5", "--max-per-item", "9"]
    flags += ["--cold-users", "0.1", "--cold-items", "0.2"]
    flags += ["--fractions", "0.6", "0.2", "0.2", "--seed", "3"]
    build_command(["amazon-2018", "--reviews", str(reviews_file), "--items", str(items_file), "--out", str(out), *flags])
    options = read_build(DatasetFolder(out))["options"]
    assert options == {
        "min_rating": 2.0,
        "k_core": 2,
        "split": "temporal",
        "fractions": [0.6, 0.2, 0.2],
        "seed": 3,
        "min_words": 2,
        "language": None,
        "sample_users": 0.9,
        "max_per_user": 5,
        "max_per_item": 9,
        "cold_users": 0.1,
        "cold_items": 0.2,
        "skip_bad_rows": True,
        "repair_leaks": False,
    }
    distill_command([str(out), "--explanation-sentences", "1", "--profile-sentences", "1", "--explanation-words", "30"])
    distillation = read_build(DatasetFolder(out))["distillation"]
    assert [distillation[name] for name in ("teacher", "explanation_sentences", "explanation_words")] == [
        "extractive",
        1,
        30,
    ]


def test_a_leaking_table_fails_and_is_repaired_on_request(tmp_path: Path):
    lines = [f"{u},{i},{'train' if i else 'test'}\n" for u in range(9) for i in range(5)]
    (tmp_path / "i.csv").write_text("user_id,item_id,split\n" + "".join(lines))
    (tmp_path / "e.csv").write_text("user_id,item_id,explanation\n" + "".join(f"{u},1,why {u}\n" for u in range(9)))
    argv = ["table", "--interactions", str(tmp_path / "i.csv"), "--explanations", str(tmp_path / "e.csv")]
    argv += ["--out", str(tmp_path / "out")]
    with pytest.raises(LeakError, match="found 9 of 9"):
        build_command(argv)
    assert not (tmp_path / "out").exists()
    build_command([*argv, "--repair-leaks"])
    assert read_build(DatasetFolder(tmp_path / "out"))["counts"]["removed_explanation_pairs"] == 9


def test_a_small_built_in_world_is_built(tmp_path: Path):
    sizes = ["--users", "60", "--items", "40", "--interactions", "600", "--seed", "1"]
    build_command(["synthetic", "--out", str(tmp_path / "out"), *sizes])
    folder = DatasetFolder(tmp_path / "out")
    assert read_build(folder)["options"]["users"] == 60
    assert folder.truth_pairs.is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "SOURCE"),
        (["imdb", "--out", "x"], "invalid choice: 'imdb'"),
        (["table", "--out", "x"], "--interactions"),
        (["amazon-2018", "--reviews", "r"], "--out"),
        (["synthetic", "--out", "x", "--users", "many"], "invalid int value: 'many'"),
        (["synthetic", "--out", "x", "--reviews", "r"], "unrecognized arguments: --reviews r"),
    ],
)
def test_wrong_arguments_are_one_line(argv: list[str], message: str):
    with pytest.raises(DataError, match=message) as caught:
        build_command(argv)
    assert "\n" not in str(caught.value)


def test_distill_needs_a_folder():
    with pytest.raises(DataError, match="DATA"):
        distill_command([])


@pytest.mark.parametrize("command", ["build_command(['--help'])", "build_command(['table', '-h'])", "distill_command(['-h'])"])
def test_help_is_quick_because_it_loads_no_table_library(command: str):
    code = (
        "import sys\nfrom xrec_dataset_builder.commands import build_command, distill_command\n"
        f"try:\n    {command}\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'polars', 'numpy'} & set(sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("usage: xrec ")
