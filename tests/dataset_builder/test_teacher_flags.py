from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder import teacher_flags
from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.commands import distill_command
from xrec_dataset_builder.distill import distill, workplace
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.lesson import Lesson
from xrec_dataset_builder.planning import plan
from xrec_dataset_builder.schema import REVIEWS, DatasetFolder, read_build, write_table
from xrec_dataset_builder.teaching import TeachOptions

from .wording_teacher import WordingTeacher, distinct, edited

OPENAI = ["--teacher", "openai", "--model", "m"]


@pytest.fixture
def built(built: Path) -> Path:
    edited(built, distinct())
    return built


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list:
    """What teachers were made with; each is a scripted one."""
    calls: list = []

    def make(*arguments: object) -> WordingTeacher:
        calls.append((*arguments, WordingTeacher()))
        return calls[-1][-1]

    monkeypatch.setattr(teacher_flags, "make_teacher", make)
    return calls


def test_the_flags_reach_the_questions_and_the_teacher(built: Path, made: list, tmp_path: Path):
    flags = ["--domain", "book", "--temperature", "0.5", "--seed", "4", "--max-tokens", "99", "--concurrency", "3"]
    flags += [
        "--explanation-words",
        "31",
        "--profile-words",
        "41",
        "--profile-reviews",
        "1",
        "--base-url",
        "http://localhost:1/v1",
    ]
    distill_command([str(built), *OPENAI, *flags])
    ((name, model, base_url, concurrency, teacher),) = made
    assert (name, model, base_url, concurrency) == ("openai", "m", "http://localhost:1/v1", 3)
    first, last = teacher.asked[0], teacher.asked[-1]
    assert (last.kind, last.prompt_version, last.temperature, last.seed, last.max_tokens) == (
        "explanation",
        "book.explanation.1",
        0.5,
        4,
        99,
    )
    assert "At most 31 words" in last.messages[0][1]
    assert "At most 41 words" in first.messages[0][1]
    assert first.messages[1][1].count('"text"') == 1
    distillation = read_build(DatasetFolder(built))["distillation"]
    assert [distillation[one] for one in ("domain", "explanation_words", "profile_words", "model")] == ["book", 31, 41, "m"]


def test_a_dry_run_says_what_a_run_would_ask_and_asks_nothing(built: Path, made: list, capsys: pytest.CaptureFixture[str]):
    before = sorted(built.rglob("*"))
    distill_command([str(built), *OPENAI, "--dry-run", "--price-in", "1", "--price-out", "2"])
    assert (sorted(built.rglob("*")), made) == (before, [])
    shown = capsys.readouterr().out
    rows = {line[:16].strip(): line[16:].split() for line in shown.splitlines()}
    assert [rows[name][:3] for name in ("item profiles", "user profiles", "explanations", "in all")] == [
        ["10", "0", "10"],
        ["20", "0", "20"],
        ["100", "0", "100"],
        ["130", "0", "130"],
    ]
    assert "cost: 0." in shown


def test_a_plan_counts_exactly_what_is_asked_afterwards(built: Path):
    teaching = TeachOptions(model="scripted-1", domain="business")
    folder = DatasetFolder(built)

    def planned(**options) -> dict[str, tuple[int, int, int]]:
        with workplace(folder) as room:
            kinds = plan(Lesson.read(folder, "scripted", teaching, room), AskOptions(**options)).kinds
        return {kind: (one.recorded, one.requests, one.left_out) for kind, one in kinds.items()}

    assert planned(limit=25) == {"item_profile": (0, 10, 0), "user_profile": (0, 15, 5), "explanation": (0, 0, 100)}
    teacher = WordingTeacher()
    distill(built, teacher, teaching=teaching, asking=AskOptions(limit=25), progress=False)
    assert planned() == {"item_profile": (10, 0, 0), "user_profile": (15, 5, 0), "explanation": (0, 100, 0)}
    distill(built, teacher, teaching=teaching, progress=False)
    assert len(teacher.asked) == 130
    assert planned() == {"item_profile": (10, 0, 0), "user_profile": (20, 0, 0), "explanation": (100, 0, 0)}


def test_rows_that_ask_the_same_count_as_one_request(built: Path, tmp_path: Path):
    folder, teaching = DatasetFolder(built), TeachOptions(model="scripted-1", domain="business")
    reviews = pl.read_parquet(folder.reviews)
    first, second = reviews.filter(pl.col("item_id") == "B0")["user_id"][:2]
    two = pl.col("user_id").is_in([first, second])
    same = two & (pl.col("item_id") == "B0")
    reviews = reviews.with_columns(
        split=pl.when(two).then(pl.lit("test")).otherwise("split"),
        review=pl.when(same).then(pl.lit("The soup was hot.")).otherwise("review"),
        rating=pl.lit(3.0),
    )
    write_table(reviews, folder.reviews, REVIEWS)
    planned = plan(Lesson.read(folder, "scripted", teaching, tmp_path), AskOptions()).kinds["explanation"]
    assert (planned.rows, planned.requests) == (100, 99)
    teacher = WordingTeacher()
    distill(built, teacher, teaching=teaching, progress=False)
    assert sum(request.kind == "explanation" for request in teacher.asked) == 99
    assert pl.read_parquet(folder.provenance).filter(pl.col("kind") == "explanation").height == 100


def test_estimated_tokens_are_near_those_spent(built: Path, tmp_path: Path):
    teaching, folder = TeachOptions(model="scripted-1", domain="business"), DatasetFolder(built)
    guessed = plan(Lesson.read(folder, "scripted", teaching, tmp_path), AskOptions(prompt_price=2.0, completion_price=0.0))
    distill(built, WordingTeacher(), teaching=teaching, progress=False)
    spent = read_build(folder)["distillation"]["tokens"]["prompt"]
    prompt = sum(one.prompt_tokens for one in guessed.kinds.values())
    assert 0 <= prompt - spent < 0.2 * spent  # a profile that is not there yet counts as long as it may get
    assert guessed.cost == pytest.approx(2e-6 * prompt)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--teacher", "oracle"], "expected a teacher among extractive, openai, transformers, found 'oracle'"),
        (["--teacher", "openai"], "expected the name of the teacher's model, found none; give --model"),
        (["--model", "m"], "expected flags that the teacher extractive heeds, found --model; leave it out"),
        (["--limit", "3"], "found --limit"),
        ([*OPENAI, "--profile-sentences", "2"], "expected flags that the teacher openai heeds, found --profile-sentences"),
        (["--teacher", "transformers", "--model", "m", "--base-url", "x"], "found --base-url"),
        ([*OPENAI, "--temperature", "3"], "expected a temperature between 0 and 2, found 3.0"),
        ([*OPENAI, "--max-tokens", "0"], "expected max_tokens of at least 1, found 0"),
        ([*OPENAI, "--concurrency", "0"], "expected concurrency of at least 1, found 0"),
        ([*OPENAI, "--domain", "film"], "expected a domain among business, book, product, found 'film'"),
        ([*OPENAI, "--prompts", "none.yaml"], "none.yaml: expected a file of prompts, found No such file"),
        ([*OPENAI, "--seed", "x"], "invalid int value: 'x'"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(built: Path, made: list, flags: list[str], message: str):
    with pytest.raises(DataError, match=message) as caught:
        distill_command([str(built), *flags])
    assert "\n" not in str(caught.value)
    assert made == []


def test_a_source_without_a_domain_asks_for_one(built: Path, made: list):
    folder = DatasetFolder(built)
    folder.build_json.write_text(folder.build_json.read_text().replace('"source": "amazon-2018"', '"source": "table"'))
    with pytest.raises(
        DataError, match="expected a domain among business, book, product for source table, found none; give --domain"
    ):
        distill_command([str(built), *OPENAI])
    distill_command([str(built), *OPENAI, "--domain", "product"])
    assert pl.read_parquet(folder.explanations("test")).height == 10
