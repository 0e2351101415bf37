"""Many questions to a teacher at once: each asked until it is answered, checked, recorded, or listed as failed."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from tqdm import tqdm

from .ask_options import AskOptions, Counts
from .errors import DataError
from .journal import Journal
from .patience import Breaker, Pace, pause_after
from .teacher import Answer, Rejected, Request, Teacher, TeacherBusy, TeacherError

Accept = Callable[[Request, Answer], Any]
"""What is kept of an answer, a str or dict; raises `Rejected` where it is not usable."""
Repair = Callable[[Request, Answer, Rejected], Request | None]
"""The request that asks for a better answer, None where there is no point."""
Collect = Callable[[Request, Any], None]
"""Takes a request and what is kept of its answer, once that is on the disk."""

CHARACTERS_PER_TOKEN = 100
"""More than a text has; an answer beyond it ignored `max_tokens`."""
BREATH = 0.02
"""Seconds of reading the journal after which answers that have come are looked at."""


@dataclass
class Asked:
    """What a run came to.

    Args:
        answers: what was kept, by the request's hash; empty where the caller collected it.
        failures: requests without a usable answer, and why.
        counts: of rows, tries, tokens.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    failures: list[tuple[Request, str]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


def ask(
    requests: Iterable[Request],
    teacher: Teacher,
    journal: Journal,
    accept: Accept,
    repair: Repair | None = None,
    options: AskOptions | None = None,
    progress: bool = True,
    collect: Collect | None = None,
) -> Asked:
    """Put every request whose answer is not in the journal to the teacher.

    Requests are read one by one as there is room for them, and an answer is recorded before another request takes its
    place: at any moment at most `concurrency` of them are unrecorded. Rows of the same hash are asked once. An answer that
    `accept` rejects gets one second request, of `repair`'s making; when that is accepted it is recorded as the first one's
    answer. Whatever else fails is listed in the journal, and asked again by the next run. The teacher is closed at the end.

    Args:
        requests: any number of them; read in the event loop, so they should be quick to make.
        teacher: who answers.
        journal: where answers are read and recorded; open, and left open.
        accept: what is kept of an answer; asked again of recorded ones.
        repair: makes the second request.
        options: default ones where None.
        progress: show a progress bar on standard error.
        collect: takes what is kept, one row after another, in place of `Asked.answers`: memory then stays flat.

    Raises:
        DataError: the teacher stays down or has no answer for anybody, or the journal cannot be written; what was recorded
            stays.
    """
    total = len(requests) if isinstance(requests, Sized) else None
    bar = tqdm(total=total, desc="ask", unit="text", disable=not progress)

    async def run() -> Asked:
        return await _Run(iter(requests), teacher, journal, accept, repair, options or AskOptions(), bar, collect).finish()

    with bar:
        return _in_a_loop(run)


def _in_a_loop(run: Callable[[], Coroutine[Any, Any, Asked]]) -> Asked:
    """Run to the end, in a thread where this one's event loop is busy, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run())
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []

    async def noted() -> Asked:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (asyncio.run makes one)
        started.append((asyncio.get_running_loop(), task))
        return await run()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: asyncio.run(noted()))
        try:
            return future.result()
        except KeyboardInterrupt:
            for loop, task in started:
                loop.call_soon_threadsafe(task.cancel)
            raise


@dataclass
class _Row:
    """A request on its way: the tokens spent on it, and whether it has been put back once."""

    request: Request
    prompt_tokens: int = 0
    completion_tokens: int = 0
    put_back: bool = False


class _Run:
    """One call of `ask`: as many workers as questions may be in flight, which share what is left to ask."""

    def __init__(
        self,
        requests: Iterator[Request],
        teacher: Teacher,
        journal: Journal,
        accept: Accept,
        repair: Repair | None,
        options: AskOptions,
        bar: tqdm,
        collect: Collect | None,
    ) -> None:
        self.requests, self.teacher, self.journal, self.options, self.bar = requests, teacher, journal, options, bar
        self.accept, self.repair = accept, repair
        self.breaker = Breaker(options.breaker_failures, options.breaker_wait, options.breaker_tries)
        self.pace = Pace(options.requests_per_second)
        self.asked = Asked()
        self.counts = self.asked.counts
        self.collect = collect or self._keep
        self.in_flight: dict[str, list[Request]] = {}  # by hash: the rows that wait for the same answer
        self.failed: dict[str, str] = {}
        self.later: deque[_Row] = deque()  # out of tries while the teacher was down
        self.fresh = 0  # questions begun, which `limit` bounds
        self.failed_in_a_row = 0

    def _keep(self, request: Request, kept: Any) -> None:
        self.asked.answers[request.hash] = kept

    async def finish(self) -> Asked:
        start = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.options.concurrency):
                    group.create_task(self._work())
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            with contextlib.suppress(Exception):  # the run's own outcome says more
                await self.teacher.close()
        self.counts.seconds = time.perf_counter() - start
        self.counts.cost = self._cost()
        return self.asked

    async def _work(self) -> None:
        while (row := await self._next()) is not None:
            await self._serve(row)

    async def _next(self) -> _Row | None:
        """The next row that has to be asked; those that need not be are settled on the way."""
        breath = time.perf_counter() + BREATH
        for request in self.requests:
            self.counts.rows += 1
            if self._must_ask(request):
                return _Row(request)
            if time.perf_counter() > breath:
                await asyncio.sleep(0)
                breath = time.perf_counter() + BREATH
        return self.later.popleft() if self.later else None

    def _must_ask(self, request: Request) -> bool:
        if request.hash in self.in_flight:
            self.in_flight[request.hash].append(request)
            return False
        if request.hash in self.failed:
            self._count_failed(request, self.failed[request.hash])
            return False
        answer = self.journal.get(request.hash)
        if answer is not None:
            with contextlib.suppress(Rejected):  # what is accepted has become stricter: ask again
                self._settle(request, self.accept(request, answer), "from_journal")
                return False
        if self.options.limit is not None and self.fresh >= self.options.limit:
            self._count("left_out")
            return False
        self.fresh += 1
        self.in_flight[request.hash] = []
        return True

    async def _serve(self, row: _Row) -> None:
        """See one question through: asked, checked, asked for better, recorded or listed."""
        request = row.request
        try:
            answer, kept = await self._usable(row)
        except Rejected as error:
            self.failed_in_a_row = 0  # the teacher answers, if badly
            await self._fail(row, str(error))
            return
        except TeacherError as error:
            if isinstance(error, TeacherBusy) and self.breaker.down and not row.put_back:
                row.put_back = True  # the teacher's fault, not the row's
                self.later.append(row)
                return
            await self._fail(row, str(error))
            self.failed_in_a_row += 1
            if self.failed_in_a_row >= self.options.stop_after:
                raise DataError(
                    f"expected answers, found {self.failed_in_a_row} failures in a row, the last: {_line(str(error))}; "
                    "mend that and run this again: what was answered is kept"
                ) from None
            return
        self.failed_in_a_row = 0
        spent = replace(answer, prompt_tokens=row.prompt_tokens, completion_tokens=row.completion_tokens)
        await asyncio.wrap_future(self.journal.record(request, spent))
        self._settle(request, kept, "answered")
        for twin in self.in_flight.pop(request.hash):
            try:
                self._settle(twin, self.accept(twin, spent), "from_journal")
            except Rejected as error:
                self._count_failed(twin, _line(str(error)))

    async def _usable(self, row: _Row) -> tuple[Answer, Any]:
        """The answer to a row's question, or to the one second question, and what is kept of it."""
        answer = await self._patiently(row, row.request)
        try:
            _check(row.request, answer)
            return answer, self.accept(row.request, answer)
        except Rejected as error:
            second = self.repair(row.request, answer, error) if self.repair else None
            if second is None:
                raise
        answer = await self._patiently(row, second)
        _check(second, answer)
        kept = self.accept(row.request, answer)
        self.counts.repaired += 1
        return answer, kept

    async def _patiently(self, row: _Row, request: Request) -> Answer:
        """Ask until there is an answer or there are no tries left."""
        for attempt in range(1, self.options.attempts + 1):
            self.counts.retried += attempt > 1
            try:
                answer = await self.breaker.attempt(lambda: self._once(request))
            except TeacherBusy as error:
                if attempt == self.options.attempts:
                    raise TeacherBusy(f"{attempt} tries, the last: {error}") from None
                await asyncio.sleep(pause_after(attempt, self.options.backoff, self.options.longest_pause, error.retry_after))
                continue
            row.prompt_tokens += answer.prompt_tokens
            row.completion_tokens += answer.completion_tokens
            self.counts.prompt_tokens += answer.prompt_tokens
            self.counts.completion_tokens += answer.completion_tokens
            return answer
        raise AssertionError("at least one attempt")

    async def _once(self, request: Request) -> Answer:
        await self.pace.turn()
        self.counts.tries += 1
        try:
            async with asyncio.timeout(self.options.timeout):
                answer = await self.teacher.answer(request)
        except TimeoutError:
            raise TeacherBusy(
                "no answer in time" if self.options.timeout is None else f"no answer in {self.options.timeout:g} s"
            ) from None
        return replace(answer, text=_encodable(answer.text))

    async def _fail(self, row: _Row, reason: str) -> None:
        reason = _line(reason)
        await asyncio.wrap_future(self.journal.fail(row.request, reason, row.prompt_tokens, row.completion_tokens))
        self.failed[row.request.hash] = reason
        for request in (row.request, *self.in_flight.pop(row.request.hash)):
            self._count_failed(request, reason)

    def _count_failed(self, request: Request, reason: str) -> None:
        self.asked.failures.append((request, reason))
        self._count("failed")

    def _settle(self, request: Request, kept: Any, how: str) -> None:
        self.collect(request, kept)
        self._count(how)

    def _count(self, how: str) -> None:
        setattr(self.counts, how, getattr(self.counts, how) + 1)
        if self.bar.disable:
            return
        if (cost := self._cost()) is not None:
            self.bar.set_postfix_str(f"cost {cost:.4f}", refresh=False)
        self.bar.update()

    def _cost(self) -> float | None:
        return self.options.cost(self.counts.prompt_tokens, self.counts.completion_tokens)


def _check(request: Request, answer: Answer) -> None:
    """Refuse what no answer may be, whatever the question.

    Raises:
        Rejected: it is empty, or was cut, or is longer than it can be.
        TeacherError: a filter took it.
    """
    if answer.finish_reason == "content_filter":
        raise TeacherError("the teacher's content filter withheld the answer")
    if answer.finish_reason == "length":
        raise Rejected(f"cut at the limit of {request.max_tokens} tokens")
    if not answer.text.strip():
        raise Rejected("an empty answer")
    if len(answer.text) > CHARACTERS_PER_TOKEN * request.max_tokens:
        raise Rejected(f"{len(answer.text)} characters, more than {request.max_tokens} tokens make")


def _encodable(text: str) -> str:
    """The text with the halves of characters that UTF-8 has no code for replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(text: str) -> str:
    """One printable line of at most 300 characters."""
    return "".join(character if character.isprintable() else " " for character in text)[:300]


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The error that ended the run, which those of the other workers followed."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]  # type: ignore[assignment]
    return errors
