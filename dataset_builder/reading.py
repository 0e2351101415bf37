"""From a source's batches to judged reviews on disk, by one process or by shards that are put together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from .errors import DataError
from .prepare import PrepareOptions, judge
from .schema import USER_NAMES, write_json
from .sources import Batches
from .spool import Spool
from .tally import Tally
from .user_names import UserNames

READ = "read.json"
"""What a shard leaves last: its settings and counts."""
SPOOL, NAMES = "spool", "user_names.parquet"


@dataclass(frozen=True)
class Read:
    """Reviews that wait on disk until it is known which of them stay.

    Args:
        spool: the reviews with what speaks against each.
        names: of users, where the source gives them.
        tally: counts of what was read.
    """

    spool: Spool
    names: UserNames
    tally: Tally

    @classmethod
    def of(cls, batches: Batches, options: PrepareOptions, room: Path) -> Self:
        """Take all batches of reviews and judge them.

        Args:
            batches: what a reader gives.
            options: the filters.
            room: a folder for the reviews.
        """
        spool, names = Spool(room / SPOOL), UserNames()
        for place, rows in batches.placed:
            spool.add(rows, judge(rows, options), place)
            names.add(rows)
        return cls(spool, names, batches.review_tally)

    def leave(self, room: Path, settings: Mapping[str, Any]) -> None:
        """Write down beside the reviews what `gathered` needs."""
        self.names.table().write_parquet(room / NAMES, compression="zstd")
        write_json({"settings": settings, "tally": self.tally.as_dict()}, room / READ)

    @classmethod
    def gathered(cls, rooms: Sequence[Path], settings: Mapping[str, Any], room: Path) -> Self:
        """Put together what all shards left, in the order of the source.

        Args:
            rooms: where the shards left it.
            settings: what they must have been told, `leave`'s.
            room: a folder for what is made of it.

        Raises:
            DataError: a shard was told otherwise, or the files hold no rows or lack a key.
        """
        expected = json.loads(json.dumps(settings))
        names, shares = UserNames(), []
        for one in rooms:
            left = json.loads((one / READ).read_text(encoding="utf-8"))
            unlike = [name for name in expected if left["settings"].get(name) != expected[name]]
            if unlike:
                raise DataError(
                    f"{one}: expected a shard with {unlike[0]} {expected[unlike[0]]}, found "
                    f"{left['settings'].get(unlike[0])}; run it again, or gather with what it was told"
                )
            names.merge(pl.read_parquet(one / NAMES).select(list(USER_NAMES)))
            shares.append(left["tally"])
        tally = Tally.gathered(shares)
        tally.check()
        spool = Spool(room / SPOOL)
        spool.take([one / SPOOL for one in rooms])
        return cls(spool, names, tally)
