"""What a model is made to hear in place of a pair's own embeddings: those of others, nothing, or noise."""

from collections.abc import Sequence

import torch

from modeling_xrec.signals import derangement, root_mean_square

from .likelihood import ReferenceLikelihood, Signal

SIDES = ("user", "item")


def permuted(scorer: ReferenceLikelihood, seed: int, sides: Sequence[str] = SIDES) -> Signal:
    """Each user's (item's) embedding is that of another user (item), by one permutation of the table without fixed points.

    Args:
        scorer: The pairs.
        seed: Of the permutation.
        sides: Which sides are exchanged; the other keeps its own.

    Returns:
        Embeddings of the pairs.
    """
    tables = scorer.model.lightgcn
    found = scorer.signal()._asdict()
    for side, rows in (("user", scorer.users), ("item", scorer.items)):
        if side in sides:
            table = getattr(tables, f"{side}_embeddings").detach()
            found[side] = table[derangement(len(table), seed)[rows].to(table.device)]
    return Signal(**found)


def zeroed(scorer: ReferenceLikelihood) -> Signal:
    """Zero vectors on both sides."""
    return Signal(*(torch.zeros_like(part) for part in scorer.signal()))


def noise(scorer: ReferenceLikelihood, seed: int) -> Signal:
    """Normal numbers of each table's root mean square; equal users (items) hear equal noise."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for side, rows in (("user", scorer.users), ("item", scorer.items)):
        table = getattr(scorer.model.lightgcn, f"{side}_embeddings").detach()
        drawn = torch.randn(table.shape, generator=generator).to(table.device) * root_mean_square(table)
        found.append(drawn.to(table.dtype)[rows.to(table.device)])
    return Signal(*found)
