import asyncio
import threading
import time

import pytest

from xrec_serving.batching import Batcher, QueueFullError, WorkFailedError
from xrec_serving.jobs import answers


class Worker:
    """Doubles numbers; 13 is bad luck."""

    def __init__(self):
        self.batches, self.go = [], threading.Event()
        self.go.set()

    def __call__(self, jobs):
        self.batches.append([job.row for job in jobs])
        assert self.go.wait(10)
        if any(job.row == 13 for job in jobs):
            raise RuntimeError("bad luck")
        return [2 * job.row for job in jobs]


class Saying(Worker):
    """Says a word of each row before it answers, as a stream does."""

    def __call__(self, jobs):
        for job in jobs:
            if job.on_text is not None:
                job.on_text(f"word {job.row}")
        return super().__call__(jobs)


def run(scenario, max_batch=4, deadline=0.05, bound=100, worker=None):
    """Runs a scenario of a batcher and closes it; gives the worker and what the scenario gave."""
    worker = worker or Worker()

    async def whole():
        batcher = Batcher(worker, max_batch, deadline, bound)
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher, worker), 10)
        finally:
            worker.go.set()
            await batcher.close()

    return worker, asyncio.run(whole())


async def results(jobs):
    return await asyncio.gather(*(waiter.job.future for waiter in jobs), return_exceptions=True)


def test_rows_that_come_together_share_a_call_and_each_gets_its_own_answer():
    async def scenario(batcher, worker):
        return await results([batcher.submit(row) for row in range(10)])

    worker, found = run(scenario)
    assert found == [2 * row for row in range(10)]
    assert worker.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_an_idle_model_waits_for_the_deadline_and_no_longer():
    async def scenario(batcher, worker):
        first = batcher.submit(1)
        started = time.monotonic()
        await asyncio.sleep(0.05)
        second = batcher.submit(2)  # within the deadline of the first
        await results([first, second])
        return time.monotonic() - started

    worker, seconds = run(scenario, deadline=0.4)
    assert worker.batches == [[1, 2]]
    assert 0.35 < seconds < 2


def test_rows_gather_while_the_model_works():
    async def scenario(batcher, worker):
        worker.go.clear()
        jobs = [batcher.submit(0)]
        while not worker.batches:
            await asyncio.sleep(0.01)
        for row in (1, 2, 3):
            jobs.append(batcher.submit(row))
            await asyncio.sleep(0.02)
        worker.go.set()
        return await results(jobs)

    worker, found = run(scenario, deadline=0)
    assert found == [0, 2, 4, 6]
    assert worker.batches == [[0], [1, 2, 3]]


def test_a_cancelled_row_that_waits_is_not_worked_on():
    async def scenario(batcher, worker):
        jobs = [batcher.submit(row) for row in range(3)]
        jobs[1].leave()
        return await results(jobs)

    worker, found = run(scenario)
    assert worker.batches == [[0, 2]]
    assert (found[0], found[2]) == (0, 4)
    assert isinstance(found[1], asyncio.CancelledError)


def test_a_row_in_work_is_told_that_nobody_waits_any_more():
    async def scenario(batcher, worker):
        worker.go.clear()
        waiter = batcher.submit(1)
        waiting = asyncio.ensure_future(answers([waiter]))
        while not worker.batches:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.sleep(0)
        before = waiter.job.cancelled
        waiter.leave()
        return before, waiter.job.cancelled

    _, told = run(scenario)
    assert told == (False, True)


def test_a_bad_row_does_not_spoil_its_batch():
    async def scenario(batcher, worker):
        return await results([batcher.submit(row) for row in (1, 13, 2)])

    worker, found = run(scenario)
    assert (found[0], found[2]) == (2, 4)
    assert isinstance(found[1], WorkFailedError)
    assert "bad luck" not in str(found[1])
    assert worker.batches == [[1, 13, 2], [1], [13], [2]]


def test_a_bad_row_does_not_spoil_a_batch_with_a_stream_whose_words_are_said_once():
    heard = []

    async def scenario(batcher, worker):
        return await results([batcher.submit(1, on_text=heard.append), batcher.submit(13), batcher.submit(2)])

    worker, found = run(scenario, worker=Saying())
    assert (found[0], found[2], heard) == (2, 4, ["word 1"])
    assert isinstance(found[1], WorkFailedError)
    assert worker.batches == [[1, 13, 2], [1], [13], [2]]


def test_a_row_that_nobody_waits_for_is_not_tried_again():
    async def scenario(batcher, worker):
        worker.go.clear()
        waiters = [batcher.submit(row) for row in (1, 13, 2)]
        while not worker.batches:
            await asyncio.sleep(0.01)
        waiters[2].leave()
        worker.go.set()
        return await results(waiters)

    worker, _ = run(scenario)
    assert worker.batches == [[1, 13, 2], [1], [13]]


def test_equal_rows_share_a_job_that_ends_when_the_last_one_goes():
    async def scenario(batcher, worker):
        worker.go.clear()
        first, second, other = batcher.submit(1, "one"), batcher.submit(1, "one"), batcher.submit(2, "two")
        while not worker.batches:
            await asyncio.sleep(0.01)
        third = batcher.submit(1, "one")  # while it is in work
        giving_up = asyncio.ensure_future(answers([first]))
        await asyncio.sleep(0)
        giving_up.cancel()
        first.leave()
        first.leave()  # twice is once
        second.leave()
        stays = third.job.cancelled
        other.leave()
        assert other.job.cancelled
        again = batcher.submit(2, "two")  # joins no job that was given up
        worker.go.set()
        return stays, await answers([third, again]), batcher.submit(1, "one").job is third.job

    worker, found = run(scenario)
    assert found == (False, [2, 4], False)
    assert worker.batches == [[1, 2], [2], [1]]


def test_listeners_that_join_hear_all_that_was_said():
    async def scenario(batcher, worker):
        worker.go.clear()
        heard = [[], [], []]
        quiet = batcher.submit(3, "three")
        joined = batcher.submit(3, "three", heard[0].append)  # before its call
        while not worker.batches:
            await asyncio.sleep(0.01)
        late = batcher.submit(3, "three", heard[1].append)
        other = batcher.submit(4, "four")
        worker.go.set()
        found = await answers([quiet, joined, late])
        worker.go.clear()
        while len(worker.batches) < 2:
            await asyncio.sleep(0.01)
        later = batcher.submit(4, "four", heard[2].append)  # a call without listeners has no words for those who come later
        worker.go.set()
        return found, await answers([other, later]), heard

    worker, found = run(scenario, worker=Saying(), deadline=0)
    assert found == ([6, 6, 6], [8, 8], [["word 3"], ["word 3"], []])
    assert worker.batches == [[3], [4]]


def test_an_answer_of_none_is_no_answer_to_wait_for():
    assert asyncio.run(answers([])) == []


def test_places_are_bounded_and_given_back():
    async def scenario(batcher, worker):
        with batcher.places(3):
            with pytest.raises(QueueFullError) as full, batcher.places(3):
                pass
            with batcher.places(2):
                assert batcher.taken == 5
        assert batcher.taken == 0
        return full.value.retry_after

    _, retry_after = run(scenario, bound=5)
    assert retry_after >= 1


def test_closing_finishes_what_waits_and_takes_no_more():
    worker = Worker()

    async def scenario():
        batcher = Batcher(worker, 4, 5.0, 100)  # nobody waits for a deadline that is 5 s away
        batcher.start()
        jobs = [batcher.submit(row) for row in range(6)]
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError), batcher.places(1):
            pass
        await asyncio.wait_for(closing, 3)
        return [waiter.job.future.result() for waiter in jobs], batcher.is_alive()

    assert asyncio.run(scenario()) == ([0, 2, 4, 6, 8, 10], False)
