"""A dataset folder, read for training: ids become row numbers here and nowhere else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, INTERACTIONS, ITEMS, USERS, DatasetFolder, read_table


@dataclass(frozen=True)
class Catalogue:
    """Users and items of a dataset; row numbers are the positions in these tables.

    Args:
        users: `user_id, user_profile`, sorted by id.
        items: `item_id, title, item_profile`, sorted by id.
    """

    users: pl.DataFrame
    items: pl.DataFrame

    @classmethod
    def read(cls, data: Path) -> "Catalogue":
        """Reads the tables of a dataset folder.

        Raises:
            DataError: the folder is not a dataset folder.
        """
        folder = DatasetFolder(data)
        return cls(read_table(folder.users, USERS), read_table(folder.items, ITEMS))

    def rows(self, table: pl.DataFrame) -> np.ndarray:
        """Row numbers `(2, rows)`, users then items, of a table with `user_id` and `item_id`."""
        users = pl.DataFrame({"user_id": self.users["user_id"], "user": np.arange(self.users.height)})
        items = pl.DataFrame({"item_id": self.items["item_id"], "item": np.arange(self.items.height)})
        joined = table.join(users, on="user_id", how="left", maintain_order="left")
        joined = joined.join(items, on="item_id", how="left", maintain_order="left")
        if joined["user"].has_nulls() or joined["item"].has_nulls():
            lost = joined.filter(pl.col("user").is_null() | pl.col("item").is_null()).row(0, named=True)
            raise DataError(
                f"pair ({lost['user_id']}, {lost['item_id']}) is not in the users and items tables; build the dataset again"
            )
        return joined.select("user", "item").to_numpy().T.astype(np.int64)

    def fingerprint(self) -> str:
        """Hash of the ids in order; a graph and a dataset belong together when theirs agree."""
        ids = "\n".join([*self.users["user_id"], "", *self.items["item_id"]])
        return hashlib.sha256(ids.encode()).hexdigest()


def read_edges(data: Path, split: str, catalogue: Catalogue) -> torch.Tensor:
    """Interactions of one split as edges `(2, edges)`, user rows then item rows."""
    return torch.from_numpy(catalogue.rows(read_table(DatasetFolder(data).interactions(split), INTERACTIONS)))


def read_explanations(data: Path, split: str) -> pl.DataFrame:
    """Explanations of one split.

    Raises:
        DataError: the dataset has none yet.
    """
    folder = DatasetFolder(data)
    if not folder.has_explanations():
        raise DataError(f"{data}: expected explanations, found none; run `xrec distill {data}` first")
    return read_table(folder.explanations(split), EXPLANATIONS)
