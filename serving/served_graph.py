"""The interactions that a served model is asked about: what a user knows already, and what a score rests on."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError

from modeling_xrec.bipartite_graph import GroupedEntries
from modeling_xrec.checkpoint_files import TABLES_NAME, CheckpointSource
from modeling_xrec.evidence import Evidence
from modeling_xrec.lightgcn import LightGCN
from modeling_xrec.processing_xrec import XRecProcessor
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import INTERACTIONS, DatasetFolder, read_table

LISTED, PATHS = 5, 2
"""History items and users to list as evidence, and paths of each history item."""


class ServedGraph:
    """The training interactions of a model, by the rows of its tables.

    Args:
        tables: the model's own.
        processor: whose catalogue names their rows.
        data: dataset folder.
        graph: folder of the graph that the model was trained with; only checked, and asked for its layer weights.

    Attributes:
        edges: `(2, edges)`, users in row 0 and items in row 1.

    Raises:
        DataError: data of other users or items, another graph than the model's, or tables that the interactions do not
            explain.
    """

    def __init__(self, tables: LightGCN, processor: XRecProcessor, data: Path, graph: Path | None = None) -> None:
        self._processor = processor
        weights = None if graph is None else _layer_weights(tables, graph)
        self.edges = _edges(processor, data)
        self._known = GroupedEntries.of_edges(self.edges[0], self.edges[1], tables.num_users)
        try:
            self._evidence = Evidence(tables, self.edges, layer_weights=weights)
        except ValueError as error:
            raise DataError(
                f"{data}: expected the interactions that the model's graph was made of, found others ({error})"
            ) from error

    def known_to(self, user: int) -> torch.Tensor:
        """Items of a user's training interactions, each once, the latest first, as rows `(items,)`."""
        return torch.tensor(list(dict.fromkeys(self._known.row(user).tolist())), dtype=torch.int64)

    def evidence(self, user: int | list[int], item: int) -> dict[str, Any]:
        """What a score rests on, with ids and titles in the place of rows; see `ScoreEvidence`.

        Args:
            user: row of a user, or rows of the items that an unseen one liked.
            item: row of the item.
        """
        found = asdict(self._evidence.explain(user, item, LISTED, PATHS))
        users, items = self._processor.users, self._processor.items
        for entry in found["history"]:
            row = items[entry.pop("item")]
            entry |= {"item_id": row["item_id"], "title": row.get("title") or ""}
            entry["paths"] = [{"user_id": users[path["user"]]["user_id"], "weight": path["weight"]} for path in entry["paths"]]
        found["users"] = [{"user_id": users[entry["user"]]["user_id"], "share": entry["share"]} for entry in found["users"]]
        kept = ("score", "own", "history", "history_rest", "item_own", "users", "users_rest")
        return {name: list(found[name]) if name == "history" else found[name] for name in kept}


def _edges(processor: XRecProcessor, data: Path) -> torch.Tensor:
    table = read_table(DatasetFolder(data).interactions("train"), INTERACTIONS)
    latest = table.sort("timestamp", descending=True, nulls_last=True, maintain_order=True)
    table = latest.select("user_id", "item_id")
    for side, rows in (("user", processor.users), ("item", processor.items)):
        name = f"{side}_id"
        ids = pl.DataFrame({name: [row[name] for row in rows]}, schema={name: pl.String}).with_row_index(side)
        table = table.join(ids, on=name, how="left", maintain_order="left")
        lost = table.filter(pl.col(side).is_null())
        if len(lost):
            raise DataError(
                f"{data}: expected the model's {side}s, found {len(lost)} interactions of others (first: {lost[name][0]!r}); "
                "give the dataset that the model was trained on, with its ids"
            )
    return torch.from_numpy(table.select(pl.col("user", "item").cast(pl.Int64)).to_numpy().T.copy())


def _layer_weights(tables: LightGCN, graph: Path) -> tuple[float, ...]:
    """The layer weights of a graph folder, after a check that its tables are the model's."""
    about = graph / "graph.json"
    if not about.is_file():
        raise DataError(f"{graph}: expected graph.json, found none; give a folder that `xrec encode` left")
    try:
        weights = tuple(float(weight) for weight in json.loads(about.read_text(encoding="utf-8"))["layer_weights"])
        theirs = CheckpointSource(graph).tensors(TABLES_NAME)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise DataError(
            f"{graph}: expected a graph, found a broken one ({' '.join(str(error).split())}); encode again"
        ) from error
    for name, mine in tables.state_dict().items():
        other = theirs.get(name)
        if other is None or other.shape != mine.shape or not torch.allclose(other.float(), mine.float().cpu(), atol=1e-5):
            raise DataError(
                f"{graph}: expected the graph that the model was trained with, found other {name}; "
                "give the folder that `xrec train --graph` read"
            )
    return weights
