"""Why a score is what it is: the history items, the other users and the paths between them that carry it.

A settled embedding is its own part and a sum over its neighbours. With d_u the degree of user u, N(u) its items, F_j the row
of item j in the fold-in table and n_u what `to_unit_rows` divided by (1 where it was not called):

    e_u = (o_u + sum over j in N(u) of F_j / sqrt(d_u)) / n_u       o_u = alpha_0 E^(0)_u; 0 for a node outside the graph

and likewise for item i over N(i), the users who touched it. The score e_u . e_i is therefore a sum over the user's history, a
sum over the item's users, and, with both at once, a sum over pairs (j, v) of a history item and a user. A pair whose user v
touched j is a path u - j - v - i of the graph. All sums are exact; nothing is estimated.

The lengths n are in no table. `LightGCN.to_unit_rows` returns them; `recover_lengths` solves for them from the stored tables,
the graph and the layer weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from .bipartite_graph import GroupedEntries, check_edges, check_finite, distinct_edges, normalized_adjacency
from .histories import distinct_entries
from .lightgcn import LightGCN

CONJUGATE_STEPS = 50
Node = int | Sequence[int] | torch.Tensor
"""A stored node by its row, or one that the graph has not seen by its history."""


@dataclass(frozen=True)
class Path:
    """A path u - j - v - i.

    Attributes:
        user: v, who touched both the history item j and the item i.
        weight: what the pair (j, v) adds to the score.
    """

    user: int
    weight: float


@dataclass(frozen=True)
class HistoryItem:
    """A history item and its share of the score.

    Attributes:
        item: j.
        share: what j adds to the score.
        paths: over the users v who also touched i, largest absolute weight first; neither j = i nor v = u is a path.
    """

    item: int
    share: float
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class TouchingUser:
    """A user who touched the item, and its share of the score.

    Attributes:
        user: v.
        share: what v adds to the score.
    """

    user: int
    share: float


@dataclass(frozen=True)
class ScoreEvidence:
    """A score taken apart, in three ways that each add up to it; `dataclasses.asdict` makes plain dictionaries of it.

    Attributes:
        score: e_u . e_i.
        own: share of the user's own part; 0 for an unseen user. `own + history + history_rest = score`.
        history: history items, largest absolute share first.
        history_rest: share of the history items that are not listed.
        item_own: share of the item's own part; 0 for an unseen item. `item_own + users + users_rest = score`.
        users: users who touched the item, largest absolute share first.
        users_rest: share of the users that are not listed.
        own_own: both own parts. `own_own + own_users + history_own + linked + unlinked = score`.
        own_users: the user's own part with the users who touched the item.
        history_own: the history with the item's own part.
        linked: all pairs (j, v) that are paths, listed or not.
        unlinked: all other pairs, which are near each other by longer ways only, or hold the user or the item itself.
    """

    score: float
    own: float
    history: tuple[HistoryItem, ...]
    history_rest: float
    item_own: float
    users: tuple[TouchingUser, ...]
    users_rest: float
    own_own: float
    own_users: float
    history_own: float
    linked: float
    unlinked: float


class Evidence:
    """Takes scores of a settled model apart.

    Args:
        model: settled.
        edge_index: the graph it was settled with, `(2, edges)`. A node that `grow` added is explained by its history.
        lengths: what `to_unit_rows` returned; where the rows have length 1 and it is None, they are recovered.
        layer_weights: alpha_0 .. alpha_L, for recovering; the model's where None (a loaded
            model has those of its configuration).

    Raises:
        ValueError: a model that is not settled, bad edges, lengths of a wrong shape, or as in `recover_lengths`.
    """

    def __init__(
        self,
        model: LightGCN,
        edge_index: torch.Tensor,
        lengths: tuple[torch.Tensor, torch.Tensor] | None = None,
        layer_weights: Sequence[float] | None = None,
    ) -> None:
        check_edges(edge_index, model.num_users, model.num_items)
        if not model.is_settled():
            raise ValueError("expected a settled model, found empty fold-in tables; call settle(edge_index) first.")
        self.model = model
        edge_index = edge_index.to(model.user_embeddings.device)
        if lengths is None and model.has_unit_rows():
            lengths = recover_lengths(model, edge_index, layer_weights)
        if lengths is None:
            lengths = model.user_embeddings.new_ones(model.num_users), model.item_embeddings.new_ones(model.num_items)
        if [tuple(part.shape) for part in lengths] != [(model.num_users,), (model.num_items,)]:
            raise ValueError(
                f"expected lengths of shapes ({model.num_users},) and ({model.num_items},), found "
                f"{[tuple(part.shape) for part in lengths]}; pass what to_unit_rows returned."
            )
        self.lengths = dict(zip(("user", "item"), lengths, strict=True))
        users, items = distinct_edges(edge_index, model.num_items)
        self._neighbours = {
            "user": GroupedEntries.of_edges(users, items, model.num_users),
            "item": GroupedEntries.of_edges(items, users, model.num_items),
        }

    @torch.no_grad()
    def explain(self, user: Node, item: Node, k: int = 10, paths: int = 3) -> ScoreEvidence:
        """What one score rests on.

        Args:
            user: row of a stored user, or the item indices that an unseen user touched.
            item: row of a stored item, or the user indices that touched an unseen item.
            k: how many history items, and how many users, to list.
            paths: how many paths to list for each history item.

        Returns:
            See `ScoreEvidence`.

        Raises:
            ValueError: a row or a history entry out of range, an empty history, or NaN in a table (with its row).
        """
        u, i = self._side(user, "user"), self._side(item, "item")
        shares, user_shares = u.parts @ i.embedding, i.parts @ u.embedding
        history_users = float(u.parts.sum(dim=0) @ i.parts.sum(dim=0))
        places, columns = self._linked(u, i)
        weights = _products(u.parts, i.parts, places, columns)
        listed = shares.abs().argsort(descending=True)[:k]
        touching = user_shares.abs().argsort(descending=True)[:k]
        history = []
        for place in listed.tolist():
            mine = (places == place).nonzero().flatten()
            mine = mine[weights[mine].abs().argsort(descending=True)[:paths]]
            found = zip(i.neighbours[columns[mine]].tolist(), weights[mine].tolist(), strict=True)
            history.append(HistoryItem(int(u.neighbours[place]), float(shares[place]), tuple(Path(*pair) for pair in found)))
        return ScoreEvidence(
            score=float(u.embedding @ i.embedding),
            own=float(u.own @ i.embedding),
            history=tuple(history),
            history_rest=float(shares.sum() - shares[listed].sum()),
            item_own=float(i.own @ u.embedding),
            users=tuple(TouchingUser(int(i.neighbours[v]), float(user_shares[v])) for v in touching.tolist()),
            users_rest=float(user_shares.sum() - user_shares[touching].sum()),
            own_own=float(u.own @ i.own),
            own_users=float(u.own @ i.parts.sum(dim=0)),
            history_own=float(u.parts.sum(dim=0) @ i.own),
            linked=float(weights.sum()),
            unlinked=history_users - float(weights.sum()),
        )

    def _side(self, node: Node, side: Literal["user", "item"]) -> "_Side":
        """A node with its own part and its neighbours' parts, in double precision."""
        other = "item" if side == "user" else "user"
        table = getattr(self.model, f"{side}_embeddings")
        fold_in = self.model.get_buffer(f"{other}_fold_in")
        if isinstance(node, int):
            if not 0 <= node < len(table):
                raise ValueError(f"{side} {node} is not stored, expected 0 to {len(table) - 1}; give an unseen one's history.")
            neighbours = self._neighbours[side].row(node)
        else:
            neighbours, _ = distinct_entries([node], len(fold_in), other, fold_in.device)
        parts = fold_in[neighbours].double() / max(1, len(neighbours)) ** 0.5
        if isinstance(node, int):
            embedding, length = table[node].detach().double(), self.lengths[side][node].double().clamp(min=1e-12)
        else:
            embedding = parts.sum(dim=0)
            length = self.model.divisors(embedding.unsqueeze(0), side).squeeze()
            embedding = embedding / length
        check_finite(**{f"{side}_embeddings": embedding.unsqueeze(0), f"{other}_fold_in": parts})
        own = embedding - parts.sum(dim=0) / length if isinstance(node, int) else torch.zeros_like(embedding)
        return _Side(node if isinstance(node, int) else -1, embedding, own, neighbours, parts / length)

    def _linked(self, u: "_Side", i: "_Side") -> tuple[torch.Tensor, torch.Tensor]:
        """Places in u's history and in i's users of the pairs whose user touched the history item."""
        place_of = torch.full((self.model.num_users,), -1, device=u.neighbours.device)
        place_of[i.neighbours] = torch.arange(len(i.neighbours), device=place_of.device)
        if u.row >= 0:
            place_of[u.row] = -1
        places, users = self._neighbours["item"].of(u.neighbours)
        columns = place_of[users]
        linked = (columns >= 0) & (u.neighbours[places] != i.row)
        return places[linked], columns[linked]


class _Side(NamedTuple):
    """A node of a score: its row (-1 where unseen), e, o / n, its neighbours and their F / (sqrt(d) n)."""

    row: int
    embedding: torch.Tensor
    own: torch.Tensor
    neighbours: torch.Tensor
    parts: torch.Tensor


@torch.no_grad()
def recover_lengths(
    model: LightGCN, edge_index: torch.Tensor, layer_weights: Sequence[float] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The lengths that `to_unit_rows` divided the embeddings by, from the stored tables and the graph.

    With G the fold-in tables times the root of the degrees and P(A) = sum over l < L of alpha_(l+1) A_hat^l, the tables hold
    G = P(A) E^(0) and n e = alpha_0 E^(0) + A_hat G. So P(A) (n e) = alpha_0 G + P(A) A_hat G, linear in the lengths n: d
    equations a node and one unknown. Conjugate gradients solve their least squares.

    Args:
        model: settled, its embeddings of length 1.
        edge_index: the graph it was settled with, `(2, edges)`.
        layer_weights: alpha_0 .. alpha_L; the model's where None.

    Returns:
        `(|U|,)` and `(|I|,)`.

    Raises:
        ValueError: bad edges, or tables that no lengths explain: another graph or other layer weights made them.
    """
    alpha = tuple(model.layer_weights if layer_weights is None else layer_weights)
    adjacency = normalized_adjacency(edge_index, model.num_users, model.num_items)
    roots = adjacency.crow_indices().diff().clamp(min=1).float().sqrt().unsqueeze(1)
    tables = [
        model.user_embeddings,
        model.item_embeddings,
        *(model.get_buffer(f"{side}_fold_in") for side in ("user", "item")),
    ]
    embeddings, fold_in = torch.cat(tables[:2]).float(), torch.cat(tables[2:]).float() * roots

    lengths, error = _least_squares_lengths(embeddings, fold_in, adjacency, alpha)
    if not error < 1e-3:
        raise ValueError(
            f"no lengths explain the tables (relative error {error:.2g}) with layer weights {alpha}; pass the graph and the "
            "layer_weights that the model was trained with, or the lengths that to_unit_rows returned."
        )
    return lengths[: model.num_users], lengths[model.num_users :]


def _least_squares_lengths(
    embeddings: torch.Tensor, fold_in: torch.Tensor, adjacency: torch.Tensor, alpha: tuple[float, ...]
) -> tuple[torch.Tensor, float]:
    """The n that best fit P(A) (n e) = alpha_0 G + P(A) A_hat G, `(nodes,)`, and the relative error that they leave."""

    def polynomial(rows: torch.Tensor) -> torch.Tensor:
        """P(A) rows, by Horner's rule, `(nodes, d)`; P(A) is symmetric."""
        total = alpha[-1] * rows
        for weight in reversed(alpha[1:-1]):
            total = weight * rows + adjacency @ total
        return total

    wanted = alpha[0] * fold_in + polynomial(adjacency @ fold_in)
    lengths = torch.zeros_like(embeddings[:, 0])
    residual = (embeddings * polynomial(wanted)).sum(dim=1)
    direction, size = residual, residual.square().sum()
    first = size
    for _ in range(CONJUGATE_STEPS):
        if size <= 1e-12 * first:
            break
        image = polynomial(direction.unsqueeze(1) * embeddings)
        step = size / image.square().sum()
        lengths = lengths + step * direction
        residual = residual - step * (embeddings * polynomial(image)).sum(dim=1)
        direction, size = residual + residual.square().sum() / size * direction, residual.square().sum()
    left = polynomial(lengths.unsqueeze(1) * embeddings) - wanted
    return lengths, float(left.norm() / wanted.norm().clamp(min=1e-12))


def _products(left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Entries `(pairs,)` of `left @ right.T` at ascending rows, by blocks of rows: a popular item has very many users."""
    block = max(1, 2**22 // max(1, len(right)))
    found = [left.new_empty(0)]
    for start in range(0, len(left), block):
        first, end = torch.searchsorted(rows, rows.new_tensor([start, start + block])).tolist()
        product = left[start : start + block] @ right.T
        found.append(product[rows[first:end] - start, columns[first:end]])
    return torch.cat(found)


__all__ = ["Evidence", "HistoryItem", "Path", "ScoreEvidence", "TouchingUser", "recover_lengths"]
