"""Answers of the API: the cache first, then a place in the queue, then the model; each within its time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from .batching import Batcher, QueueFullError, WorkFailedError
from .cache import AnswerCache
from .explaining import ExplainingModel, Prepared, UnknownIdError
from .guards import harmless
from .jobs import Task, Waiter, answers
from .metrics import Metrics
from .options import ServeOptions

Result = TypeVar("Result")
Answer = dict[str, Any]
CLAIM_ROWS = 8
"""Rows whose claims are checked at a time."""


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
        # Claims cost an encoder's call, which nobody who only looks something up should wait for.
        self._checking = ThreadPoolExecutor(1, thread_name_prefix="xrec-claims")

    def start(self) -> None:
        """Begins to work, on the running loop."""
        self.batcher.start()

    async def close(self) -> None:
        """Finishes what was begun and ends all threads."""
        await self.batcher.close()
        self._side.shutdown()
        self._checking.shutdown()

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

    async def explain(self, rows: Sequence[dict[str, Any]], evidence: bool, claims: bool = False) -> list[Answer]:
        """Explains rows, in order.

        Args:
            rows: of the pipeline.
            evidence: whether to say what each score rests on.
            claims: whether to check what each text claims.

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
                found = await self._answers(prepared)
                return await self._with_more(prepared, found, evidence, claims)

    async def look_up(self, call: Callable[[ExplainingModel], Result]) -> Result:
        """What a short call of the model gives, in a thread and in a place of the queue.

        Raises:
            UnknownIdError: an id that the model does not know.
            BadRowError: what cannot be looked up for another reason.
            QueueFullError: no place in the queue.
            TimeoutError: it took too long.
        """
        with self.places(1):
            async with asyncio.timeout(self.options.timeout):
                try:
                    return await self._aside(lambda: call(self.model))
                except UnknownIdError:
                    raise
                except ValueError as error:
                    raise BadRowError(str(error)) from None

    async def recommend(self, who: dict[str, Any], k: int, explain: bool, exclude: Sequence[str] = ()) -> list[Answer]:
        """The best items of a user or a history, with their explanations where asked for.

        Args:
            who: `user_id` or `history`.
            k: how many items.
            explain: whether to explain them.
            exclude: ids of items to leave out beside what is known already.

        Raises:
            UnknownIdError: a user or an item that the model does not know.
            BadRowError: more to explain than there are places, or a model without histories.
            QueueFullError: no place in the queue.
            WorkFailedError: the model failed.
            TimeoutError: it took too long.
        """
        items = await self.look_up(lambda model: model.recommend(next(iter(who.values())), k, exclude))
        if not explain or not items:
            return items
        found = await self.explain([{**who, "item_id": item["item_id"]} for item in items], False)
        return [{**item, "explanation": one} for item, one in zip(items, found, strict=True)]

    async def prepare(self, row: dict[str, Any]) -> Prepared:
        """Prepares a row to stream; raises as `explain`."""
        async with asyncio.timeout(self.options.timeout):
            return (await self._aside(lambda: self._prepare([row])))[0]

    async def events(self, row: Prepared, evidence: bool, claims: bool = False) -> AsyncIterator[str]:
        """Server-sent events of one row; in a block that holds its place.

        Yields:
            `token` with a piece of text, as often as there is one; then `done` with the whole answer, or `error`.
        """
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        cached = self.cache.get(row.key)
        waiter: Waiter[Prepared] | None = None
        said = ""
        try:
            async with asyncio.timeout(self.options.timeout):
                if cached is None:
                    waiter = self.batcher.submit(row, row.key, pieces.put_nowait)
                    waiter.job.future.add_done_callback(lambda _: pieces.put_nowait(None))
                    while (piece := await pieces.get()) is not None:
                        said += piece
                        yield event("token", {"text": piece})
                    answer = {**self._keep(row, waiter.job.future.result()), "cached": False}
                else:
                    answer = {**cached, "cached": True}
                whole = answer["explanation"]
                if whole != said and whole.startswith(said):  # all of it, where the row came from a call without listeners
                    yield event("token", {"text": whole[len(said) :]})
                [answer] = await self._with_more([row], [answer], evidence, claims)
            yield event("done", {"model": self.model.revision, "notes": self.model.notes, **answer})
        except WorkFailedError as error:
            yield event("error", {"detail": str(error)})
        except TimeoutError:
            yield event("error", {"detail": f"expected an answer within {self.options.timeout:g} s, found none; try again"})
        finally:
            if waiter is not None:
                waiter.leave()

    async def _answers(self, rows: Sequence[Prepared]) -> list[Answer]:
        found: dict[Any, Answer] = {}
        waiters: dict[Any, Waiter[Prepared]] = {}
        for key, row in {row.key: row for row in rows}.items():
            if (cached := self.cache.get(key)) is not None:
                found[key] = {**cached, "cached": True}
            else:
                waiters[key] = self.batcher.submit(row, key)
        try:
            for (key, waiter), answer in zip(waiters.items(), await answers(list(waiters.values())), strict=True):
                found[key] = {**self._keep(waiter.job.row, answer), "cached": False}
        finally:
            for waiter in waiters.values():
                waiter.leave()
        return [found[row.key] for row in rows]

    async def _with_more(
        self, rows: Sequence[Prepared], found: Sequence[Answer], evidence: bool, claims: bool
    ) -> list[Answer]:
        """Answers with what was asked for beside the texts; None in its place where the model has no data."""
        whole = [dict(answer) for answer in found]
        if evidence:
            for answer, parts in zip(
                whole, await self._aside(lambda: [self.model.evidence(row) for row in rows]), strict=True
            ):
                answer["evidence"] = parts
        if claims:
            loop = asyncio.get_running_loop()
            for start in range(0, len(rows), CLAIM_ROWS):  # a request that is given up waits for no more than these
                part, of = rows[start : start + CLAIM_ROWS], whole[start : start + CLAIM_ROWS]
                texts = [answer["explanation"] for answer in of]
                checked = await loop.run_in_executor(self._checking, self.model.claims, part, texts)
                for answer, one in zip(of, checked, strict=True):
                    answer["claims"] = one
        return whole

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

    def _work(self, jobs: Sequence[Task]) -> list[Answer]:
        return self.model.explain([job.row for job in jobs], jobs)

    async def _aside(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._side, call)


def event(name: str, data: Any) -> str:
    """A server-sent event; its data is one line of JSON."""
    return f"event: {name}\ndata: {harmless(json.dumps(data, ensure_ascii=False, allow_nan=False))}\n\n"
