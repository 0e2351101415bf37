"""What LightGCN is trained for, on propagated embeddings."""

import math
from typing import Any

import torch
import torch.nn.functional as F

from modeling_xrec.lightgcn import unit_rows

ROWS_AT_A_TIME = 256
"""Users whose scores are held at once; a block of 256 x 14,000 scores, 14 MB, stays near the cores."""


def bpr_loss(users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, weight_decay: float = 0.0) -> torch.Tensor:
    """Bayesian personalised ranking: mean of -log sigmoid(s+ - s-), plus weight decay on the batch's embeddings.

    Args:
        users: propagated embeddings `(batch, d)`.
        positives: of an item each user touched, `(batch, d)`.
        negatives: of an item drawn at random, `(batch, d)`.
        weight_decay: factor on the sum of squares over the batch, as in XRec's reference code.

    Returns:
        Scalar.
    """
    margin = (users * positives).sum(dim=1) - (users * negatives).sum(dim=1)
    penalty = users.square().sum() + positives.square().sum() + negatives.square().sum()
    return F.softplus(-margin).mean() + weight_decay * penalty


def softmax_loss(
    users: torch.Tensor, items: torch.Tensor, places: torch.Tensor, touched: torch.Tensor, temperature: float,
    candidates: torch.Tensor | None = None, weights: torch.Tensor | None = None, length_exponent: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """Cross-entropy of every item that a batch of users touched, against all items, by `unit_rows`' score over a temperature.

    All interactions of a user share one sum over the items, so an epoch scores every user once and not every interaction:

        mean over interactions (u, i) of log sum_j w_j exp(s(u, j) / T) - s(u, i) / T

    with s(u, i) = cos(u, i) (|e_i| / mean_j |e_j|)^gamma.

    Args:
        users: propagated embeddings `(batch, d)`.
        items: of all items, `(items, d)`.
        places: for each interaction of the batch the place of its user, ascending, `(interactions,)`.
        touched: the interactions' items, `(interactions,)`.
        temperature: T > 0.
        candidates: items drawn at random whose sum, scaled up, stands for that over all, `(candidates,)`; all when None.
        weights: w > 0 of each item in the sum, `(items,)`; 1 when None. An item of less weight is held down less.
        length_exponent: gamma; 0 for the cosine.

    Returns:
        Scalar.
    """
    users, items = unit_rows(users, items, length_exponent)
    users = users / temperature
    counts = torch.bincount(places, minlength=len(users))
    weights = items.new_ones(len(items)) if weights is None else weights
    others = items if candidates is None else F.embedding(candidates, items)
    total = _SumOfLogSums.apply(users, others, weights if candidates is None else weights[candidates], counts.to(users))
    # embedding_bag adds the touched items up where they lie; a gather would hold (interactions, d) twice.
    sums = F.embedding_bag(touched, items, counts.cumsum(0) - counts, mode="sum")
    return (total - (users * sums).sum()) / len(places) + math.log(len(items) / len(others))


def softmax_weights(touched: torch.Tensor, num_items: int, exponent: float) -> torch.Tensor:
    """Weights of items in the softmax's sum: their popularity over the mean, to the power of minus `exponent`.

    Args:
        touched: the item of every training interaction, `(interactions,)`; an item without one counts as one with one.
        num_items: number of items.
        exponent: 0 weighs all alike; above 0, popular items are held down less.

    Returns:
        `(items,)`.
    """
    popularity = torch.bincount(touched, minlength=num_items).clamp(min=1).float()
    return (popularity / popularity.mean()) ** -exponent


class _SumOfLogSums(torch.autograd.Function):
    """Sum over rows u of count_u log sum_j w_j exp(u . j), its gradients made block by block on the way.

    Autograd would keep scores and probabilities of the whole batch, `2 x batch x items`; this keeps one block of scores.
    The inner products must be small enough for exp, as those of unit vectors over a temperature are.
    """

    @staticmethod
    def forward(
        ctx: Any, users: torch.Tensor, items: torch.Tensor, weights: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """The sum, a scalar, for users `(batch, d)`, items `(items, d)`, weights `(items,)` and counts `(batch,)`."""
        columns = items.T.contiguous()
        # One product gives both the gradient's numerator and, by the column of weights, the sum.
        weighted = torch.cat([items, items.new_ones(len(items), 1)], dim=1) * weights.unsqueeze(1)
        user_gradient, item_gradient, total = torch.empty_like(users), torch.zeros_like(items), users.new_zeros(())
        for start in range(0, len(users), ROWS_AT_A_TIME):
            block = slice(start, start + ROWS_AT_A_TIME)
            exponentials = (users[block] @ columns).exp_()
            sums = exponentials @ weighted
            partition = sums[:, -1:]
            share = counts[block].unsqueeze(1) / partition
            user_gradient[block] = sums[:, :-1] * share
            item_gradient.addmm_(exponentials.T, users[block] * share)
            total = total + counts[block] @ partition.squeeze(1).log()
        ctx.save_for_backward(user_gradient, item_gradient.mul_(weights.unsqueeze(1)))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        """Gradients of users and items, each `(rows, d)`."""
        user_gradient, item_gradient = ctx.saved_tensors
        return user_gradient * gradient, item_gradient * gradient, None, None
