import ast
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_imports

ROOT = Path(__file__).parents[1]
ROOMS = {
    "modeling_xrec": ("modeling_xrec", set()),
    "dataset_builder": ("xrec_dataset_builder", set()),
    "training": ("xrec_training", {"modeling_xrec", "xrec_dataset_builder"}),
    "baselines": ("xrec_baselines", {"modeling_xrec", "xrec_dataset_builder", "xrec_training"}),
    "evaluation": ("xrec_evaluation", {"modeling_xrec", "xrec_dataset_builder"}),
    "serving": ("xrec_serving", {"modeling_xrec", "xrec_dataset_builder", "xrec_evaluation"}),
    "hub_card": (
        "xrec_hub_card",
        {"modeling_xrec", "xrec_dataset_builder", "xrec_training", "xrec_baselines", "xrec_evaluation"},
    ),
}
OURS = {name for name, _ in ROOMS.values()}
HUB_ALLOWED = {"torch", "transformers", "safetensors", "huggingface_hub"}


def sources(room):
    return sorted((ROOT / room).glob("*.py"))


def modules():
    return [
        f"{ROOMS[room][0]}.{path.stem}" if path.stem != "__init__" else ROOMS[room][0]
        for room in ROOMS
        for path in sources(room)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_one_way(room):
    _, allowed = ROOMS[room]
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported = {name.split(".")[0] for name in names if name} & OURS
            assert imported <= allowed, f"{path.name} imports {imported - allowed}"


def test_hub_files_import_only_what_a_published_model_may():
    standard = set(sys.stdlib_module_names)
    for path in sources("modeling_xrec"):
        if path.stem == "__init__":
            continue
        assert set(get_imports(path)) - standard <= HUB_ALLOWED, path.name
        siblings = {path.with_name(f"{name}.py") for name in get_relative_imports(path)}
        assert all(sibling.is_file() for sibling in siblings), path.name


def test_importing_any_module_does_nothing():
    code = f"import sys; sys.argv = ['x']; [__import__(name) for name in {modules()!r}]"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1", "PATH": ""}
    )
    assert result.returncode == 0, result.stderr[-1000:]
    assert result.stdout == ""


def test_files_and_functions_stay_short():
    for room in ROOMS:
        for path in sources(room):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 350, path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 62, f"{path}: {node.name}"


def test_constraints_pin_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [entry for extra in [project["dependencies"], *project["optional-dependencies"].values()] for entry in extra]
    names = {entry.split(">")[0].split("=")[0].split("[")[0].lower().replace("_", "-") for entry in wanted} - {"xrec"}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert names <= pinned, names - pinned
    assert "torch==2.13.0" in lines


@pytest.mark.wheel
def test_the_wheel_holds_every_file_and_works_in_a_clean_environment(tmp_path):
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    for room, (name, _) in ROOMS.items():
        for path in [*sources(room), ROOT / room / "py.typed"]:
            assert f"{name}/{path.name}" in names
    assert "xrec_training/recipes/demo.yaml" in names
    assert {f"xrec_serving/page/{path.name}" for path in (ROOT / "serving" / "page").iterdir()} <= names
    assert {entry.split("/")[0] for entry in names if ".dist-info" not in entry} == OURS
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", wheel], check=True)
    # The dependencies come from this environment; its editable install does not, since no .pth file is read from PYTHONPATH.
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": "", "HF_HUB_OFFLINE": "1"}
    for command in (["-m", "xrec_training.cli", "--help"], ["-c", "import modeling_xrec; print(modeling_xrec.__file__)"]):
        result = subprocess.run([python, *command], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(tmp_path / "venv"))
