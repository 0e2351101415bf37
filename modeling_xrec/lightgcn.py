"""LightGCN in plain torch: the collaborative relation tokenizer of XRec.

LightGCN (He et al., SIGIR 2020, arXiv 2002.02126). With users and items as the nodes of one bipartite graph, A its adjacency
matrix, D the degrees and E^(0) the trained tables:

    A_hat   = D^-1/2 A D^-1/2
    E^(l+1) = A_hat E^(l)
    E       = mean over l = 0..L of E^(l)       (paper, torch_geometric; XRec's reference code takes the sum)

The code that goes to the Hub needs no graph library: a published model holds E and the fold-in tables.
"""

import itertools
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

Histories = Sequence[Sequence[int] | torch.Tensor]  # for each new node the indices of what it touched


def normalized_adjacency(edge_index: torch.Tensor, num_users: int, num_items: int) -> torch.Tensor:
    """A_hat of a user-item graph.

    Args:
        edge_index: `(2, edges)`, integer: user index in row 0, item index in row 1. Repeated edges count once.
        num_users: number of users |U|.
        num_items: number of items |I|.

    Returns:
        Sparse CSR matrix `(|U| + |I|, |U| + |I|)`, float32, symmetric. A node without an edge has an empty row.

    Raises:
        ValueError: wrong shape or dtype, no edge, or an index out of range (with its column).
    """
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or edge_index.is_floating_point():
        raise ValueError(
            f"expected integer edges of shape (2, edges), found {edge_index.dtype} {tuple(edge_index.shape)}; "
            "put user indices in row 0 and item indices in row 1."
        )
    if edge_index.shape[1] == 0:
        raise ValueError("expected at least one edge, found none; is the training split empty?")
    for name, row, limit in (("user", edge_index[0], num_users), ("item", edge_index[1], num_items)):
        outside = ((row < 0) | (row >= limit)).nonzero().flatten()
        if len(outside):
            column = int(outside[0])
            raise ValueError(
                f"edge {column} has {name} index {int(row[column])}, expected 0 to {limit - 1} ({len(outside)} such edges); "
                f"raise num_{name}s or mend the edge."
            )
    size = num_users + num_items
    pairs = torch.unique(edge_index[0].long() * num_items + edge_index[1].long())
    users, items = pairs // num_items, pairs % num_items
    indices = torch.stack([torch.cat([users, items + num_users]), torch.cat([items + num_users, users])])
    degree = torch.bincount(indices[0], minlength=size).float()
    weights = degree.rsqrt()[indices[0]] * degree.rsqrt()[indices[1]]
    with warnings.catch_warnings():  # torch calls its CSR layout beta at every first use
        warnings.filterwarnings("ignore", message=".*[Ss]parse.*", category=UserWarning)
        return torch.sparse_coo_tensor(indices, weights, (size, size)).coalesce().to_sparse_csr()


def _distinct_entries(histories: Histories, limit: int, kind: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
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


def _root(counts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Square roots of counts as a column `(counts, 1)`, taken in at least single precision."""
    return counts.to(torch.promote_types(dtype, torch.float32)).sqrt().to(dtype).unsqueeze(1)


def _sum_over_root(table: torch.Tensor, entries: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """For each history the sum of its rows of a table over the root of their number, `(histories, d)`."""
    # embedding_bag adds rows up where they lie; a gather would hold (entries, d) first.
    return F.embedding_bag(entries, table, counts.cumsum(0) - counts, mode="sum") / _root(counts, table.dtype)


class _SymmetricProduct(torch.autograd.Function):
    """A @ x for a symmetric sparse A, whose gradient is A @ g: torch would transpose A at every step."""

    @staticmethod
    def forward(ctx: Any, adjacency: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Product `(nodes, d)` of the symmetric sparse matrix `(nodes, nodes)` and rows `(nodes, d)`."""
        ctx.adjacency = adjacency
        return adjacency @ rows

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        """Gradient `(nodes, d)` of the rows; the matrix is constant."""
        return None, ctx.adjacency @ gradient


class LightGCN(nn.Module):
    """User and item tables over a graph.

    The tables are E^(0) while the encoder trains. `settle(edge_index)` turns them, in place, into the final embeddings E that
    a model stores, recommends from and explains with, and fills the fold-in tables for nodes that the graph has not seen.

    Args:
        num_users: rows of the user table.
        num_items: rows of the item table.
        embedding_dim: width d of an embedding.
        num_layers: propagation steps L.
        aggregation: `"mean"` of the layers (the LightGCN paper) or their `"sum"` (XRec's reference code).

    Attributes:
        user_embeddings: `(num_users, d)`.
        item_embeddings: `(num_items, d)`.
        user_fold_in: `(num_users, d)`, sum of a user's layers 0..L-1 over the root of its degree, weighted as E is.
        item_fold_in: `(num_items, d)`, likewise.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 64,
        num_layers: int = 3,
        aggregation: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if aggregation not in ("mean", "sum"):
            raise ValueError(f"aggregation={aggregation!r}; expected 'mean' or 'sum'.")
        self.num_layers, self.aggregation = num_layers, aggregation
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

    def propagate_layers(self, adjacency: torch.Tensor) -> list[torch.Tensor]:
        """E^(0) .. E^(L), users above items, each `(|U| + |I|, d)`."""
        layers = [torch.cat([self.user_embeddings, self.item_embeddings])]
        for _ in range(self.num_layers):
            layers.append(_SymmetricProduct.apply(adjacency, layers[-1]))
        return layers

    def aggregate(self, layers: list[torch.Tensor]) -> torch.Tensor:
        """Mean or sum of layers `(nodes, d)`, dividing the mean by L + 1 however many layers are given."""
        total = torch.stack(layers).sum(dim=0)
        return total / (self.num_layers + 1) if self.aggregation == "mean" else total

    def propagate(
        self, edge_index: torch.Tensor | None = None, adjacency: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Final embeddings from the tables as E^(0).

        Args:
            edge_index: `(2, edges)`, users in row 0 and items in row 1.
            adjacency: `normalized_adjacency` of those edges, to compute it once for many calls.

        Returns:
            User embeddings `(|U|, d)` and item embeddings `(|I|, d)`.
        """
        if adjacency is None:
            if edge_index is None:
                raise ValueError("propagate() needs edge_index or adjacency; neither was given.")
            adjacency = normalized_adjacency(edge_index, self.num_users, self.num_items)
        final = self.aggregate(self.propagate_layers(adjacency))
        return final[: self.num_users], final[self.num_users :]

    @torch.no_grad()
    def settle(self, edge_index: torch.Tensor) -> None:
        """Replaces the tables by the final embeddings and fills the fold-in tables, in place."""
        adjacency = normalized_adjacency(edge_index, self.num_users, self.num_items)
        layers = self.propagate_layers(adjacency)
        final = self.aggregate(layers)
        degree = adjacency.crow_indices().diff().float().clamp(min=1)
        # A node outside the graph has layer 0 = 0; its layer l+1 is the sum of its neighbours' layer l over both roots.
        fold_in = self.aggregate(layers[:-1]) if self.num_layers else torch.zeros_like(final)
        fold_in = fold_in * degree.rsqrt().unsqueeze(1)
        self.user_embeddings.copy_(final[: self.num_users])
        self.item_embeddings.copy_(final[self.num_users :])
        self.get_buffer("user_fold_in").copy_(fold_in[: self.num_users])
        self.get_buffer("item_fold_in").copy_(fold_in[self.num_users :])

    @torch.no_grad()
    def fold_in(self, histories: Histories, side: Literal["user", "item"] = "user") -> torch.Tensor:
        """Collaborative embeddings of users (or items) that the graph has not seen, from what they touched.

        Equals propagation over the graph with the new node added, when its own layer 0 is zero and the layers and degrees
        of the others are held: `sum over history of fold_in / sqrt(|history|)`; brought to length 1 where the tables are.

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
        folded = _sum_over_root(table, entries, counts)
        return F.normalize(folded, dim=1) if self.has_unit_rows() else folded

    @torch.no_grad()
    def fold_in_shares(
        self, histories: Histories, embeddings: torch.Tensor, side: Literal["user", "item"] = "user"
    ) -> list[torch.Tensor]:
        """What each entry of a history adds to the inner product of the folded-in node and a node of the other side.

        The fold-in is a sum over the history, so its inner product with an embedding e is one too: an entry adds
        `fold_in . e / sqrt(|history|)`, divided like the sum itself where that is brought to length 1.

        Args:
            histories: as in `fold_in`, like the errors.
            embeddings: e of each history, `(len(histories), d)`.
            side: as in `fold_in`.

        Returns:
            For each history its shares `(distinct entries,)`, in ascending order of index; they add up to `fold_in . e`.
        """
        table, entries, counts = self._fold_in_entries(histories, side)
        factors = embeddings.to(table) / _root(counts, table.dtype)
        if self.has_unit_rows():
            factors = factors / _sum_over_root(table, entries, counts).norm(dim=1, keepdim=True).clamp(min=1e-12)
        shares = (table[entries] * factors.repeat_interleave(counts, dim=0)).sum(dim=1)
        return list(shares.split(counts.tolist()))

    def _fold_in_entries(self, histories: Histories, side: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The table that a side's new nodes are made from, its rows for all histories, and how many each history has."""
        if side not in ("user", "item"):
            raise ValueError(f"side={side!r}; expected 'user' or 'item'.")
        other = "item" if side == "user" else "user"
        table = self.get_buffer(f"{other}_fold_in")
        if not table[-1:].any() and not table.any():  # one row settles it, mostly
            raise ValueError(
                f"the model stores no fold-in tables ({other}_fold_in is all zero); settle() the graph or pass {side}_embeds."
            )
        return table, *_distinct_entries(histories, len(table), other, table.device)

    @torch.no_grad()
    def to_unit_rows(self) -> None:
        """Brings every embedding to length 1, in place, for tables trained by cosine: inner products then rank as it does."""
        for table in (self.user_embeddings, self.item_embeddings):
            table.copy_(F.normalize(table, dim=1))

    def has_unit_rows(self) -> bool:
        """Whether the item embeddings have length 1 (or 0, without an edge): what `fold_in` returns then has too."""
        lengths = self.item_embeddings.norm(dim=1)
        return bool((lengths > 0).any() and ((lengths - 1).abs().lt(1e-3) | lengths.eq(0)).all())

    @torch.no_grad()
    def recommend(
        self, user_ids: torch.Tensor, k: int = 10, exclude: Sequence[Sequence[int]] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k best items of each user by inner product, after `settle`.

        Args:
            user_ids: user indices `(batch,)`.
            k: how many items, at most the number of items.
            exclude: for each user the item indices to leave out (what it already knows).

        Returns:
            Item indices `(batch, k)`, best first, and their scores `(batch, k)`; an excluded item scores -inf.
        """
        scores = self.user_embeddings[user_ids] @ self.item_embeddings.T
        for row, items in enumerate(exclude or ()):
            scores[row, list(items)] = float("-inf")
        best = scores.topk(min(k, self.num_items), dim=1)
        return best.indices, best.values


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


__all__ = ["LightGCN", "bpr_loss", "normalized_adjacency", "softmax_loss"]
