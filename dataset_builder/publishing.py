"""What of a dataset is published, and how it is made fit for that: Parquet files and a card, in one commit.

Published are item ids, titles, item profiles and explanations. User ids go out as keyed hashes whose key stays in the
folder; user profiles, interactions and raw reviews go out only when they are asked for.
"""

import contextlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from .card import Listed, card_text
from .configs import CONFIGS, PUBLISHED_REVIEWS, Config, config_files, dataset_folder
from .errors import DataError
from .hub_commit import Place, check_repo_id, commit
from .licences import Licence, licence_of
from .schema import COLD_SPLITS, REVIEWS, SPLITS, DatasetFolder, read_build, read_table, scan_table, write_table

KEY_BYTES = 32
"""Length of the key that user ids are hashed with."""


@dataclass(frozen=True)
class Included:
    """What is published beyond explanations and items.

    Args:
        users: raw user ids, which tell the interactions of all explained pairs, and the profiles of users.
        interactions: the pairs that the graph is made of.
        reviews: the raw reviews, which tell the interactions too.
    """

    users: bool = False
    interactions: bool = False
    reviews: bool = False

    @property
    def raw(self) -> bool:
        """Whether the source's own data are among it."""
        return self.users or self.interactions or self.reviews


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Args:
        repo_id: the repository.
        files: path in the repository to size in bytes.
        left_out: sentences on what was left out or changed; the card says the same.
        commit: the commit that holds it all; None for a dry run.
        url: where the commit is to be seen; None for a dry run.
    """

    repo_id: str
    files: dict[str, int]
    left_out: tuple[str, ...]
    commit: str | None = None
    url: str | None = None


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = True,
    token: str | bool | None = None,
    revision: str | None = None,
    include_users: bool = False,
    include_interactions: bool = False,
    include_reviews: bool = False,
    accept_unknown_licence: bool = False,
    licence: str | None = None,
    dry_run: bool = False,
) -> Publication:
    """Publish a distilled dataset folder as a dataset on the Hub.

    One commit holds all files and the card, so that no revision is half made; the same dataset again makes no commit.
    Files of an earlier push that no longer belong are taken out by the same commit, but stay in the repository's history.

    Args:
        folder: a folder made by `xrec build` and `xrec distill`.
        repo_id: `owner/name`; made unless it is there. Its README.md is replaced.
        private: make the repository private, and refuse one that is there and public.
        token: as `huggingface_hub` takes it; by default the one that is logged in.
        revision: the branch, made unless it is there; `main` by default.
        include_users: publish raw user ids and the profiles of users.
        include_interactions: publish the interactions.
        include_reviews: publish the raw reviews, and with them the interactions.
        accept_unknown_licence: publish although nobody states a licence of the source.
        licence: the Hub's id of the licence of your own tables, for example `cc-by-4.0`; for source `table`.
        dry_run: make and measure the files, send nothing. The key is made if it is not there, for the sizes to be right.

    Returns:
        The files with their sizes, and what was left out.

    Raises:
        DataError: the folder is not distilled, the licence does not allow it or is not known, or the Hub does not take it.
    """
    source, included = dataset_folder(folder), Included(include_users, include_interactions, include_reviews)
    check_repo_id(repo_id)
    build = read_build(source)
    terms = licence_of(build["source"], licence)
    check_terms(build["source"], terms, included, private, accept_unknown_licence)
    notes = _notes(included)
    try:
        room = tempfile.TemporaryDirectory(prefix=f".{source.root.name}.", dir=source.root.parent)
    except OSError as error:
        raise DataError(
            f"{source.root.parent}: expected a place to write to, found {error.strerror}; move the folder"
        ) from error
    with room as name:
        made = Path(name)
        listed = [_write(config, tables, made) for config, tables in _tables(source, included)]
        (made / "README.md").write_text(card_text(listed, build, terms, repo_id, notes), encoding="utf-8")
        files = {"README.md": made / "README.md"}
        files |= {one.config.path(split): path for one in listed for split, path in one.files.items()}
        sizes = {path: file.stat().st_size for path, file in files.items()}
        if dry_run:
            return Publication(repo_id, sizes, notes)
        place = Place(repo_id, private=private, token=token, revision=revision)
        done = commit(files, _is_table, place, "Publish the dataset")
        return Publication(repo_id, sizes, notes, done.oid, done.commit_url)


def _is_table(path: str) -> bool:
    """Whether a file of a repository is a table as we write them."""
    names = "|".join(map(re.escape, [*CONFIGS, PUBLISHED_REVIEWS.name]))
    return re.fullmatch(rf"data/({names})/[^/]+\.parquet", path) is not None


def check_terms(source: str, terms: Licence, included: Included, private: bool, accepted: bool) -> None:
    """Refuse what a source's licence does not allow.

    Args:
        source: where the data come from.
        terms: its licence.
        included: what is published beyond explanations and items.
        private: whether into a private repository.
        accepted: whether an unknown licence is accepted.

    Raises:
        DataError: the licence is unknown, or forbids to hand on what is included.
    """
    if not terms.known and not accepted:
        own = " or, for data of your own, state its licence" if source == "table" else ""
        raise DataError(
            f"expected a source with a licence, found {source}, whose licence is unknown; read the card's section on it, then "
            f"accept_unknown_licence=True{own}"
        )
    if terms.raw == "no" and included.raw and not private:
        raise DataError(
            f"expected no interactions and no reviews of {source} in a public repository, since its terms forbid to hand them "
            "on, found them included; leave them out, or keep the repository private"
        )


def _notes(included: Included) -> tuple[str, ...]:
    """Say what goes out in which form, and what does not."""
    if included.users:
        notes = ["User ids are the source's own, and profiles of users are published."]
    else:
        notes = [
            "User ids are keyed hashes (HMAC-SHA-256) of the source's, and the key is not published. That hides an id, not a "
            "person: who has the source's reviews may find a row's by its item and its words.",
            "The column `user_profile` is empty, and there is no config `users`: profiles of users are not published.",
        ]
    if not included.interactions:
        notes.append(
            "Interactions are published in `reviews`."
            if included.reviews
            else "The table of interactions is not published; explained pairs are interactions, too."
        )
    notes.append("Raw reviews are published." if included.reviews else "Raw reviews are not published.")
    return tuple(notes)


def _tables(folder: DatasetFolder, included: Included) -> Iterator[tuple[Config, Iterator[tuple[str, pl.DataFrame]]]]:
    """Yield each config that is published with the rows of each split, one split in memory at a time."""
    key = None if included.users else user_key(folder)
    wanted = {"explanations": True, "interactions": included.interactions, "users": included.users, "items": True}
    for name, config in CONFIGS.items():
        if wanted[name]:
            yield config, _splits(folder, config, key)
    if included.reviews:
        yield PUBLISHED_REVIEWS, _review_splits(folder, key)


def _splits(folder: DatasetFolder, config: Config, key: bytes | None) -> Iterator[tuple[str, pl.DataFrame]]:
    for split, path in config_files(folder, config).items():
        yield split, _hidden(read_table(path, config.columns), key)


def _review_splits(folder: DatasetFolder, key: bytes | None) -> Iterator[tuple[str, pl.DataFrame]]:
    if not folder.reviews.is_file():
        raise DataError(f"{folder.root}: expected raw reviews, found none; publish without include_reviews")
    reviews = scan_table(folder.reviews, REVIEWS)
    found = set(reviews.select(pl.col("split").unique()).collect()["split"])
    for split in (*SPLITS, *(split for split in COLD_SPLITS if split in found)):
        yield split, _hidden(reviews.filter(pl.col("split") == split).drop("split").collect(), key)


def _hidden(table: pl.DataFrame, key: bytes | None) -> pl.DataFrame:
    """Replace user ids and empty user profiles; the rows are sorted anew, since their order would tell the ids' order."""
    if key is None or "user_id" not in table.columns:
        return table
    ids = table["user_id"].unique()
    hashed = pl.Series([hash_user(one, key) for one in ids], dtype=pl.String)
    table = table.with_columns(pl.col("user_id").replace_strict(ids, hashed, return_dtype=pl.String))
    if "user_profile" in table.columns:
        table = table.with_columns(user_profile=pl.lit(""))
    return table.sort("user_id", "item_id")


def hash_user(user_id: str, key: bytes) -> str:
    """Return what a user id is published as: its HMAC-SHA-256 in 64 hexadecimal digits."""
    return hmac.digest(key, user_id.encode("utf-8"), "sha256").hex()


def user_key(folder: DatasetFolder) -> bytes:
    """Return the key that user ids are hashed with, made at the first call and kept in the folder for its owner alone.

    Raises:
        DataError: the key cannot be kept, or what is kept is no key.
    """
    return kept_key(key_file(folder))


def key_file(folder: DatasetFolder) -> Path:
    """Where a dataset folder keeps the key."""
    return folder.root / "private" / "user_key"


def kept_key(path: Path) -> bytes:
    """Return the key that a file holds, made at the first call and readable for its owner alone.

    Raises:
        DataError: the key cannot be kept, or what is kept is no key.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        if not path.is_file():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected to keep a key there, found {error.strerror}; make the folder writable") from error
    if len(key) != KEY_BYTES:
        raise DataError(
            f"{path}: expected a key of {KEY_BYTES} bytes, found {len(key)}; bring back a copy, or remove it: all user ids "
            "then change with the next push"
        )
    return key


def _make_key(path: Path) -> None:
    """Write a new key, whole or not at all, unless another process was first."""
    descriptor, fresh = tempfile.mkstemp(prefix=".user_key.", dir=path.parent)  # readable for its owner alone
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        os.unlink(fresh)


def _write(config: Config, tables: Iterator[tuple[str, pl.DataFrame]], root: Path) -> Listed:
    files = {}
    for split, table in tables:
        if not table.is_empty():
            files[split] = root / config.path(split)
            write_table(table, files[split], config.columns)
    return Listed(config, files)
