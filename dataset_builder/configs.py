"""The configs of a dataset folder as its card and `datasets` name them, and which files serve them."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .errors import DataError
from .schema import COLD_SPLITS, EXPLANATIONS, INTERACTIONS, ITEMS, REVIEWS, SPLITS, USERS, DatasetFolder, read_build, sha256


@dataclass(frozen=True)
class Config:
    """One table of the dataset.

    Args:
        name: what it is loaded by.
        columns: column name to polars type, one of `schema`'s.
        splits: the splits that it always has.
        cold: whether it has the cold splits where they were asked for.
        about: one sentence for people.
        file: the name of the file of its one split, where that is not the split's.
    """

    name: str
    columns: Mapping[str, Any]
    splits: tuple[str, ...]
    cold: bool
    about: str
    file: str | None = None

    def path(self, split: str) -> str:
        """Return where a split's file lies, from the root of the folder or the repository."""
        return f"data/{self.name}/{self.file or split}.parquet"

    def present(self, *folders: DatasetFolder) -> dict[str, Path]:
        """Return the file of each split, in order; empty unless one folder has all the splits that there must be.

        A split without rows is not among them, since `datasets` can load none.

        Args:
            folders: where to look, the first that has a file first.
        """
        if not any(all(self._in(folder, split) for split in self.splits) for folder in folders):
            return {}
        found = {}
        for split in (*self.splits, *(COLD_SPLITS if self.cold else ())):
            path = next((folder.root / self.path(split) for folder in folders if self._in(folder, split)), None)
            if path is not None and row_count(path):
                found[split] = path
        return found

    def _in(self, folder: DatasetFolder, split: str) -> bool:
        return (folder.root / self.path(split)).is_file()


CONFIGS = {
    config.name: config
    for config in (
        Config("explanations", EXPLANATIONS, SPLITS, True, "Pairs of a user and an item with why the item suits, or not."),
        Config("interactions", INTERACTIONS, SPLITS, True, "Pairs of a user and an item that a graph is made of."),
        Config("users", USERS, ("train",), False, "Every user that occurs, with a profile.", "all"),
        Config("items", ITEMS, ("train",), False, "Every item that occurs, with its title and a profile.", "all"),
    )
}
"""What a dataset folder holds, by name. Users and items have one split, called train as is the custom: `all` is reserved."""

PUBLISHED_REVIEWS = Config(
    "reviews",
    {name: dtype for name, dtype in REVIEWS.items() if name != "split"},
    SPLITS,
    True,
    "The raw reviews, one per interaction.",
)
"""The raw reviews as they are published when they are asked for; a dataset folder holds them as one private table."""

DTYPES = {"String": "large_string", "Float64": "float64", "Int64": "int64"}
"""Polars type to what `datasets` reads the same column of our Parquet files as."""


def row_count(path: Path) -> int:
    """Return how many rows a Parquet file has, by its footer."""
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def dtypes(config: Config) -> dict[str, str]:
    """Return column name to type as `datasets` calls it."""
    return {name: DTYPES[str(dtype)] for name, dtype in config.columns.items()}


def dataset_folder(root: str | os.PathLike[str]) -> DatasetFolder:
    """Return the dataset folder at a path, made absolute."""
    return DatasetFolder(Path(root).expanduser().absolute())


def config_files(folder: DatasetFolder, config: Config) -> dict[str, Path]:
    """Return the file of each split of a config.

    Raises:
        DataError: it is no dataset folder, or the files are not all there.
    """
    read_build(folder)
    files = config.present(folder)
    if not files:
        todo = "run `xrec distill` on it" if config.name == "explanations" else "build it again with `xrec build`"
        raise DataError(f"{folder.root}: expected the files of {config.name}, found not all of them or no row; {todo}")
    return files


def fingerprint(files: Mapping[str, Path]) -> str:
    """Return a hash of the content of some files and of what they are called; 16 hexadecimal digits.

    Args:
        files: split to file.
    """
    lines = [f"{split} {sha256(path)}\n" for split, path in files.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
