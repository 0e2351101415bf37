import asyncio
import threading
import time

import pytest

from xrec_serving.batching import Batcher, QueueFullError, WorkFailedError


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


def run(scenario, max_batch=4, deadline=0.05, bound=100):
    """Runs a scenario of a batcher and closes it; gives the worker and what the scenario gave."""
    worker = Worker()

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
    return await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)


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
        jobs[1].cancel()
        return await results(jobs)

    worker, found = run(scenario)
    assert worker.batches == [[0, 2]]
    assert (found[0], found[2]) == (0, 4)
    assert isinstance(found[1], asyncio.CancelledError)


def test_a_row_in_work_is_told_that_nobody_waits_any_more():
    async def scenario(batcher, worker):
        worker.go.clear()
        job = batcher.submit(1)
        waiting = asyncio.gather(job.future)
        while not worker.batches:
            await asyncio.sleep(0.01)
        waiting.cancel()  # as a timeout does it: the future is cancelled first
        await asyncio.sleep(0)
        job.cancel()
        return job.cancelled

    _, told = run(scenario)
    assert told


def test_a_bad_row_does_not_spoil_its_batch():
    async def scenario(batcher, worker):
        return await results([batcher.submit(row) for row in (1, 13, 2)])

    worker, found = run(scenario)
    assert (found[0], found[2]) == (2, 4)
    assert isinstance(found[1], WorkFailedError)
    assert "bad luck" not in str(found[1])
    assert worker.batches == [[1, 13, 2], [1], [13], [2]]


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
        return [job.future.result() for job in jobs], batcher.is_alive()

    assert asyncio.run(scenario()) == ([0, 2, 4, 6, 8, 10], False)
