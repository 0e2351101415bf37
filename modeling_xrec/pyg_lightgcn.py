"""LightGCN to and from torch_geometric, which numbers users and items through: item i is node |U| + i.

A published model needs none of this, and no file that it runs on imports it.
"""

from typing import Any

import torch

from .bipartite_graph import check_edges, check_finite, distinct_edges
from .lightgcn import LightGCN

try:
    from torch_geometric.nn import LightGCN as PyGLightGCN
except ImportError:
    PyGLightGCN = None


def to_pyg(model: LightGCN, final: bool = False) -> Any:
    """A `torch_geometric.nn.LightGCN` with a model's embeddings.

    Before `settle` the tables are E^(0) and the layer weights are moved with them: the module propagates over `pyg_edges` to
    the same embeddings, and can be trained on. Afterwards the tables are final; propagating them again would be wrong, so they
    are moved only when asked for by `final=True`, into a module without layers that gives them as they are over any graph. The
    fold-in tables have no place there.

    Args:
        model: not settled, or settled with `final=True`.
        final: move final embeddings.

    Returns:
        A `torch_geometric.nn.LightGCN` of `num_users + num_items` nodes, on the model's device, with tensors of its own.

    Raises:
        ImportError: torch_geometric is not installed.
        ValueError: a settled model without `final=True`, or the reverse; NaN or infinity in a table (with its row).
    """
    module_class = _library()
    if model.is_settled() != final:
        found, mend = ("a settled model", "True") if model.is_settled() else ("a model that is not settled", "False")
        raise ValueError(f"expected final={mend} for {found}, found final={final}: only tables E^(0) can be propagated.")
    check_finite(user_embeddings=model.user_embeddings, item_embeddings=model.item_embeddings)
    table = torch.cat([model.user_embeddings, model.item_embeddings]).detach()
    alpha = torch.tensor([1.0] if final else list(model.layer_weights))
    module = module_class(*table.shape, num_layers=len(alpha) - 1, alpha=alpha)
    module.to(table)
    with torch.no_grad():
        module.embedding.weight.copy_(table)
    return module


def from_pyg(module: Any, num_users: int) -> LightGCN:
    """A model with the embeddings and layer weights of a `torch_geometric.nn.LightGCN`, as E^(0): `settle` comes next.

    Args:
        module: nodes 0 .. `num_users - 1` are users, the others items.
        num_users: number of users.

    Returns:
        A model that is not settled, on the module's device, with tensors of its own.

    Raises:
        ImportError: torch_geometric is not installed.
        ValueError: another module, one whose layers do not normalise, users that leave no item, or NaN (with its row).
    """
    if not isinstance(module, _library()):
        raise ValueError(f"expected a torch_geometric.nn.LightGCN, found {type(module).__name__}.")
    if not all(layer.normalize for layer in module.convs):
        raise ValueError("expected layers that normalise, found normalize=False; this model's propagation always does.")
    table = module.embedding.weight.detach()
    if not 0 < num_users < len(table):
        raise ValueError(
            f"expected num_users from 1 to {len(table) - 1}, found {num_users}; the {len(table)} nodes are users, then items."
        )
    check_finite(embedding=table)
    model = LightGCN(num_users, len(table) - num_users, table.shape[1], module.num_layers, module.alpha.tolist()).to(table)
    with torch.no_grad():
        model.user_embeddings.copy_(table[:num_users])
        model.item_embeddings.copy_(table[num_users:])
    return model


def pyg_edges(edge_index: torch.Tensor, num_users: int, num_items: int) -> torch.Tensor:
    """Edges as torch_geometric's LightGCN takes them.

    Args:
        edge_index: `(2, edges)`, users in row 0 and items in row 1.
        num_users: number of users.
        num_items: number of items.

    Returns:
        `(2, 2 * distinct edges)`: node numbers, each edge once and in both directions. torch_geometric would count repeats.

    Raises:
        ValueError: bad edges, as in `normalized_adjacency`.
    """
    check_edges(edge_index, num_users, num_items)
    users, items = distinct_edges(edge_index, num_items)
    return torch.stack([torch.cat([users, items + num_users]), torch.cat([items + num_users, users])])


def _library() -> Any:
    if PyGLightGCN is None:
        raise ImportError("torch_geometric is not installed; run `pip install xrec[graph]`.")
    return PyGLightGCN


__all__ = ["from_pyg", "pyg_edges", "to_pyg"]
