"""Rows that wait for their answers, and all who wait with them. What is here runs on the event loop, but for `Task`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .streaming import Listener

Row = TypeVar("Row")
Outcome = Any


class Task(Listener, Protocol):
    """A row as the work gets it, and as the model's thread reads it."""

    @property
    def row(self) -> Any:
        """What is asked."""


class Job(Generic[Row]):
    """A row that waits for its answer, and all who wait with it.

    Attributes:
        row: what is asked.
        future: gets the answer; cancelled when nobody waits any more.
        cancelled: whether nobody waits any more; a waiting row is left out then, one in work ends with its next token.
        on_text: takes each new piece of text, in the model's thread; None while nobody hears them.
        submitted: when it came, on the loop's clock.
    """

    def __init__(self, row: Row) -> None:
        self._loop = asyncio.get_running_loop()
        self.row, self.submitted = row, self._loop.time()
        self.future: asyncio.Future[Outcome] = self._loop.create_future()
        self.cancelled = False
        self.on_text: Callable[[str], None] | None = None
        self._said = ""
        self._waiters: list[Waiter[Row]] = []

    def join(self, on_text: Callable[[str], None] | None = None) -> "Waiter[Row]":
        """One more who waits.

        Args:
            on_text: takes the text so far and each new piece, on the loop. A row that was in work when the first listener came
                has no pieces: then the answer is all there is.
        """
        waiter = Waiter(self, on_text)
        self._waiters.append(waiter)
        if on_text is not None:
            self.on_text = self._tell
            if self._said:
                on_text(self._said)
        return waiter

    def leave(self, waiter: "Waiter[Row]") -> None:
        """One who waits no more; the last one ends the job."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if not self._waiters and not self.future.done():
            self.cancelled = True
            self.future.cancel()

    def _tell(self, text: str) -> None:
        self._loop.call_soon_threadsafe(self._hear, text)

    def _hear(self, text: str) -> None:
        self._said += text
        for waiter in self._waiters:
            if waiter.on_text is not None:
                waiter.on_text(text)


class Waiter(Generic[Row]):
    """One who waits for a job.

    Attributes:
        job: the job.
        on_text: takes pieces of text.
    """

    def __init__(self, job: Job[Row], on_text: Callable[[str], None] | None) -> None:
        self.job, self.on_text = job, on_text

    def leave(self) -> None:
        """Waits no more; may be said twice, and after the answer."""
        self.job.leave(self)


@dataclass(frozen=True)
class Again:
    """A row that is tried once more on its own. What it had said may have been heard, so that it says nothing again."""

    job: Job[Any]
    on_text: Callable[[str], None] | None = None

    @property
    def row(self) -> Any:
        """What is asked."""
        return self.job.row

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return self.job.cancelled


async def answers(waiters: Sequence[Waiter[Row]]) -> list[Outcome]:
    """Waits for the answers of several; whoever gives up waiting takes nothing from others.

    Raises:
        WorkFailedError: one has none.
    """
    futures = [waiter.job.future for waiter in waiters]
    if futures:
        done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
        for future in done:
            future.result()
    return [future.result() for future in futures]
