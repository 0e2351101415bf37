"""A small Amazon-2018 dump, and a folder built from it."""

import json
import random
from pathlib import Path

import pytest

from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.asking import ask
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.journal import Journal

from .scripted_teacher import QUICK, text_of

REASONS = (
    "I loved the crispy pizza because the crust was fresh.",
    "The staff was rude and I hated the cold soup.",
    "Great gift for my daughter.",
    "Easy to use and my son was happy with the fast delivery.",
    "I would recommend the quiet garden to my friends.",
)


def amazon_rows(users: int = 20, items: int = 10, seed: int = 0) -> list[dict[str, object]]:
    draw = random.Random(seed)
    rows = []
    for user in range(users):
        for item in draw.sample(range(items), 5):
            text = f"We went there last Monday. {draw.choice(REASONS)} Table {user} by door {item}."
            rows.append(
                {
                    "reviewerID": f"U{user}",
                    "asin": f"B{item}",
                    "overall": float(draw.randint(1, 5)),
                    "unixReviewTime": 1_500_000_000 + draw.randrange(10_000_000),
                    "reviewText": text,
                }
            )
    return rows


def write_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def reviews_file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "reviews.json", amazon_rows())


@pytest.fixture
def items_file(tmp_path: Path) -> Path:
    rows = [
        {
            "asin": f"B{item}",
            "title": f"Caf&eacute; <b>{item}</b>",
            "description": ["A quiet place with fresh bread daily."],
        }
        for item in range(12)
    ]
    return write_lines(tmp_path / "meta.json", rows)


@pytest.fixture
def built(tmp_path: Path, reviews_file: Path, items_file: Path) -> Path:
    out = tmp_path / "data"
    build("amazon-2018", out, inputs=Inputs(reviews=[reviews_file], items=items_file))
    return out


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "j") as journal:
        yield journal


@pytest.fixture
def put(journal):
    """Asks with a journal, quickly where nothing else is said."""

    def run(requests, teacher, accept=text_of, repair=None, collect=None, **options):
        return ask(requests, teacher, journal, accept, repair, AskOptions(**QUICK | options), False, collect)

    return run
