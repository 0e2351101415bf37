"""A teacher that words what it is shown, or does what the test says; and reviews for it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from xrec_dataset_builder.prompts import FIELDS
from xrec_dataset_builder.schema import REVIEWS, DatasetFolder, write_table
from xrec_dataset_builder.teacher import Answer, Request


def edited(folder: Path, review: pl.Expr) -> pl.DataFrame:
    """The reviews of a folder, with other texts."""
    place = DatasetFolder(folder).reviews
    reviews = pl.read_parquet(place).with_columns(review=review)
    write_table(reviews, place, REVIEWS)
    return reviews


def distinct() -> pl.Expr:
    """A text for each review that repeats no other."""
    number = pl.int_range(pl.len())
    return pl.format(
        "I loved the fresh dish{} because table{} was clean; the staff{} was rude though.", number, number, number
    )


def shown(request: Request) -> dict[str, Any]:
    """The material of a question."""
    return json.loads(next(line for line in request.messages[1][1].splitlines() if line.startswith("{")))


def worded(request: Request) -> str:
    """A usable text that names the material, and differs where it does."""
    data = shown(request)
    if request.kind == "explanation":
        seen = [data["review"]["text"], data["item"]["portrait"][-20:], data["user"]["portrait"][-20:]]
    else:
        seen = [review["text"] for review in data["reviews"]]
    return "The user says " + " ".join(" ".join(seen).split()[-30:])


def reply(request: Request, text: str, finish_reason: str = "stop") -> Answer:
    """An answer in the form that is asked for."""
    body = json.dumps({FIELDS[request.kind]: text})
    return Answer(body, finish_reason, sum(len(content) for _, content in request.messages) // 4, len(body) // 4)


class WordingTeacher:
    """Answers with `worded`, unless `script` returns an answer or raises; it is given the request and its number.

    Attributes:
        asked: every request so far.
    """

    name = "scripted"

    def __init__(self, script: Callable[[Request, int], Answer | None] = lambda request, number: None) -> None:
        self.script = script
        self.asked: list[Request] = []

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        number = len(self.asked)
        await asyncio.sleep(int(request.hash[:2], 16) / 100_000)  # so that answers come in another order than questions
        return self.script(request, number) or reply(request, worded(request))

    async def close(self) -> None:
        pass
