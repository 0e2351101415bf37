"""The flags of `xrec distill` that concern a model as the teacher, and what they start."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError

if TYPE_CHECKING:
    from .ask_options import AskOptions
    from .teacher import Teacher

TEACHERS = ("extractive", "openai", "transformers")
"""What can write profiles and explanations: a program, a model behind an endpoint, a model on this machine."""

_TEACHING: tuple[str, ...] = (
    "model",
    "domain",
    "prompts",
    "temperature",
    "max_tokens",
    "seed",
    "explanation_words",
    "profile_words",
)
_TEACHING += ("profile_reviews",)
_ASKING = {"concurrency": "concurrency", "requests_per_second": "requests_per_second", "timeout": "timeout", "limit": "limit"}
_ASKING |= {"price_in": "prompt_price", "price_out": "completion_price"}
_SHARES = ("shard", "gather")
_EXTRACTIVE = ("explanation_sentences", "profile_sentences", "explanation_words")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags; only those that are given will be there, so that each can be told to fit the teacher."""
    parser.add_argument("--teacher", default="extractive", help="extractive (no model), openai or transformers")
    extractive = parser.add_argument_group("texts")
    extractive.add_argument("--explanation-words", type=int, metavar="N", help="most words of one (default: 50)")
    extractive.add_argument("--explanation-sentences", type=int, metavar="N", help="extractive: most of one (default: 3)")
    extractive.add_argument("--profile-sentences", type=int, metavar="N", help="extractive: most of one (default: 2)")
    model = parser.add_argument_group("a model as the teacher")
    model.add_argument("--model", metavar="NAME", help="its name at the endpoint, or on the Hub, or its folder")
    model.add_argument("--base-url", metavar="URL", help="openai: the endpoint (default: OpenAI's); key in OPENAI_API_KEY")
    model.add_argument("--domain", help="business, book or product (default: what the source has)")
    model.add_argument("--prompts", type=Path, metavar="FILE", help="prompts in place of the built-in ones")
    model.add_argument("--profile-words", type=int, metavar="N", help="most words of a profile (default: 60)")
    model.add_argument("--profile-reviews", type=int, metavar="N", help="most reviews for a profile (default: 10)")
    model.add_argument("--temperature", type=float, metavar="T", help="of sampling (default: 0, the likeliest)")
    model.add_argument("--seed", type=int, metavar="N", help="of sampling and of the choice of reviews (default: 0)")
    model.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of an answer (default: 300)")
    asking = parser.add_argument_group("asking it")
    add_asking_flags(asking)
    asking.add_argument("--limit", type=int, metavar="N", help="ask at most N; the tables wait for the rest")
    add_shard_flags(asking)
    asking.add_argument("--dry-run", action="store_true", help="show requests, tokens and cost, and ask nothing")


def add_asking_flags(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Add what says how a model is asked, whatever it is asked for."""
    parser.add_argument("--concurrency", type=int, metavar="N", help="questions at once; transformers: a batch (default: 8)")
    parser.add_argument("--requests-per-second", type=float, metavar="R", help="at most (default: no limit)")
    parser.add_argument("--timeout", type=float, metavar="S", help="of one try, in seconds (default: 120; transformers: none)")
    parser.add_argument("--price-in", type=float, metavar="P", help="of a million tokens asked, to show the cost")
    parser.add_argument("--price-out", type=float, metavar="P", help="of a million tokens answered")


def asking_options(teacher: str, flags: Mapping[str, Any]) -> "AskOptions":
    """How a model is to be asked.

    Args:
        teacher: `openai` or `transformers`, of which the second is given any time.
        flags: those that are given.

    Raises:
        DataError: a figure is out of its range.
    """
    from .ask_options import AskOptions

    defaults: dict[str, Any] = {"timeout": None} if teacher == "transformers" else {}
    return AskOptions(**defaults | {field: flags[flag] for flag, field in _ASKING.items() if flag in flags})


def add_shard_flags(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Add what lets several processes or machines divide a command among themselves."""
    parser.add_argument("--shard", metavar="I/N", help="do the I-th of N shares only, and leave it to be gathered")
    parser.add_argument("--gather", type=int, metavar="N", help="put together what N shards left")


def distill_as_told(data: Path, teacher: str, flags: Mapping[str, Any]) -> None:
    """Distill a folder with the teacher that the flags name, or show what that would take.

    Args:
        data: a folder made by `build`.
        teacher: one of `TEACHERS`.
        flags: those of the others that are given.

    Raises:
        DataError: flags, folder, prompts or model cannot be used, or the model stays down.
    """
    if teacher not in TEACHERS:
        raise DataError(f"expected a teacher among {', '.join(TEACHERS)}, found {teacher!r}; choose one")
    _check_fit(teacher, flags)
    from .distill import distill, workplace
    from .quoting import QuoteOptions
    from .shards import Shard

    shard = Shard.parse(flags["shard"]) if "shard" in flags else None
    shares: dict[str, Any] = {"shard": shard, "gather": flags.get("gather")}
    if teacher == "extractive":
        limits = {flag: flags[flag] for flag in _EXTRACTIVE if flag in flags}
        distill(data, quoting=QuoteOptions(**limits), **shares)
        return
    from .lesson import Lesson
    from .planning import plan
    from .schema import DatasetFolder, read_build
    from .teaching import TeachOptions

    teaching = TeachOptions(**{"model": ""} | {name: flags[name] for name in _TEACHING if name in flags})
    asking = asking_options(teacher, flags)
    folder = DatasetFolder(data)
    teaching.read_prompts(read_build(folder)["source"])  # before a model is loaded for nothing
    if flags.get("dry_run"):
        if shares["gather"] is not None:
            raise DataError("expected --dry-run or --gather, found both; a shard's own --dry-run says what it would ask")
        with workplace(folder) as room:
            sys.stdout.write(plan(Lesson.read(folder, teacher, teaching, room, shard), asking).summary())
        return
    made = make_teacher(teacher, teaching.model, flags.get("base_url"), asking.concurrency)
    distill(data, made, teaching=teaching, asking=asking, **shares)


def make_teacher(name: str, model: str, base_url: str | None = None, concurrency: int = 8) -> "Teacher":
    """Make the teacher `openai` or `transformers`.

    Args:
        name: which of them.
        model: its model; loaded here by `transformers`.
        base_url: the endpoint of `openai`; OpenAI's own where None.
        concurrency: connections, or questions in a batch.

    Raises:
        DataError: the model, the endpoint or the key cannot be used.
    """
    if name == "openai":
        from .openai_teacher import OpenAITeacher

        return OpenAITeacher(base_url, concurrency)
    from .transformers_teacher import TransformersTeacher

    return TransformersTeacher(model, batch_size=concurrency)


def _check_fit(teacher: str, flags: Mapping[str, Any]) -> None:
    """Refuse flags that the teacher does not heed."""
    for flag in flags:
        if teacher == "extractive":
            fits = flag in (*_EXTRACTIVE, *_SHARES)
        else:
            fits = flag not in ("explanation_sentences", "profile_sentences") and (flag != "base_url" or teacher == "openai")
        if not fits:
            raise DataError(f"expected flags that the teacher {teacher} heeds, found --{flag.replace('_', '-')}; leave it out")
