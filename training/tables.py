"""A dataset folder and a graph folder, read for training: ids become row numbers here and nowhere else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, INTERACTIONS, ITEMS, USERS, DatasetFolder, read_table

GRAPH_FILE, METRICS_FILE = "collaborative.safetensors", "metrics.json"
GRAPH_TENSORS = ("user_embeddings", "item_embeddings", "user_fold_in", "item_fold_in")


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


def write_graph(tensors: dict[str, torch.Tensor], out: Path, catalogue: Catalogue) -> None:
    """Writes the four tables, with the catalogue's fingerprint in the file's metadata."""
    contiguous = {name: tensors[name].detach().contiguous() for name in GRAPH_TENSORS}
    # One entry only: safetensors writes several in an order that changes, and the same run should leave the same bytes.
    save_file(contiguous, out / GRAPH_FILE, metadata={"catalogue": catalogue.fingerprint()})


def read_graph(graph: Path, catalogue: Catalogue) -> dict[str, torch.Tensor]:
    """The four tables of a graph folder.

    Args:
        graph: folder that `xrec encode` left.
        catalogue: of the dataset that the graph must belong to.

    Returns:
        `user_embeddings`, `user_fold_in` `(users, dim)` and `item_embeddings`, `item_fold_in` `(items, dim)`.

    Raises:
        DataError: no graph, a broken file, or the graph of another dataset.
    """
    path = graph / GRAPH_FILE
    if not path.is_file():
        raise DataError(f"{graph}: expected {GRAPH_FILE}, found none; run `xrec encode DATA --out {graph}` first")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in GRAPH_TENSORS}
    except SafetensorError as error:
        raise DataError(f"{path}: expected the tensors {', '.join(GRAPH_TENSORS)}, found {error}; encode again") from error
    if metadata.get("catalogue") != catalogue.fingerprint():
        raise DataError(f"{path} was made from another dataset (its users or items differ); run `xrec encode` on this one")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DataError(f"{path}: {name} holds NaN or infinity; run `xrec encode` again")
    return tensors
