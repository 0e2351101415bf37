"""LightGCN's propagation for the nodes of one batch, over neighbours drawn at random instead of the whole graph.

With A_hat the normalised adjacency and B_1 .. B_L its rows thinned, a draw of its own for every layer:

    E_T = alpha_0 E^(0)_T + B_1 (alpha_1 E^(0)_N1 + B_2 (alpha_2 E^(0)_N2 + ... ))

T are the batch's nodes, N1 the neighbours drawn for them, N2 those drawn for N1, and so on. The mean of B_l is A_hat and two
layers' draws are independent, so the mean of E_T over draws is what full propagation gives (GraphSAGE's neighbour sampling,
arXiv 1706.02216, with the weights that keep it unbiased). A node with no more than `neighbours` neighbours keeps them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class ThinnedRows:
    """Some rows of A_hat with the entries that were drawn.

    Args:
        columns: drawn neighbours, `(entries,)`.
        weights: their entries of A_hat times degree over number drawn, `(entries,)`.
        offsets: where each row begins in the two, `(rows,)`.
    """

    columns: torch.Tensor
    weights: torch.Tensor
    offsets: torch.Tensor


def thin_rows(adjacency: torch.Tensor, nodes: torch.Tensor, neighbours: int, shifts: torch.Tensor) -> ThinnedRows:
    """Draws at most `neighbours` neighbours of each node, none twice, each with the same probability.

    The s drawn of a node's d neighbours lie d / s apart in its list, from a random start: one random number a node draws them,
    and what a node draws depends on nothing but that number, so however nodes are dealt to processes, the draw is the same.

    Args:
        adjacency: A_hat, CSR `(all nodes, all nodes)`.
        nodes: whose neighbours are drawn, `(rows,)`.
        neighbours: most neighbours a node, > 0.
        shifts: uniform in [0, 1), one for every node of the graph, `(all nodes,)`, float64.

    Returns:
        The rows, thinned; in the mean over shifts they equal `adjacency[nodes]`.
    """
    starts = adjacency.crow_indices()
    first = starts[nodes]
    degrees = starts[nodes + 1] - first
    counts = degrees.clamp(max=neighbours)
    offsets = counts.cumsum(0) - counts
    stride = degrees.double() / counts.clamp(min=1)
    row = torch.arange(len(nodes)).repeat_interleave(counts)
    place = torch.arange(len(row)) - offsets[row]
    # (place + shift) * stride stays below the degree, but for the last bit of its rounding.
    chosen = ((place + shifts[nodes][row]) * stride[row]).long().minimum(degrees[row] - 1)
    entries = first[row] + chosen
    weights = adjacency.values()[entries] * stride[row].to(adjacency.dtype)
    return ThinnedRows(adjacency.col_indices()[entries].long(), weights, offsets)


def propagate_sampled(
    table: torch.Tensor,
    adjacency: torch.Tensor,
    targets: torch.Tensor,
    layer_weights: Sequence[float],
    neighbours: int,
    shifts: torch.Tensor,
) -> torch.Tensor:
    """Final embeddings of some nodes, by a draw of their neighbourhoods.

    Args:
        table: E^(0), users above items, `(nodes, d)`; its gradient is sparse, with the rows that were read.
        adjacency: A_hat from `normalized_adjacency`.
        targets: node indices, no one twice, `(rows,)`.
        layer_weights: alpha_0 .. alpha_L.
        neighbours: most neighbours a node and layer.
        shifts: the draw, one row a layer, `(L, nodes)`, uniform in [0, 1), float64.

    Returns:
        `(rows, d)`.
    """
    frontiers, blocks = [targets], []
    for layer_shifts in shifts:
        block = thin_rows(adjacency, frontiers[-1], neighbours, layer_shifts)
        frontier, columns = distinct(block.columns, len(table))
        frontiers.append(frontier)
        blocks.append(ThinnedRows(columns, block.weights, block.offsets))
    rows = layer_weights[-1] * F.embedding(frontiers[-1], table, sparse=True)
    for block, frontier, weight in zip(reversed(blocks), reversed(frontiers[:-1]), reversed(layer_weights[:-1]), strict=True):
        neighbourhood = F.embedding_bag(block.columns, rows, block.offsets, mode="sum", per_sample_weights=block.weights)
        rows = weight * F.embedding(frontier, table, sparse=True) + neighbourhood
    return rows


def distinct(indices: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices below `size` without repeats, ascending, and the place of each of `indices` among them; without a sort."""
    seen = torch.zeros(size, dtype=torch.bool)
    seen[indices] = True
    kept = seen.nonzero().flatten()
    places = torch.empty(size, dtype=torch.long)
    places[kept] = torch.arange(len(kept))
    return kept, places[indices]
