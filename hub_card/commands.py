"""The command line of `xrec publish`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xrec_dataset_builder.arguments import Parser


def publish_command(argv: Sequence[str]) -> None:
    """Runs `xrec publish`.

    Raises:
        DataError: arguments, model or dataset cannot be used, or the Hub does not take them.
    """
    given = vars(_parser().parse_args(argv))
    from .publish import publish

    model, repo_id = given.pop("model"), given.pop("repo_id")
    check_it, space = given.pop("check"), given.pop("space")

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    done = publish(model, repo_id, say, **given)
    if done.revision is None:
        say("Nothing was sent.")
    else:
        say(f"{'Published' if done.changed else 'Nothing new'}: {done.url}")
        say(f"Load it at revision {done.revision}; code hash {done.code_hash}")
    if space is not None:
        from .space import write_space

        write_space(space, repo_id, done.revision)
        say(f"Space: {space}")
    if check_it and done.revision is not None:
        from .check import check

        say(check(repo_id, done.revision, done.code_hash).summary().rstrip())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "xrec publish",
        description="Publish a model with its card on the Hub, and its dataset beside it.",
        epilog="User ids go out as keyed hashes, and neither profiles of users nor reviews nor interactions go out unless "
        "asked for. The same again makes no commit; what was interrupted is repeated by the same command.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a folder made by `xrec train`")
    parser.add_argument("--repo-id", required=True, metavar="R", help="the model's repository, owner/name")
    parser.add_argument("--data", type=Path, metavar="DATA", help="the dataset folder that it was trained on")
    parser.add_argument("--dataset-repo-id", metavar="D", help="publish the dataset, too, at owner/name")
    parser.add_argument("--report", type=Path, metavar="DIR", help="what `xrec evaluate` and `xrec audit` left, for the card")
    parser.add_argument("--private", action="store_true", help="into private repositories, and no public ones")
    parser.add_argument("--include-users", action="store_true", help="raw user ids and the profiles of users")
    parser.add_argument("--include-reviews", action="store_true", help="the dataset's raw reviews")
    parser.add_argument("--include-interactions", action="store_true", help="the dataset's interactions")
    parser.add_argument("--accept-unknown-licence", action="store_true", help="although nobody states a licence of the data")
    parser.add_argument("--licence", metavar="L", help="the model's licence by its id on the Hub, such as cc-by-4.0")
    parser.add_argument("--tag", metavar="T", help="name the commit, such as v1")
    parser.add_argument("--check", action="store_true", help="load it into an empty cache, and explain one pair")
    parser.add_argument("--space", type=Path, metavar="FOLDER", help="make a Space's folder that shows it")
    parser.add_argument("--dry-run", action="store_true", help="check and measure everything, send nothing")
    return parser
