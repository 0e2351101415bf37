"""Names that users write under, gathered while reviews are read: to be masked in what leaves the machine, never published."""

from pathlib import Path

import polars as pl

from .schema import USER_NAMES, DatasetFolder, read_table, write_table
from .sources import USER_NAME

NAMES_OF_NOBODY = (
    "a customer",
    "a google user",
    "a reader",
    "amazon customer",
    "amazon reviewer",
    "anon",
    "anonymous",
    "customer",
    "google user",
    "guest",
    "kindle customer",
    "kindle reader",
    "n/a",
    "no name",
    "none",
    "null",
    "pen name",
    "reviewer",
    "unknown",
    "user",
)
"""What shops write for users who gave no name, in lower case; masking it would take plain words out of reviews."""

LEAST = 100_000
"""Pairs that are held before copies among them are looked for again."""


def read_user_names(folder: DatasetFolder) -> dict[str, list[str]]:
    """Return the names of each user that a dataset folder knows; none where its source gave none."""
    names: dict[str, list[str]] = {}
    if folder.user_names.is_file():
        for user, name in read_table(folder.user_names, USER_NAMES).iter_rows():
            names.setdefault(user, []).append(name)
    return names


class UserNames:
    """Distinct pairs of user and name; memory grows with these, not with the reviews."""

    def __init__(self) -> None:
        self._tables = [pl.DataFrame(schema=USER_NAMES)]
        self._held = self._distinct = 0

    def add(self, reviews: pl.DataFrame) -> None:
        """Note the names of a batch.

        Args:
            reviews: rows with `user_id` and `user_name`; a name that is null or blank, or one of `NAMES_OF_NOBODY`, is none.
        """
        name = pl.col(USER_NAME).str.replace_all(r"\s+", " ").str.strip_chars()
        given = reviews.lazy().filter(pl.col(USER_NAME).is_not_null()).select("user_id", name=name).unique()
        meant = (pl.col("name") != "") & ~pl.col("name").str.to_lowercase().is_in(NAMES_OF_NOBODY)
        self._note(given.filter(meant).collect())

    def merge(self, names: pl.DataFrame) -> None:
        """Take in what another process gathered.

        Args:
            names: the columns of `schema.USER_NAMES`, as `table` returns them.
        """
        self._note(names.select(list(USER_NAMES)))

    def table(self, users: pl.Series | None = None) -> pl.DataFrame:
        """Return the distinct pairs, sorted, with the columns of `schema.USER_NAMES`.

        Args:
            users: ids of the users that stay; None for all.
        """
        names = self._gathered()
        if users is not None:
            names = names.join(users.unique().to_frame("user_id"), on="user_id", how="semi")
        return names.sort(list(USER_NAMES))

    def write(self, path: Path, users: pl.Series | None = None) -> None:
        """Write `table` as Parquet; no file where there is no name.

        Args:
            path: the file.
            users: ids of the users that stay; None for all.
        """
        names = self.table(users)
        if not names.is_empty():
            write_table(names, path, USER_NAMES)

    def _note(self, names: pl.DataFrame) -> None:
        if names.is_empty():
            return
        self._tables.append(names)
        self._held += names.height
        if self._held > max(LEAST, 2 * self._distinct):
            self._gathered()

    def _gathered(self) -> pl.DataFrame:
        self._tables = [pl.concat(self._tables).unique()]
        self._held = self._distinct = self._tables[0].height
        return self._tables[0]
