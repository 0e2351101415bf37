"""The command lines of `xrec build` and `xrec distill`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import Parser
from .source_names import TABLE_COLUMNS, column_flag, reader_names
from .teacher_flags import add_flags, add_shard_flags, distill_as_told


def build_command(argv: Sequence[str]) -> None:
    """Run `xrec build`.

    Args:
        argv: the arguments after `build`.

    Raises:
        DataError: arguments, files or options cannot be used.
    """
    given = vars(_build_parser().parse_args(argv))
    from dataclasses import fields

    from .build import Inputs, build
    from .prepare import PrepareOptions
    from .shards import Shard
    from .table_files import TableOptions

    inputs = Inputs(
        reviews=given.get("reviews") or (),
        interactions=given.get("interactions"),
        explanations=given.get("explanations"),
        items=given.get("items"),
        users=given.get("users"),
    )
    options = PrepareOptions(**{field.name: given[field.name] for field in fields(PrepareOptions)})
    sizes = {name.removeprefix("world_"): given[name] for name in given if name.startswith("world_")}
    columns = {name: given[f"column_{name}"] for name in TABLE_COLUMNS if given.get(f"column_{name}") is not None}
    build(
        given["source"],
        given["out"],
        inputs=inputs,
        options=options,
        skip_bad_rows=given.get("skip_bad_rows", False),
        repair_leaks=given.get("repair_leaks", False),
        world={name: size for name, size in sizes.items() if size is not None},
        table=TableOptions(columns, given.get("timestamp_unit", "seconds")),
        shard=Shard.parse(given["shard"]) if given.get("shard") else None,
        gather=given.get("gather"),
    )


def distill_command(argv: Sequence[str]) -> None:
    """Run `xrec distill`.

    Args:
        argv: the arguments after `distill`.

    Raises:
        DataError: arguments or the dataset folder cannot be used.
    """
    parser = Parser(
        "xrec distill",
        description="Write profiles and explanations into a dataset folder.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder made by `xrec build`")
    add_flags(parser)
    given = vars(parser.parse_args(argv))
    distill_as_told(given.pop("data"), given.pop("teacher"), given)


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser("xrec build", description="Make a dataset folder from raw reviews or tables.")
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE", parser_class=Parser)
    synthetic = sources.add_parser("synthetic", help="the built-in world; no download")
    for name in ("users", "items", "interactions"):
        synthetic.add_argument(f"--{name}", dest=f"world_{name}", type=int, metavar="N", help=f"number of {name}")
    dumps = [sources.add_parser(name, help="a dump of JSON lines, .gz or .zst or plain") for name in reader_names()]
    for dump in dumps:
        dump.add_argument("--reviews", type=Path, nargs="+", required=True, metavar="FILE", help="review files")
        dump.add_argument("--items", type=Path, metavar="FILE", help="item metadata")
    table = sources.add_parser("table", help="CSV, TSV, JSON lines or Parquet with named columns, .gz or .zst or plain")
    _add_table(table)
    for source in (*dumps, table):
        source.add_argument("--skip-bad-rows", action="store_true", help="leave broken rows out and count them")
        add_shard_flags(source)
    for source in (synthetic, *dumps, table):
        _add_common(source)
    return parser


def _add_table(parser: argparse.ArgumentParser) -> None:
    files = {
        "interactions": "user_id, item_id[, rating, timestamp, review, split]",
        "explanations": "user_id, item_id, explanation[, title, user_profile, item_profile, split]",
        "items": "item_id[, title, description, item_profile]",
        "users": "user_id, user_profile",
    }
    for name, columns in files.items():
        parser.add_argument(f"--{name}", type=Path, required=name == "interactions", metavar="FILE", help=columns)
    for name in TABLE_COLUMNS:
        parser.add_argument(column_flag(name), dest=f"column_{name}", metavar="NAME", help=f"the tables' name of {name}")
    parser.add_argument("--timestamp-unit", default="seconds", help="seconds, milliseconds or date (default: seconds)")
    parser.add_argument(
        "--repair-leaks",
        action="store_true",
        help="when held-out explanation pairs are training edges, take all explanation pairs out of the interactions",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DATA", help="the folder to make")
    parser.add_argument("--min-rating", type=float, metavar="R", help="keep pairs rated R or more (default: keep all)")
    parser.add_argument("--min-words", type=int, default=0, metavar="N", help="words of a review (default: 0, keep all)")
    parser.add_argument("--language", metavar="CODE", help="keep reviews in one language, for example en (default: keep all)")
    parser.add_argument(
        "--sample-users", type=float, default=1.0, metavar="F", help="share of the users to keep (default: 1, all)"
    )
    parser.add_argument("--max-per-user", type=int, metavar="N", help="most pairs of a user, drawn (default: keep all)")
    parser.add_argument("--max-per-item", type=int, metavar="N", help="most pairs of an item, drawn (default: keep all)")
    parser.add_argument("--k-core", type=int, default=1, metavar="K", help="pairs per user and item (default: 1, off)")
    parser.add_argument("--split", default="random", help="random, temporal or leave-one-out (default: random)")
    parser.add_argument(
        "--fractions", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar="F", help="shares (default: 0.8 0.1 0.1)"
    )
    for side in ("users", "items"):
        parser.add_argument(
            f"--cold-{side}", type=float, default=0.0, metavar="F", help=f"share of the {side} to hold out whole (default: 0)"
        )
    parser.add_argument("--seed", type=int, default=0, help="fixes every byte (default: 0)")
