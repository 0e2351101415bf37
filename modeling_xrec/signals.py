"""What a model hears in place of the graph, to find out whether the graph matters."""

import torch

SIGNALS = ("graph", "permuted", "random-fixed", "random-fresh", "zero", "none")
"""Conditions of a run. `none`: nothing at all, by the model's injection; the others by its tables."""
PERMUTATION_SEED, FIXED_SEED, FRESH_SEED = 20_240_604, 20_240_605, 20_240_606


def apply_signal(tables: dict[str, torch.Tensor], signal: str) -> dict[str, torch.Tensor]:
    """The tables under a signal condition.

    Args:
        tables: `user_embeddings`, `user_fold_in` `(users, dim)`, `item_embeddings`, `item_fold_in` `(items, dim)`.
        signal: `graph` (as they are; also `none`, which reads no table), `permuted` (each row another's, one fixed permutation
            a side without fixed points), `random-fixed` (normal numbers of the table's root mean square, one fixed draw),
            `random-fresh` (likewise, another draw, which nothing trained with `fresh_embeddings` has met), or `zero`.

    Returns:
        New tables of the same names and shapes.

    Raises:
        ValueError: an unknown condition.
    """
    if signal not in SIGNALS:
        raise ValueError(f"expected a signal among {', '.join(SIGNALS)}, found {signal!r}; choose one")
    if signal in ("graph", "none"):
        return dict(tables)
    if signal == "zero":
        return {name: torch.zeros_like(table) for name, table in tables.items()}
    if signal == "permuted":
        order = {side: derangement(len(tables[f"{side}_embeddings"])) for side in ("user", "item")}
        return {name: table[order[name.split("_")[0]]] for name, table in tables.items()}
    generator = torch.Generator().manual_seed(FIXED_SEED if signal == "random-fixed" else FRESH_SEED)
    return {name: _noise(table, table.shape[0], generator) for name, table in sorted(tables.items())}


def constant_tables(tables: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tables in which everyone has the same embedding of the table's root mean square: a prompt to learn, not a signal.

    Args:
        tables: as in `apply_signal`.
    """
    return {name: root_mean_square(table).expand_as(table).clone() for name, table in tables.items()}


def fresh_embeddings(table: torch.Tensor, rows: int) -> torch.Tensor:
    """What `random-fresh` hears in training: normal numbers `(rows, dim)` of the table's root mean square."""
    return _noise(table, rows, None)


def root_mean_square(table: torch.Tensor) -> torch.Tensor:
    """Root mean square `()` of a table's numbers; 0 for an empty one."""
    return table.square().mean().sqrt() if table.numel() else table.new_zeros(())


def derangement(size: int, seed: int = PERMUTATION_SEED) -> torch.Tensor:
    """A random order `(size,)` that leaves nothing in its place (a single element stays)."""
    cycle = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)
    return order


def _noise(table: torch.Tensor, rows: int, generator: torch.Generator | None) -> torch.Tensor:
    drawn = torch.randn(rows, table.shape[1], generator=generator)
    return (drawn.to(table.device) * root_mean_square(table)).to(table.dtype)
