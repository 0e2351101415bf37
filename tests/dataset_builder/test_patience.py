import logging
import time
from itertools import pairwise

import pytest

from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.asking import ask
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.patience import pause_after
from xrec_dataset_builder.teacher import TeacherBusy, TeacherError

from .scripted_teacher import Teacher, longer_than, request_of, requests_of, text_of


def busy_for(tries, **how):
    """Every question finds the teacher busy so many times."""
    seen = {}

    def reply(request, number):
        text = request.messages[0][1]
        seen[text] = seen.get(text, 0) + 1
        if seen[text] <= tries:
            raise TeacherBusy("busy", **how)
        return "answer"

    return reply


def test_a_busy_teacher_is_asked_until_the_tries_are_used_up(put):
    calm = {"attempts": 4, "breaker_failures": 1000}
    assert put(requests_of(10), Teacher(busy_for(3)), **calm).counts.retried == 30
    asked = put([request_of(f"more {number}") for number in range(10)], Teacher(busy_for(4)), **calm)
    assert [reason for _, reason in asked.failures] == ["4 tries, the last: busy"] * 10


def test_a_question_without_an_answer_in_time_is_asked_again(put):
    teacher = Teacher(delay=0.2)
    asked = put(requests_of(2), teacher, timeout=0.02, attempts=3, breaker_failures=1000)
    assert [reason for _, reason in asked.failures] == ["3 tries, the last: no answer in 0.02 s"] * 2
    assert len(teacher.asked) == 6


def test_pauses_double_up_to_the_longest_and_are_drawn_from_all_of_it():
    for attempt, ceiling in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10_000, 60)):
        drawn = [pause_after(attempt, 1.0, 60.0) for _ in range(2000)]
        assert 0 <= min(drawn) < 0.05 * ceiling
        assert 0.95 * ceiling < max(drawn) <= ceiling


def test_a_pause_is_what_the_endpoint_asks_for_and_a_little_but_not_for_ever():
    for asked_for, least in ((0.0, 0), (7.0, 7), (3600.0, 60)):
        drawn = [pause_after(1, 1.0, 60.0, asked_for) for _ in range(2000)]
        assert least <= min(drawn) < least + 0.05
        assert least + 0.95 < max(drawn) <= least + 1


@pytest.mark.parametrize(("retry_after", "longest_pause", "least", "most"), [(0.3, 50.0, 0.3, 10.0), (300.0, 0.1, 0.1, 10.0)])
def test_retry_after_is_honoured_and_capped(put, retry_after, longest_pause, least, most):
    teacher = Teacher(busy_for(1, retry_after=retry_after, alive=True))
    put(requests_of(1), teacher, longest_pause=longest_pause)
    assert least <= teacher.times[1] - teacher.times[0] < most


def test_no_more_is_sent_a_second_than_allowed_tries_included(put):
    teacher, start = Teacher(busy_for(1, alive=True)), time.monotonic()
    put(requests_of(15), teacher, requests_per_second=100, concurrency=30)
    assert len(teacher.times) == 30
    assert all(moment - start > 0.01 * number - 0.001 for number, moment in enumerate(teacher.times))


def test_an_endpoint_that_is_down_at_first_is_waited_for_with_one_question_at_a_time(put, caplog):
    def reply(request, number):
        if number < 12:
            raise TeacherBusy("HTTP 500")
        return "answer"

    teacher = Teacher(reply, delay=0.005)
    asked = put(requests_of(60), teacher, concurrency=8, breaker_failures=1, breaker_wait=0.06, breaker_tries=10)
    assert (asked.counts.answered, asked.counts.failed) == (60, 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "the teacher failed (1 in a row, the last: HTTP 500)" in caplog.messages[0]
    assert caplog.messages[1] == "the teacher answers again"
    down = teacher.times[7:13]  # the first 8 were in flight together
    assert all(later - earlier > 0.05 for earlier, later in pairwise(down[1:]))


def test_a_row_is_not_failed_for_an_endpoint_that_is_down(put):
    """One at a time, with fewer tries a row than the endpoint stays down for."""

    def reply(request, number):
        if 3 <= number < 9:
            raise TeacherBusy("HTTP 500")
        return "answer"

    asked = put(requests_of(10), Teacher(reply), concurrency=1, attempts=3, breaker_failures=2, breaker_tries=5)
    assert (asked.counts.answered, asked.counts.failed) == (10, 0)


def test_an_endpoint_that_stays_down_ends_the_run_and_keeps_what_was_answered(put, journal):
    def reply(request, number):
        if number >= 20:
            raise TeacherBusy("HTTP 500")
        return "answer"

    teacher = Teacher(reply)
    with pytest.raises(DataError, match=r"found HTTP 500 5 times after waiting 0\.01 s; look after the endpoint") as error:
        put(requests_of(1000), teacher, concurrency=4)
    assert "\n" not in str(error.value)
    assert len(teacher.asked) <= 20 + 5 + 4 + 5
    assert (len(journal), journal.failures(), teacher.closed) == (20, [], 1)
    assert put(requests_of(1000), Teacher()).counts.from_journal == 20


def test_one_row_that_breaks_the_endpoint_fails_alone(put):
    def reply(request, number):
        if request.messages[0][1] == "3":
            raise TeacherBusy("HTTP 500")
        return "answer"

    for concurrency in (1, 4):
        rows = [request_of(str(number), seed=concurrency) for number in range(20)]
        asked = put(rows, Teacher(reply), concurrency=concurrency)
        assert [(request.key, reason) for request, reason in asked.failures] == [(("3",), "6 tries, the last: HTTP 500")]
        assert asked.counts.answered == 19


def test_patience_with_a_busy_but_living_endpoint_is_no_breaker(put, caplog):
    asked = put(requests_of(50), Teacher(busy_for(2, alive=True)), breaker_failures=3)
    assert (asked.counts.answered, caplog.records) == (50, [])


def test_a_teacher_with_no_answer_for_anybody_ends_the_run(put, journal):
    def never(request, number):
        raise TeacherError("HTTP 400")

    teacher = Teacher(never)
    with pytest.raises(DataError, match="found 30 failures in a row, the last: HTTP 400"):
        put(requests_of(1000), teacher, stop_after=30)
    assert 30 <= len(teacher.asked) < 30 + 8
    assert 30 <= len(journal.failures()) < 30 + 8


def test_failures_with_answers_between_do_not_end_the_run(put):
    def reply(request, number):
        if number % 3:
            raise TeacherError("HTTP 400")
        return "answer" if number % 2 else "bad"

    asked = put(requests_of(60), Teacher(reply), longer_than(5), concurrency=1, stop_after=3)
    assert (asked.counts.answered, asked.counts.failed) == (10, 50)


def test_an_error_no_question_can_avoid_ends_the_run_at_once(put, journal):
    def reply(request, number):
        if number == 10:
            raise DataError("the key is not accepted")
        return "answer"

    teacher = Teacher(reply)
    with pytest.raises(DataError, match="the key is not accepted"):
        put(requests_of(100), teacher, concurrency=4)
    assert len(teacher.asked) < 15
    assert len(journal) >= 7


def test_an_error_of_the_rows_themselves_keeps_what_was_answered(tmp_path):
    def rows():
        yield from requests_of(20)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Journal(tmp_path / "j") as journal:
        ask(rows(), Teacher(), journal, text_of, None, AskOptions(concurrency=4), False)
    with Journal(tmp_path / "j") as journal:
        assert len(journal) >= 16
