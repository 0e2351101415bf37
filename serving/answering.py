"""Answers of the API: the cache first, then a place in the queue, then the model; each within its time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from .batching import Batcher, Job, QueueFullError, WorkFailedError
from .cache import AnswerCache
from .explaining import ExplainingModel, Prepared, UnknownIdError
from .guards import harmless
from .metrics import Metrics
from .options import ServeOptions

Result = TypeVar("Result")
Answer = dict[str, Any]


class BadRowError(ValueError):
    """A row that cannot be explained."""


class Answering:
    """What stands between requests and the model; for one event loop.

    Args:
        model: loaded.
        options: of the server.
        metrics: where is counted.

    Attributes:
        model: the same.
        cache: of explanations.
        batcher: of model calls.
    """

    def __init__(self, model: ExplainingModel, options: ServeOptions, metrics: Metrics) -> None:
        self.model, self.options, self.metrics = model, options, metrics
        self.cache = AnswerCache(options.cache, model.revision)
        self.batcher = Batcher(self._work, options.max_batch, options.deadline_ms / 1000, options.queue, metrics.on_batch)
        metrics.watch(self.batcher, self.cache)
        # Prompts and evidence cost the processor milliseconds a row: neither the loop nor the model waits for them.
        self._side = ThreadPoolExecutor(1, thread_name_prefix="xrec-side")

    def start(self) -> None:
        """Begins to work, on the running loop."""
        self.batcher.start()

    async def close(self) -> None:
        """Finishes what was begun and ends all threads."""
        await self.batcher.close()
        self._side.shutdown()

    def is_ready(self) -> bool:
        """Whether the model works, and its present call has not run longer than a request may take."""
        return self.batcher.is_alive() and self.batcher.working_for() <= self.options.timeout

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Holds places in the queue for a block.

        Raises:
            BadRowError: more than there ever are.
            QueueFullError: more than are free now.
        """
        if count > self.batcher.bound:
            raise BadRowError(f"expected at most {self.batcher.bound} rows for this server, found {count}; send fewer")
        with ExitStack() as held:
            try:
                held.enter_context(self.batcher.places(count))
            except QueueFullError:
                self.metrics.rejected.inc()
                raise
            yield

    async def explain(self, rows: Sequence[dict[str, Any]], evidence: bool) -> list[Answer]:
        """Explains rows, in order.

        Args:
            rows: of the pipeline.
            evidence: whether to say what each score rests on.

        Raises:
            UnknownIdError: an id that the model does not know.
            BadRowError: another row that cannot be explained.
            QueueFullError: no place in the queue.
            WorkFailedError: the model failed.
            TimeoutError: it took too long.
        """
        with self.places(len(rows)):
            async with asyncio.timeout(self.options.timeout):
                prepared = await self._aside(lambda: self._prepare(rows))
                answers = await self._answers(prepared)
                if evidence:
                    parts = await self._aside(lambda: [self.model.evidence(row) for row in prepared])
                    answers = [{**answer, "evidence": part} for answer, part in zip(answers, parts, strict=True)]
                return answers

    async def recommend(self, user_id: str, k: int, explain: bool) -> list[Answer]:
        """A user's best items, with their explanations where asked for.

        Raises:
            UnknownIdError: a user that the model does not know.
            BadRowError: more to explain than there are places.
            QueueFullError: no place in the queue.
            WorkFailedError: the model failed.
            TimeoutError: it took too long.
        """
        with self.places(1):
            async with asyncio.timeout(self.options.timeout):
                items = await self._aside(lambda: self.model.recommend(user_id, k))
        if not explain or not items:
            return items
        found = await self.explain([{"user_id": user_id, "item_id": item["item_id"]} for item in items], False)
        return [{**item, "explanation": one} for item, one in zip(items, found, strict=True)]

    async def prepare(self, row: dict[str, Any]) -> Prepared:
        """Prepares a row to stream; raises as `explain`."""
        async with asyncio.timeout(self.options.timeout):
            return (await self._aside(lambda: self._prepare([row])))[0]

    async def events(self, row: Prepared, evidence: bool) -> AsyncIterator[str]:
        """Server-sent events of one row; in a block that holds its place.

        Yields:
            `token` with a piece of text, as often as there is one; then `done` with the whole answer, or `error`.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        cached = self.cache.get(row.key)
        job: Job[Prepared] | None = None
        try:
            async with asyncio.timeout(self.options.timeout):
                if cached is None:
                    job = self.batcher.submit(row, lambda text: _put(loop, pieces, text))
                    job.future.add_done_callback(lambda _: pieces.put_nowait(None))
                    while (piece := await pieces.get()) is not None:
                        yield event("token", {"text": piece})
                    answer = {**self._keep(row, await job.future), "cached": False}
                else:
                    answer = {**cached, "cached": True}
                    yield event("token", {"text": answer["explanation"]})
                if evidence:
                    answer["evidence"] = await self._aside(lambda: self.model.evidence(row))
            yield event("done", {"model": self.model.revision, "notes": self.model.notes, **answer})
        except WorkFailedError as error:
            yield event("error", {"detail": str(error)})
        except TimeoutError:
            yield event("error", {"detail": f"expected an answer within {self.options.timeout:g} s, found none; try again"})
        finally:
            if job is not None:
                job.cancel()

    async def _answers(self, rows: Sequence[Prepared]) -> list[Answer]:
        found: dict[Any, Answer] = {}
        jobs: dict[Any, Job[Prepared]] = {}
        for key, row in {row.key: row for row in rows}.items():
            if (cached := self.cache.get(key)) is not None:
                found[key] = {**cached, "cached": True}
            else:
                jobs[key] = self.batcher.submit(row)
        try:
            for (key, job), answer in zip(jobs.items(), await asyncio.gather(*(j.future for j in jobs.values())), strict=True):
                found[key] = {**self._keep(job.row, answer), "cached": False}
        finally:
            for job in jobs.values():
                job.cancel()
        return [found[row.key] for row in rows]

    def _keep(self, row: Prepared, answer: Answer) -> Answer:
        self.cache.put(row.key, answer)
        return answer

    def _prepare(self, rows: Sequence[dict[str, Any]]) -> list[Prepared]:
        prepared = []
        for number, row in enumerate(rows):
            where = f"row {number}: " if len(rows) > 1 else ""
            try:
                prepared.append(self.model.prepare(row))
            except UnknownIdError as error:
                raise UnknownIdError(f"{where}{error}") from None
            except ValueError as error:
                raise BadRowError(f"{where}{error}") from None
        return prepared

    def _work(self, jobs: Sequence[Job[Prepared]]) -> list[Answer]:
        return self.model.explain([job.row for job in jobs], jobs)

    async def _aside(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._side, call)


def event(name: str, data: Any) -> str:
    """A server-sent event; its data is one line of JSON."""
    return f"event: {name}\ndata: {harmless(json.dumps(data, ensure_ascii=False, allow_nan=False))}\n\n"


def _put(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[str | None], text: str) -> None:
    loop.call_soon_threadsafe(pieces.put_nowait, text)
