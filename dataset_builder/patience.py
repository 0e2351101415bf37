"""How long to wait for a teacher: the pace of questions, the pause after a failure, and when an endpoint counts as down."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import DataError
from .teacher import TeacherBusy, TeacherError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def pause_after(attempt: int, first: float, longest: float, retry_after: float | None = None) -> float:
    """Seconds to wait before asking again: exponential backoff with full jitter, on top of what the endpoint asks for.

    Args:
        attempt: how many tries have failed, at least 1.
        first: longest pause after the first.
        longest: what no pause exceeds but by `first`, whatever the endpoint asks for.
        retry_after: seconds the endpoint asks for.
    """
    if retry_after is not None:
        # Those that were sent away together do not come back together.
        return min(retry_after, longest) + random.uniform(0, first)
    return random.uniform(0, min(longest, first * 2 ** min(attempt - 1, 60)))


class Pace:
    """Lets one question through every `1 / per_second` seconds; all at once where that is None."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next free moment."""
        if not self._gap:
            return
        now = asyncio.get_running_loop().time()
        moment = max(now, self._next)
        self._next = moment + self._gap
        await asyncio.sleep(moment - now)


class Breaker:
    """Stops asking an endpoint that is down, looks after it with one question at a time, and gives up in the end.

    Args:
        failures: how many tries fail in a row, none answered between, before the endpoint counts as down.
        wait: seconds before each question that looks after it.
        tries: how many such questions fail before giving up.
    """

    def __init__(self, failures: int, wait: float, tries: int) -> None:
        self._failures, self._wait, self._tries = failures, wait, tries
        self._failed = self._probed = 0
        self._probe = asyncio.Lock()  # first come, first served: every probe is another row's
        self._healthy = asyncio.Event()
        self._healthy.set()

    @property
    def down(self) -> bool:
        """Whether the endpoint counts as down."""
        return not self._healthy.is_set()

    async def attempt(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Make one try, at once or, while the endpoint is down, when it is this one's turn to look after it.

        Raises:
            DataError: the endpoint stayed down.
            TeacherError: as `ask` raises it.
        """
        if self.down:
            async with self._probe:
                if self.down:
                    with contextlib.suppress(TimeoutError):  # an answer to an earlier question may end the wait
                        await asyncio.wait_for(self._healthy.wait(), self._wait)
                if self.down:
                    return await self._watch(ask, probe=True)
        return await self._watch(ask, probe=False)

    async def _watch(self, ask: Callable[[], Awaitable[Result]], probe: bool) -> Result:
        try:
            result = await ask()
        except TeacherBusy as error:
            if error.alive:
                self._works()
            else:
                self._fails(str(error), probe)
            raise
        except TeacherError:
            self._works()
            raise
        self._works()
        return result

    def _works(self) -> None:
        if self.down:
            logger.warning("the teacher answers again")
        self._failed = self._probed = 0
        self._healthy.set()

    def _fails(self, reason: str, probe: bool) -> None:
        self._failed += 1
        self._probed += probe
        if self._probed >= self._tries:
            raise DataError(
                f"expected the teacher to answer, found {reason} {self._probed} times after waiting {self._wait:g} s; "
                "look after the endpoint and run this again: what was answered is kept"
            ) from None
        if not self.down and self._failed >= self._failures:
            self._healthy.clear()
            text = "the teacher failed (%d in a row, the last: %s); asking one question every %g s, %d times at most"
            logger.warning(text, self._failed, reason, self._wait, self._tries)
