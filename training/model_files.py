"""What of a model folder may leave the machine, and in which form: named files only, JSON without paths, users as told.

A list of what goes, not of what stays: optimizers, RNG states, `training_args.bin` and whatever else is a pickle, tables of
the raw data and unfinished work are on no list, and nor is what somebody else puts into the folder.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_imports

import modeling_xrec
from xrec_dataset_builder.publishing import hash_user
from xrec_dataset_builder.schema import write_json

USERS_FILE, ITEMS_FILE = "users.json", "items.json"
CONFIGURATIONS = frozenset({
    "config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "training.json", "lora/adapter_config.json"
})  # fmt: skip
"""JSON that may name a place on this machine."""
NAMES = CONFIGURATIONS | {
    USERS_FILE, ITEMS_FILE, "checksums.json", "losses.png", "tokenizer.json", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json"
}  # fmt: skip
PATTERN = re.compile(
    r"(model|collaborative|lora/adapter_model)(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
    r"|additional_chat_templates/[\w.-]+\.jinja"
)
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of what is a pickle, or may be one."""
SECRETS = frozenset({"hub_token", "push_to_hub_token"})
"""Settings of a training that are nobody's business."""
_PLACE = re.compile(r"(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\]+){2,}[/\\]?|file:.*")


def is_model_file(path: str) -> bool:
    """Whether a file of a model folder, by its path from the folder's root, is published; for code see `code_names`."""
    return path in NAMES or PATTERN.fullmatch(path) is not None


def code_names(folder: Path) -> list[str]:
    """The code files that a model folder's configurations call for, and the siblings that those import.

    Args:
        folder: the model folder; a file that is named and not there is among them.
    """
    waiting = [f"{module}.py" for module in _modules(folder)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if (folder / name).is_file():
                waiting += [f"{module}.py" for module in get_relative_imports(folder / name)]
    return sorted(found)


def _modules(folder: Path) -> set[str]:
    references: list[str | None] = []
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        content = json.loads((folder / file).read_text(encoding="utf-8")) if (folder / file).is_file() else {}
        for value in (content.get("auto_map") or {}).values():
            references += value if isinstance(value, list) else [value]
        references += [task["impl"] for task in (content.get("custom_pipelines") or {}).values()]
    return {one.split(".")[0] for one in references if one is not None and "--" not in one}


def stage(folder: Path, staged: Path, key: bytes | None, keep: bool = False) -> list[str]:
    """Lays out what is published of a model folder: links to its files, and copies of those that change.

    Args:
        folder: the model folder.
        staged: the folder to lay it out in; files of the same names give way.
        key: what user ids are hashed with; None for the users as they are, with their profiles.
        keep: the model folder may go before `staged` does: links are hard ones, on the same file system.

    Returns:
        Paths from the root of `staged`, in order.
    """
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    code = set(code_names(folder))
    names = [name for name in names if is_model_file(name) or name in code]
    for name in names:
        place = staged / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name in CONFIGURATIONS:
            write_json(without_paths(json.loads((folder / name).read_text(encoding="utf-8"))), place)
        elif name == USERS_FILE and key is not None:
            rows = hidden_users(json.loads((folder / name).read_text(encoding="utf-8")), key)
            place.write_text(json.dumps(rows, ensure_ascii=False, indent=0), encoding="utf-8")
        else:
            place.unlink(missing_ok=True)
            (place.hardlink_to if keep else place.symlink_to)((folder / name).resolve())
    return names


def is_stale(path: str) -> bool:
    """Whether a file of a repository that is not published any more is taken out: an earlier push's, or a pickle.

    Args:
        path: in the repository; what is neither is its owner's own, and stays.
    """
    code = path.endswith(".py") and "/" not in path and Path(modeling_xrec.__file__).with_name(path).is_file()
    return is_model_file(path) or code or path.endswith(PICKLES)


def hidden_users(rows: Sequence[Mapping[str, str]], key: bytes) -> list[dict[str, str]]:
    """Rows of users, in the order of the model's table, with keyed hashes for ids and without profiles."""
    return [{"user_id": hash_user(row["user_id"], key), "user_profile": ""} for row in rows]


def without_paths(value: Any) -> Any:
    """A JSON value without places on this machine, of which the last part stays, and without secrets."""
    if isinstance(value, dict):
        return {name: without_paths(one) for name, one in value.items() if name not in SECRETS}
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    if isinstance(value, str) and (_PLACE.fullmatch(value) or (value.strip("./") and "/" in value and Path(value).is_dir())):
        return Path(value.replace("\\", "/")).name
    return value
