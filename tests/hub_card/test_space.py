import ast
import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement

from xrec_dataset_builder.errors import DataError
from xrec_hub_card import space_app
from xrec_hub_card.space import FILES, REQUIREMENTS, write_space

from .made_up_report import COMMIT

LOAD = """
import json, sys
sys.path.insert(0, sys.argv[1])
import app
about = json.load(open(sys.argv[1] + "/space.json"))
explainer = app.Explainer.load(about["repo_id"], about["revision"])
item, user = explainer.items[0][1], explainer.users[0][1]
told = [explainer.explain(item, user, []), explainer.explain(item, "", [one for _, one in explainer.items[1:3]])]
direct = explainer.run({"item_id": item, "user_id": user}, max_new_tokens=app.NEW_TOKENS)
print(json.dumps([told, direct["explanation"], type(explainer.run.model).__module__]))
"""


class Pipe:
    """A pipeline that gives back what it is told to, and remembers what it was asked."""

    def __init__(self, **result):
        self.asked, self.result = [], result

    def __call__(self, row, **options):
        self.asked.append((row, options))
        if row["item_id"] == "unknown":
            raise ValueError("unknown item '<b>': expected another")
        return {"explanation": "Because.", "user_gates": [0.25, 0.75], "item_gates": [1.0], "score": 0.5, **self.result}


TEXTS = {"title": "<i>Cafe</i>", "item_profile": 'tea & "cake"', "user_profile": ""}


def explainer(**result):
    return space_app.Explainer(Pipe(**(TEXTS | result)), [("u", "u")], [("<i>Cafe</i> (a)", "a")], {"a": "<i>Cafe</i>"})


def test_the_folder_holds_a_page_its_needs_and_a_card(tmp_path):
    sizes = write_space(tmp_path / "space", "owner/model", COMMIT)
    assert {path.name: path.stat().st_size for path in (tmp_path / "space").iterdir()} == sizes
    assert set(sizes) == set(FILES)
    assert json.loads((tmp_path / "space" / "space.json").read_text()) == {
        "repo_id": "owner/model", "revision": COMMIT, "title": "Why this? model"
    }  # fmt: skip
    data = SpaceCard.load(tmp_path / "space" / "README.md", ignore_metadata_errors=False).data
    assert (data.sdk, data.app_file, data.models) == ("gradio", "app.py", ["owner/model"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", data.sdk_version)
    assert {data.to_dict()[key] for key in ("colorFrom", "colorTo")} <= {
        "red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"
    }  # fmt: skip
    assert COMMIT in (tmp_path / "space" / "README.md").read_text()


def test_the_page_runs_without_this_package(tmp_path):
    write_space(tmp_path / "space", "owner/model", COMMIT)
    source = (tmp_path / "space" / "app.py").read_text()
    assert source == Path(space_app.__file__).read_text()
    tree = ast.parse(source)
    imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"gradio", "transformers"}


def test_the_requirements_are_the_packages_own_bounds():
    ours = {one.name: one.specifier for one in map(Requirement, requires("xrec")) if not one.marker}
    for line in map(Requirement, REQUIREMENTS):
        if line.specifier:
            assert line.specifier == ours[line.name], line.name


def test_titles_and_names_are_escaped_or_refused(tmp_path):
    write_space(tmp_path / "space", "owner/model", None, title="<b>: [x](y)\n---\nsdk: docker")
    data = SpaceCard.load(tmp_path / "space" / "README.md").data
    assert (data.sdk, data.title) == ("gradio", "<b>: [x](y) --- sdk: docker")
    page = (tmp_path / "space" / "README.md").read_text().split("\n---\n", 1)[1]
    assert "<b>" not in page
    assert "[x]" not in page
    with pytest.raises(DataError, match="new or empty folder"):
        write_space(tmp_path / "space", "owner/model", COMMIT)
    for repo_id, revision in (("model", COMMIT), ("../x/y", COMMIT), ("owner/model", "main")):
        with pytest.raises(DataError, match="expected"):
            write_space(tmp_path / "other", repo_id, revision)
    assert not (tmp_path / "other").exists()


def test_a_stored_user_goes_before_a_history_and_what_is_missing_is_said():
    one = explainer()
    assert one.explain("a", "u", ["b"])[0] == "Because."
    assert one.explain("a", "", ["b", "c"])[0] == "Because."
    assert [row for row, _ in one.run.asked] == [
        {"user_id": "u", "item_id": "a"}, {"history": ["b", "c"], "item_id": "a"}
    ]  # fmt: skip
    assert all(options == {"max_new_tokens": space_app.NEW_TOKENS} for _, options in one.run.asked)
    for item, user, history in ((None, "u", []), ("", "u", []), ("a", "", []), ("a", None, None)):
        text, remark = one.explain(item, user, history)
        assert text == ""
        assert "Choose" in remark
    text, remark = one.explain("unknown", "u", [])
    assert text == ""
    assert "unknown item &#x27;&lt;b&gt;&#x27;" in remark


def test_what_the_text_rests_on_is_shown_and_escaped():
    html = explainer(history=["a", "z"], history_scores=[0.4, -0.1]).explain("a", "u", [])[1]
    assert "<i>" not in html
    assert "&lt;i&gt;Cafe&lt;/i&gt;" in html
    assert "tea &amp; &quot;cake&quot;" in html
    assert "<th>What is known of the user</th><td>nothing</td>" in html
    assert re.findall(r"<tr><td>([^<]*)</td><td><meter value=\"([\d.]+)\"></meter></td><td>(-?[\d.]+)</td></tr>", html) == [
        ("&lt;i&gt;Cafe&lt;/i&gt;", "1.000", "0.400"), ("z", "0.250", "-0.100"),
        ("1", "0.333", "0.250"), ("2", "1.000", "0.750"), ("1", "1.000", "1.000"),
    ]  # fmt: skip
    assert html.count("<details>") == html.count("</details>") == 3
    assert "history" not in explainer().explain("a", "u", [])[1]


@pytest.mark.slow
def test_the_page_explains_from_the_published_files_alone(published, tmp_path):
    """A folder of the repository's name stands in for the Hub; neither this package nor gradio is there."""
    write_space(tmp_path / "space", "owner/model", COMMIT)
    blocker = (
        "import sys\nclass Blocker:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('modeling_xrec', 'xrec_hub_card', 'gradio'):\n"
        "            raise ModuleNotFoundError(name)\nsys.meta_path.insert(0, Blocker())\n"
    )
    environment = {"HF_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", blocker + LOAD, str(tmp_path / "space")],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (stored, new), direct, module = json.loads(done.stdout.splitlines()[-1])
    assert module.startswith("transformers_modules")
    assert stored[0] == direct
    assert "adds to the score" not in stored[1]
    assert "adds to the score" in new[1]


def test_without_gradio_the_page_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(space_app, "gr", None)
    with pytest.raises(ImportError, match="needs gradio"):
        space_app.main(tmp_path)


def test_the_page_is_built_of_what_can_be_chosen():
    gradio = pytest.importorskip("gradio")
    page = space_app.build_page(explainer(), "<b>", "about")
    shown = [one["props"].get("value") for one in page.get_config_file()["components"] if one["type"] == "html"]
    assert isinstance(page, gradio.Blocks)
    assert "<h1>&lt;b&gt;</h1>" in shown[0]
