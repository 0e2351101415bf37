"""Recall and NDCG of recommendations, users' mean, with training items masked: the field's standard definition."""

import numpy as np
import torch


def ranking_metrics(
    user_embeddings: torch.Tensor,
    item_embeddings: torch.Tensor,
    known: torch.Tensor,
    held_out: torch.Tensor,
    k: int = 20,
    block: int = 2048,
) -> dict[str, float]:
    """Recall@k and NDCG@k over the users that have held-out items.

    For a user with held-out set T and ranked list r_1..r_k of items outside its known ones: recall = |T and list| / |T|, and
    ndcg = sum over hits at rank j of 1 / log2(j + 1), over the same sum for min(|T|, k) hits at the top.

    Args:
        user_embeddings: `(users, dim)`.
        item_embeddings: `(items, dim)`.
        known: edges `(2, known)` to mask.
        held_out: edges `(2, held out)` to find.
        k: length of the list.
        block: users scored at a time, which bounds the memory to `block x items`.

    Returns:
        `recall@k`, `ndcg@k` and `users`, how many users were counted.
    """
    users = held_out[0].unique()
    gains = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    recalls, ndcgs = [], []
    known_of, wanted_of = _grouped(known, len(user_embeddings)), _grouped(held_out, len(user_embeddings))
    for start in range(0, len(users), block):
        part = users[start : start + block]
        scores = user_embeddings[part] @ item_embeddings.T
        wanted = torch.zeros_like(scores, dtype=torch.bool)
        for row, user in enumerate(part.tolist()):
            scores[row, known_of[user]] = float("-inf")
            wanted[row, wanted_of[user]] = True
        hits = wanted.gather(1, scores.topk(min(k, scores.shape[1]), dim=1).indices).double()
        sizes = wanted.sum(dim=1)
        recalls.append(hits.sum(dim=1) / sizes)
        ideal = gains.cumsum(0)[(sizes.clamp(max=k) - 1)]
        ndcgs.append((hits * gains[: hits.shape[1]]).sum(dim=1) / ideal)
    recall, ndcg = torch.cat(recalls).mean().item(), torch.cat(ndcgs).mean().item()
    return {f"recall@{k}": recall, f"ndcg@{k}": ndcg, "users": len(users)}


def _grouped(edges: torch.Tensor, users: int) -> list[np.ndarray]:
    """Items of each user."""
    order = torch.argsort(edges[0], stable=True)
    counts = torch.bincount(edges[0], minlength=users)
    return np.split(edges[1][order].numpy(), counts.cumsum(0)[:-1].numpy())
