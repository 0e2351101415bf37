"""The best items of many users and the nearest neighbours of many nodes, a block of rows at a time.

All scores of 16,000 users against 14,000 items would take 900 MB, those of a million users against 300,000 items 1.2 TB. A
block of rows takes `BLOCK_BYTES`, whatever the size of the tables.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from .bipartite_graph import GroupedEntries, check_edges, check_finite, is_integer
from .histories import flat_entries

BLOCK_BYTES = 2**25
"""Memory for the scores of a block, in bytes; a block has at least one row."""

Excluded = Sequence[Sequence[int] | torch.Tensor] | torch.Tensor
"""What to leave out: for each row of a batch a list of item indices, or edges `(2, edges)` of users and items."""


def best_items(
    user_embeddings: torch.Tensor,
    item_embeddings: torch.Tensor,
    user_ids: torch.Tensor | Sequence[int] | None = None,
    k: int = 10,
    exclude: Excluded | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best items of each user by inner product, without those it knows.

    Args:
        user_embeddings: `(users, d)`.
        item_embeddings: `(items, d)`.
        user_ids: rows of the user table `(batch,)`; all users where None.
        k: how many items; at most the number of items are given.
        exclude: items to leave out: a list for each row of the batch, or the edges `(2, edges)` of a graph, users in row 0 and
            items in row 1, of which each user's own count.

    Returns:
        Item indices `(batch, min(k, items))`, best first, and their scores. Where fewer items remain, the row ends in index -1
        with score -inf: an excluded item is never given.

    Raises:
        ValueError: an index that is no integer or out of range (with its row), lists of another number than the batch, k below
            1, NaN or infinity in a table (with its row).
    """
    if user_ids is None:
        rows = torch.arange(len(user_embeddings), device=user_embeddings.device)
    else:
        rows = checked_ids("user_ids", user_ids, user_embeddings)
    if not user_embeddings[rows].sum().isfinite():
        check_finite(user_embeddings=user_embeddings)
    check_finite(item_embeddings=item_embeddings)
    grouped, lists = (None, rows) if exclude is None else _excluded(exclude, rows, len(user_embeddings), item_embeddings)

    def score(part: slice) -> torch.Tensor:
        scores = user_embeddings[rows[part]] @ item_embeddings.T
        if grouped is not None:
            scores[grouped.of(lists[part])] = float("-inf")
        return scores

    return top_k(score, len(rows), len(item_embeddings), k)


def nearest_rows(table: torch.Tensor, ids: torch.Tensor | Sequence[int], k: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """The k rows of a table nearest to each of some of its rows by cosine, the row itself left out.

    Args:
        table: embeddings `(rows, d)`; a row of zeros has cosine 0 with every other.
        ids: rows to compare `(batch,)`.
        k: how many rows; at most all others are given.

    Returns:
        Row indices `(batch, min(k, rows - 1))`, nearest first, and their cosines.

    Raises:
        ValueError: as in `best_items`.
    """
    rows = checked_ids("ids", ids, table)
    check_finite(table=table)
    unit = F.normalize(table, dim=1)

    def score(part: slice) -> torch.Tensor:
        return (unit[rows[part]] @ unit.T).scatter_(1, rows[part].unsqueeze(1), float("-inf"))

    indices, cosines = top_k(score, len(rows), len(table), k)
    others = min(k, len(table) - 1)  # the row itself is last
    return indices[:, :others], cosines[:, :others]


def checked_ids(name: str, ids: torch.Tensor | Sequence[int], table: torch.Tensor) -> torch.Tensor:
    """Row indices `(batch,)`, int64, on a table's device.

    Raises:
        ValueError: no integers, another shape, or an index outside the table (with its row).
    """
    rows = torch.as_tensor(ids, device=table.device)
    if rows.numel() == 0 and rows.dim() == 1:
        return rows.long()
    if rows.dim() != 1 or not is_integer(rows):
        raise ValueError(f"expected {name} as integers of shape (batch,), found {rows.dtype} {tuple(rows.shape)}.")
    outside = ((rows < 0) | (rows >= len(table))).nonzero().flatten()
    if len(outside):
        row = int(outside[0])
        raise ValueError(
            f"{name} row {row} is {int(rows[row])}, expected 0 to {len(table) - 1} ({len(outside)} such rows); "
            "give indices of the stored table."
        )
    return rows.long()


def top_k(
    score: Callable[[slice], torch.Tensor],
    rows: int,
    columns: int,
    k: int,
    block: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best columns of each row of a score matrix that is never whole in memory.

    Args:
        score: makes the scores of some rows, `(part, columns)`; -inf for what a row must not get.
        rows: number of rows.
        columns: number of columns.
        k: how many columns, at most all.
        block: rows at a time; what `BLOCK_BYTES` of single precision hold when None.

    Returns:
        Columns `(rows, k)`, best first, and their scores; index -1 and score -inf where fewer are left.

    Raises:
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1, found {k}; say how many to give.")
    size = block or max(1, BLOCK_BYTES // max(1, 4 * columns))
    found = []
    for start in range(0, max(1, rows), size):
        best = score(slice(start, min(start + size, rows))).topk(min(k, columns), dim=1)
        found.append((best.indices.masked_fill(best.values.isneginf(), -1), best.values))
    indices, values = (torch.cat(blocks) for blocks in zip(*found, strict=True))
    return indices, values


def _excluded(
    exclude: Excluded, rows: torch.Tensor, num_users: int, item_embeddings: torch.Tensor
) -> tuple[GroupedEntries, torch.Tensor]:
    """The items to leave out, in lists, and which of the lists each row of the batch has."""
    num_items, device = item_embeddings.shape[0], item_embeddings.device
    if isinstance(exclude, torch.Tensor):
        if exclude.numel():
            check_edges(exclude, num_users, num_items)
        users, items = exclude.to(device).long().reshape(2, -1)
        return GroupedEntries.of_edges(users, items, num_users), rows
    if len(exclude) != len(rows):
        raise ValueError(f"expected exclude with a list for each of {len(rows)} users, found {len(exclude)} lists.")
    items, counts = flat_entries(exclude, "item", device, "exclude row")
    outside = ((items < 0) | (items >= num_items)).nonzero().flatten()
    if len(outside):
        row = int(torch.searchsorted(counts.cumsum(0), outside[:1], right=True)[0])
        raise ValueError(f"exclude row {row} has index {int(items[outside[0]])}, expected 0 to {num_items - 1}.")
    return GroupedEntries(items, counts), torch.arange(len(rows), device=device)


__all__ = ["BLOCK_BYTES", "Excluded", "best_items", "checked_ids", "nearest_rows", "top_k"]
