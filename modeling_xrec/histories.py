"""Histories of nodes that the graph has not seen: checked, laid end to end, and summed as propagation would."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .bipartite_graph import is_integer

Histories = Sequence[Sequence[int] | torch.Tensor]
"""For each new node the indices of what it touched."""


def distinct_entries(histories: Histories, limit: int, kind: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Histories end to end, each ascending and without repeats, and how many entries each has.

    Returns:
        Indices `(entries,)` below `limit` and counts `(len(histories),)`, on `device`; `kind` is for the messages.
    """
    flat, lengths = flat_entries(histories, kind, device, "history")
    rows = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
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


def flat_entries(
    lists: Sequence[Sequence[int] | torch.Tensor], kind: str, device: torch.device, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists of indices end to end, as they are, and how many entries each has.

    Args:
        lists: lists of integers or integer tensors `(length,)`; each may be empty.
        kind: what the indices stand for, for the messages.
        device: where the result goes.
        name: what a list is called in the messages.

    Returns:
        Indices `(entries,)` and counts `(len(lists),)`, int64.

    Raises:
        ValueError: values that are no integers.
    """
    try:
        lengths = torch.tensor([len(entries) for entries in lists], dtype=torch.long, device=device)
        if len(lists) and all(isinstance(entries, torch.Tensor) for entries in lists):
            flat = torch.cat([torch.as_tensor(entries) for entries in lists]).to(device)
        else:
            flat = torch.tensor(list(itertools.chain.from_iterable(lists)), device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected for each {name} a list of {kind} indices, found other values ({error}).") from error
    if flat.dim() != 1 or (len(flat) and not is_integer(flat)):
        raise ValueError(f"expected for each {name} a list of {kind} indices, found {flat.dtype} {tuple(flat.shape)}.")
    return flat.long(), lengths


def root(counts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Square roots of counts as a column `(counts, 1)`, taken in at least single precision."""
    return counts.to(torch.promote_types(dtype, torch.float32)).sqrt().to(dtype).unsqueeze(1)


def sum_over_root(table: torch.Tensor, entries: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """For each history the sum of its rows of a table over the root of their number, `(histories, d)`."""
    # embedding_bag adds rows up where they lie; a gather would hold (entries, d) first.
    return F.embedding_bag(entries, table, counts.cumsum(0) - counts, mode="sum") / root(counts, table.dtype)


__all__ = ["Histories", "distinct_entries", "flat_entries", "root", "sum_over_root"]
