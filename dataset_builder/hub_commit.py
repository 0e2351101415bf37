"""One commit to a repository of the Hub, or none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from .errors import DataError
from .hub_trouble import patiently, trouble

FAILURES = (HTTPError, OSError, RuntimeError, ValueError)
"""What `huggingface_hub` raises; an upload that fails is a RuntimeError, with its cause."""


@dataclass(frozen=True)
class Place:
    """A repository to commit to.

    Args:
        repo_id: `owner/name`; made unless it is there.
        kind: `dataset` or `model`.
        private: make it private, and refuse one that is public.
        token: as `huggingface_hub` takes it.
        revision: the branch; made unless it is there. `main` when None.
    """

    repo_id: str
    kind: str = "dataset"
    private: bool = True
    token: str | bool | None = None
    revision: str | None = None

    @property
    def api(self) -> HfApi:
        """The client for it."""
        return HfApi(token=self.token)


@dataclass(frozen=True)
class Committed:
    """Where a branch stands now.

    Args:
        oid: the commit.
        commit_url: where it is to be seen.
        changed: whether this made it; False where the repository held the files already.
    """

    oid: str
    commit_url: str
    changed: bool


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


def commit(files: Mapping[str, Path], stale: Callable[[str], bool], place: Place, message: str) -> Committed:
    """Make a repository hold these files, by one commit on top of what is there, or by none if it holds them.

    What passes, such as a connection that breaks, is tried again from the start: a commit whose answer was lost is found to
    be there.

    Args:
        files: path in the repository to file.
        stale: whether a path that is there and not among `files` is taken out.
        place: the repository.
        message: what the commit is called.

    Raises:
        DataError: the repository is public and must not be, or the Hub does not take the files.
    """
    try:
        patiently(lambda: _make(place))
        return patiently(lambda: _commit(files, stale, place, message))
    except DataError:
        raise
    except FAILURES as error:
        raise trouble(error, place.repo_id, f"take the {place.kind}") from error


def _make(place: Place) -> None:
    place.api.create_repo(place.repo_id, repo_type=place.kind, private=place.private, exist_ok=True)
    if place.revision is not None and not place.revision.startswith("refs/"):
        place.api.create_branch(place.repo_id, branch=place.revision, repo_type=place.kind, exist_ok=True)


def _commit(files: Mapping[str, Path], stale: Callable[[str], bool], place: Place, message: str) -> Committed:
    there: Any = place.api.repo_info(place.repo_id, repo_type=place.kind, revision=place.revision)
    if place.private and there.private is False:
        raise DataError(
            f"{place.repo_id}: expected a private repository, found a public one; make it private, or publish with "
            "private=False"
        )
    names = [one.rfilename for one in there.siblings or []]
    operations: list[Any] = [CommitOperationAdd(path, file) for path, file in files.items()]
    operations += [CommitOperationDelete(name) for name in names if name not in files and stale(name)]
    done = place.api.create_commit(
        place.repo_id, operations, commit_message=message, repo_type=place.kind, revision=place.revision,
        parent_commit=there.sha,
    )  # fmt: skip
    return Committed(done.oid, done.commit_url, done.oid != there.sha)
