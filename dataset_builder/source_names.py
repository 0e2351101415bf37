"""Which sources there are, known without loading any of them."""

import pkgutil
from pathlib import Path

READER_PREFIX = "reader_"
"""Modules of this folder that begin so define the reader of one source."""


def reader_names() -> tuple[str, ...]:
    """Return the sources that have a reader module, in alphabetical order: `reader_amazon_2018` is `amazon-2018`."""
    modules = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    found = (name.removeprefix(READER_PREFIX) for name in modules if name.startswith(READER_PREFIX))
    return tuple(name.replace("_", "-") for name in found)


def source_names() -> tuple[str, ...]:
    """Return what `build` can read."""
    return ("synthetic", *reader_names(), "table")


TABLE_COLUMNS = (
    "user_id",
    "item_id",
    "rating",
    "timestamp",
    "review",
    "split",
    "title",
    "description",
    "user_profile",
    "item_profile",
    "explanation",
    "user_name",
)
"""Columns that a table may have, by our names."""


def column_flag(name: str) -> str:
    """Return the flag that says how a table names one of these columns: `user_id` is `--user-column`."""
    return f"--{name.removesuffix('_id').replace('_', '-')}-column"
