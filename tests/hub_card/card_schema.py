"""A plain check of what the Hub's own check of a card's YAML asks for, from the Hub's documentation of cards.

Keys, their types, ids, and the values that are closed lists; what the documentation leaves free is free here.
"""

import re
from collections.abc import Callable
from typing import Any

ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
LICENCES = (
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bsd-2-clause", "bsd-3-clause",
    "cc", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0",
    "agpl-3.0", "lgpl-3.0", "llama2", "llama3", "gemma", "odbl", "unlicense", "unknown", "other",
)  # fmt: skip
RELATIONS = ("adapter", "merge", "quantized", "finetune")
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")


def model_problems(data: dict[str, Any]) -> list[str]:
    """What is wrong with the YAML of a model card."""
    rules: dict[str, Callable[[Any], bool]] = {
        "license": lambda value: value in LICENCES,
        "license_name": lambda value: bool(re.fullmatch(r"[a-z0-9.-]+", value)),
        "license_link": lambda value: value == "LICENSE" or value.startswith("https://"),
        "language": lambda value: all(LANGUAGE.fullmatch(one) for one in _list(value)),
        "library_name": lambda value: value == "transformers",
        "pipeline_tag": lambda value: value == "text-generation",
        "tags": _unique_texts,
        "metrics": _unique_texts,
        "datasets": lambda value: _unique_texts(value) and all(map(_is_repository, value)),
        "base_model": lambda value: bool(ID.fullmatch(value)),
        "base_model_relation": lambda value: value in RELATIONS,
        "model-index": lambda value: not _index_problems(value),
    }
    found = _broken(rules, data) + [
        f"no {key}" for key in ("license", "library_name", "pipeline_tag", "tags") if key not in data
    ]
    if ("base_model" in data) != ("base_model_relation" in data):
        found.append("base_model and its relation go together")
    return found + _licence_problems(data)


def dataset_problems(data: dict[str, Any]) -> list[str]:
    """What is wrong with the YAML of a dataset card."""
    rules: dict[str, Callable[[Any], bool]] = {
        "license": lambda value: value in LICENCES,
        "license_name": lambda value: bool(re.fullmatch(r"[a-z0-9.-]+", value)),
        "license_link": lambda value: value.startswith("https://"),
        "language": lambda value: all(LANGUAGE.fullmatch(one) for one in _list(value)),
        "pretty_name": lambda value: isinstance(value, str),
        "task_categories": lambda value: value == ["text-generation"],
        "annotations_creators": lambda value: (
            set(value) <= {"machine-generated", "found", "no-annotation", "expert-generated"}
        ),
        "size_categories": lambda value: len(value) == 1 and value[0] in SIZES,
        "source_datasets": lambda value: _unique_texts(value),
        "tags": _unique_texts,
        "configs": lambda value: (
            all({"config_name", "data_files"} <= set(one) for one in value)
            and sum(one.get("default", False) for one in value) <= 1
        ),
        "dataset_info": lambda value: all({"config_name", "features", "splits"} <= set(one) for one in value),
    }
    needed = ("license", "pretty_name", "task_categories", "size_categories", "annotations_creators", "configs")
    return _broken(rules, data) + [f"no {key}" for key in needed if key not in data] + _licence_problems(data)


def _broken(rules: dict[str, Callable[[Any], bool]], data: dict[str, Any]) -> list[str]:
    return [f"{key}: {value!r}" for key, value in data.items() if key not in rules or not rules[key](value)]


def _licence_problems(data: dict[str, Any]) -> list[str]:
    named = {"license_name", "license_link"} <= set(data)
    return ["licence other needs name and link, and only it"] if (data.get("license") == "other") != named else []


def _index_problems(index: Any) -> bool:
    def typed(part: Any) -> bool:
        return isinstance(part, dict) and isinstance(part.get("type"), str)

    for model in index:
        if set(model) != {"name", "results"} or not isinstance(model["name"], str) or not model["results"]:
            return True
        for result in model["results"]:
            if not typed(result["task"]) or not typed(result["dataset"]) or not isinstance(result["dataset"]["name"], str):
                return True
            if not result["metrics"] or not all(typed(one) and isinstance(one["value"], float) for one in result["metrics"]):
                return True
    return False


def _unique_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value) and len(set(value)) == len(value) > 0


def _is_repository(value: str) -> bool:
    return bool(ID.fullmatch(value)) and "/" in value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
