"""A user-item graph as a normalised adjacency matrix, and the product with it that every propagation step is."""

import warnings
from typing import Any

import torch


def normalized_adjacency(edge_index: torch.Tensor, num_users: int, num_items: int) -> torch.Tensor:
    """A_hat of a user-item graph.

    Args:
        edge_index: `(2, edges)`, integer: user index in row 0, item index in row 1. Repeated edges count once.
        num_users: number of users |U|.
        num_items: number of items |I|.

    Returns:
        Sparse CSR matrix `(|U| + |I|, |U| + |I|)`, float32, symmetric. A node without an edge has an empty row.

    Raises:
        ValueError: wrong shape or dtype, no edge, or an index out of range (with its column).
    """
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or edge_index.is_floating_point():
        raise ValueError(
            f"expected integer edges of shape (2, edges), found {edge_index.dtype} {tuple(edge_index.shape)}; "
            "put user indices in row 0 and item indices in row 1."
        )
    if edge_index.shape[1] == 0:
        raise ValueError("expected at least one edge, found none; is the training split empty?")
    for name, row, limit in (("user", edge_index[0], num_users), ("item", edge_index[1], num_items)):
        outside = ((row < 0) | (row >= limit)).nonzero().flatten()
        if len(outside):
            column = int(outside[0])
            raise ValueError(
                f"edge {column} has {name} index {int(row[column])}, expected 0 to {limit - 1} ({len(outside)} such edges); "
                f"raise num_{name}s or mend the edge."
            )
    size = num_users + num_items
    pairs = torch.unique(edge_index[0].long() * num_items + edge_index[1].long())
    users, items = pairs // num_items, pairs % num_items
    indices = torch.stack([torch.cat([users, items + num_users]), torch.cat([items + num_users, users])])
    degree = torch.bincount(indices[0], minlength=size).float()
    weights = degree.rsqrt()[indices[0]] * degree.rsqrt()[indices[1]]
    with warnings.catch_warnings():  # torch calls its CSR layout beta at every first use
        warnings.filterwarnings("ignore", message=".*[Ss]parse.*", category=UserWarning)
        return torch.sparse_coo_tensor(indices, weights, (size, size)).coalesce().to_sparse_csr()


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
    """
    return _SymmetricProduct.apply(adjacency, rows)


__all__ = ["normalized_adjacency", "propagate_once"]
