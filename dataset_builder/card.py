"""The dataset card: the YAML that `datasets` loads the folder by, and a page for people."""

from collections.abc import Mapping
from typing import Any

from .schema import SPLITS, DatasetFolder

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
    folder.card.write_text("\n".join([*_yaml(present, build), *_body(present, build)]) + "\n", encoding="utf-8")


def _holds(folder: DatasetFolder, config: str, splits: tuple[str, ...]) -> bool:
    return all((folder.root / "data" / config / f"{ONE_FILE.get(config, split)}.parquet").is_file() for split in splits)


def _yaml(present: list[str], build: Mapping[str, Any]) -> list[str]:
    lines = ["---", f"license: {'cc0-1.0' if build['source'] == 'synthetic' else 'unknown'}"]
    lines += ["tags:", "- recommendation", "- explainable-recommendation", "configs:"]
    for name in present:
        lines.append(f"- config_name: {name}")
        if name == "explanations":
            lines.append("  default: true")
        lines.append("  data_files:")
        for split in CONFIGS[name]:
            lines += [f"  - split: {split}", f"    path: data/{name}/{ONE_FILE.get(name, split)}.parquet"]
    return [*lines, "---"]


def _body(present: list[str], build: Mapping[str, Any]) -> list[str]:
    counts = build["counts"]
    lines = ["", f"# Explained recommendations from `{build['source']}`", ""]
    lines += [f"{counts['users']:,} users, {counts['items']:,} items, {counts['kept']:,} interactions."]
    lines += ["", "| | train | validation | test |", "|---|---|---|---|"]
    lines.append(_row("interactions", counts, ""))
    explained = counts if "explanations_train" in counts else (build.get("distillation") or {}).get("counts", {})
    if "explanations" in present and explained:
        lines.append(_row("explanations", explained, "explanations_"))
    lines += ["", "```python", "from datasets import load_dataset", ""]
    if "explanations" in present:
        lines.append("explanations = load_dataset(folder)")
    lines += ['interactions = load_dataset(folder, "interactions")', "```"]
    leak = build["leak_report"]
    lines += ["", "## Leaks", ""]
    lines.append(f"{leak['count']:,} of {leak['total']:,} held-out pairs ({100 * leak['overlap']:.1f} %) are training edges.")
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


def _row(title: str, counts: Mapping[str, int], prefix: str) -> str:
    return f"| {title} | " + " | ".join(f"{counts.get(prefix + split, 0):,}" for split in SPLITS) + " |"


def _origin(build: Mapping[str, Any]) -> str:
    distillation = build.get("distillation")
    if distillation:
        return (
            f"Written by the teacher `{distillation['teacher']}`: explanations from the review of their own pair, "
            "profiles from training reviews only."
        )
    if "explanations_train" in build["counts"]:
        return "They came with the source tables."
    return "None yet: `xrec distill` writes them."


def _licence(build: Mapping[str, Any]) -> str:
    if build["source"] == "synthetic":
        return "CC0-1.0: the data is made up by a program."
    return "unknown: check the source's terms."
