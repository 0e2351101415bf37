"""What every reader of raw reviews gives, and how a reader of JSON lines is declared.

A reader is a module named `reader_<source>.py` that defines `READER`; it is found by its name, so that adding one touches
nothing else.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from .errors import DataError
from .json_lines import Columns, read_batches, read_blocks
from .shards import Shard
from .source_names import READER_PREFIX, reader_names
from .tally import Tally

RAW_REVIEWS: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rating": pl.Float64,
    "timestamp": pl.Int64,
    "review": pl.String,
}
"""Columns of raw reviews; rating and timestamp (seconds since 1970) may be null, a missing text is empty."""

USER_NAME = "user_name"
"""The column of names that users write under, beside `RAW_REVIEWS` in every batch; null where the source gives none."""

RAW_ITEM_COLUMNS: dict[str, Any] = {"item_id": pl.String, "title": pl.String, "description": pl.String}
"""Columns of raw items; a missing title or description is empty."""


@dataclass(frozen=True)
class RawData:
    """What a reader makes of a dump that fits into memory.

    Args:
        reviews: one row per review that could be read, with the columns of `RAW_REVIEWS`, and `split` where the source
            publishes one.
        items: one row per item, with the columns of `RAW_ITEM_COLUMNS`; may be empty and may hold unknown items.
        skipped_rows: broken rows that were left out of `reviews`.
        read_rows: rows read in all, `reviews.height + skipped_rows`.
        skipped_items: broken rows that were left out of `items`.
    """

    reviews: pl.DataFrame
    items: pl.DataFrame
    skipped_rows: int
    read_rows: int
    skipped_items: int = 0


class Place(NamedTuple):
    """Where a batch stands among all batches of a run, whichever share of it reads them; places are ordered as the batches.

    Args:
        file: the place of its file, from 0.
        block: the place of its block in the file, from 0; some may be missing.
    """

    file: int
    block: int


@dataclass
class Batches:
    """What a reader makes of a dump of any size: batches in memory one at a time, and counts when they have been taken.

    Args:
        placed: batches with the columns of `RAW_REVIEWS`, `user_name`, and `split` where the source publishes one, each with
            its place.
        items: batches with the columns of `RAW_ITEM_COLUMNS`, as they stand in the file.
        review_tally: counts of review rows.
        item_tally: counts of item rows.
    """

    placed: Iterator[tuple[Place, pl.DataFrame]]
    items: Iterator[pl.DataFrame]
    review_tally: Tally = field(default_factory=Tally)
    item_tally: Tally = field(default_factory=Tally)

    @property
    def reviews(self) -> Iterator[pl.DataFrame]:
        """The batches without their places."""
        return (rows for _, rows in self.placed)


@dataclass(frozen=True)
class JsonLinesReader:
    """Reader of a dump made of JSON lines, plain, .gz or .zst.

    Args:
        reviews: where a review file keeps the columns of `RAW_REVIEWS` and, if it has it, `user_name`.
        items: where a metadata file keeps the columns of `RAW_ITEM_COLUMNS`; several fields make one text.
        about: what the dump is, for the help text and the card.
    """

    reviews: Columns
    items: Columns
    about: str

    def batches(
        self, reviews: Sequence[Path], items: Path | None, skip_bad_rows: bool = False, shard: Shard | None = None
    ) -> Batches:
        """Prepare to read review files and, if given, item metadata; rows come when the batches are taken.

        Args:
            reviews: one file or several.
            items: the metadata file.
            skip_bad_rows: leave broken rows out and count them instead of raising.
            shard: read only the blocks of this share of the review files: block `k` of file `f` where it has `f + k`. What can
                only be said of whole files is then left to `Tally.check`, of the tallies of all shares.
        """
        counted, described = Tally(), Tally()

        def placed() -> Iterator[tuple[Place, pl.DataFrame]]:
            for number, path in enumerate(reviews):
                for block, rows in read_blocks(path, self.reviews, counted, skip_bad_rows, shard, number):
                    yield Place(number, block), clean_reviews(with_name(rows))

        metadata = iter(()) if items is None else read_batches(items, self.items, described, skip_bad_rows)
        return Batches(placed(), metadata, counted, described)

    def read(self, reviews: Sequence[Path], items: Path | None, skip_bad_rows: bool = False) -> RawData:
        """Read everything into memory.

        Args:
            reviews: one file or several.
            items: the metadata file.
            skip_bad_rows: leave broken rows out and count them instead of raising.

        Raises:
            DataError: a file is missing, a row is broken, or a key is absent.
        """
        batches = self.batches(reviews, items, skip_bad_rows)
        rows = (rows.select(list(RAW_REVIEWS)) for rows in batches.reviews)
        table = pl.concat([pl.DataFrame(schema=RAW_REVIEWS), *rows])
        metadata = clean_items(pl.concat([pl.DataFrame(schema=RAW_ITEM_COLUMNS), *batches.items]))
        counted = batches.review_tally
        return RawData(table, metadata, counted.skipped, counted.read, batches.item_tally.skipped)


def in_batches(raw: RawData, rows: int) -> Batches:
    """Return what is in memory as batches of so many rows."""
    counted, described = Tally(raw.read_rows, raw.skipped_rows), Tally(raw.items.height + raw.skipped_items, raw.skipped_items)
    slices = ((Place(0, number), with_name(rows)) for number, rows in enumerate(raw.reviews.iter_slices(rows)))
    return Batches(slices, iter([raw.items]), counted, described)


def find_reader(source: str) -> JsonLinesReader:
    """Return the reader of a source, from the module that is named after it.

    Raises:
        DataError: no such source.
    """
    if source not in reader_names():
        raise DataError(f"expected a source among {', '.join(reader_names())}, found {source!r}; choose one")
    module = import_module(f".{READER_PREFIX}{source.replace('-', '_')}", __package__)
    reader: JsonLinesReader = module.READER
    return reader


def with_name(reviews: pl.DataFrame) -> pl.DataFrame:
    """Return reviews with the column `user_name`, null where they have none."""
    return reviews if USER_NAME in reviews.columns else reviews.with_columns(pl.lit(None, pl.String).alias(USER_NAME))


def clean_reviews(table: pl.DataFrame) -> pl.DataFrame:
    """Give reviews without text an empty one, and take surrounding blanks off the others."""
    return table.with_columns(pl.col("review").fill_null("").str.strip_chars())


def clean_items(table: pl.DataFrame) -> pl.DataFrame:
    """Make titles and descriptions plain text and keep the first row of each item."""
    first = table.unique("item_id", keep="first", maintain_order=True)
    texts = {
        name: pl.Series(name, [plain_text(value or "") for value in first[name]], dtype=pl.String)
        for name in ("title", "description")
    }
    return first.with_columns(**texts)


def plain_text(text: str) -> str:
    """Return text without tags, scripts and character references, its blanks single.

    Scraped titles that hold a script instead of a name become empty.
    """
    text = html.unescape(html.unescape(text))
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->", " ", text)
    text = re.sub(r"</?[A-Za-z][^<>]*>", " ", text)
    text = re.sub(r"[\x00-\x1f\x7f\u200b-\u200f\u2028\u2029\ufeff\s]+", " ", text).strip()
    return "" if "getTime()" in text or "function(" in text else text
