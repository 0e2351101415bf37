"""What a model card is written from: what the publisher knows, and what the model's own files say."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xrec_dataset_builder.errors import DataError

from .code_scan import CodeFile

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
METRICS_FILE, AUDIT_FILE, JUDGES_FILE = "metrics.json", "audit.json", "judges.json"


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a publication besides the model's files.

    Args:
        repo_id: the repository, `owner/name`.
        revision: the commit of the files, 40 hexadecimal digits; None before there is one: the card then pins nothing.
        dataset_repo_id: the repository of the dataset; None where it is not published.
        licence: the Hub's id of the licence; `unknown` where none is stated, `other` with a name and a link.
        files: path in the repository to size in bytes.
        code: the code files, as `code_files` gives them.
        code_hash: one hash over them, as `code_hash` gives it.
        left_out: sentences on what was left out or changed.
        private_users: whether user ids are keyed hashes.
        licence_name: the name of a licence that the Hub does not know.
        licence_link: where it is to be read.
        build: the content of the dataset's build.json; None where the data are not given.
        report: a folder with `metrics.json`, `audit.json` or both; None for the model's own folder.

    Raises:
        DataError: an id or a commit that is none, or a licence `other` without its name and link.
    """

    repo_id: str
    revision: str | None
    dataset_repo_id: str | None
    licence: str
    files: Mapping[str, int]
    code: list[CodeFile]
    code_hash: str
    left_out: tuple[str, ...] = ()
    private_users: bool = True
    licence_name: str | None = None
    licence_link: str | None = None
    build: Mapping[str, Any] | None = field(default=None, repr=False)
    report: Path | None = None

    def __post_init__(self) -> None:
        """Refuses what would make a card that names nothing."""
        for what, value in (("repo_id", self.repo_id), ("dataset_repo_id", self.dataset_repo_id)):
            if value is not None and not REPOSITORY.fullmatch(value):
                raise DataError(f"expected {what} as owner/name, found {value!r}; write it so")
        if self.revision is not None and not COMMIT.fullmatch(self.revision):
            raise DataError(f"expected a revision of 40 hexadecimal digits, found {self.revision!r}; give the commit")
        if self.licence == "other" and not (self.licence_name and self.licence_link):
            raise DataError("expected name and link of licence 'other', found not both; give licence_name and licence_link")

    @property
    def language(self) -> str | None:
        """The language of the explanations by its code; None where nothing records it."""
        if self.build is None:
            return None
        return "en" if self.build["source"] == "synthetic" else self.build["options"].get("language")

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo_id.split("/")[1]


@dataclass(frozen=True)
class ModelFiles:
    """What the files of a model folder say.

    Args:
        config: `config.json`.
        recipe: the recipe of `training.json`; None where it is not there.
        users: rows of `users.json`, empty where users are not stored.
        items: rows of `items.json`.
        checksums: how many tensors `checksums.json` has a hash of; None where it is not there.
        metrics: `metrics.json` of the report, or None.
        audit: `audit.json` of the report, or None.
        judges: `judges.json` of the report, or None.
    """

    config: Mapping[str, Any]
    recipe: Mapping[str, Any] | None
    users: list[dict[str, str]]
    items: list[dict[str, str]]
    checksums: int | None
    metrics: Mapping[str, Any] | None
    audit: Mapping[str, Any] | None
    judges: Mapping[str, Any] | None

    @classmethod
    def read(cls, folder: Path, report: Path | None = None) -> "ModelFiles":
        """Read a folder.

        Args:
            folder: a model folder.
            report: a folder with figures; the model's own when None.

        Raises:
            DataError: no `config.json` of an XRec model, a file that is no JSON, or a report folder without figures.
        """
        config = _json(folder / "config.json")
        if config is None or config.get("model_type") != "xrec":
            raise DataError(f"{folder}: expected the config.json of an XRec model, found none; give a model folder")
        training, sums = _json(folder / "training.json"), _json(folder / "checksums.json")
        figures = [_json((report or folder) / name) for name in (METRICS_FILE, AUDIT_FILE, JUDGES_FILE)]
        if report is not None and not any(figures):
            raise DataError(f"{report}: expected metrics.json or audit.json, found neither; run `xrec evaluate`")
        return cls(
            config,
            None if training is None else training["recipe"],
            _json(folder / "users.json") or [],
            _json(folder / "items.json") or [],
            None if sums is None else len(sums["tensors"]),
            *figures,
        )

    @property
    def adapter_sized(self) -> bool:
        """Whether the backbone comes from its own repository."""
        return self.config.get("base_model_name_or_path") is not None

    @property
    def base_model(self) -> tuple[str, str | None] | None:
        """The backbone's id on the Hub and its commit, if known; None for one that has no id there.

        Raises:
            DataError: an adapter-sized checkpoint whose backbone only this machine has.
        """
        if self.adapter_sized:
            name = self.config["base_model_name_or_path"]
            if not REPOSITORY.fullmatch(name) and "/" in name:
                raise DataError(
                    f"expected a backbone by its id on the Hub, found the folder {Path(name).name!r}, which no one else has; "
                    "save the model whole, with base_model_name_or_path=None"
                )
            return name, self.config.get("base_model_revision")
        name = (self.config.get("text_config") or {}).get("_name_or_path") or ""
        return (name, None) if REPOSITORY.fullmatch(name) and not Path(name).exists() else None


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found {error}; make it again") from error
