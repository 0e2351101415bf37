"""What LightGCN is trained for, on propagated embeddings."""

import torch
import torch.nn.functional as F


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
    users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, same: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Cross-entropy of the touched item against other items, by cosine over a temperature.

    Args:
        users: propagated embeddings `(batch, d)`.
        positives: of the item each user touched, `(batch, d)`.
        negatives: of items shared by the batch, `(items, d)`; with all items this is the full softmax.
        same: where a negative is the touched item itself, `(batch, items)`; left out of the sum.
        temperature: divisor of the cosine, > 0.

    Returns:
        Scalar.
    """
    users, positives, negatives = (F.normalize(rows, dim=1) for rows in (users, positives, negatives))
    own = (users * positives).sum(dim=1, keepdim=True)
    others = (users @ negatives.T).masked_fill(same, float("-inf"))
    target = torch.zeros(len(users), dtype=torch.long, device=users.device)
    return F.cross_entropy(torch.cat([own, others], dim=1) / temperature, target)
