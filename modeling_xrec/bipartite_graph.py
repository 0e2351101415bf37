"""A user-item graph as a normalised adjacency matrix, and the product with it that every propagation step is."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F


def normalized_adjacency(edge_index: torch.Tensor, num_users: int, num_items: int) -> torch.Tensor:
    """A_hat of a user-item graph.

    Args:
        edge_index: `(2, edges)`, integer: user index in row 0, item index in row 1. Repeated edges count once;
            `count_duplicates` says how many there are.
        num_users: number of users |U|.
        num_items: number of items |I|.

    Returns:
        Sparse CSR matrix `(|U| + |I|, |U| + |I|)`, float32, symmetric, with int32 indices where they suffice. A node without
        an edge has an empty row.

    Raises:
        ValueError: wrong shape or dtype, no edge, or an index out of range (with its column).
    """
    check_edges(edge_index, num_users, num_items)
    size = num_users + num_items
    users, items = distinct_edges(edge_index, num_items)
    degree = torch.cat([torch.bincount(users, minlength=num_users), torch.bincount(items, minlength=num_items)])
    by_item = items.argsort(stable=True)
    columns = torch.cat([items + num_users, users[by_item]])
    inverse_root = degree.float().rsqrt()
    weights = inverse_root.repeat_interleave(degree) * inverse_root[columns]
    starts = F.pad(degree.cumsum(0), (1, 0))
    # The products read half as much memory for their indices, and need no conversion of them.
    index = torch.int32 if max(size, len(columns)) < 2**31 else torch.int64
    with warnings.catch_warnings():  # torch calls its CSR layout beta at every first use
        warnings.filterwarnings("ignore", message=".*[Ss]parse.*", category=UserWarning)
        return torch.sparse_csr_tensor(starts.to(index), columns.to(index), weights, (size, size))


def check_edges(edge_index: torch.Tensor, num_users: int, num_items: int) -> None:
    """Refuses what is no graph of these users and items.

    Args:
        edge_index: edges `(2, edges)`.
        num_users: number of users |U|.
        num_items: number of items |I|.

    Raises:
        ValueError: wrong shape or dtype, no edge, or an index out of range (with its column).
    """
    shaped = isinstance(edge_index, torch.Tensor) and edge_index.dim() == 2 and edge_index.shape[0] == 2
    if not shaped or not is_integer(edge_index):
        tensor = isinstance(edge_index, torch.Tensor)
        found = f"{edge_index.dtype} {tuple(edge_index.shape)}" if tensor else type(edge_index).__name__
        raise ValueError(
            f"expected integer edges of shape (2, edges), found {found}; put user indices in row 0 and item indices in row 1."
        )
    if edge_index.shape[1] == 0:
        raise ValueError("expected at least one edge, found none; is the training split empty?")
    for name, row, limit in (("user", edge_index[0], num_users), ("item", edge_index[1], num_items)):
        low, high = row.aminmax()
        if low < 0 or high >= limit:
            outside = ((row < 0) | (row >= limit)).nonzero().flatten()
            column = int(outside[0])
            raise ValueError(
                f"edge {column} has {name} index {int(row[column])}, expected 0 to {limit - 1} ({len(outside)} such edges); "
                f"raise num_{name}s or mend the edge."
            )


def is_integer(values: torch.Tensor) -> bool:
    """Whether a tensor holds integers; truth values are none."""
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def distinct_edges(edge_index: torch.Tensor, num_items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Users `(distinct,)` and items `(distinct,)` of checked edges `(2, edges)`, each edge once, by user and then by item."""
    pairs = torch.unique(edge_index[0].long() * num_items + edge_index[1].long())
    users = pairs // num_items
    return users, pairs - users * num_items


class GroupedEntries:
    """Lists of one graph side's indices laid end to end, one list a row: the items of each user, or the users of each item.

    Args:
        entries: all lists, row after row, `(entries,)`.
        counts: length of each list, `(rows,)`.
    """

    def __init__(self, entries: torch.Tensor, counts: torch.Tensor) -> None:
        self.entries, self.counts = entries, counts
        self.starts = counts.cumsum(0) - counts

    @classmethod
    def of_edges(cls, rows: torch.Tensor, entries: torch.Tensor, num_rows: int) -> "GroupedEntries":
        """Groups edges by one of their ends: `rows` and `entries` `(edges,)`; the edges of a row keep their order."""
        return cls(entries[rows.argsort(stable=True)], torch.bincount(rows, minlength=num_rows))

    def row(self, row: int) -> torch.Tensor:
        """One list, `(length,)`."""
        return self.entries[self.starts[row] :][: self.counts[row]]

    def of(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The lists of some rows end to end: for each entry the place of its row in `rows`, and it, both `(entries,)`."""
        counts = self.counts[rows]
        places = torch.arange(len(rows), device=rows.device).repeat_interleave(counts)
        within = torch.arange(len(places), device=rows.device) - (counts.cumsum(0) - counts)[places]
        return places, self.entries[self.starts[rows][places] + within]


def count_duplicates(edge_index: torch.Tensor, num_items: int) -> int:
    """How many edges `normalized_adjacency` leaves out because the same edge came before.

    Args:
        edge_index: checked edges `(2, edges)`, users in row 0 and items in row 1.
        num_items: number of items |I|.

    Returns:
        The number of edges less the number of distinct ones.
    """
    return edge_index.shape[1] - len(distinct_edges(edge_index, num_items)[0])


def check_finite(**tables: torch.Tensor) -> None:
    """Refuses tables `(rows, d)` with NaN or infinity.

    Raises:
        ValueError: with the table's name, its first such row and how many there are.
    """
    for name, table in tables.items():
        if table.sum().isfinite():  # one pass over the table; only a sum that is not finite calls for a closer look
            continue
        finite = table.isfinite().all(dim=1)
        if not finite.all():
            rows = (~finite).nonzero().flatten()
            raise ValueError(
                f"{name} row {int(rows[0])} holds NaN or infinity ({len(rows)} such rows); expected finite numbers: mend the "
                "table, or train with a lower learning rate."
            )


class _SymmetricProduct(torch.autograd.Function):
    """A @ x for a symmetric sparse A, whose gradient is A @ g: torch would transpose A at every step."""

    @staticmethod
    def forward(ctx: Any, adjacency: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Product `(nodes, d)` of the symmetric sparse matrix `(nodes, nodes)` and rows `(nodes, d)`."""
        ctx.adjacency = adjacency
        return adjacency @ rows

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        """Gradient `(nodes, d)` of the rows; the matrix is constant."""
        return None, ctx.adjacency @ gradient


def propagate_once(adjacency: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A_hat @ rows, differentiable in the rows.

    Args:
        adjacency: symmetric, `(nodes, nodes)`, from `normalized_adjacency`.
        rows: `(nodes, d)`.

    Returns:
        `(nodes, d)`.

    Raises:
        ValueError: a matrix of another number of nodes.
    """
    if adjacency.shape[1] != rows.shape[0]:
        raise ValueError(
            f"expected an adjacency matrix of {rows.shape[0]} nodes (users and items together), found {adjacency.shape[1]}; "
            "make it with this model's num_users and num_items."
        )
    return _SymmetricProduct.apply(adjacency, rows)


__all__ = [
    "GroupedEntries",
    "check_edges",
    "check_finite",
    "count_duplicates",
    "distinct_edges",
    "is_integer",
    "normalized_adjacency",
    "propagate_once",
]
