"""Where the encoder's tables start: the graph's spectrum, random rows, or the tables of an earlier graph."""

from pathlib import Path

import polars as pl
import torch
import torch.nn.functional as F

from modeling_xrec.lightgcn import LightGCN
from xrec_dataset_builder.errors import DataError

from .graph_folder import read_any_graph
from .tables import Catalogue

ENTRY_SIZE = 0.1
"""Root mean square of a table's entries at the start: a few dozen steps of Adam at its learning rate."""


def start_from_spectrum(model: LightGCN, adjacency: torch.Tensor) -> None:
    """Sets the tables to the graph's leading singular vectors, from which a few epochs suffice.

    Args:
        model: tables of width d, overwritten.
        adjacency: A_hat; its user-item block R = U S V' gives U S^1/2 and V S^1/2, times one number. Where the graph is
            smaller than d, the last columns are random and small.
    """
    left, values, right = spectrum(adjacency, model.num_users, model.num_items, model.user_embeddings.shape[1])
    width = len(values)
    with torch.no_grad():
        start_at_random(model)
        tables = ((model.user_embeddings, left * values.sqrt()), (model.item_embeddings, right * values.sqrt()))
        size = torch.cat([vectors for _, vectors in tables]).square().mean().sqrt()
        for table, vectors in tables:
            table.mul_(0.1)
            table[:, :width] = vectors * (ENTRY_SIZE / size)


def spectrum(
    adjacency: torch.Tensor, num_users: int, num_items: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Leading singular vectors of a normalised adjacency's user-item block R = U S V'.

    Args:
        adjacency: A_hat.
        num_users: number of users.
        num_items: number of items.
        width: how many vectors, or the number of users or items where that is smaller.

    Returns:
        U `(users, width)`, S `(width,)` and V `(items, width)`.
    """
    entries = adjacency.to_sparse_coo().coalesce()
    rows, columns = entries.indices()
    block = rows < num_users
    places = torch.stack([rows[block], columns[block] - num_users])
    matrix = torch.sparse_coo_tensor(places, entries.values()[block], (num_users, num_items))
    # A few vectors beyond the width make the last of the width exact.
    left, values, right = torch.svd_lowrank(matrix, q=min(width + 8, num_users, num_items), niter=4)
    return left[:, :width], values[:width], right[:, :width]


def start_at_random(model: LightGCN) -> None:
    """Draws both tables from a normal distribution of standard deviation 0.1."""
    for table in (model.user_embeddings, model.item_embeddings):
        torch.nn.init.normal_(table, std=ENTRY_SIZE)


def start_from_graph(model: LightGCN, train: torch.Tensor, catalogue: Catalogue, graph: Path) -> dict[str, int]:
    """Sets the tables to the embeddings of an earlier graph, row by row, by id.

    A user or item that the earlier graph did not have is folded in from those it touched that the earlier graph had, and
    starts at random where there are none.

    Args:
        model: tables, overwritten.
        train: training edges `(2, edges)` of the new graph.
        catalogue: the new graph's users and items.
        graph: folder of the earlier graph, with its catalogue.

    Returns:
        How many `kept`, `folded_in` and `random` rows there are.

    Raises:
        DataError: no graph there, one without its catalogue, or one of another width.
    """
    earlier, ids = read_any_graph(graph)
    tensors = earlier.state_dict()
    new_ids = {"user": catalogue.users["user_id"], "item": catalogue.items["item_id"]}
    places = {side: _places(new_ids[side], ids[side]) for side in ids}
    width = tensors["user_embeddings"].shape[1]
    if width != model.user_embeddings.shape[1]:
        raise DataError(
            f"{graph}: expected embeddings of --dim {model.user_embeddings.shape[1]}, found {width}; use its --dim"
        )
    counts = {"kept": 0, "folded_in": 0, "random": 0}
    start_at_random(model)
    with torch.no_grad():
        for side, other in (("user", "item"), ("item", "user")):
            table, kept = getattr(model, f"{side}_embeddings"), places[side] >= 0
            old = tensors[f"{side}_embeddings"]
            size = old.square().mean().sqrt().clamp(min=1e-12)
            folded = _fold_in(
                train if side == "user" else train.flip(0), places[other], tensors[f"{other}_fold_in"], len(table)
            )
            folded = F.normalize(folded, dim=1) * old.norm(dim=1).mean()
            reached = ~kept & folded.any(dim=1)
            table[kept] = old[places[side][kept]] * (ENTRY_SIZE / size)
            table[reached] = folded[reached] * (ENTRY_SIZE / size)
            counts["kept"] += int(kept.sum())
            counts["folded_in"] += int(reached.sum())
            counts["random"] += int((~kept & ~reached).sum())
    return counts


def _places(new: pl.Series, old: pl.Series) -> torch.Tensor:
    """For each new id its row among the old ones, -1 where it is not there, `(new,)`."""
    rows = pl.DataFrame({"id": old}).with_row_index("row")
    joined = pl.DataFrame({"id": new}).join(rows, on="id", how="left", maintain_order="left")
    return torch.from_numpy(joined["row"].cast(pl.Int64).fill_null(-1).to_numpy().copy())


def _fold_in(edges: torch.Tensor, places: torch.Tensor, table: torch.Tensor, rows: int) -> torch.Tensor:
    """Sums of the fold-in rows of what each node touched, `(rows, d)`; 0 for nodes that touched nothing known."""
    known = places[edges[1]] >= 0
    sources, targets = places[edges[1][known]], edges[0][known]
    ones = torch.ones(len(targets))
    matrix = torch.sparse_coo_tensor(torch.stack([targets, sources]), ones, (rows, len(table)))
    return torch.sparse.mm(matrix, table)
