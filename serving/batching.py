"""Gathers what comes at the same time into one call of the model.

The model works in a thread of its own, a batch at a time. While it works, the next batch gathers; when it is idle, a row waits
a few milliseconds for others. Equal rows share a job. All methods but the work itself run on the event loop.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from .jobs import Again, Job, Outcome, Row, Task, Waiter

logger = logging.getLogger(__name__)
SMOOTHING = 0.2


class QueueFullError(Exception):
    """There is no place for more rows.

    Args:
        retry_after: seconds after which there will probably be one.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class WorkFailedError(Exception):
    """The model could not answer a row; the log says why."""


Work = Callable[[Sequence[Task]], Sequence[Outcome]]


class Batcher:
    """Runs jobs in batches.

    Args:
        work: answers a batch; in a thread of its own.
        max_batch: most rows in a batch.
        deadline: seconds that a row waits for others while the model is idle.
        bound: rows that may wait or be in work.
        on_batch: told the rows and the seconds of every batch.

    Attributes:
        taken: places in use.
    """

    def __init__(
        self, work: Work, max_batch: int, deadline: float, bound: int, on_batch: Callable[[int, float], None] | None = None
    ) -> None:
        self._work, self._max_batch, self._deadline, self.bound = work, max_batch, deadline, bound
        self._on_batch = on_batch
        self.taken = 0
        self._seconds_a_row = 0.0
        self._working_since: float | None = None
        self._queue: asyncio.Queue[Job[Any] | None] = asyncio.Queue()
        self._open: dict[Hashable, Job[Any]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="xrec-model")
        self._runner: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begins to work, on the running loop."""
        self._runner = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Takes no more rows, finishes those it has, and ends its thread."""
        self._closing = True
        if self._runner is not None:
            self._queue.put_nowait(None)
            await self._runner
        self._executor.shutdown()

    def is_alive(self) -> bool:
        """Whether rows are being worked on as they come."""
        return self._runner is not None and not self._runner.done() and not self._closing

    def working_for(self) -> float:
        """Seconds since the present batch began; 0 when there is none."""
        return 0.0 if self._working_since is None else time.monotonic() - self._working_since

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Holds places in the queue for a block.

        Raises:
            QueueFullError: there are fewer free, or the batcher is closing.
        """
        if self.taken + count > self.bound or self._closing:
            raise QueueFullError(max(1, math.ceil(self._seconds_a_row * self.taken)))
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count

    def submit(self, row: Row, key: Hashable = None, on_text: Callable[[str], None] | None = None) -> Waiter[Row]:
        """Puts a row into the queue, or joins the job of an equal one that is not done; in a block that holds its place.

        Args:
            row: what is asked.
            key: equal for equal rows; None for a row that is like no other.
            on_text: takes pieces of text, see `Job.join`.
        """
        job = None if key is None else self._open.get(key)
        if job is None or job.future.done():
            job = Job(row)
            if key is not None:
                self._open[key] = job
                job.future.add_done_callback(partial(self._forget, key, job))
            self._queue.put_nowait(job)
        return job.join(on_text)

    def _forget(self, key: Hashable, job: Job[Any], _: object) -> None:
        if self._open.get(key) is job:
            del self._open[key]

    async def _run(self) -> None:
        while (first := await self._queue.get()) is not None:
            batch, is_last = await self._gather(first)
            batch = [job for job in batch if not job.cancelled]
            if batch:
                await self._answer(batch)
            if is_last:
                break

    async def _gather(self, first: Job[Any]) -> tuple[list[Job[Any]], bool]:
        """A batch that begins with a job, and whether the queue ends after it."""
        batch, until = [first], first.submitted + self._deadline
        loop = asyncio.get_running_loop()
        while len(batch) < self._max_batch:
            if self._queue.empty() and (self._closing or loop.time() >= until):
                break
            try:
                async with asyncio.timeout_at(max(until, loop.time() + 1e-4)):
                    job = await self._queue.get()
            except TimeoutError:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    async def _answer(self, batch: list[Job[Any]]) -> None:
        started = self._working_since = time.monotonic()
        outcomes = await asyncio.get_running_loop().run_in_executor(self._executor, self._outcomes, batch)
        self._working_since = None
        seconds = time.monotonic() - started
        self._seconds_a_row += SMOOTHING * (seconds / len(batch) - self._seconds_a_row)
        if self._on_batch is not None:
            self._on_batch(len(batch), seconds)
        for job, outcome in zip(batch, outcomes, strict=True):
            if job.future.done():
                continue
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _outcomes(self, batch: Sequence[Job[Any]]) -> list[Outcome]:
        """Answers, or for rows that cannot be answered an exception: the rows of a failed batch are tried again one by one."""
        try:
            return list(self._work(batch))
        except Exception as error:
            if len(batch) == 1:
                return [_failure(error)]
            logger.warning("a batch of %d rows failed (%s); trying its rows one by one", len(batch), type(error).__name__)
        return [self._alone(Again(job)) for job in batch]

    def _alone(self, row: Again) -> Outcome:
        if row.cancelled:
            return None
        try:
            return self._work([row])[0]
        except Exception as error:
            return _failure(error)


def _failure(error: Exception) -> WorkFailedError:
    logger.error("a row failed", exc_info=error)
    failed = WorkFailedError("the model failed on this request; the server's log says why")
    failed.__cause__ = error
    return failed
