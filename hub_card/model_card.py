"""The model card: YAML for the Hub and a page for people, written from the model's own files.

Every figure on it is read from a file; where a file is missing, the card says what is not known.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from xrec_dataset_builder.card import leaks, origin
from xrec_dataset_builder.licences import OWN, licence_of, licence_section
from xrec_evaluation.metrics import METRICS

from .card_sections import code_section, evaluation, limits, training, use
from .facts import ModelFacts, ModelFiles
from .plain_text import code, one_line, plain, sentence, size

TAGS = ["xrec", "explainable-recommendation", "recommendation", "lightgcn", "custom_code"]
INDEXED = {
    "aspect_f1": "f1", "rouge_l": "rouge", "bleu_4": "bleu", "bert_f1": "bertscore", "bert_f1_rescaled": "bertscore",
    "embedding_similarity": "cosine_similarity",
}  # fmt: skip
"""Metrics that go into `model-index`, with the Hub's id of their kind."""
PLOTS = {"losses.png": "Training and validation loss", "audit.png": "What the audit found"}
"""Pictures of a model folder or a report, with what they show."""


def model_card(folder: Path, facts: ModelFacts) -> str:
    """Return the card of a model.

    Args:
        folder: the model folder as it is published: its catalogue is what the snippet names.
        facts: what is known besides.

    Returns:
        YAML and Markdown; every text of users or data in it is escaped.

    Raises:
        DataError: the folder holds no XRec model, or its backbone is a folder of this machine.
    """
    files = ModelFiles.read(folder, facts.report)
    sections = {
        "Use": use(facts, files),
        "What code runs": code_section(facts),
        "Training": training(files, facts),
        "Evaluation": evaluation(files),
        "Plots": [f"![{about}]({name})" for name, about in PLOTS.items() if name in facts.files],
        "Data": _data(facts, files),
        "Limits": limits(facts, files),
        "What is published": _published(facts, files),
        "Licence": _licence(facts, files),
    }
    lines = ["---", card_data(facts, files).to_yaml(line_break="\n"), "---", "", f"# {plain(facts.name)}", "", what(files)]
    for title, section in sections.items():
        if section:
            lines += ["", f"## {title}", "", *section]
    return "\n".join(lines) + "\n"


def card_data(facts: ModelFacts, files: ModelFiles) -> ModelCardData:
    """Return what the card's YAML holds.

    Args:
        facts: what is known of the publication.
        files: what the model's files say.
    """
    more: dict[str, Any] = {}
    if files.base_model is not None:
        more = {"base_model": files.base_model[0], "base_model_relation": "adapter" if files.adapter_sized else "finetune"}
    if facts.licence == "other":
        more |= {"license_name": facts.licence_name, "license_link": facts.licence_link}
    results = eval_results(facts, files.metrics) if files.metrics is not None else []
    if results:
        more |= {"model_name": facts.name, "eval_results": results}
    if facts.dataset_repo_id is not None:
        more["datasets"] = [facts.dataset_repo_id]
    return ModelCardData(
        license=facts.licence,
        language=facts.language,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
        metrics=sorted({result.metric_type for result in results}) or None,
        **more,
    )


def eval_results(facts: ModelFacts, metrics: Mapping[str, Any]) -> list[EvalResult]:
    """Return the model's own figures for `model-index`; the floors beside them are in the card's table.

    Args:
        facts: what is known of the publication.
        metrics: the content of `metrics.json`.
    """
    source = one_line(facts.build["source"]) if facts.build is not None else None
    found = metrics["systems"]["model"]["metrics"]
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Recommendation explanation",
            dataset_type=facts.dataset_repo_id or source or "not published",
            dataset_name="The test split of the training data"
            if source is None
            else f"Explained recommendations from {source}",
            dataset_config="explanations",
            dataset_split="test",
            metric_type=INDEXED[key],
            metric_name=METRICS[key].label,
            metric_value=round(found[key]["value"] * METRICS[key].scale, 2),
        )
        for key in INDEXED
        if key in found
    ]


def what(files: ModelFiles) -> str:
    """Return what the model does, in two sentences."""
    config, signal = files.config, (files.recipe or {}).get("signal", "graph")
    if config["injection"] == "none" or signal == "none":
        how = "a language model that hears no graph: a control, whose prompt alone says what it knows"
    else:
        heard = {"graph": "collaborative embeddings of a user-item graph (LightGCN)"}.get(
            signal, f"embeddings that are not the graph's (signal {plain(signal)!r}: a control)"
        )
        place = {
            "qkv": "into the queries, keys and values of every layer",
            "attention": "into the attention's input of every layer",
            "input": "into the input",
        }[config["injection"]]
        kept = "frozen (but for its norms)" if config.get("trained_norms") else "frozen"
        how = f"{heard} go through mixture-of-experts adapters {place} of a {kept} language model"
    return (
        f"Given a user and an item, this model writes in a sentence or two why the item would suit the user: {how}. "
        f"It knows {config['num_users']:,} users and {config['num_items']:,} items by id, takes a user it has never seen by a "
        "history of items, and returns beside each text what the text rests on."
    )


def _data(facts: ModelFacts, files: ModelFiles) -> list[str]:
    sizes = f"{files.config['num_users']:,} users and {files.config['num_items']:,} items"
    if facts.build is None:
        return [f"The model stores {sizes}. The data that it was trained on are not described here: none were given."]
    counts, build = facts.build["counts"], facts.build
    explained = (build.get("distillation") or {}).get("counts") or counts
    lines = [
        f"Source {code(build['source'])}: {counts['users']:,} users, {counts['items']:,} items, {counts['train']:,} training "
        f"interactions, {explained.get('explanations_train', 0):,} training and {explained.get('explanations_test', 0):,} "
        f"test explanations. The model stores {sizes}."
    ]
    if facts.dataset_repo_id is not None:
        lines += ["", f"Published as [{facts.dataset_repo_id}](https://huggingface.co/datasets/{facts.dataset_repo_id})."]
    return [*lines, "", *leaks(build), "", origin(build)]


def _published(facts: ModelFacts, files: ModelFiles) -> list[str]:
    lines = [f"- {len(facts.files):,} files, {size(sum(facts.files.values()))}."]
    if files.checksums is not None:
        lines.append(f"- `checksums.json` has a SHA-256 of each of {files.checksums} tensors; loading checks them.")
    lines.append("- No pickle: weights and tables are safetensors, the rest is JSON and Python.")
    return lines + [f"- {sentence(one)}" for one in facts.left_out]


def _licence(facts: ModelFacts, files: ModelFiles) -> list[str]:
    unknown = "No licence is stated for the weights, tables and catalogue."
    named = (
        f"{plain(facts.licence_name or '')} ({plain(facts.licence_link or '')})" if facts.licence == "other" else facts.licence
    )
    own = unknown if facts.licence == "unknown" else f"Weights, tables and catalogue: {named}."
    lines = [f"{own} The code files: Apache-2.0."]
    if files.base_model is not None:
        lines.append(
            f"The backbone {code(files.base_model[0])} has a licence of its own, which holds for what is made with it."
        )
    if facts.build is not None:
        source = facts.build["source"]
        stated = facts.licence if source in OWN and facts.licence not in ("unknown", "other") else None
        lines += ["", "Of the data: " + licence_section(licence_of(source, stated), made_up=source == "synthetic")]
    return lines
