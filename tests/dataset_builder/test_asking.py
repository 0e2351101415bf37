import asyncio
import tracemalloc
from collections import deque

import pytest

from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.asking import ask
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.teacher import Answer, TeacherError

from .scripted_teacher import Teacher, longer_than, request_of, requests_of, text_of


def test_a_second_run_asks_nothing_and_gives_the_same(put):
    teacher = Teacher()
    first = put(requests_of(100), teacher)
    assert first.answers == {request.hash: f"answer {request.messages[0][1]}" for request in requests_of(100)}
    assert sorted(teacher.asked) == sorted(str(number) for number in range(100))
    second = put(requests_of(100), teacher)
    assert second.answers == first.answers
    assert len(teacher.asked) == 100
    assert (second.counts.from_journal, second.counts.tries, second.counts.prompt_tokens) == (100, 0, 0)
    assert (first.counts.answered, first.counts.prompt_tokens, first.counts.completion_tokens) == (100, 1000, 200)
    assert teacher.closed == 2


@pytest.mark.parametrize("field", ["prompt_version", "model", "temperature", "messages"])
def test_a_change_asks_exactly_the_rows_it_touches(put, field):
    put(requests_of(30), Teacher())
    values = {"prompt_version": "2", "model": "n", "temperature": 0.5, "messages": (("user", "other"), ("user", "x"))}
    changed = [request_of(str(number), **({field: values[field]} if number % 3 == 0 else {})) for number in range(30)]
    teacher = Teacher()
    counts = put(changed, teacher).counts
    assert len(teacher.asked) == (1 if field == "messages" else 10)  # the rows with the same messages ask the same
    assert counts.from_journal + counts.answered == 30


def test_rows_that_ask_the_same_are_asked_once(put):
    teacher, collected = Teacher(delay=0.01), []
    rows = [request_of(str(number % 5), key=f"row {number}") for number in range(40)]
    counts = put(rows, teacher, collect=lambda request, kept: collected.append((request.key[0], kept))).counts
    assert sorted(teacher.asked) == ["0", "1", "2", "3", "4"]
    assert sorted(collected) == sorted((f"row {number}", f"answer {number % 5}") for number in range(40))
    assert (counts.rows, counts.answered, counts.from_journal) == (40, 5, 35)


def test_rows_that_ask_the_same_fail_together_after_one_question(put):
    def never(request, number):
        raise TeacherError("bad")

    teacher = Teacher(never)
    asked = put([request_of("same", key=str(number)) for number in range(30)], teacher, concurrency=4)
    assert len(teacher.asked) == 1
    assert sorted(int(request.key[0]) for request, _ in asked.failures) == list(range(30))


def test_no_more_questions_are_in_flight_or_read_ahead_than_allowed(put):
    teacher, read, done, ahead, tasks = Teacher(delay=0.001), [], [], [], []

    def rows():
        for number in range(300):
            read.append(number)
            ahead.append(len(read) - len(done))
            tasks.append(len(asyncio.all_tasks()))
            yield request_of(str(number))

    put(rows(), teacher, collect=lambda *_: done.append(1), concurrency=7)
    assert len(done) == 300
    assert teacher.most_in_flight == 7
    assert max(ahead) <= 7
    assert max(tasks) <= 8


def test_memory_stays_flat(put):
    """800 questions of 50,000 characters are 40 MB."""
    rows = (request_of(f"{number} " + "x" * 50_000) for number in range(800))
    teacher = Teacher(lambda *_: "short")
    teacher.asked = deque(maxlen=1)
    tracemalloc.start()
    counts = put(rows, teacher, collect=lambda *_: None, concurrency=32).counts
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.answered == 800
    assert peak < 6e6


def test_an_answer_is_on_the_disk_before_it_is_handed_over(put, journal):
    missing = []
    put(requests_of(50), Teacher(), collect=lambda request, _: missing.append(journal.get(request.hash) is None))
    assert missing == [False] * 50


def test_a_stricter_check_asks_again_what_it_rejects(put):
    put(requests_of(20), Teacher())
    teacher = Teacher(lambda request, _: "a longer answer")
    second = put(requests_of(20), teacher, longer_than(len("answer 9")))
    assert sorted(teacher.asked, key=int) == [str(number) for number in range(10)]
    assert (second.counts.from_journal, second.counts.answered) == (10, 10)
    again = put(requests_of(20), teacher, longer_than(len("answer 9")))
    assert len(teacher.asked) == 10
    assert again.answers == second.answers


def ask_again(request, answer, error):
    assert str(error)
    return request_of(f"{request.messages[0][1]} again")


def test_an_answer_is_repaired_once_and_recorded_as_the_firsts(put, journal):
    def reply(request, number):
        return "good and long" if request.messages[0][1].endswith("again") else "bad"

    teacher = Teacher(reply)
    first = put(requests_of(10), teacher, longer_than(5), ask_again)
    assert first.answers == {request.hash: "good and long" for request in requests_of(10)}
    assert (first.counts.answered, first.counts.repaired, first.counts.tries, first.counts.prompt_tokens) == (10, 10, 20, 200)
    assert journal.get(request_of("3").hash) == Answer("good and long", "stop", 20, 4)
    assert len(journal) == 10
    assert put(requests_of(10), teacher, longer_than(5), ask_again).counts.from_journal == 10
    assert len(teacher.asked) == 20


def test_what_repair_does_not_mend_fails_and_is_asked_by_the_next_run(put, journal):
    teacher = Teacher(lambda *_: "bad")
    first = put(requests_of(5), teacher, longer_than(5), ask_again)
    assert [reason for _, reason in first.failures] == ["3 characters"] * 5
    assert (first.counts.failed, len(teacher.asked), len(journal)) == (5, 10, 0)
    assert {(one.reason, one.prompt_tokens) for one in journal.failures()} == {("3 characters", 20)}
    second = put(requests_of(5), Teacher(), longer_than(5), ask_again)
    assert (second.counts.answered, journal.failures()) == (5, [])


def test_a_row_that_is_not_worth_repairing_fails_at_once(put):
    teacher = Teacher(lambda *_: "bad")
    assert put(requests_of(5), teacher, longer_than(5), lambda *_: None).counts.failed == 5
    assert len(teacher.asked) == 5


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("", "stop", 1, 1), "an empty answer"),
        (Answer(" \n\u200a", "stop", 1, 1), "an empty answer"),
        (Answer("It is becau", "length", 1, 1), "cut at the limit of 50 tokens"),
        (Answer("x", "content_filter", 1, 1), "the teacher's content filter withheld the answer"),
        (Answer("word " * 5000, "stop", 1, 1), "25000 characters, more than 50 tokens make"),
    ],
)
def test_what_no_answer_may_be_is_never_accepted(put, journal, answer, reason):
    asked = put(requests_of(3), Teacher(lambda *_: answer))
    assert [found for _, found in asked.failures] == [reason] * 3
    assert len(journal) == 0


def test_half_characters_and_line_ends_do_no_harm(put, journal):
    def reply(request, number):
        if request.messages[0][1] == "1":
            raise TeacherError("a\nb\x1b\ud800" + "c" * 1000)
        return "caf\u00e9 \ud83d"

    asked = put(requests_of(2), Teacher(reply))
    assert list(asked.answers.values()) == ["caf\u00e9 \ufffd"]
    (failure,) = journal.failures()
    assert failure.reason.startswith("a b  ccc")
    assert len(failure.reason) == 300


def test_the_limit_bounds_new_questions_and_counts_the_rest(put):
    put(requests_of(10), Teacher())
    teacher = Teacher()
    counts = put(requests_of(50), teacher, limit=7).counts
    assert len(teacher.asked) == counts.answered == 7
    assert (counts.rows, counts.from_journal, counts.left_out) == (50, 10, 33)
    assert put(requests_of(50), teacher, limit=0).counts.from_journal == 17


def test_the_cost_is_that_of_the_tokens_of_both_sides(put):
    def reply(request, number):
        return Answer("good", "stop", 100 + number, 20)

    counts = put(requests_of(40), Teacher(reply), prompt_price=2.0, completion_price=8.0).counts
    assert counts.prompt_tokens > 40 * 100
    assert counts.completion_tokens == 40 * 20
    assert counts.cost == pytest.approx((2 * counts.prompt_tokens + 8 * counts.completion_tokens) / 1e6)


def test_a_notebooks_loop_does_not_keep_it_from_asking(put):
    async def cell():
        return put(requests_of(20), Teacher())

    assert asyncio.run(cell()).counts.answered == 20


def test_the_bar_shows_rows_and_cost(journal, capsys):
    ask(requests_of(20), Teacher(), journal, text_of, None, AskOptions(prompt_price=1000.0), True)
    shown = capsys.readouterr().err
    assert "20/20" in shown
    assert "cost 0.2000" in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0), ("requests_per_second", 0), ("attempts", 0), ("timeout", -1), ("backoff", -0.1), ("limit", -1),
        ("breaker_failures", 0), ("breaker_wait", -1), ("breaker_tries", 0), ("stop_after", 0),
        ("longest_pause", float("nan")), ("prompt_price", -1),
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(name, value):
    with pytest.raises(DataError, match=f"expected {name} (of at least|above)"):
        AskOptions(**{name: value})
