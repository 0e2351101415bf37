"""Reviews on disk while it is being decided which of them stay: texts are written once, and read when they are needed."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from .errors import DataError
from .prepare import KEYS, Chosen
from .schema import REVIEWS, write_table
from .sources import USER_NAME, Place

BUCKET = 256 << 20
"""Bytes of text that are sorted in memory at a time."""
ROW_GROUP = 100_000


class Spool:
    """Reviews in parts, in the order in which they were read.

    Args:
        folder: an absent folder for the parts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[Path] = []
        self.heights: list[int] = []
        self.text_bytes = 0
        folder.mkdir(parents=True)

    def add(self, reviews: pl.DataFrame, verdicts: pl.Series, place: Place | None = None) -> None:
        """Append a batch; the text of a row that will not stay is not kept.

        Args:
            reviews: the columns of `RAW_REVIEWS` and, where the source publishes one, `split`; names of users are not kept.
            verdicts: what `judge` finds of them.
            place: where the batch stands in the source; after the last one where None.
        """
        if reviews.is_empty():
            return
        place = place or Place(0, len(self.parts))
        table = reviews.drop(USER_NAME, strict=False).with_columns(
            verdict=verdicts, review=pl.when(verdicts == 0).then(pl.col("review")).otherwise(pl.lit(""))
        )
        path = self.folder / f"{place.file:06}-{place.block:09}.arrow"
        table.write_ipc(path, compression="lz4")
        self.parts.append(path)
        self.heights.append(table.height)
        self.text_bytes += int(table["review"].str.len_bytes().sum())

    def take(self, folders: Sequence[Path]) -> None:
        """Append what other spools wrote, in the order of the source; their files stay where they are."""
        for path in sorted((path for folder in folders for path in folder.glob("*.arrow")), key=lambda path: path.name):
            height, size = pl.scan_ipc(path).select(pl.len(), pl.col("review").str.len_bytes().sum()).collect().row(0)
            self.parts.append(path)
            self.heights.append(height)
            self.text_bytes += size

    def keys(self) -> pl.DataFrame:
        """Return what choosing needs of all rows: the columns `KEYS`, `verdict` and, where there is one, `split`."""
        if not self.parts:
            return pl.DataFrame(schema={**{name: REVIEWS[name] for name in KEYS}, "verdict": pl.UInt8})
        keys = pl.scan_ipc(self.parts).drop("review").collect()
        if "split" in keys.columns and keys["split"].null_count():
            if keys["split"].null_count() < keys.height:
                raise DataError("expected a split in every row or in none, found some without; mend the column")
            keys = keys.drop("split")
        return keys

    def write(self, chosen: Chosen, path: Path) -> None:
        """Write the chosen reviews with their splits as one table with the columns of `schema.REVIEWS`.

        Rows are dealt out to buckets by their places and sorted one bucket at a time.

        Args:
            chosen: which rows stay, in the order to write them.
            path: the Parquet file.
        """
        places = np.full(sum(self.heights), -1, dtype=np.int64)
        places[chosen.rows] = np.arange(len(chosen.rows))
        count = max(1, -(-self.text_bytes // BUCKET))
        size = max(1, -(-len(chosen.rows) // count))
        if count == 1:
            table = pl.concat(list(self._placed(places)))
            write_table(self._sorted(table, chosen), path, REVIEWS)
            return
        buckets = [self.folder / f"bucket-{number:04}" for number in range(count)]
        for number, table in enumerate(self._placed(places)):
            for (bucket,), rows in table.group_by(pl.col("__place") // size):
                buckets[int(bucket)].mkdir(exist_ok=True)
                rows.write_ipc(buckets[int(bucket)] / f"{number:06}.arrow", compression="lz4")
        ordered = []
        for bucket in buckets:
            if bucket.is_dir():
                table = pl.scan_ipc(sorted(bucket.iterdir())).collect()
                ordered.append(bucket.with_suffix(".arrow"))
                self._sorted(table, chosen).write_ipc(ordered[-1], compression="lz4")
                shutil.rmtree(bucket)
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.scan_ipc(ordered).select(list(REVIEWS)).sink_parquet(path, compression="zstd", row_group_size=ROW_GROUP)

    def remove(self) -> None:
        """Delete the parts."""
        shutil.rmtree(self.folder)

    def _placed(self, places: np.ndarray) -> Iterator[pl.DataFrame]:
        first = 0
        for path, height in zip(self.parts, self.heights, strict=True):
            table = pl.read_ipc(path).drop("split", strict=False)
            yield table.with_columns(__place=pl.Series(places[first : first + height])).filter(pl.col("__place") >= 0)
            first += height

    @staticmethod
    def _sorted(table: pl.DataFrame, chosen: Chosen) -> pl.DataFrame:
        ordered = table.sort("__place")
        return ordered.with_columns(split=chosen.split.gather(ordered["__place"]))
