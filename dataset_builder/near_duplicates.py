"""Reviews that say the same: exact search for pairs of texts whose sets of word triples overlap by four fifths.

Two texts are near-duplicates when their sets of shingles, three words in a row, have a Jaccard similarity of at least 0.8. The
search is a set-similarity join by prefix filtering, which misses none, unlike MinHash. Whatever the fixed order of shingles,
two such texts must share one among the first `n - ceil(0.8 n) + 1` of their `n` shingles; with the rarest first, few do, and
those are compared in full. A shingle that only one side has can be in no overlap, which leaves most texts nothing to compare.

Texts are read in batches, three times; in memory stay a table of counts and the held-out texts that could match at all.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

SHINGLE_WORDS = 3
"""Words of a shingle; a shorter text is one shingle."""
NUMERATOR, DENOMINATOR = 4, 5
"""The least Jaccard similarity of near-duplicates, as a fraction, so that nothing is rounded."""
THRESHOLD = NUMERATOR / DENOMINATOR
SLOTS = 1 << 24
"""Most counters; shingles that share one count as more common than they are, which costs time and no match."""
ROWS = 20_000
"""Texts that are compared at a time."""
SKETCH_WORDS = 8
"""Words of 64 bits in a text's sketch."""

PART = {"row": pl.UInt32, "shingle": pl.UInt64, "cost": pl.UInt64}

Batches = Callable[[], Iterable[pl.DataFrame]]
"""Gives tables with `review` and `split`, the same ones in the same order whenever it is called."""


@dataclass(frozen=True)
class _Counts:
    """How often shingles occur, in training and in held-out texts."""

    train: np.ndarray
    held_out: np.ndarray

    def add(self, shingles: np.ndarray, is_train: bool) -> None:
        np.add.at(self.train if is_train else self.held_out, self._slots(shingles), np.uint32(1))

    def cost(self, shingles: np.ndarray) -> np.ndarray:
        """How many pairs a shingle would make candidates; 0 when one side lacks it."""
        slots = self._slots(shingles)
        return self.train[slots].astype(np.uint64) * self.held_out[slots].astype(np.uint64)

    def _slots(self, shingles: np.ndarray) -> np.ndarray:
        return (shingles & np.uint64(len(self.train) - 1)).astype(np.int64)


def normalised_text() -> pl.Expr:
    """Return the expression that reduces `review` to lower-case letters and digits, for comparing texts."""
    letters = pl.col("review").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ")
    return letters.str.strip_chars()


def near_copies(batches: Batches) -> np.ndarray:
    """Mark the training reviews that have a near-duplicate among the held-out ones.

    Args:
        batches: gives the reviews; every split but `train` is held out.

    Returns:
        One boolean per review in the order of the batches; False for held-out reviews and for texts without a word.
    """
    counts, rows = _count(batches)
    marked = np.zeros(rows, dtype=bool)
    known = list(_parts(batches, counts, is_train=False))
    if not known:
        return marked
    held_out = pl.concat(known)
    index = _prefixes(held_out)
    sketches = _Sketches.of(held_out)
    for part in _parts(batches, counts, is_train=True):
        own = _Sketches.of(part)
        for prefixes in _prefixes(part).iter_slices(ROWS):
            pairs = _alike(_candidates(prefixes, index), own, sketches).unique()
            marked[_confirmed(pairs, part, held_out).to_numpy()] = True
    return marked


def _count(batches: Batches) -> tuple[_Counts, int]:
    size = 1 << 12
    for table in batches():
        size += int(table.select(pl.col("review").str.len_bytes().sum()).item() or 0)
    slots = min(1 << (size - 1).bit_length(), SLOTS)
    counts, rows = _Counts(np.zeros(slots, dtype=np.uint32), np.zeros(slots, dtype=np.uint32)), 0
    for table in _slices(batches):
        rows += table.height
        for is_train in (True, False):
            counts.add(_shingles(table.filter((pl.col("split") == "train") == is_train))[1], is_train)
    return counts, rows


def _slices(batches: Batches, is_train: bool | None = None) -> Iterator[pl.DataFrame]:
    """Yield small tables with `row`, the place among all reviews, `split` and normalised `text`, of one side or of both."""
    first = 0
    for table in batches():
        numbered = table.select("split", "review").with_row_index("row", first)
        first += table.height
        if is_train is not None:
            numbered = numbered.filter((pl.col("split") == "train") == is_train)
        for part in numbered.iter_slices(ROWS):
            yield part.select("row", "split", text=normalised_text())


def _parts(batches: Batches, counts: _Counts, is_train: bool) -> Iterator[pl.DataFrame]:
    """Yield the shingles that both sides have, of rows that could match, with `cost` and the `size` of the row's whole set."""
    for table in _slices(batches, is_train):
        rows, shingles = _shingles(table)
        cost = counts.cost(shingles)
        some = _may_match(rows, shingles, cost == 0)
        own = pl.DataFrame({"row": rows[some], "shingle": shingles[some], "cost": cost[some]}, schema=PART)
        sized = own.unique(["row", "shingle"]).with_columns(size=pl.len().over("row").cast(pl.Int64))
        shared = sized.filter(pl.col("cost") > 0)
        yield shared.filter(pl.len().over("row") >= _least_overlap())


def _shingles(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and hashes of all shingles of `text`, those of a row together; rows without a word have none."""
    words = table.filter(pl.col("text") != "").select("row", pl.col("text").str.split(" "))
    lengths = words["text"].list.len().to_numpy().astype(np.int64)
    if not len(lengths):
        return np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.uint64)
    hashes = words["text"].explode().hash(seed=1).to_numpy()
    many = np.maximum(lengths - SHINGLE_WORDS + 1, 1)
    owner = np.repeat(np.arange(len(lengths)), many)
    ends = np.cumsum(lengths)
    starts = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many) + np.repeat(ends - lengths, many)
    mixed = np.zeros(len(starts), dtype=np.uint64)
    for step in range(SHINGLE_WORDS):
        place = starts + step
        word = np.where(place < ends[owner], hashes[np.minimum(place, len(hashes) - 1)], np.uint64(0))
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + word
    return words["row"].to_numpy()[owner], mixed ^ (mixed >> np.uint64(32))


def _may_match(rows: np.ndarray, shingles: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Mark the shingles of rows of which at most a fifth could be shingles that the other side lacks.

    Those are counted in a few slots, so too low at most; it spares most texts being made a set.
    """
    if not len(rows):
        return gone
    own = rows.astype(np.int64) - int(rows[0])
    seen = np.zeros((int(own[-1]) + 1, 64 * SKETCH_WORDS), dtype=bool)
    seen[own[gone], _bit(shingles[gone])] = True
    few = DENOMINATOR * seen.sum(axis=1) <= (DENOMINATOR - NUMERATOR) * np.bincount(own)
    return few[own]


def _bit(shingles: np.ndarray) -> np.ndarray:
    return ((shingles >> np.uint64(40)) % np.uint64(64 * SKETCH_WORDS)).astype(np.int64)


def _least_overlap() -> pl.Expr:
    """How many shingles of a set any near-duplicate of it must share: four fifths, rounded up."""
    return (NUMERATOR * pl.col("size") + DENOMINATOR - 1) // DENOMINATOR


def _prefixes(part: pl.DataFrame) -> pl.DataFrame:
    """Return the rarest shingles of each row, of which it shares at least one with any near-duplicate.

    They are those with enough shingles `after` them in the order, in which shingles that one side lacks came first.
    """
    ordered = part.sort("row", "cost", "shingle")
    after = pl.int_range(pl.len(), 0, step=-1, dtype=pl.Int64).over("row") - 1
    return ordered.with_columns(after=after).filter(pl.col("after") >= _least_overlap() - 1).drop("cost")


@dataclass(frozen=True)
class _Sketches:
    """A bitmap of each row's shingles, which tells in passing that two sets differ too much.

    A bit that only one of two bitmaps has is a shingle that only one of the sets has, so that their number is at most that of
    the shingles in which the sets differ.

    Args:
        rows: in ascending order, `(rows,)`.
        bits: `(rows, words of 64 bits)`.
        gone: shingles that the other side lacks, and so the other set, `(rows,)`.
    """

    rows: np.ndarray
    bits: np.ndarray
    gone: np.ndarray

    @classmethod
    def of(cls, part: pl.DataFrame) -> "_Sketches":
        """Draw the bitmaps of rows with their shared shingles."""
        ordered = part.sort("row")
        rows, first, many = np.unique(ordered["row"].to_numpy(), return_index=True, return_counts=True)
        bits = np.zeros((len(rows), SKETCH_WORDS), dtype=np.uint64)
        bit = _bit(ordered["shingle"].to_numpy())
        owner = np.repeat(np.arange(len(rows)), many)
        np.bitwise_or.at(bits, (owner, bit // 64), np.uint64(1) << (bit % 64).astype(np.uint64))
        return cls(rows, bits, ordered["size"].to_numpy()[first] - many)

    def differ(self, rows: np.ndarray, other: "_Sketches", other_rows: np.ndarray) -> np.ndarray:
        """Return for pairs of rows a number of shingles in which their sets differ at least."""
        own, theirs = np.searchsorted(self.rows, rows), np.searchsorted(other.rows, other_rows)
        unlike = np.bitwise_count(self.bits[own] ^ other.bits[theirs]).sum(axis=1, dtype=np.int64)
        return unlike + self.gone[own] + other.gone[theirs]


def _candidates(train: pl.DataFrame, held_out: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs that share a rare shingle which leaves room for the similarity.

    The overlap that it needs is four ninths of the sum of the sizes, and the first shared shingle and those after it in the
    shorter rest are all there can be. Later shared shingles leave less room, but one is enough to find the pair.
    """
    pairs = train.lazy().join(held_out.lazy(), on="shingle", suffix="_held_out")
    room = 1 + pl.min_horizontal("after", "after_held_out")
    both = pl.col("size") + pl.col("size_held_out")
    close = pairs.filter((DENOMINATOR + NUMERATOR) * room >= NUMERATOR * both)
    return close.select("row", "row_held_out", "size", "size_held_out").collect()


def _alike(pairs: pl.DataFrame, train: _Sketches, held_out: _Sketches) -> pl.DataFrame:
    """Return the pairs that their sketches do not tell apart.

    Sets that overlap by four fifths of their union differ in at most a ninth of the sum of their sizes.
    """
    differ = train.differ(pairs["row"].to_numpy(), held_out, pairs["row_held_out"].to_numpy())
    both = (pairs["size"] + pairs["size_held_out"]).to_numpy()
    return pairs.filter(pl.Series((DENOMINATOR + NUMERATOR) * differ <= (DENOMINATOR - NUMERATOR) * both, dtype=pl.Boolean))


def _confirmed(pairs: pl.DataFrame, train: pl.DataFrame, held_out: pl.DataFrame) -> pl.Series:
    """Return the training rows of the pairs that are near-duplicates indeed."""
    theirs = held_out.select(row_held_out="row", shingle="shingle")
    both = pairs.join(train.select("row", "shingle"), on="row").join(theirs, on=["row_held_out", "shingle"])
    overlap = both.group_by("row", "row_held_out").agg(pl.len().cast(pl.Int64), pl.col("size", "size_held_out").first())
    union = pl.col("size") + pl.col("size_held_out") - pl.col("len")
    return overlap.filter(DENOMINATOR * pl.col("len") >= NUMERATOR * union)["row"].unique()
