"""Which files of a model folder and of a report are published, in which form, and what is said of the rest."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrec_dataset_builder.configs import dataset_folder
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.publishing import kept_key, key_file
from xrec_dataset_builder.schema import write_json
from xrec_training import model_files
from xrec_training.model_files import ITEMS_FILE, USERS_FILE, stage, without_paths
from xrec_training.tables import Catalogue

REPORT_FILES = ("metrics.json", "audit.json", "audit.png")
"""What is published of a report folder."""


@dataclass(frozen=True)
class PublishedFiles:
    """A folder laid out as the repository will be.

    Args:
        root: the folder; most files are links to the model's own.
        names: its files by their paths.
        left_out: sentences on what was left out or changed; the card says them.
        skipped: what else lies in the model folder and stays there; for the publisher's eyes.
        private_users: whether user ids are keyed hashes.
        key_file: where the key is kept; None where there is none.
    """

    root: Path
    names: list[str]
    left_out: tuple[str, ...]
    skipped: tuple[str, ...]
    private_users: bool
    key_file: Path | None

    def paths(self) -> dict[str, Path]:
        """Path in the repository to file."""
        return {name: (self.root / name).resolve() for name in self.names}

    def sizes(self) -> dict[str, int]:
        """Path in the repository to size in bytes."""
        return {name: path.stat().st_size for name, path in self.paths().items()}


def lay_out(
    model: Path,
    staged: Path,
    data: Path | None = None,
    report: Path | None = None,
    include_users: bool = False,
    include_texts: bool = False,
    include_reviews: bool = False,
) -> PublishedFiles:
    """Lay out what is published.

    Args:
        model: a model folder.
        staged: an empty folder, not inside of the model folder.
        data: the dataset that the model was trained on, whose key user ids are hashed with; without it the key is kept
            beside the model folder, in `<model>.private`.
        report: a folder that `xrec evaluate` or `xrec audit` left.
        include_users: publish user ids as they are, and profiles.
        include_texts: publish the held-out explanations that a report quotes, as a published dataset does anyway.
        include_reviews: publish the evidence of claims, which quotes training reviews.

    Raises:
        DataError: no users and items, a dataset of other users or items, or a report without figures.
    """
    for name in (USERS_FILE, ITEMS_FILE):
        if not (model / name).is_file():
            raise DataError(f"{model}: expected {name}, found none; save the model's processor into it")
    if data is not None:
        _check_belongs(model, data)
    kept = None if include_users else _key_file(model, data)
    names = stage(model, staged, None if kept is None else kept_key(kept))
    here = {path.name: f"{path.name}/" if path.is_dir() else path.name for path in sorted(model.iterdir())}
    gone = {name.split("/")[0] for name in names}
    kept_back = {"reference": include_texts, "claims": include_reviews}
    names += _report_files(report, staged, {key for key, wanted in kept_back.items() if not wanted}) if report else []
    return PublishedFiles(
        staged,
        sorted(set(names)),
        _notes(include_users, bool(report) and not include_texts),
        tuple(shown for name, shown in here.items() if name not in gone and name not in ("__pycache__", "README.md")),
        not include_users,
        kept,
    )


def _key_file(model: Path, data: Path | None) -> Path:
    """Where the key of user ids is kept, never within what is published: with the dataset, or beside the model folder."""
    return model.with_name(f"{model.name}.private") / "user_key" if data is None else key_file(dataset_folder(data))


def _check_belongs(model: Path, data: Path) -> None:
    catalogue = Catalogue.read(data)
    for name, table in ((USERS_FILE, catalogue.users), (ITEMS_FILE, catalogue.items)):
        column = table.columns[0]
        known = set(table[column])
        strange = next((row[column] for row in _read(model / name) if row[column] not in known), None)
        if strange is not None:
            raise DataError(
                f"{data}: expected the dataset that {model} was trained on, found none with {column} {strange!r}; give that "
                "dataset, or leave --data out"
            )


def _report_files(report: Path, staged: Path, kept_back: set[str]) -> list[str]:
    found = [name for name in REPORT_FILES if (report / name).is_file()]
    if not any(name.endswith(".json") for name in found):
        raise DataError(f"{report}: expected metrics.json or audit.json, found neither; run `xrec evaluate` or `xrec audit`")
    for name in found:
        (staged / name).unlink(missing_ok=True)
        if name.endswith(".json"):
            content = without_paths(_read(report / name))
            if "examples" in content:
                content["examples"] = [{k: v for k, v in one.items() if k not in kept_back} for one in content["examples"]]
            write_json(content, staged / name)
        else:
            (staged / name).symlink_to((report / name).resolve())
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found {error}; make it again") from error


def _notes(include_users: bool, texts_left_out: bool) -> tuple[str, ...]:
    if include_users:
        notes = ["User ids are the source's own, and profiles of users are published."]
    else:
        notes = [
            "User ids in `users.json` are keyed hashes (HMAC-SHA-256) of the source's, in the order of the model's table, and "
            "the key is not published. That hides an id, not a person: who has the source's interactions may find a user "
            "again by them, since the embeddings are made of them.",
            "Profiles of users are not published: they are empty in `users.json`, and prompts of stored users are written "
            "without.",
        ]
    notes.append("Optimizer states, training arguments and the tables of the dataset are not part of this repository.")
    if texts_left_out:
        notes.append("The held-out explanations that `metrics.json` quotes were taken out of it.")
    return tuple(notes)


def is_stale(path: str) -> bool:
    """Whether a file of a repository that is not published any more is taken out; see `model_files.is_stale`.

    Args:
        path: in the repository.
    """
    return path in REPORT_FILES or model_files.is_stale(path)
