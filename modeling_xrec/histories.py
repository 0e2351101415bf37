"""Histories of nodes that the graph has not seen: checked, laid end to end, and summed as propagation would."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F

Histories = Sequence[Sequence[int] | torch.Tensor]
"""For each new node the indices of what it touched."""


def distinct_entries(histories: Histories, limit: int, kind: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Histories end to end, each ascending and without repeats, and how many entries each has.

    Returns:
        Indices `(entries,)` below `limit` and counts `(len(histories),)`, on `device`; `kind` is for the messages.
    """
    try:
        lengths = torch.tensor([len(history) for history in histories], dtype=torch.long, device=device)
        if len(histories) and all(isinstance(history, torch.Tensor) for history in histories):
            flat = torch.cat([torch.as_tensor(history) for history in histories]).to(device)
        else:
            flat = torch.tensor(list(itertools.chain.from_iterable(histories)), device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected for each history a list of {kind} indices, found other values ({error}).") from error
    if flat.dim() != 1 or (len(flat) and (flat.is_floating_point() or flat.dtype == torch.bool)):
        raise ValueError(f"expected for each history a list of {kind} indices, found {flat.dtype} {tuple(flat.shape)}.")
    flat, rows = flat.long(), torch.arange(len(lengths), device=device).repeat_interleave(lengths)
    wrong = lengths == 0
    wrong[rows[(flat < 0) | (flat >= limit)]] = True
    if wrong.any():
        row = int(wrong.nonzero()[0])
        if lengths[row] == 0:
            raise ValueError(f"history {row} is empty; give at least one {kind}.")
        low, high = (int(value) for value in flat[rows == row].aminmax())
        raise ValueError(f"history {row} has index {low if low < 0 else high}, expected 0 to {limit - 1}.")
    pairs = torch.unique(rows * limit + flat)
    return pairs % limit, torch.bincount(pairs // limit, minlength=len(lengths))


def root(counts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Square roots of counts as a column `(counts, 1)`, taken in at least single precision."""
    return counts.to(torch.promote_types(dtype, torch.float32)).sqrt().to(dtype).unsqueeze(1)


def sum_over_root(table: torch.Tensor, entries: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """For each history the sum of its rows of a table over the root of their number, `(histories, d)`."""
    # embedding_bag adds rows up where they lie; a gather would hold (entries, d) first.
    return F.embedding_bag(entries, table, counts.cumsum(0) - counts, mode="sum") / root(counts, table.dtype)


__all__ = ["Histories", "distinct_entries", "root", "sum_over_root"]
