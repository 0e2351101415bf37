import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from transformers import pipeline

from xrec_dataset_builder.errors import DataError
from xrec_hub_card.model_card import model_card
from xrec_hub_card.plain_text import code, plain, sentence, size

from .card_schema import model_problems
from .made_up_report import COMMIT, scores

HOSTILE = "<script>x</script> [a](javascript:b) `c` | ![d](e) **f** \u202e http://g.h"


def head(text):
    return yaml.safe_load(text.split("---\n")[1])


def section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def snippets(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def rendered(text):
    return MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])


def run(snippet, cwd, *before):
    environment = {"HF_HOME": str(cwd / "home"), "HOME": str(cwd), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    code = "\n".join([*before, snippet])
    environment["PATH"] = os.defpath
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_card_parses_and_says_what_the_files_say(published, facts_of, report):
    text = model_card(published, facts_of(published, report=report))
    card = ModelCard(text)
    assert model_problems(head(text)) == []
    data = card.data
    assert (data.license, data.language, data.library_name) == ("cc0-1.0", "en", "transformers")
    assert (data.pipeline_tag, data.datasets, data.base_model) == ("text-generation", ["owner/data"], None)
    assert [(one.metric_name, one.metric_value, one.dataset_type) for one in data.eval_results] == [
        ("Aspect-F1", 10.0, "owner/data"), ("ROUGE-L", 10.0, "owner/data"), ("BLEU-4", 0.1, "owner/data")
    ]  # fmt: skip
    config = json.loads((published / "config.json").read_text())
    recipe = json.loads((published / "training.json").read_text())["recipe"]
    assert f"{config['num_users']} users and {config['num_items']} items by id" in text
    assert "Reviews stay at home." in text
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section(text, "Training"), re.MULTILINE))
    assert (rows["Signal"], rows["Injection"]) == ("graph", f"{config['injection']}, scale {config['injection_scale']}")
    assert rows["Learning rate"] == str(recipe["trainer"]["learning_rate"])
    assert rows["Seed"] == str(recipe["trainer"]["seed"])
    assert "![Training and validation loss](losses.png)" in text
    assert "audit.png" not in text  # it is not among the files
    assert str(published.parent) not in text


def test_what_goes_beyond_the_paper_is_said(published, facts_of):
    plain_card = model_card(published, facts_of(published))
    assert "Beyond the paper" not in plain_card
    assert "weights stay as they are.\n" in plain_card
    for name, key, values in (
        ("config.json", None, {"soft_prompt": True, "trained_norms": True, "num_experts": 8, "top_k_experts": 2}),
        ("training.json", "recipe", {"balance": 0.1, "start_from": "run-profiles"}),
    ):
        about = json.loads((published / name).read_text())
        (about[key] if key else about).update(values)
        (published / name).write_text(json.dumps(about))
    text = model_card(published, facts_of(published))
    assert model_problems(head(text)) == []
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section(text, "Training"), re.MULTILINE))
    assert rows["Beyond the paper"] == "a soft prompt that everyone hears, the backbone's norms are trained"
    assert rows["Adapters"].startswith("2 of 8 experts for an embedding, dropout")
    assert (rows["Balance of the experts"], rows["Adapters start from"]) == ("0.1", "run-profiles")
    assert "weights stay as they are, but for its norms." in text
    assert "of a frozen (but for its norms) language model" in text


def test_two_sentences_say_what_the_model_does(published, facts_of):
    text = model_card(published, facts_of(published))
    first = text.split("# model\n\n")[1].split("\n")[0]
    assert len(re.findall(r"\.(?: |$)", first)) == 2
    training = json.loads((published / "training.json").read_text())
    training["recipe"]["signal"] = "permuted"
    (published / "training.json").write_text(json.dumps(training))
    text = model_card(published, facts_of(published))
    assert "that are not the graph's (signal 'permuted': a control)" in text
    training["recipe"]["signal"] = "none"
    (published / "training.json").write_text(json.dumps(training))
    assert "hears no graph" in model_card(published, facts_of(published))


def test_the_evaluation_stands_beside_its_floors_and_the_audit_gives_two_verdicts(published, facts_of, report):
    text = section(model_card(published, facts_of(published, report=report)), "Evaluation")
    assert "| Model | 10.0 (9.0 to 11.0) |" in text
    assert "| Template (best floor) | 30.0 (29.0 to 31.0) |" in text
    assert "The model is 20.0 points below its best floor" in text
    assert "**Does the text depend on the embeddings?** Yes: 1.50 bits less likely." in text
    assert "**Does it depend on the graph's structure?** No: 0.02 bits." in text
    assert "text 1" in text
    assert "secret" not in text  # references are others' words
    assert "measured with the users' profiles" not in text
    users = [row | {"user_profile": ""} for row in json.loads((published / "users.json").read_text())]
    (published / "users.json").write_text(json.dumps(users))
    text = section(model_card(published, facts_of(published, report=report)), "Evaluation")
    assert "measured with the users' profiles in the prompt" in text


def test_what_was_not_measured_is_said_and_no_figure_is_made_up(published, facts_of, report):
    text = model_card(published, facts_of(published))
    assert section(text, "Evaluation").strip().startswith("Nothing was measured")
    assert not re.search(r"\d", section(text, "Evaluation"))
    assert "model-index" not in head(text)
    assert "metrics" not in head(text)
    assert "no audit has asked" in section(text, "Limits")
    (report / "audit.json").unlink()
    assert "No audit was run" in section(model_card(published, facts_of(published, report=report)), "Evaluation")
    (report / "metrics.json").unlink()
    (report / "audit.json").write_text(json.dumps({"verdicts": {}, "bits": {}}))
    text = model_card(published, facts_of(published, report=report))
    assert "The texts were not scored." in text
    assert "model-index" not in head(text)


def test_a_report_in_the_model_folder_is_found(published, facts_of, report):
    for path in report.iterdir():
        (published / path.name).write_bytes(path.read_bytes())
    (published / "audit.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    text = model_card(published, facts_of(published))
    assert "| Model | 10.0" in text
    assert "![What the audit found](audit.png)" in text


def test_texts_of_users_and_data_are_escaped(published, facts_of, report):
    items = json.loads((published / "items.json").read_text())
    items[0] |= {"item_id": "i'\"`\n```", "title": HOSTILE}
    (published / "items.json").write_text(json.dumps(items))
    found = scores({"model": "model", HOSTILE: "condition"})
    found["examples"][0] |= {"title": HOSTILE, "prediction": HOSTILE}
    (report / "metrics.json").write_text(json.dumps(found))
    facts = facts_of(published, report=report)
    facts = facts_of(published, report=report, build=facts.build | {"source": HOSTILE}, left_out=(HOSTILE,))
    text = model_card(published, facts)
    assert model_problems(head(text)) == []
    html = rendered(text)
    for tag in ("<script", 'javascript:b"', '<img src="e"', "<strong>f", '<a href="javascript', 'href="http://g.h'):
        assert tag not in html
    assert "\u202e" not in text
    assert html.count("&lt;script&gt;") >= 5  # the title, the system in sentence and table, the example, the source
    snippet = snippets(text)[0]
    called = re.search(r"explain\((.*)\)", snippet)[1]
    assert eval(called, {})["item_id"] == items[0]["item_id"]  # noqa: S307 -- what the card itself wrote


def test_the_snippet_runs_as_it_stands_and_pins_the_commit(published, facts_of, tmp_path):
    """A folder of the repository's name stands in for the Hub, so that the snippet is not touched."""
    text = model_card(published, facts_of(published))
    first, history, package = snippets(text)
    assert f'revision="{COMMIT}"' in first
    assert f'revision="{COMMIT}"' in package
    done = run(first, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    explain = pipeline("recommendation-explanation", model=str(published), trust_remote_code=True)
    user, item = (json.loads((published / name).read_text())[0] for name in ("users.json", "items.json"))
    expected = explain({"user_id": user["user_id"], "item_id": item["item_id"]})["explanation"]
    assert done.stdout == expected + "\n"
    check = (
        "import sys\nassert not any('transformers_modules' in name for name in sys.modules)\nprint(repr("
        + history.strip()
        + "))"
    )
    done = run(package + check, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    row = eval(re.search(r"explain\((.*?)\)\[", history)[1], {})  # noqa: S307 -- what the card itself wrote
    assert row["item_id"] not in row["history"]
    assert done.stdout == repr(explain(row)["explanation"]) + "\n"


def test_before_the_first_commit_nothing_is_pinned(published, facts_of):
    text = model_card(published, facts_of(published, revision=None))
    assert "revision=" not in text
    assert "The revision is" not in text


def test_without_users_the_snippet_gives_a_history_and_without_items_embeddings(published, facts_of):
    (published / "users.json").write_text("[]")
    assert "'history': [" in snippets(model_card(published, facts_of(published)))[0]
    (published / "items.json").unlink()
    config = json.loads((published / "config.json").read_text())
    assert f"'user_embedding': {[0.0] * config['collaborative_dim']}" in model_card(published, facts_of(published))


def test_the_code_that_runs_is_listed_with_its_hash(published, facts_of):
    facts = facts_of(published)
    text = section(model_card(published, facts), "What code runs")
    rows = re.findall(r"^\| \[(\S+)\]\(\1\) \| (\d+) \| `([0-9a-f]{64})` \|$", text, re.MULTILINE)
    assert rows == [(file.name, str(file.lines), file.sha256) for file in facts.code]
    assert facts.code_hash in text


def test_an_adapter_names_its_backbone_and_the_relation(published, facts_of):
    config = json.loads((published / "config.json").read_text())
    config |= {"base_model_name_or_path": "maker/base", "base_model_revision": "f" * 40}
    (published / "config.json").write_text(json.dumps(config))
    text = model_card(published, facts_of(published))
    assert (head(text)["base_model"], head(text)["base_model_relation"]) == ("maker/base", "adapter")
    assert model_problems(head(text)) == []
    assert "f" * 40 in section(text, "Use")
    (published / "config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(published)}))
    with pytest.raises(DataError, match="which no one else has"):
        model_card(published, facts_of(published))


def test_licences_users_and_data_are_as_told(published, facts_of):
    other = {"licence": "other", "licence_name": "yelp-terms", "licence_link": "https://example.org/terms"}
    text = model_card(published, facts_of(published, **other))
    assert model_problems(head(text)) == []
    assert (head(text)["license_name"], head(text)["license_link"]) == ("yelp-terms", "https://example.org/terms")
    text = model_card(published, facts_of(published, licence="unknown", private_users=False, build=None, dataset_repo_id=None))
    assert model_problems(head(text)) == []
    assert "datasets" not in head(text)
    assert "language" not in head(text)
    assert "No licence is stated" in section(text, "Licence")
    assert "as they are in the source" in section(text, "Limits")
    assert "none were given" in section(text, "Data")
    build = facts_of(published).build | {"source": "table"}
    text = section(model_card(published, facts_of(published, licence="cc-by-4.0", build=build)), "Licence")
    assert "Of the data: cc-by-4.0, as stated by the publisher" in text
    assert "unknown" not in text
    assert "unknown" in section(model_card(published, facts_of(published, licence="unknown", build=build)), "Licence")
    text = section(model_card(published, facts_of(published)), "Data")
    assert "held-out pairs (0.0 %) are training edges" in text
    assert "datasets/owner/data" in text


def test_a_folder_without_a_record_of_its_training_says_so(published, facts_of):
    (published / "training.json").unlink()
    (published / "checksums.json").unlink()
    text = model_card(published, facts_of(published))
    assert "do not say how it was trained" in section(text, "Training")
    assert "checksums.json" not in text


def test_the_schema_check_itself_can_fail(published, facts_of, report):
    good = head(model_card(published, facts_of(published, report=report)))
    assert model_problems(good) == []
    for change in (
        {"license": "mine"}, {"license": "other"}, {"tags": ["a", "a"]}, {"datasets": ["data"]}, {"language": "English"},
        {"base_model": "a/b"}, {"model-index": [{"name": "x", "results": []}]}, {"pipeline_tag": "explain"}, {"what": 1},
    ):  # fmt: skip
        assert model_problems(good | change), change


def test_plain_text_means_nothing_in_markdown():
    for text in (HOSTILE, "# a", "*a* _b_ ~~c~~", "&lt;i&gt;", "\\*a\\*", "a\n\n- b", "<!-- x -->", "www.a.org", "$$a$$"):
        html = MarkdownIt("gfm-like", {"linkify": False}).render("x " + plain(text))
        assert re.fullmatch(r"<p>x [^<]*</p>\n", html), html
    assert plain("St. John's Café, no. 1 (new); 50% + more") == "St. John's Café, no. 1 (new); 50% + more"
    assert sentence("In `a_b.json` and `c`: [x](y) <i>.") == (
        "In <code>a_b.json</code> and <code>c</code>: &#91;x&#93;(y) &#60;i&#62;."
    )
    assert sentence("one ` <i>") == "one &#96; &#60;i&#62;"
    assert code("a`b") == "<code>a&#96;b</code>"
    assert [size(n) for n in (1, 999, 1000, 1_234_567, 5_000_000_000)] == [
        "1 bytes",
        "999 bytes",
        "1.0 kB",
        "1.2 MB",
        "5.0 GB",
    ]
