"""What a teacher made of a dataset, and how it becomes tables: texts wait in parts on disk, so that any number fits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from .errors import DataError
from .schema import COLD_SPLITS, EXPLANATIONS, ITEMS, PROVENANCE, SPLITS, USERS, DatasetFolder, write_table

EXPLAINED: dict[str, Any] = {name: pl.String for name in ("user_id", "item_id", "split", "explanation")}
"""Explanations before titles and profiles are put beside them."""


@dataclass(frozen=True)
class Distilled:
    """What a teacher made of the reviews.

    Args:
        users: the columns of `schema.USERS`.
        items: the columns of `schema.ITEMS`.
        explained: parts with the columns of `EXPLAINED`, in the order of users and items.
        reviews: how many reviews there were, and how many of them without text.
        left_out: how many reviews were not used, and why.
        about: how it was made, for build.json.
        provenance: the columns of `schema.PROVENANCE`; None where no model was asked.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    explained: Sequence[Path]
    reviews: dict[str, int]
    left_out: dict[str, int]
    about: dict[str, Any] = field(default_factory=dict)
    provenance: pl.DataFrame | None = None

    def write(self, target: DatasetFolder, room: Path) -> dict[str, int]:
        """Write the tables.

        Args:
            target: the folder to write them to.
            room: a folder for parts.

        Returns:
            What was read, left out and made, for build.json.

        Raises:
            DataError: there is no explanation.
        """
        write_table(self.users, target.users, USERS)
        write_table(self.items, target.items, ITEMS)
        made = self._write_explanations(target, room)
        if self.provenance is not None:
            write_table(self.provenance, target.provenance, PROVENANCE)
        return {
            **self.reviews,
            **self.left_out,
            **{f"explanations_{split}": count for split, count in made.items()},
            "users_without_profile": self.users.filter(pl.col("user_profile") == "").height,
            "items_without_profile": self.items.filter(pl.col("item_profile") == "").height,
        }

    def _write_explanations(self, target: DatasetFolder, room: Path) -> dict[str, int]:
        """Put titles and profiles beside explanations, part by part, and write a table for every split."""
        made = dict.fromkeys(SPLITS, 0)
        parts = Parts(room, "joined")
        for path in self.explained:
            table = pl.read_ipc(path)
            for (split,), rows in table.group_by("split"):
                made[str(split)] = made.get(str(split), 0) + rows.height
            joined = table.join(self.users, on="user_id", how="left", maintain_order="left")
            parts.add(joined.join(self.items, on="item_id", how="left", maintain_order="left"))
        if not sum(made.values()):
            raise DataError("expected reviews that state a reason, found none; give a source with longer reviews")
        counts = {split: made[split] for split in (*SPLITS, *COLD_SPLITS) if split in made}
        every = pl.scan_ipc(parts.paths)
        for split in counts:
            path = target.explanations(split)
            path.parent.mkdir(parents=True, exist_ok=True)
            of_split = every.filter(pl.col("split") == split).select(list(EXPLANATIONS))
            of_split.sink_parquet(path, compression="zstd", row_group_size=100_000)
        return counts


class Parts:
    """Tables on disk that are one in their order.

    Args:
        room: the folder for them; those that lie there are taken up.
        name: what they are called there.
    """

    def __init__(self, room: Path, name: str) -> None:
        self.room, self.name = room, name
        self.paths = sorted(room.glob(f"{name}-*.arrow"))

    def add(self, table: pl.DataFrame, compression: Literal["lz4", "uncompressed"] = "lz4") -> None:
        """Append a table; one that is uncompressed is mapped, not read, when it is opened."""
        self.paths.append(self.room / f"{self.name}-{len(self.paths):06}.arrow")
        table.write_ipc(self.paths[-1], compression=compression)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return map(pl.read_ipc, self.paths)
