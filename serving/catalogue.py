"""Users and items of a served model, found by a part of their id or title."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from modeling_xrec.processing_xrec import XRecProcessor


class Catalogue:
    """Looks for users and items in the catalogue of a model, of a million rows too.

    Args:
        processor: whose catalogue it is.
    """

    def __init__(self, processor: XRecProcessor) -> None:
        self._processor = processor
        users = _lines([[row["user_id"]] for row in processor.users])
        items = _lines([[row["item_id"], title_of(row)] for row in processor.items])
        self._lines = {"user": users, "item": items}

    def users(self, query: str, limit: int) -> dict[str, Any]:
        """Users whose id contains a text, whatever its case; the id itself first, then those that start with it.

        Args:
            query: the text; every id contains the empty one.
            limit: most users to give.

        Returns:
            `users`, each with its `user_id`, and how many there are in all as `total`.
        """
        rows, total = self._search("user", query, limit)
        return {"users": [{"user_id": self._processor.users[row]["user_id"]} for row in rows], "total": total}

    def items(self, query: str, limit: int) -> dict[str, Any]:
        """Items whose title or id contains a text; as `users`, each with `item_id` and `title`."""
        rows, total = self._search("item", query, limit)
        return {"items": [shown_item(self._processor.items[row]) for row in rows], "total": total}

    def _search(self, side: str, query: str, limit: int) -> tuple[list[int], int]:
        lines, needle = self._lines[side], _folded(query)
        if not needle:
            return list(range(min(limit, len(lines)))), len(lines)
        found = lines.filter(pl.col("text").str.contains(needle, literal=True))
        rows: list[int] = []
        for start in (f"\n{needle}\n", f"\n{needle}", needle):
            if len(rows) < limit:
                near = found.filter(pl.col("text").str.contains(start, literal=True) & ~pl.col("row").is_in(rows))
                rows += near["row"].head(limit - len(rows)).to_list()
        return rows, len(found)


def shown_item(row: dict[str, str]) -> dict[str, str]:
    """Id and title of an item of the catalogue."""
    return {"item_id": row["item_id"], "title": title_of(row)}


def title_of(row: dict[str, str]) -> str:
    """Title of an item of the catalogue, empty where it has none."""
    return row.get("title") or ""


def _lines(rows: Sequence[Sequence[str]]) -> pl.DataFrame:
    """Texts of each row between line ends, which say where one starts: one look through one column finds a row."""
    texts = ["\n" + "".join(_folded(text) + "\n" for text in row) for row in rows]
    return pl.DataFrame({"text": texts}, schema={"text": pl.String}).with_row_index("row")


def _folded(text: str) -> str:
    """A text as it is compared: in one line, without case, and without halves of surrogate pairs, which polars cannot hold."""
    text = text.replace("\n", " ")
    return (text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")).casefold()
