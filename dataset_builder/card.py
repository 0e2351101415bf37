"""The dataset card: the YAML that `datasets` loads the folder by, and a page for people."""

from collections.abc import Mapping
from typing import Any

from .schema import COLD_SPLITS, SPLITS, DatasetFolder

CONFIGS = {
    "explanations": SPLITS,
    "interactions": SPLITS,
    "users": ("train",),
    "items": ("train",),
}
"""Config name to its splits. Users and items have one, called train as is the custom: `all` is reserved."""

ONE_FILE = {"users": "all", "items": "all"}
"""Configs whose one split lies in a file of another name."""


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
    present = [name for name, splits in CONFIGS.items() if any(_holds(place, name, splits) for place in folders)]
    splits = {name: (*CONFIGS[name], *_cold(folders, name)) for name in present}
    folder.card.write_text("\n".join([*_yaml(splits, build), *_body(present, build)]) + "\n", encoding="utf-8")


def _cold(folders: list[DatasetFolder], config: str) -> list[str]:
    """The cold splits that a config has beside the usual three."""
    if CONFIGS[config] != SPLITS:
        return []
    return [split for split in COLD_SPLITS if any(_holds(place, config, (split,)) for place in folders)]


def _holds(folder: DatasetFolder, config: str, splits: tuple[str, ...]) -> bool:
    return all((folder.root / "data" / config / f"{ONE_FILE.get(config, split)}.parquet").is_file() for split in splits)


def _yaml(present: Mapping[str, tuple[str, ...]], build: Mapping[str, Any]) -> list[str]:
    lines = ["---", f"license: {'cc0-1.0' if build['source'] == 'synthetic' else 'unknown'}"]
    lines += ["tags:", "- recommendation", "- explainable-recommendation", "configs:"]
    for name in present:
        lines.append(f"- config_name: {name}")
        if name == "explanations":
            lines.append("  default: true")
        lines.append("  data_files:")
        for split in present[name]:
            lines += [f"  - split: {split}", f"    path: data/{name}/{ONE_FILE.get(name, split)}.parquet"]
    return [*lines, "---"]


def _body(present: list[str], build: Mapping[str, Any]) -> list[str]:
    counts = build["counts"]
    lines = ["", f"# Explained recommendations from `{build['source']}`", ""]
    lines += [f"{counts['users']:,} users, {counts['items']:,} items, {counts['kept']:,} interactions."]
    splits = [*SPLITS, *(split for split in COLD_SPLITS if split in counts)]
    lines += ["", f"| | {' | '.join(splits)} |", "|---" * (len(splits) + 1) + "|"]
    lines.append(_row("interactions", counts, "", splits))
    explained = counts if "explanations_train" in counts else (build.get("distillation") or {}).get("counts", {})
    if "explanations" in present and explained:
        lines.append(_row("explanations", explained, "explanations_", splits))
    lines += ["", "```python", "from datasets import load_dataset", ""]
    if "explanations" in present:
        lines.append("explanations = load_dataset(folder)")
    lines += ['interactions = load_dataset(folder, "interactions")', "```"]
    leak = build["leak_report"]
    lines += ["", "## Leaks", ""]
    lines.append(f"{leak['count']:,} of {leak['total']:,} held-out pairs ({100 * leak['overlap']:.1f} %) are training edges.")
    copies = build.get("straddling_reviews")
    if copies and copies["training_reviews"]:
        lines.append(
            f"{copies['training_reviews']:,} training reviews nearly repeat a held-out one (Jaccard similarity of word "
            f"triples of at least {copies['jaccard_at_least']}): no profile and no explanation is made of them."
        )
    if splits != list(SPLITS):
        lines.append("No user of `cold_user` and no item of `cold_item` has a training edge; no other split holds them.")
    published = build.get("published_leak_report")
    if published and published["count"]:
        lines.append(
            f"As published it was {published['count']:,} of {published['total']:,} "
            f"({100 * published['overlap']:.1f} %); the explanation pairs were taken out of the graph."
        )
    lines += [f"Not verified: {what}." for what in build.get("unverified", [])]
    lines += ["", "## Explanations", "", _origin(build)]
    lines += ["", "## Licence", "", _licence(build)]
    return lines


def _row(title: str, counts: Mapping[str, int], prefix: str, splits: list[str]) -> str:
    return f"| {title} | " + " | ".join(f"{counts.get(prefix + split, 0):,}" for split in splits) + " |"


def _origin(build: Mapping[str, Any]) -> str:
    distillation = build.get("distillation")
    if distillation and "model" in distillation:
        return _written_by_model(distillation)
    if distillation:
        return (
            f"Written by the teacher `{distillation['teacher']}`: explanations from the review of their own pair, "
            "profiles from training reviews only."
        )
    if "explanations_train" in build["counts"]:
        return "They came with the source tables."
    return "None yet: `xrec distill` writes them."


def _written_by_model(distillation: Mapping[str, Any]) -> str:
    counts, versions = distillation["counts"], ", ".join(f"`{version}`" for version in distillation["prompts"].values())
    text = (
        f"Written by the language model `{distillation['model']}` (teacher `{distillation['teacher']}`, temperature "
        f"{distillation['temperature']:g}, seed {distillation['seed']}, prompts {versions}) and not checked by people: item "
        "profiles from metadata and training reviews, user profiles from training reviews, explanations from the review of "
        f"their own pair and both profiles, in at most {distillation['explanation_words']} words. Personal data that could be "
        "told by their form were masked before the model saw them."
    )
    failed = [f"{counts[f'{kind}s_failed']:,} {kind.replace('_', ' ')}s" for kind in distillation["prompts"]]
    if any(counts[f"{kind}s_failed"] for kind in distillation["prompts"]):
        text += f" Not usable and left out: {', '.join(failed)}."
    return text


def _licence(build: Mapping[str, Any]) -> str:
    if build["source"] == "synthetic":
        return "CC0-1.0: the data is made up by a program."
    return "unknown: check the source's terms."
