"""Run `xrec build` or `xrec distill` in shards on a Ray cluster, and gather what they made.

    python examples/ray_shards.py 8 build yelp --reviews yelp_academic_dataset_review.json --out yelp/data
    python examples/ray_shards.py 8 distill yelp/data --teacher openai --model NAME --base-url URL

Every shard is one row of a Ray dataset and one task. The files must lie where every machine finds them under the same path.
A run that was killed is started again with the same words: recorded answers of a teacher are not asked for again. Needs
`pip install "ray[data]"`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import ray

from xrec_dataset_builder.commands import build_command, distill_command
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.shards import Shard

COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"build": build_command, "distill": distill_command}


def run_in_shards(of: int, command: str, arguments: Sequence[str]) -> None:
    """Run a command in so many shards and gather them.

    Args:
        of: how many shards.
        command: `build` or `distill`.
        arguments: what stands after the command, without `--shard` and `--gather`.

    Raises:
        DataError: the command cannot be run.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--teacher", default="extractive")
    asked = command == "distill" and parser.parse_known_args(arguments)[0].teacher != "extractive"
    here = os.getcwd()

    def run(row: dict[str, str]) -> dict[str, str]:
        os.chdir(here)
        try:
            COMMANDS[command]([*arguments, "--shard", row["shard"]])
        except DataError as error:
            return row | {"error": str(error)}
        return row | {"error": ""}

    shards = [{"shard": f"{one.number}/{one.of}"} for one in Shard.every(of)]
    for _ in range(2 if asked else 1):  # a model writes explanations when the profiles of all shards are there
        done = ray.data.from_items(shards, override_num_blocks=of).map(run, num_cpus=1).take_all()
        for row in done:
            if row["error"]:
                raise DataError(f"shard {row['shard']}: {row['error']}")
    COMMANDS[command]([*arguments, "--gather", str(of)])


def main(argv: Sequence[str]) -> int:
    """Run what the command line says."""
    if len(argv) < 2 or not argv[0].isdigit() or argv[1] not in COMMANDS:
        sys.stderr.write("expected: ray_shards.py SHARDS build|distill ARGUMENTS\n")
        return 1
    try:
        run_in_shards(int(argv[0]), argv[1], argv[2:])
    except DataError as error:
        sys.stderr.write(f"ray_shards.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
