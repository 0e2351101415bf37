"""Which reviews of a dataset may be used, read in batches: none without text, and no training copy of a held-out one."""

from collections.abc import Iterator

import polars as pl

from .errors import DataError
from .leaks import PAIR, check_profile_sources
from .near_duplicates import near_copies
from .schema import REVIEWS, STRADDLING, DatasetFolder, read_table, scan_table, sha256
from .shards import Shard

ROWS = 50_000
"""Reviews that are in memory at a time."""
DIGEST = "reviews_sha256"
"""What the table of straddling reviews says of the reviews that it was found in."""


def find_straddling(folder: DatasetFolder) -> pl.DataFrame:
    """Look for training reviews that a held-out one nearly repeats.

    Args:
        folder: a dataset folder with its reviews.

    Returns:
        The columns of `schema.STRADDLING`, in the order of the reviews.
    """
    scan = scan_table(folder.reviews, REVIEWS)
    places = range(0, _height(scan), ROWS)
    marked = near_copies(lambda: (scan.select("review", "split").slice(at, ROWS).collect() for at in places))
    found = [scan.select(PAIR).slice(at, ROWS).collect().filter(marked[at : at + ROWS]) for at in places]
    return pl.concat([pl.DataFrame(schema=STRADDLING), *found])


def write_straddling(folder: DatasetFolder) -> int:
    """Write down what `find_straddling` finds, for every later stage, and return how many reviews it is."""
    pairs = find_straddling(folder)
    pairs.write_parquet(folder.straddling, compression="zstd", metadata={DIGEST: sha256(folder.reviews)})
    return pairs.height


def straddling_pairs(folder: DatasetFolder) -> pl.DataFrame:
    """Return what `write_straddling` wrote down; look again where the reviews are no longer those that it read.

    Raises:
        DataError: there are no reviews, or the table cannot be read.
    """
    scan_table(folder.reviews, REVIEWS)
    if not folder.straddling.is_file():
        return find_straddling(folder)
    pairs = read_table(folder.straddling, STRADDLING)
    known = pl.read_parquet_metadata(folder.straddling).get(DIGEST)
    return pairs if known == sha256(folder.reviews) else find_straddling(folder)


class Usable:
    """The reviews of a dataset folder, in the order of users and items.

    Args:
        folder: a folder made by `build`.

    Attributes:
        copies: pairs of training reviews that must not be used.
        height: how many reviews there are.

    Raises:
        DataError: the folder holds no review text.
    """

    def __init__(self, folder: DatasetFolder) -> None:
        self.folder = folder
        self._scan = scan_table(folder.reviews, REVIEWS)
        self.height = _height(self._scan)
        self.copies = straddling_pairs(folder)

    def users(self) -> pl.Series:
        """Return the ids of all users, sorted."""
        return self._scan.select(pl.col("user_id").unique()).collect()["user_id"].sort()

    def share(self, shard: Shard) -> tuple[int, int]:
        """Return the first row of a share and the one after its last; the rows of a user stay together."""
        start, stop = (self._next_user(place) for place in shard.slice(self.height))
        return start, stop

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[pl.DataFrame]:
        """Yield rows from `start` to `stop` with the columns of `schema.REVIEWS` and `usable`.

        Raises:
            LeakError: a review that may be used for profiles is held out or repeats a held-out one.
            DataError: the rows are not in the order of their users.
        """
        stop = self.height if stop is None else stop
        last = ""
        for at in range(start, stop, ROWS):
            rows = self._scan.slice(at, min(ROWS, stop - at)).collect()
            if not rows["user_id"].is_sorted() or rows["user_id"][0] < last:
                raise DataError(f"{self.folder.reviews}: expected reviews sorted by user, found others; build again")
            last = rows["user_id"][-1]
            copied = rows.join(self.copies.with_columns(copied=True), on=PAIR, how="left", maintain_order="left")["copied"]
            usable = rows.with_columns(usable=copied.is_null() & (rows["review"] != ""))
            check_profile_sources(usable.filter(pl.col("usable") & (pl.col("split") == "train")), rows, self.copies)
            yield usable

    def _next_user(self, place: int) -> int:
        """The first place from this one on at which a user's rows begin."""
        if not 0 < place < self.height:
            return place
        before = self._scan.select("user_id").slice(place - 1, 1).collect().item()
        same = self._scan.select("user_id").slice(place).filter(pl.col("user_id") == before)
        return place + int(same.select(pl.len()).collect().item())


def _height(scan: pl.LazyFrame) -> int:
    return int(scan.select(pl.len()).collect().item())
