"""The longer sections of a model card: how to use it, what code runs, how it was trained, what was measured, its limits."""

from collections.abc import Mapping
from typing import Any

from xrec_evaluation.metrics import METRICS
from xrec_evaluation.report import verdict
from xrec_evaluation.report_markdown import markdown
from xrec_evaluation.report_tables import NAMES

from .facts import ModelFacts, ModelFiles
from .plain_text import code, plain, table

TASK = "recommendation-explanation"
EXAMPLES = 3
"""How many explanations of the report a card shows."""


def example_row(files: ModelFiles) -> dict[str, Any]:
    """Return a row that the pipeline takes, of ids that the published catalogue really holds.

    Args:
        files: what the model's files say.
    """
    if not files.items:
        width = files.config["collaborative_dim"]
        return {"user_embedding": [0.0] * width, "item_embedding": [0.0] * width, "title": "A title"}
    item = {"item_id": files.items[0]["item_id"]}
    if files.users and files.config["num_users"]:
        return {"user_id": files.users[0]["user_id"]} | item
    return history_row(files)


def history_row(files: ModelFiles) -> dict[str, Any]:
    """Return a row for a user whom the model has never seen: the next items of the catalogue as the history."""
    ids = [row["item_id"] for row in files.items[:3]]
    return {"history": ids[1:] or ids, "item_id": ids[0]}


def use(facts: ModelFacts, files: ModelFiles) -> list[str]:
    """Return the section on how to use the model.

    Args:
        facts: what is known of the publication.
        files: what the model's files say.
    """
    lines = _snippet(facts, [f"result = explain({example_row(files)!r})", 'print(result["explanation"])'])
    if files.items and "title" in files.items[0]:
        lines += ["", f"Item {code(files.items[0]['item_id'])} is “{plain(files.items[0]['title'])}”."]
    if files.items and "user_id" in example_row(files):
        lines += ["", "For a user whom the model has never seen, give items that they liked:", "", "```python"]
        lines += [f'explain({history_row(files)!r})["explanation"]', "```"]
    if files.items and facts.private_users and files.users:
        lines += ["", "User ids are keyed hashes; who published the model can tell which is whose."]
    lines += ["", "`transformers` and `torch` are all it needs."]
    if facts.revision is not None:
        lines.append("The revision is the commit of the files, so that what you run is what this card describes.")
    if files.adapter_sized and files.base_model is not None:
        name, revision = files.base_model
        at = f" at commit {code(revision)}" if revision else ", at no fixed commit"
        lines.append(f"The backbone {code(name)} is fetched from its own repository{at}.")
    return lines


def _snippet(facts: ModelFacts, calls: list[str], package: bool = False) -> list[str]:
    first = ["from modeling_xrec import RecommendationExplanationPipeline"] if package else []
    last = "pipeline_class=RecommendationExplanationPipeline" if package else "trust_remote_code=True"
    arguments = [f'"{TASK}"', f'model="{facts.repo_id}"']
    if facts.revision is not None:
        arguments.append(f'revision="{facts.revision}"')
    lines = ["```python", *first, "from transformers import pipeline", "", "explain = pipeline("]
    return [*lines, *(f"    {argument}," for argument in [*arguments, last]), ")", *calls, "```"]


def code_section(facts: ModelFacts) -> list[str]:
    """Return the section on the code that `trust_remote_code` runs.

    Args:
        facts: what is known of the publication.
    """
    lines = sum(file.lines for file in facts.code)
    files = [[f"[{file.name}]({file.name})", f"{file.lines:,}", f"`{file.sha256}`"] for file in facts.code]
    return [
        f"`trust_remote_code=True` lets transformers import {len(facts.code)} Python files of this repository, {lines:,} "
        "lines in all. They import the standard library (nothing that starts a program, opens a connection or unpickles), "
        "torch, transformers, safetensors, huggingface_hub and each other; and jinja2 where it is there.",
        "",
        f"Hash over all: `{facts.code_hash}`, which `LC_ALL=C sha256sum *.py | sha256sum` prints in a download.",
        "",
        "<details><summary>Files, lines, SHA-256</summary>",
        "",
        *table(["File", "Lines", "SHA-256"], files),
        "",
        "</details>",
        "",
        "With the package `xrec` installed no code of this repository runs: its own classes are used, and nothing has to be "
        "trusted.",
        "",
        *_snippet(facts, [], package=True),
    ]


def training(files: ModelFiles, facts: ModelFacts) -> list[str]:
    """Return the section on how the model was trained.

    Args:
        files: what the model's files say.
        facts: what is known of the publication.
    """
    if files.recipe is None:
        return ["The files do not say how it was trained: `training.json` is not among them."]
    recipe, config = files.recipe, files.config
    settings, trainer = recipe.get("config") or {}, recipe.get("trainer") or {}
    beyond = [words for name, words in _BEYOND.items() if config.get(name)]
    rows = [
        ("Model", recipe["model"]),
        ("Signal", _signal(recipe["signal"])),
        ("Injection", f"{config['injection']}, scale {config['injection_scale']}"),
        ("Adapters", f"{_experts(config)}, dropout {settings.get('adapter_dropout', config['adapter_dropout'])}"),
        *(("Beyond the paper", ", ".join(beyond)) for _ in beyond[:1]),
        ("Backbone", _backbone(files)),
        ("Collaborative embeddings", f"{config['collaborative_dim']} numbers each"),
        *(("Loaded in", recipe["quantization"]) for _ in [0] if recipe.get("quantization")),
        ("Held out", _hold_out(recipe["hold_out"])),
        ("Seed", trainer.get("seed", 42)),  # transformers' own where none is given
        *((label, trainer[name]) for name, label in _TRAINER.items() if name in trainer),
        *((label, recipe[name]) for name, label in _TERMS.items() if recipe.get(name)),
        *(("LoRA", ", ".join(f"{key} {value}" for key, value in recipe["lora"].items())) for _ in [0] if recipe.get("lora")),
    ]
    lines = table(["", ""], [[label, plain(str(value))] for label, value in rows])
    but = ", but for its norms" if config.get("trained_norms") else ""
    lines += ["", f"The backbone's own weights stay as they are{but}."]
    if "training.json" in facts.files:
        lines.append("[`training.json`](training.json) has the whole recipe and log.")
    return lines


_TRAINER = {
    "num_train_epochs": "Epochs",
    "max_steps": "Steps",
    "learning_rate": "Learning rate",
    "per_device_train_batch_size": "Batch size on a device",
    "gradient_accumulation_steps": "Gradient accumulation",
    "lr_scheduler_type": "Schedule",
}
_TERMS = {
    "start_from": "Adapters start from",
    "contrast": "Contrast",
    "align": "Alignment",
    "balance": "Balance of the experts",
    "profile_dropout": "Prompts without profiles",
}
_BEYOND = {
    "soft_prompt": "a soft prompt that everyone hears",
    "layer_maps": "a map for each part of each layer",
    "trained_norms": "the backbone's norms are trained",
}


def _experts(config: Mapping[str, Any]) -> str:
    experts, spoken = f"{config['num_experts']} experts", config.get("top_k_experts")
    return f"{spoken} of {experts} for an embedding" if spoken else experts


def _signal(signal: str) -> str:
    return "graph" if signal == "graph" else f"{signal}, which is not the graph: a control"


def _hold_out(share: float) -> str:
    return "nothing beyond the test split" if not share else f"{share:.0%} of the users and of the items, for the audit"


def _backbone(files: ModelFiles) -> str:
    kind = (files.config.get("text_config") or {}).get("model_type", "unknown")
    if files.base_model is not None:
        name, revision = files.base_model
        return f"{name} ({kind})" + (f" at {revision}" if revision else "")
    if (files.recipe or {}).get("backbone") == "scratch":
        return f"a small {kind}, trained from scratch on the training texts, in this checkpoint"
    return f"{kind}, in this checkpoint"


def evaluation(files: ModelFiles) -> list[str]:
    """Return the section on what was measured, or that nothing was.

    Args:
        files: what the model's files say.
    """
    if files.metrics is None and files.audit is None and files.judges is None:
        return [
            "Nothing was measured: this card was written without a report. Whether the texts are right, and whether they "
            "depend on the graph, is not known."
        ]
    metrics = None if files.metrics is None else _escaped(files.metrics)
    audit, judges = _texts_escaped(files.audit, "verdicts", "text"), _texts_escaped(files.judges, "judges", "verdict")
    lines = [markdown(metrics, audit, judges, verdict(metrics) if metrics else []).rstrip()]
    if files.metrics is None:
        lines += ["", "The texts were not scored."]
    else:
        lines += _examples(files.metrics)
    if _profiles_taken_out(files):
        lines += [
            "",
            "These figures were measured with the users' profiles in the prompt. They are not published, so what this "
            "repository writes for a stored user may read otherwise; a row may bring its own `user_profile`.",
        ]
    if files.audit is None:
        lines += [
            "",
            "No audit was run: whether the texts depend on the embeddings and on the graph's structure is not known.",
        ]
    return lines


def _profiles_taken_out(files: ModelFiles) -> bool:
    """Whether the prompt has a place for the user's profile and the published catalogue has none."""
    asked = "{user_profile}" in (files.recipe or {}).get("prompt", "")
    return asked and bool(files.users) and not any(row.get("user_profile") for row in files.users)


def _escaped(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The figures with the names of systems that others gave escaped; the report knows its own by name."""
    systems = {name if name in NAMES else plain(name): system for name, system in metrics["systems"].items()}
    return {**metrics, "systems": systems, "ceilings": {plain(name): one for name, one in metrics["ceilings"].items()}}


def _texts_escaped(found: Mapping[str, Any] | None, section: str, text: str) -> dict[str, Any] | None:
    """Figures whose section is by name and has a text each, names and texts escaped."""
    if found is None:
        return None
    return {**found, section: {plain(name): {**one, text: plain(one[text])} for name, one in found[section].items()}}


def _examples(metrics: Mapping[str, Any]) -> list[str]:
    """The best, a middling and the worst of the report's explanations; references stay out, for they are others' words."""
    found = metrics.get("examples") or []
    if len(found) < EXAMPLES:
        return []
    metric = METRICS[metrics["headline"]]
    rows = [
        [plain(one["title"] or ""), plain(one["prediction"]), metric.shown(one["score"])]
        for one in (found[0], found[len(found) // 2], found[-1])
    ]
    note = "The best, a middling and the worst of those that the report shows:"
    return ["", "### Explanations", "", note, "", *table(["Item", "Explanation", metric.label], rows)]


def limits(facts: ModelFacts, files: ModelFiles) -> list[str]:
    """Return the section on what the model can't do.

    Args:
        facts: what is known of the publication.
        files: what the model's files say.
    """
    tongue = f"`{facts.language}`" if facts.language else "that of its training texts, which nothing records"
    seen = "see the audit above" if files.audit is not None else "and no audit has asked here"
    users = (
        "User ids are keyed hashes whose key is not published. That hides an id, not a person: from a user's embedding the "
        "items that they are likely to have touched can be guessed."
        if facts.private_users
        else "User ids are published as they are in the source: who knows an id can ask what the model makes of that user."
    )
    return [
        "- **Faithfulness.** A text is a reason that reads well, not a record of why a recommender ranked the item. How far "
        f"it depends on the graph at all has to be measured: {seen}. It may name things that the item does not have.",
        f"- **Language.** It writes in one language: {tongue}. Others were not tried.",
        "- **What the graph can't know.** It knows who touched what up to the end of the training data: nothing of later "
        "items and users, of reasons that left no trace, or of an item that nobody touched. It knows best what many touched.",
        f"- **Privacy.** {users if files.config['num_users'] else 'No users are stored.'}",
        "- **Not for decisions about people.** The texts persuade. Show them as written by a machine, and do not rest on them "
        "anything but the choice of what to look at.",
    ]
