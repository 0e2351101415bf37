"""The dataset card: the YAML that `datasets` loads a dataset by, and a page for people."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .card_details import card_yaml, filters_section, masking_section, prompts_section, source_section
from .configs import CONFIGS, Config, dtypes, fingerprint, row_count
from .licences import Licence, licence_of, licence_section
from .schema import COLD_SPLITS, SPLITS, DatasetFolder


@dataclass(frozen=True)
class Listed:
    """A config as a card lists it.

    Args:
        config: the config.
        files: the file of each split that is there.
    """

    config: Config
    files: Mapping[str, Path]

    def yaml(self) -> list[str]:
        """Return its lines in `configs`.

        The description ends with a hash of the content: `datasets` caches a folder by the YAML of its card, and would serve
        old rows from a folder whose card stays the same.
        """
        lines = [f"- config_name: {self.config.name}"]
        if self.config.name == "explanations":
            lines.append("  default: true")
        lines += [f"  description: {self.config.about} Content {fingerprint(self.files)}.", "  data_files:"]
        for split in self.files:
            lines += [f"  - split: {split}", f"    path: {self.config.path(split)}"]
        return lines

    def info(self) -> list[str]:
        """Return its lines in `dataset_info`."""
        lines = [f"- config_name: {self.config.name}", "  features:"]
        for name, dtype in dtypes(self.config).items():
            lines += [f"  - name: {name}", f"    dtype: {dtype}"]
        lines.append("  splits:")
        for split, path in self.files.items():
            lines += [f"  - name: {split}", f"    num_examples: {row_count(path)}"]
        return lines


def write_card(folder: DatasetFolder, build: Mapping[str, Any], beside: DatasetFolder | None = None) -> None:
    """Write the folder's README.md.

    Only configs whose files exist are listed; raw reviews and the truth of the built-in world never are.

    Args:
        folder: a dataset folder.
        build: the content of its build.json.
        beside: a folder that holds further files of the dataset, when `folder` holds only those that are to be moved
            there.
    """
    folders = [folder] if beside is None else [folder, beside]
    listed = [one for one in (Listed(config, config.present(*folders)) for config in CONFIGS.values()) if one.files]
    folder.card.write_text(card_text(listed, build, licence_of(build["source"])), encoding="utf-8")


def card_text(
    listed: list[Listed], build: Mapping[str, Any], licence: Licence, repo_id: str | None = None, notes: Iterable[str] = ()
) -> str:
    """Return a card.

    Args:
        listed: the configs that are there.
        build: the content of a build.json.
        licence: the licence to state.
        repo_id: the repository to load from; None for a folder.
        notes: sentences on what was left out or changed for publishing.
    """
    return "\n".join([*_yaml(listed, build, licence), *_body(listed, build, licence, repo_id, list(notes))]) + "\n"


def _yaml(listed: list[Listed], build: Mapping[str, Any], licence: Licence) -> list[str]:
    rows = sum(row_count(path) for path in listed[0].files.values()) if listed else 0
    lines = ["---", *licence.yaml(), *card_yaml(build, rows), "tags:", "- recommendation", "- explainable-recommendation"]
    lines += ["configs:", *(line for one in listed for line in one.yaml())]
    return [*lines, "dataset_info:", *(line for one in listed for line in one.info()), "---"]


def _body(
    listed: list[Listed], build: Mapping[str, Any], licence: Licence, repo_id: str | None, notes: list[str]
) -> list[str]:
    present = [one.config.name for one in listed]
    lines = ["", f"# Explained recommendations from `{build['source']}`", "", *_counts(present, build)]
    lines += ["", "```python", "from datasets import load_dataset", ""]
    where = "folder" if repo_id is None else f'"{repo_id}"'
    if "explanations" in present:
        lines.append(f"explanations = load_dataset({where})")
    other = "interactions" if "interactions" in present else "items"
    lines += [f'{other} = load_dataset({where}, "{other}")', "```"]
    if notes:
        lines += ["", "## What is published", "", *(f"- {note}" for note in notes)]
    lines += ["", "## Source", "", *source_section(build, licence)]
    lines += ["", "## Filters and splits", "", *filters_section(build)]
    lines += ["", "## Leaks", "", *leaks(build)]
    lines += ["", "## Explanations", "", origin(build)]
    prompts = prompts_section(build)
    lines += ["", "## Prompts", "", *prompts] if prompts else []
    lines += ["", "## Personal data", "", *masking_section(build)]
    lines += ["", "## Licence", "", licence_section(licence, made_up=build["source"] == "synthetic")]
    return lines


def _counts(present: list[str], build: Mapping[str, Any]) -> list[str]:
    counts, splits = build["counts"], _splits(build)
    lines = [f"{counts['users']:,} users, {counts['items']:,} items, {counts['kept']:,} interactions."]
    lines += ["", f"| | {' | '.join(splits)} |", "|---" * (len(splits) + 1) + "|"]
    lines.append(_row("interactions", counts, "", splits))
    explained = counts if "explanations_train" in counts else (build.get("distillation") or {}).get("counts", {})
    if "explanations" in present and explained:
        lines.append(_row("explanations", explained, "explanations_", splits))
    return lines


def _splits(build: Mapping[str, Any]) -> list[str]:
    return [*SPLITS, *(split for split in COLD_SPLITS if split in build["counts"])]


def _row(title: str, counts: Mapping[str, int], prefix: str, splits: list[str]) -> str:
    return f"| {title} | " + " | ".join(f"{counts.get(prefix + split, 0):,}" for split in splits) + " |"


def leaks(build: Mapping[str, Any]) -> list[str]:
    """Return what cards say of leaks, a sentence or two a line.

    Args:
        build: the content of a build.json.
    """
    leak = build["leak_report"]
    lines = [f"{leak['count']:,} of {leak['total']:,} held-out pairs ({100 * leak['overlap']:.1f} %) are training edges."]
    copies = build.get("straddling_reviews")
    if copies and copies["training_reviews"]:
        lines.append(
            f"{copies['training_reviews']:,} training reviews nearly repeat a held-out one (Jaccard similarity of word "
            f"triples of at least {copies['jaccard_at_least']}): no profile and no explanation is made of them."
        )
    if _splits(build) != list(SPLITS):
        lines.append("No user of `cold_user` and no item of `cold_item` has a training edge; no other split holds them.")
    published = build.get("published_leak_report")
    if published and published["count"]:
        lines.append(
            f"As published it was {published['count']:,} of {published['total']:,} "
            f"({100 * published['overlap']:.1f} %); the explanation pairs were taken out of the graph."
        )
    return lines + [f"Not verified: {what}." for what in build.get("unverified", [])]


def origin(build: Mapping[str, Any]) -> str:
    """Return what cards say of who wrote the explanations and profiles.

    Args:
        build: the content of a build.json.
    """
    distillation = build.get("distillation")
    if distillation and "model" in distillation:
        return _written_by_model(distillation)
    if distillation:
        return (
            f"Written by the teacher `{distillation['teacher']}`: explanations from the review of their own pair, "
            "profiles from training reviews only. Personal data that could be told by their form, and users' names where the "
            "source gives them, were masked."
        )
    if "explanations_train" in build["counts"]:
        return "They came with the source tables."
    return "None yet: `xrec distill` writes them."


def _model_name(model: str) -> str:
    """The name of a model; of a folder its last part, since paths tell of the machine."""
    return Path(model).name if Path(model).is_absolute() or Path(model).is_dir() else model


def _written_by_model(distillation: Mapping[str, Any]) -> str:
    counts, versions = distillation["counts"], ", ".join(f"`{version}`" for version in distillation["prompts"].values())
    model = _model_name(distillation["model"])
    text = (
        f"Written by the language model `{model}` (teacher `{distillation['teacher']}`, temperature "
        f"{distillation['temperature']:g}, seed {distillation['seed']}, prompts {versions}) and not checked by people: item "
        "profiles from metadata and training reviews, user profiles from training reviews, explanations from the review of "
        f"their own pair and both profiles, in at most {distillation['explanation_words']} words. Personal data that could be "
        "told by their form were masked before the model saw them."
    )
    failed = [f"{counts[f'{kind}s_failed']:,} {kind.replace('_', ' ')}s" for kind in distillation["prompts"]]
    if any(counts[f"{kind}s_failed"] for kind in distillation["prompts"]):
        text += f" Not usable and left out: {', '.join(failed)}."
    return text
