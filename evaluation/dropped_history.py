"""What one entry of a history is worth: a user without one of its items, an item without one of its users."""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch

from xrec_dataset_builder.schema import INTERACTIONS, DatasetFolder, read_table

from .likelihood import ReferenceLikelihood, Signal

Side = Literal["user", "item"]
DROPPED = ("nothing", "carrying", "any")
"""Which entry is left out: no one; the one that adds most to the pair's score; one drawn by a fixed seed."""
SEED = 0


class Histories:
    """Training histories of some pairs, as rows of the model's tables.

    A node is put together from its history by `LightGCN.fold_in`, with and without an entry, so that nothing but the entry
    differs between the two.

    Args:
        scorer: The pairs.
        data: Dataset folder; its training interactions are the histories.
        side: Whose histories.

    Attributes:
        usable: Which pairs have at least two entries, one to drop and one to keep, `(rows,)`.
    """

    def __init__(self, scorer: ReferenceLikelihood, data: Path, side: Side) -> None:
        self.scorer, self.side = scorer, side
        rows = _rows(data, scorer)
        own, other = ("user", "item") if side == "user" else ("item", "user")
        grouped = dict(rows.group_by(own).agg(pl.col(other).unique().sort()).iter_rows())
        nodes = (scorer.users if side == "user" else scorer.items).tolist()
        self._entries = [torch.tensor(grouped.get(node, []), dtype=torch.long) for node in nodes]
        self.usable = np.array([len(entries) > 1 for entries in self._entries])

    def signal(self, dropped: str) -> Signal:
        """Embeddings of the pairs with a side folded in from its history; pairs that are not usable keep their own.

        Args:
            dropped: One of `DROPPED`.
        """
        own, tables = self.scorer.signal(), self.scorer.model.lightgcn
        places = np.flatnonzero(self.usable)
        found = (own.user if self.side == "user" else own.item).clone()
        if len(places):
            where = torch.from_numpy(places).to(found.device)
            kept = self._kept([self._entries[place] for place in places], self._opposite(own)[where], dropped)
            found[where] = tables.fold_in(kept, side=self.side).to(found)
        return Signal(found, own.item) if self.side == "user" else Signal(own.user, found)

    def _opposite(self, own: Signal) -> torch.Tensor:
        return own.item if self.side == "user" else own.user

    def _kept(self, histories: list[torch.Tensor], opposite: torch.Tensor, dropped: str) -> list[torch.Tensor]:
        if dropped == "nothing":
            return histories
        if dropped == "any":
            rng = np.random.default_rng(SEED)
            places = [int(rng.integers(len(history))) for history in histories]
        else:
            shares = self.scorer.model.lightgcn.fold_in_shares(histories, opposite, side=self.side)
            places = [int(share.argmax()) for share in shares]
        return [torch.cat([one[:place], one[place + 1 :]]) for one, place in zip(histories, places, strict=True)]


def _rows(data: Path, scorer: ReferenceLikelihood) -> pl.DataFrame:
    """Training interactions as `user, item`, rows of the model's tables; those it does not know are left out."""
    edges = read_table(DatasetFolder(data).interactions("train"), INTERACTIONS).select("user_id", "item_id")
    for side in ("user", "item"):
        rows = getattr(scorer.processor, f"{side}s")
        ids = pl.DataFrame({f"{side}_id": [row[f"{side}_id"] for row in rows], side: range(len(rows))})
        edges = edges.join(ids, on=f"{side}_id", how="inner")
    return edges.select("user", "item")
