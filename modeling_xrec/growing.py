"""New users and items in a settled model, without training.

A new node's embedding is the fold-in of the known nodes that it touches. For further nodes to be folded in through it, it
needs a row in the fold-in table too: its layers 0 .. L-1 over the root of its degree. It has no trained layer 0; its layer l
is taken to be what its neighbours' layers l give it, for l = 0 too. Then the weighted sum of its layers is its fold-in itself,
and

    F_v = 1 / d_v * (sum over its known neighbours j of F_j)

Known nodes keep their embeddings, layers and degrees, as `fold_in` holds them. Many new nodes are a reason to train again:
pass the grown tables to the encoder as its start.
"""

from typing import Literal

import torch

from .bipartite_graph import check_edges, check_finite, distinct_edges
from .histories import root, sum_over_root
from .lightgcn import LightGCN


@torch.no_grad()
def grow(model: LightGCN, edge_index: torch.Tensor, num_users: int, num_items: int) -> LightGCN:
    """A model with more users, more items, or both; the given one stays as it is.

    Only edges between a new node and a known one make an embedding. Edges between two known nodes change nothing, and edges
    between two new nodes are left out (`growing_edges` says which are used), so that the result depends on no order. To let
    new nodes in through new nodes, grow twice: first with those that touch known nodes, then with the others.

    Args:
        model: settled; its users and items keep their rows.
        edge_index: `(2, edges)`, users in row 0 and items in row 1; new nodes have the indices after the known ones. Repeated
            edges count once.
        num_users: users with the new ones.
        num_items: items with the new ones.

    Returns:
        A settled model of `num_users` and `num_items`; new rows have the lengths of `to_unit_rows` where the known ones do.

    Raises:
        ValueError: a model that is not settled, sizes below its own, bad edges, or a new node without a known neighbour.
    """
    if not model.is_settled():
        raise ValueError("expected a settled model, found empty fold-in tables; call settle(edge_index) first.")
    if num_users < model.num_users or num_items < model.num_items:
        raise ValueError(
            f"expected at least the model's {model.num_users} users and {model.num_items} items, found {num_users} and "
            f"{num_items}; new nodes are added, none are removed."
        )
    check_edges(edge_index, num_users, num_items)
    check_finite(**{name: table.detach() for name, table in model.state_dict().items()})
    arguments = (model.user_embeddings.shape[1], model.num_layers, model.layer_weights, model.length_exponent)
    grown = LightGCN(num_users, num_items, *arguments)
    grown.to(model.user_embeddings).requires_grad_(model.user_embeddings.requires_grad)
    users, items = distinct_edges(edge_index.to(model.user_embeddings.device), num_items)
    _add("user", model, grown, users, items)
    _add("item", model, grown, items, users)
    return grown


def growing_edges(model: LightGCN, edge_index: torch.Tensor) -> torch.Tensor:
    """Which edges `grow` uses: those between a new node and a known one, `(edges,)`, true or false."""
    return (edge_index[0] >= model.num_users) ^ (edge_index[1] >= model.num_items)


def _add(side: Literal["user", "item"], model: LightGCN, grown: LightGCN, nodes: torch.Tensor, others: torch.Tensor) -> None:
    """Fills one side's tables of the grown model: the known rows as they are, the new ones from their known neighbours."""
    other = "item" if side == "user" else "user"
    table, fold_in = getattr(model, f"{side}_embeddings"), model.get_buffer(f"{side}_fold_in")
    known, source = len(table), model.get_buffer(f"{other}_fold_in")
    target, target_fold_in = getattr(grown, f"{side}_embeddings"), grown.get_buffer(f"{side}_fold_in")
    target[:known], target_fold_in[:known] = table, fold_in
    counted = (nodes >= known) & (others < len(source))
    nodes, others = nodes[counted] - known, others[counted]
    counts = torch.bincount(nodes, minlength=len(target) - known)
    alone = (counts == 0).nonzero().flatten()
    if len(alone):
        raise ValueError(
            f"new {side} {int(alone[0]) + known} touches no known {other} ({len(alone)} such {side}s); leave it out, or grow "
            f"by its {other}s first."
        )
    if not len(counts):
        return
    sums = sum_over_root(source, others[nodes.argsort(stable=True)], counts)
    target[known:] = sums / model.divisors(sums, side)
    target_fold_in[known:] = sums / root(counts, sums.dtype)


__all__ = ["grow", "growing_edges"]
