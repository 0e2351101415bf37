"""One commit to a dataset repository of the Hub, or none."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from .errors import DataError

MESSAGE = "Publish the dataset"


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot be a repository.

    Raises:
        DataError: it is not written as `owner/name`.
    """
    try:
        validate_repo_id(repo_id)
        fits = repo_id.count("/") == 1
    except HFValidationError:
        fits = False
    if not fits:
        raise DataError(f"expected a repository as owner/name, found {repo_id!r}; write it so")


def commit(
    files: Mapping[str, Path],
    owned: Iterable[str],
    repo_id: str,
    private: bool,
    token: str | bool | None,
    revision: str | None,
) -> CommitInfo:
    """Make a repository hold these files, by one commit on top of what is there, or by none if it holds them.

    Args:
        files: path in the repository to file.
        owned: names of configs; Parquet files of theirs that are not among `files` are taken out.
        repo_id: the repository; made unless it is there.
        private: make it private, and refuse one that is public.
        token: as `huggingface_hub` takes it.
        revision: the branch; made unless it is there.

    Raises:
        DataError: the repository is public and must not be, or the Hub does not take the files.
    """
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, repo_type="dataset", exist_ok=True)
        there = api.dataset_info(repo_id, revision=revision)
        if private and there.private is False:
            raise DataError(
                f"{repo_id}: expected a private repository, found a public one; make it private, or publish with private=False"
            )
        ours = re.compile(rf"data/({'|'.join(map(re.escape, owned))})/[^/]+\.parquet")
        old = [one.rfilename for one in there.siblings or [] if ours.fullmatch(one.rfilename) and one.rfilename not in files]
        operations: list[Any] = [CommitOperationAdd(path, file) for path, file in files.items()]
        operations += [CommitOperationDelete(path) for path in old]
        return api.create_commit(
            repo_id, operations, commit_message=MESSAGE, repo_type="dataset", revision=revision, parent_commit=there.sha
        )
    except DataError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # an upload that fails is a RuntimeError, with its cause
        raise DataError(
            f"{repo_id}: expected the Hub to take the dataset, found {_why(error)}; mend that and publish again: what is "
            "there is the old state or the new one, never a part"
        ) from error


def _why(error: BaseException) -> str:
    """Return the first line of what went wrong at the bottom."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
