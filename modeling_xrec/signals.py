"""What a model hears in place of the graph, to find out whether the graph matters."""

import torch

SIGNALS = ("graph", "permuted", "zero")
PERMUTATION_SEED = 20_240_604


def apply_signal(tables: dict[str, torch.Tensor], signal: str) -> dict[str, torch.Tensor]:
    """The tables under a signal condition.

    Args:
        tables: `user_embeddings`, `user_fold_in` `(users, dim)`, `item_embeddings`, `item_fold_in` `(items, dim)`.
        signal: `graph` (as they are), `permuted` (each row another's, one fixed permutation a side without fixed points),
            or `zero`.

    Returns:
        New tables of the same names and shapes.

    Raises:
        ValueError: an unknown condition.
    """
    if signal not in SIGNALS:
        raise ValueError(f"expected a signal among {', '.join(SIGNALS)}, found {signal!r}; choose one")
    if signal == "graph":
        return dict(tables)
    if signal == "zero":
        return {name: torch.zeros_like(table) for name, table in tables.items()}
    order = {side: derangement(len(tables[f"{side}_embeddings"])) for side in ("user", "item")}
    return {name: table[order[name.split("_")[0]]] for name, table in tables.items()}


def derangement(size: int) -> torch.Tensor:
    """A random order `(size,)` that leaves nothing in its place (a single element stays)."""
    cycle = torch.randperm(size, generator=torch.Generator().manual_seed(PERMUTATION_SEED))
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order
