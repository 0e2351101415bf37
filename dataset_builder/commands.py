"""The command lines of `xrec build` and `xrec distill`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import Parser


def build_command(argv: Sequence[str]) -> None:
    """Run `xrec build`.

    Args:
        argv: the arguments after `build`.

    Raises:
        DataError: arguments, files or options cannot be used.
    """
    given = vars(_build_parser().parse_args(argv))
    from .build import Inputs, build
    from .prepare import PrepareOptions

    inputs = Inputs(
        reviews=given.get("reviews") or (),
        interactions=given.get("interactions"),
        explanations=given.get("explanations"),
        items=given.get("items"),
        users=given.get("users"),
    )
    options = PrepareOptions(
        min_rating=given["min_rating"],
        k_core=given["k_core"],
        split=given["split"],
        fractions=tuple(given["fractions"]),
        seed=given["seed"],
    )
    sizes = {name.removeprefix("world_"): given[name] for name in given if name.startswith("world_")}
    build(
        given["source"],
        given["out"],
        inputs=inputs,
        options=options,
        skip_bad_rows=given.get("skip_bad_rows", False),
        repair_leaks=given.get("repair_leaks", False),
        world={name: size for name, size in sizes.items() if size is not None},
    )


def distill_command(argv: Sequence[str]) -> None:
    """Run `xrec distill`.

    Args:
        argv: the arguments after `distill`.

    Raises:
        DataError: arguments or the dataset folder cannot be used.
    """
    parser = Parser("xrec distill", description="Write profiles and explanations into a dataset folder.")
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder made by `xrec build`")
    parser.add_argument("--teacher", default="extractive", help="who writes them (default: extractive, needs no model)")
    parser.add_argument("--explanation-sentences", type=int, default=3, help="most sentences of one (default: 3)")
    parser.add_argument("--explanation-words", type=int, default=50, help="most words of one (default: 50)")
    parser.add_argument("--profile-sentences", type=int, default=2, help="most sentences of a profile (default: 2)")
    given = vars(parser.parse_args(argv))
    from .distill import distill

    distill(given.pop("data"), given.pop("teacher"), **given)


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser("xrec build", description="Make a dataset folder from raw reviews or tables.")
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE", parser_class=Parser)
    synthetic = sources.add_parser("synthetic", help="the built-in world; no download")
    for name in ("users", "items", "interactions"):
        synthetic.add_argument(f"--{name}", dest=f"world_{name}", type=int, metavar="N", help=f"number of {name}")
    amazon = sources.add_parser("amazon-2018", help="Amazon review data 2018, JSON lines, .gz or not")
    amazon.add_argument("--reviews", type=Path, nargs="+", required=True, metavar="FILE", help="review files")
    amazon.add_argument("--items", type=Path, metavar="FILE", help="item metadata")
    amazon.add_argument("--skip-bad-rows", action="store_true", help="leave broken rows out and count them")
    table = sources.add_parser("table", help="CSV, JSON lines or Parquet with named columns")
    table.add_argument(
        "--interactions",
        type=Path,
        required=True,
        metavar="FILE",
        help="user_id, item_id[, rating, timestamp, review, split]",
    )
    table.add_argument(
        "--explanations",
        type=Path,
        metavar="FILE",
        help="user_id, item_id, explanation[, title, user_profile, item_profile, split]",
    )
    table.add_argument("--items", type=Path, metavar="FILE", help="item_id[, title, description, item_profile]")
    table.add_argument("--users", type=Path, metavar="FILE", help="user_id, user_profile")
    table.add_argument("--repair-leaks", action="store_true", help="take explanation pairs out of the graph when they leak")
    for source in (synthetic, amazon, table):
        _add_common(source)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DATA", help="the folder to make")
    parser.add_argument("--min-rating", type=float, metavar="R", help="keep pairs rated R or more (default: keep all)")
    parser.add_argument("--k-core", type=int, default=1, metavar="K", help="pairs per user and item (default: 1, off)")
    parser.add_argument("--split", default="random", help="random or temporal (default: random)")
    parser.add_argument(
        "--fractions", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar="F", help="shares (default: 0.8 0.1 0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes every byte (default: 0)")
