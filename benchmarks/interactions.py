"""Tables of interactions as the encoder's benchmarks take them."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from xrec_dataset_builder.schema import SPLITS
from xrec_training.tables import Catalogue


def read_interactions(path: Path) -> tuple[dict[str, torch.Tensor], Catalogue]:
    """Edges `(2, edges)` by split, and the users and items that occur in any of them.

    Raises:
        ValueError: a column is missing, or a split has another name.
    """
    table = pl.read_parquet(path)
    if missing := {"user_id", "item_id", "split"} - set(table.columns):
        raise ValueError(f"{path}: expected column {min(missing)!r}, found {', '.join(table.columns)}; rename the one it is")
    if other := set(table["split"]) - set(SPLITS):
        raise ValueError(f"{path}: expected the splits {', '.join(SPLITS)}, found {min(other)!r}; rename it")
    table = table.with_columns(pl.col("user_id", "item_id").cast(pl.String))
    sides = [table.select(name).unique().sort(name) for name in ("user_id", "item_id")]
    catalogue = Catalogue(*sides)
    rows = {split: catalogue.rows(table.filter(pl.col("split") == split)) for split in SPLITS}
    return {split: torch.from_numpy(np.ascontiguousarray(edges)) for split, edges in rows.items()}, catalogue
