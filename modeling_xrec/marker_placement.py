"""Where the markers of a prompt stand, and which collaborative embeddings belong to them; wrong input is refused here."""

import torch


def find_markers(input_ids: torch.Tensor, token_id: int | None, wanted: int, side: str) -> torch.Tensor:
    """Columns of one side's markers in whole prompts.

    Args:
        input_ids: prompts, `(batch, length)`.
        token_id: the marker's token id; None where there is none, so that none is found.
        wanted: markers that every row must hold.
        side: `user` or `item`, for the message.

    Returns:
        `(batch, wanted)`, ascending.

    Raises:
        ValueError: a row holds more or fewer; the message gives the row and both counts. Compiled code does not look at
            values; there a missing marker has column -1, where nothing is injected.
    """
    mask = torch.zeros_like(input_ids, dtype=torch.bool) if token_id is None else input_ids == token_id
    if not torch.compiler.is_compiling() and (mask.sum(dim=1) != wanted).any():
        row = int((mask.sum(dim=1) != wanted).nonzero()[0])
        raise ValueError(
            f"row {row} of the prompt has {int(mask[row].sum())} {side} markers, expected {wanted}; "
            "build prompts with XRecProcessor."
        )
    found = mask.to(torch.uint8).topk(min(wanted, mask.shape[1]), dim=1)
    columns = torch.where(found.values > 0, found.indices, -1).sort(dim=1).values
    return torch.nn.functional.pad(columns, (wanted - columns.shape[1], 0), value=-1)


def replace_at(embeds: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """Replaces token embeddings at the markers' columns.

    Args:
        embeds: token embeddings, `(batch, length, hidden)`.
        columns: `(batch, markers)`, each within the length.
        vectors: `(batch, markers, hidden)`, zero where `here` is false.
        here: whether the marker is in this chunk of the prompt, `(batch, markers)`.

    Returns:
        `(batch, length, hidden)`; the values of the vectors, bit for bit, at the markers, and of `embeds` elsewhere.
    """
    is_marker = torch.zeros_like(embeds[..., 0]).scatter_add(1, columns, here.to(embeds.dtype)).bool()
    # The embedding's output is ours alone; only training its rows needs them as they were.
    empty = embeds.masked_fill if embeds.requires_grad else embeds.masked_fill_
    emptied = empty(is_marker.unsqueeze(-1), 0)
    return emptied.scatter_add_(1, columns.unsqueeze(-1).expand_as(vectors), vectors)


def pick_embeddings(
    side: str, ids: torch.Tensor | None, embeds: torch.Tensor | None, table: torch.Tensor, rows: int | None = None
) -> torch.Tensor:
    """Collaborative embeddings of one side, from the stored table or from the caller.

    Args:
        side: `user` or `item`, for the messages.
        ids: rows of the table, `(batch,)`; or
        embeds: embeddings, `(batch, dim)`.
        table: the stored embeddings, `(stored, dim)`.
        rows: prompts in the batch; not checked when None.

    Returns:
        `(batch, dim)`.

    Raises:
        ValueError: both or neither given, another number than there are prompts, an id without a row, a wrong width, NaN or
            infinity.
    """
    given = embeds if ids is None else ids
    if isinstance(given, torch.Tensor) and rows is not None and given.dim() and len(given) != rows:
        name = f"{side}_embeds" if ids is None else f"{side}_ids"
        raise ValueError(f"{name} has {len(given)} rows and input_ids has {rows}; give one {side} a prompt.")
    if ids is not None and embeds is None:
        if not isinstance(ids, torch.Tensor) or ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
            found = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, torch.Tensor) else type(ids).__name__
            raise ValueError(f"{side}_ids is {found}, expected integers (batch,); give one index a prompt.")
        if not torch.compiler.is_compiling() and ((ids < 0) | (ids >= len(table))).any():
            raise ValueError(
                f"{side}_ids range from {int(ids.min())} to {int(ids.max())}, and the model stores {len(table)} {side}s; "
                f"use indices below that, or pass {side}_embeds."
            )
        return table[ids]
    if embeds is None or ids is not None:
        found = "neither" if embeds is None else "both"
        raise ValueError(f"expected either {side}_ids or {side}_embeds, found {found}; pass exactly one of them.")
    if embeds.dim() != 2 or embeds.shape[1] != table.shape[1]:
        raise ValueError(
            f"{side}_embeds is {tuple(embeds.shape)}, expected (batch, {table.shape[1]}); "
            "pass collaborative embeddings, before the adapter."
        )
    if not torch.compiler.is_compiling() and not embeds.isfinite().all():
        row = int((~embeds.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f"{side}_embeds row {row} has NaN or infinity; check the graph's training.")
    return embeds


__all__ = ["find_markers", "pick_embeddings", "replace_at"]
