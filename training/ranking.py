"""Recall, NDCG, coverage and novelty of recommendations, with what a user already has masked."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from modeling_xrec.bipartite_graph import GroupedEntries
from modeling_xrec.recommending import top_k


def ranking_metrics(
    user_embeddings: torch.Tensor,
    item_embeddings: torch.Tensor,
    known: torch.Tensor,
    held_out: torch.Tensor,
    k: int = 20,
    block: int | None = None,
    popularity: torch.Tensor | None = None,
) -> dict[str, float]:
    """What the k best items by inner product are worth to the users that have held-out items.

    Args:
        user_embeddings: `(users, d)`.
        item_embeddings: `(items, d)`.
        known: edges `(2, known)` to mask.
        held_out: edges `(2, held out)` to find.
        k: length of the list.
        block: users scored at a time; what fits the memory that `top_k` allows when None.
        popularity: training interactions of each item, `(items,)`; those of `known` when None.

    Returns:
        As `list_metrics`.
    """
    users, columns = held_out[0].unique(), item_embeddings.T.contiguous()
    grouped = GroupedEntries.of_edges(known[0], known[1], len(user_embeddings))
    lists = best_items(lambda part: user_embeddings[part] @ columns, users, grouped, len(item_embeddings), k, block)
    if popularity is None:
        popularity = torch.bincount(known[1], minlength=len(item_embeddings))
    return list_metrics(lists, users, held_out, popularity, len(user_embeddings))


@torch.no_grad()
def best_items(
    score: Callable[[torch.Tensor], torch.Tensor],
    users: torch.Tensor,
    known: GroupedEntries,
    num_items: int,
    k: int,
    block: int | None = None,
) -> torch.Tensor:
    """The k best items of each user among those it does not have.

    Args:
        score: scores `(part, items)` of user indices `(part,)`; what it returns is overwritten.
        users: user indices `(users,)`.
        known: what users have, a list a user.
        num_items: number of items.
        k: length of the list.
        block: users scored at a time; what fits the memory that `top_k` allows when None.

    Returns:
        Item indices `(users, k)`, best first; -1 where a user has fewer items left.
    """

    def masked(part: slice) -> torch.Tensor:
        scores = score(users[part])
        scores[known.of(users[part])] = float("-inf")
        return scores

    indices, _ = top_k(masked, len(users), num_items, k, block)
    return F.pad(indices, (0, k - indices.shape[1]), value=-1)


def list_metrics(
    lists: torch.Tensor, users: torch.Tensor, held_out: torch.Tensor, popularity: torch.Tensor, num_users: int
) -> dict[str, float]:
    """Measures given recommendations.

    For a user with held-out set T and list r_1..r_k: recall = |T and list| / |T|, and ndcg = sum over hits at rank j of
    1 / log2(j + 1), over the same sum for min(|T|, k) hits at the top. Both are means over users: the field's standard.

    Args:
        lists: item indices `(users, k)`, best first; -1 where there is none.
        users: whose lists they are, ascending, `(users,)`; all have held-out items.
        held_out: edges `(2, held out)` to find; repeats count once.
        popularity: training interactions of each item, `(items,)`.
        num_users: number of users, with or without held-out items.

    Returns:
        `recall@k`; `ndcg@k`; `coverage@k`, the share of all items that some list holds; `novelty@k`, the mean of
        -log2(popularity / num_users) over all recommendations, in bits, an item without interactions counting as one with
        one; and `users`, how many lists there are.
    """
    k, num_items = lists.shape[1], len(popularity)
    wanted = torch.unique(held_out[0] * num_items + held_out[1])
    keys = torch.where(lists >= 0, users.unsqueeze(1) * num_items + lists, -1)
    hits = torch.isin(keys, wanted).double()
    sizes = torch.bincount(wanted // num_items, minlength=num_users)[users]
    gains = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    shown = lists[lists >= 0]
    information = -torch.log2(popularity.clamp(min=1).double() / num_users)
    return {
        f"recall@{k}": (hits.sum(dim=1) / sizes).mean().item(),
        f"ndcg@{k}": (hits @ gains / gains.cumsum(0)[sizes.clamp(max=k) - 1]).mean().item(),
        f"coverage@{k}": shown.unique().numel() / num_items,
        f"novelty@{k}": information[shown].mean().item(),
        "users": len(users),
    }
