"""The best items of many users and the nearest neighbours of many nodes, a block of rows at a time.

All scores of 16,000 users against 14,000 items would take 900 MB, those of a million users against 300,000 items 1.2 TB. A
block of rows takes `BLOCK_BYTES`, whatever the size of the tables.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F

from .bipartite_graph import check_edges, check_finite, is_integer
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
    rows = None if user_ids is None else checked_ids("user_ids", user_ids, user_embeddings)
    queries = user_embeddings if rows is None else user_embeddings[rows]
    if not queries.sum().isfinite():
        check_finite(user_embeddings=user_embeddings)
    check_finite(item_embeddings=item_embeddings)
    mask = None if exclude is None else _mask(exclude, rows, len(user_embeddings), item_embeddings)
    return _top_k(queries, item_embeddings, k, mask)


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

    def itself(scores: torch.Tensor, start: int) -> None:
        scores.scatter_(1, rows[start : start + len(scores)].unsqueeze(1), float("-inf"))

    return _top_k(unit[rows], unit, _at_least_one(k), itself, most=len(table) - 1)


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


def _at_least_one(k: int) -> int:
    if k < 1:
        raise ValueError(f"expected k of at least 1, found {k}; say how many to give.")
    return k


def _top_k(
    queries: torch.Tensor,
    table: torch.Tensor,
    k: int,
    mask: Callable[[torch.Tensor, int], None] | None,
    most: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best rows of a table for each query; `mask(scores, start)` sets what a block of queries must not get to -inf."""
    width = min(_at_least_one(k), len(table) if most is None else most)
    indices = torch.full((len(queries), width), -1, dtype=torch.long, device=table.device)
    values = table.new_full((len(queries), width), float("-inf"))
    for start in _starts(queries, table):
        scores = queries[start : start + _block(table)] @ table.T
        if mask is not None:
            mask(scores, start)
        best = scores.topk(width, dim=1)
        end = start + len(scores)
        values[start:end] = best.values
        indices[start:end] = best.indices.masked_fill_(best.values.isneginf(), -1)
    return indices, values


def _block(table: torch.Tensor) -> int:
    """Rows of scores against a table that fit into a block."""
    return max(1, BLOCK_BYTES // max(1, len(table) * table.element_size()))


def _starts(queries: torch.Tensor, table: torch.Tensor) -> Iterator[int]:
    return iter(range(0, len(queries), _block(table)))


def _mask(
    exclude: Excluded, rows: torch.Tensor | None, num_users: int, item_embeddings: torch.Tensor
) -> Callable[[torch.Tensor, int], None]:
    """A function that sets a block's excluded items to -inf; the items lie user after user, as in a CSR matrix."""
    num_items, device = item_embeddings.shape[0], item_embeddings.device
    if isinstance(exclude, torch.Tensor):
        if exclude.numel():
            check_edges(exclude, num_users, num_items)
        users, items = exclude.to(device).long().reshape(2, -1)
        counts = torch.bincount(users, minlength=num_users)
        items, starts = items[users.argsort(stable=True)], counts.cumsum(0) - counts
        if rows is not None:
            starts, counts = starts[rows], counts[rows]
    else:
        batch = num_users if rows is None else len(rows)
        if len(exclude) != batch:
            raise ValueError(f"expected exclude with a list for each of {batch} users, found {len(exclude)} lists.")
        items, counts = flat_entries(exclude, "item", device, "exclude row")
        starts = counts.cumsum(0) - counts
        outside = ((items < 0) | (items >= num_items)).nonzero().flatten()
        if len(outside):
            row = int(torch.searchsorted(counts.cumsum(0), outside[:1], right=True)[0])
            raise ValueError(f"exclude row {row} has index {int(items[outside[0]])}, expected 0 to {num_items - 1}.")

    def mask(scores: torch.Tensor, start: int) -> None:
        lengths, first = (part[start : start + len(scores)] for part in (counts, starts))
        row = torch.arange(len(scores), device=device).repeat_interleave(lengths)
        within = torch.arange(len(row), device=device) - (lengths.cumsum(0) - lengths)[row]
        scores[row, items[first[row] + within]] = float("-inf")

    return mask


__all__ = ["BLOCK_BYTES", "Excluded", "best_items", "checked_ids", "nearest_rows"]
