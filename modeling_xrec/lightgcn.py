"""LightGCN in plain torch: the collaborative relation tokenizer of XRec.

LightGCN (He et al., SIGIR 2020, arXiv 2002.02126). With users and items as the nodes of one bipartite graph, A its adjacency
matrix, D the degrees and E^(0) the trained tables:

    A_hat   = D^-1/2 A D^-1/2
    E^(l+1) = A_hat E^(l)
    E       = sum over l = 0..L of alpha_l E^(l)       alpha_l = 1 / (L + 1) in torch_geometric; 1 in XRec's reference code

The code that goes to the Hub needs no graph library: a published model holds E and the fold-in tables.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .bipartite_graph import check_finite, normalized_adjacency, propagate_once
from .histories import Histories, distinct_entries, root, sum_over_root
from .recommending import Excluded, best_items, nearest_rows


class LightGCN(nn.Module):
    """User and item tables over a graph.

    The tables are E^(0) while the encoder trains. `settle(edge_index)` turns them, in place, into the final embeddings E that
    a model stores, recommends from and explains with, and fills the fold-in tables for nodes that the graph has not seen.

    Args:
        num_users: rows of the user table.
        num_items: rows of the item table.
        embedding_dim: width d of an embedding.
        num_layers: propagation steps L.
        aggregation: how layers make E: `"mean"` (the LightGCN paper), `"sum"` (XRec's reference code), or the paper's weights
            alpha_0 .. alpha_L themselves.
        length_exponent: gamma of `to_unit_rows`, where the tables hold what it made.

    Attributes:
        user_embeddings: `(num_users, d)`.
        item_embeddings: `(num_items, d)`.
        user_fold_in: `(num_users, d)`, a user's layers 0..L-1, weighted by alpha_1 .. alpha_L, over the root of its degree.
        item_fold_in: `(num_items, d)`, likewise.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        num_layers: int = 3,
        aggregation: Literal["mean", "sum"] | Sequence[float] = "mean",
        length_exponent: float = 0.0,
    ) -> None:
        super().__init__()
        self.length_exponent = length_exponent
        self.num_layers, self.layer_weights = num_layers, _layer_weights(aggregation, num_layers)
        self.user_embeddings = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_embeddings = nn.Parameter(torch.empty(num_items, embedding_dim))
        self.register_buffer("user_fold_in", torch.zeros(num_users, embedding_dim))
        self.register_buffer("item_fold_in", torch.zeros(num_items, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws Xavier-uniform tables."""
        for table in (self.user_embeddings, self.item_embeddings):
            if table.numel():
                nn.init.xavier_uniform_(table)

    @property
    def num_users(self) -> int:
        """Rows of the user table."""
        return self.user_embeddings.shape[0]

    @property
    def num_items(self) -> int:
        """Rows of the item table."""
        return self.item_embeddings.shape[0]

    def is_settled(self) -> bool:
        """Whether the tables hold final embeddings: `settle` fills the fold-in tables, which are zero until then."""
        return any(bool(self.get_buffer(f"{side}_fold_in").any()) for side in ("user", "item"))

    def propagate_layers(self, adjacency: torch.Tensor) -> list[torch.Tensor]:
        """E^(0) .. E^(L), users above items, each `(|U| + |I|, d)`."""
        layers = [torch.cat([self.user_embeddings, self.item_embeddings])]
        for _ in range(self.num_layers):
            layers.append(propagate_once(adjacency, layers[-1]))
        return layers

    def aggregate(self, layers: list[torch.Tensor]) -> torch.Tensor:
        """E, the sum of alpha_l E^(l) over layers 0..L, `(nodes, d)`."""
        return _weighted_sum(layers, self.layer_weights)

    def propagate(
        self, edge_index: torch.Tensor | None = None, adjacency: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Final embeddings from the tables as E^(0).

        Args:
            edge_index: `(2, edges)`, users in row 0 and items in row 1.
            adjacency: `normalized_adjacency` of those edges, to compute it once for many calls.

        Returns:
            User embeddings `(|U|, d)` and item embeddings `(|I|, d)`.

        Raises:
            ValueError: neither edges nor a matrix, bad edges, or the matrix of another number of nodes.
        """
        if adjacency is None:
            if edge_index is None:
                raise ValueError("propagate() needs edge_index or adjacency; neither was given.")
            adjacency = normalized_adjacency(edge_index, self.num_users, self.num_items)
        final = self.aggregate(self.propagate_layers(adjacency))
        return final[: self.num_users], final[self.num_users :]

    @torch.no_grad()
    def settle(self, edge_index: torch.Tensor) -> None:
        """Replaces the tables by the final embeddings and fills the fold-in tables, in place.

        Args:
            edge_index: `(2, edges)`, users in row 0 and items in row 1; repeated edges count once.

        Raises:
            ValueError: bad edges (with their column), or NaN or infinity in a table (with its row).
        """
        check_finite(user_embeddings=self.user_embeddings, item_embeddings=self.item_embeddings)
        adjacency = normalized_adjacency(edge_index, self.num_users, self.num_items)
        layers = self.propagate_layers(adjacency)
        final = self.aggregate(layers)
        degree = adjacency.crow_indices().diff().float().clamp(min=1)
        # A node outside the graph has layer 0 = 0; its layer l+1 is the sum of its neighbours' layer l over both roots.
        fold_in = _weighted_sum(layers[:-1], self.layer_weights[1:]) if self.num_layers else torch.zeros_like(final)
        fold_in = fold_in * degree.rsqrt().unsqueeze(1)
        self.user_embeddings.copy_(final[: self.num_users])
        self.item_embeddings.copy_(final[self.num_users :])
        self.get_buffer("user_fold_in").copy_(fold_in[: self.num_users])
        self.get_buffer("item_fold_in").copy_(fold_in[self.num_users :])

    @torch.no_grad()
    def fold_in(self, histories: Histories, side: Literal["user", "item"] = "user") -> torch.Tensor:
        """Collaborative embeddings of users (or items) that the graph has not seen, from what they touched.

        Equals propagation over the graph with the new node added, when its own layer 0 is zero and the layers and degrees
        of the others are held: `sum over history of fold_in / sqrt(|history|)`; brought to the length of `to_unit_rows` where
        the tables are.

        Args:
            histories: for each new user the indices of its items (for `side="item"`, of its users), lists of integers or
                integer tensors `(length,)`; repeats count once.
            side: which side the new nodes are on.

        Returns:
            `(len(histories), d)`, on the tables' device and in their dtype.

        Raises:
            ValueError: an unknown side, an empty history, an index that is no integer or out of range, or a model without
                fold-in tables.
        """
        table, entries, counts = self._fold_in_entries(histories, side)
        folded = sum_over_root(table, entries, counts)
        return folded / self.divisors(folded, side)

    @torch.no_grad()
    def fold_in_shares(
        self, histories: Histories, embeddings: torch.Tensor, side: Literal["user", "item"] = "user"
    ) -> list[torch.Tensor]:
        """What each entry of a history adds to the inner product of the folded-in node and a node of the other side.

        The fold-in is a sum over the history, so its inner product with an embedding e is one too: an entry adds
        `fold_in . e / sqrt(|history|)`, divided like the sum itself where that is brought to another length.

        Args:
            histories: as in `fold_in`, like the errors.
            embeddings: e of each history, `(len(histories), d)`.
            side: as in `fold_in`.

        Returns:
            For each history its shares `(distinct entries,)`, in ascending order of index; they add up to `fold_in . e`.
        """
        table, entries, counts = self._fold_in_entries(histories, side)
        factors = embeddings.to(table) / root(counts, table.dtype)
        factors = factors / self.divisors(sum_over_root(table, entries, counts), side)
        shares = (table[entries] * factors.repeat_interleave(counts, dim=0)).sum(dim=1)
        return list(shares.split(counts.tolist()))

    def _fold_in_entries(self, histories: Histories, side: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The table that a side's new nodes are made from, its rows for all histories, and how many each history has."""
        _check_side(side)
        other = "item" if side == "user" else "user"
        table = self.get_buffer(f"{other}_fold_in")
        if not table[-1:].any() and not table.any():  # one row settles it, mostly
            raise ValueError(
                f"the model stores no fold-in tables ({other}_fold_in is all zero); settle() the graph or pass {side}_embeds."
            )
        return table, *distinct_entries(histories, len(table), other, table.device)

    @torch.no_grad()
    def to_unit_rows(self, length_exponent: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Brings the embeddings, in place, to the lengths that `unit_rows` gives them.

        Args:
            length_exponent: gamma; 0 for items of length 1, so that inner products are cosines.

        Returns:
            What the embeddings were divided by, `(|U|,)` and `(|I|,)`, which no table holds any more; `evidence` splits scores
            by it. Where gamma is not 0, all tables are divided by the items' mean length first.
        """
        self.length_exponent = length_exponent
        if length_exponent:
            mean = self.item_embeddings.norm(dim=1).mean().clamp(min=1e-12)
            for table in self.state_dict().values():
                table.div_(mean)
        users = _divisors(self.user_embeddings.norm(dim=1), 0.0)
        items = _divisors(self.item_embeddings.norm(dim=1), length_exponent)
        for table, divisors in ((self.user_embeddings, users), (self.item_embeddings, items)):
            table.div_(divisors.unsqueeze(1))
        return users, items

    def divisors(self, folded: torch.Tensor, side: Literal["user", "item"]) -> torch.Tensor:
        """What folded-in rows are divided by to be like the tables' rows, `(rows, 1)`: 1 where these are as propagated.

        Args:
            folded: sums over histories, `(rows, d)`.
            side: which side they are on.
        """
        lengths = folded.norm(dim=1, keepdim=True)
        if not self.has_unit_rows():
            return torch.ones_like(lengths)
        return _divisors(lengths, 0.0 if side == "user" else self.length_exponent)

    def has_unit_rows(self) -> bool:
        """Whether `to_unit_rows` made the tables: users (without any, items) have length 1, or 0 without an edge.

        Without users, a length exponent says it.
        """
        if not self.num_users and self.length_exponent:
            return True
        lengths = (self.user_embeddings if self.num_users else self.item_embeddings).norm(dim=1)
        return bool((lengths > 0).any() and ((lengths - 1).abs().lt(1e-3) | lengths.eq(0)).all())

    def recommend(
        self, user_ids: torch.Tensor | Sequence[int] | None = None, k: int = 10, exclude: Excluded | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k best items of each user by inner product, after `settle`; memory does not grow with users times items.

        Args:
            user_ids: user indices `(batch,)`; all users where None.
            k: how many items, at most the number of items.
            exclude: what each user already knows and is not to get: a list of item indices for each row of the batch, or the
                edges of a graph `(2, edges)`, users in row 0, of which each user's own count.

        Returns:
            Item indices `(batch, k)`, best first, and their scores `(batch, k)`. An excluded item is never given: where fewer
            than k remain, the row ends in index -1 with score -inf.

        Raises:
            ValueError: an index out of range, NaN in a table (both with their row), or lists of another number than the batch.
        """
        return best_items(self.user_embeddings.detach(), self.item_embeddings.detach(), user_ids, k, exclude)

    def similar(
        self, ids: torch.Tensor | Sequence[int], side: Literal["user", "item"] = "item", k: int = 10
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k nearest users of users, or items of items, by cosine, after `settle`; a node itself is left out.

        Args:
            ids: indices of the side `(batch,)`.
            side: which table to search.
            k: how many, at most all others of the side.

        Returns:
            Indices `(batch, k)`, nearest first, and cosines `(batch, k)`; a node without a signal has cosine 0 with all.

        Raises:
            ValueError: an unknown side, an index out of range, or NaN in the table (both with their row).
        """
        _check_side(side)
        return nearest_rows((self.user_embeddings if side == "user" else self.item_embeddings).detach(), ids, k)


def table_arguments(config: Any) -> dict[str, Any]:
    """Arguments of `LightGCN` for the tables that a configuration describes, as far as it does: layer weights, exponent."""
    weights = config.layer_weights
    layers = {} if weights is None else {"num_layers": len(weights) - 1, "aggregation": weights}
    return {**layers, "length_exponent": config.length_exponent}


def unit_rows(
    users: torch.Tensor, items: torch.Tensor, length_exponent: float = 0.0, mean: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows whose inner product is cos(u, i) (|e_i| / mean_j |e_j|)^gamma: between the cosine and the inner product.

    A user's length does not change the order of items. An item's grows with its popularity and with how much its users
    agree; a part of it ranks better than none and than all of it.

    Args:
        users: `(users, d)`.
        items: `(items, d)`; all of them, unless `mean` is given.
        length_exponent: gamma; 0 for the cosine.
        mean: the items' mean length, a scalar; that of `items` where None.

    Returns:
        Both, in their shapes; differentiable, but for the mean.
    """
    lengths = items.norm(dim=1, keepdim=True)
    mean = (lengths.detach().mean() if mean is None else mean).clamp(min=1e-12)
    return F.normalize(users, dim=1), items / (_divisors(lengths, length_exponent) * mean**length_exponent)


def _divisors(lengths: torch.Tensor, length_exponent: float) -> torch.Tensor:
    """What rows of these lengths are divided by to have them to the power gamma: length^(1 - gamma)."""
    return lengths.clamp(min=1e-12) ** (1 - length_exponent)


def _check_side(side: str) -> None:
    if side not in ("user", "item"):
        raise ValueError(f"side={side!r}; expected 'user' or 'item'.")


def _layer_weights(aggregation: str | Sequence[float], num_layers: int) -> tuple[float, ...]:
    if aggregation in ("mean", "sum"):
        return (1 / (num_layers + 1) if aggregation == "mean" else 1.0,) * (num_layers + 1)
    if isinstance(aggregation, str) or len(aggregation) != num_layers + 1:
        raise ValueError(f"aggregation={aggregation!r}; expected 'mean', 'sum' or {num_layers + 1} weights, one a layer.")
    weights = tuple(float(weight) for weight in aggregation)
    if not all(math.isfinite(weight) for weight in weights):
        layer = next(layer for layer, weight in enumerate(weights) if not math.isfinite(weight))
        raise ValueError(f"aggregation has weight {weights[layer]} for layer {layer}; expected finite numbers.")
    return weights


def _weighted_sum(layers: list[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    total = layers[0] * weights[0]
    for layer, weight in zip(layers[1:], weights[1:], strict=True):
        total = total + weight * layer
    return total


__all__ = ["LightGCN", "table_arguments", "unit_rows"]
