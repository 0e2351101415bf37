"""The HTTP API: explanations, recommendations, and the server's own state."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from .answering import Answering, BadRowError
from .batching import QueueFullError, WorkFailedError
from .explaining import ExplainingModel, UnknownIdError
from .guards import Guards, SafeJSONResponse, problem
from .metrics import Metrics
from .options import ServeOptions
from .page import CONTENT_POLICY, PAGE
from .schemas import (
    MAX_K,
    REQUEST_EXAMPLES,
    ExplainRequest,
    Explanations,
    Problem,
    Recommendations,
    State,
)

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
CLIENT_GONE = 499
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body cannot be read"},
    401: {"model": Problem, "description": "No key that the server knows"},
    404: {"model": Problem, "description": "An id that the model does not know"},
    408: {"model": Problem, "description": "The body came too slowly"},
    413: {"model": Problem, "description": "The body is too long"},
    422: {"model": Problem, "description": "The request cannot be used"},
    429: {
        "model": Problem,
        "description": "The queue is full",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds to wait"}},
    },
    500: {"model": Problem, "description": "The model failed"},
    504: {"model": Problem, "description": "It took too long"},
}
EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {"event": {"enum": ["token", "done", "error"]}, "data": {"type": "string", "description": "JSON"}},
}
STREAMED = {"text/event-stream": {"itemSchema": EVENT, "example": 'event: token\ndata: {"text": "The user"}\n\n'}}
FIND_KEY = HTTPBearer(auto_error=False, description="where the server was started with keys")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class EventStream(StreamingResponse):
    """Server-sent events that give something back when they end, however they end.

    Args:
        events: the events.
        held: closed at the end.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], held: ExitStack) -> None:
        super().__init__(events, headers={"x-accel-buffering": "no"})
        self._events, self._held = events, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events; stops when the client goes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._held.close()
            await self._events.aclose()  # type: ignore[attr-defined]  # it is a generator


def create_app(options: ServeOptions, model: ExplainingModel | None = None) -> FastAPI:
    """The application of a server; `app.state.answering` is what answers.

    Args:
        options: of the server.
        model: loaded; loaded now when None.

    Raises:
        DataError: the model cannot be served.
    """
    metrics = Metrics()
    answering = Answering(ExplainingModel(options) if model is None else model, options, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        answering.start()
        yield
        await answering.close()

    app = FastAPI(
        title="XRec",
        summary="Why was this recommended?",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        default_response_class=SafeJSONResponse,
    )
    app.state.answering, app.state.metrics = answering, metrics
    app.include_router(_explanations(answering), dependencies=[Depends(FIND_KEY)] if options.keys else [])
    app.include_router(_state(answering, metrics))
    app.add_middleware(Guards, keys=options.keys, max_body=options.max_body, timeout=options.timeout, metrics=metrics)
    _add_problems(app, options, metrics)
    return app


def _explanations(answering: Answering) -> APIRouter:
    """Routes of what the model answers."""
    routes = APIRouter(prefix="/v1", responses=PROBLEMS)
    about = {"model": answering.model.revision, "notes": answering.model.notes}

    @routes.post(
        "/explain",
        response_model=Explanations,
        response_model_exclude_none=True,
        responses={200: {"description": "Explanations, or with stream server-sent events", "content": STREAMED}},
    )
    async def explain(request: Request, asked: Annotated[ExplainRequest, Body(openapi_examples=REQUEST_EXAMPLES)]) -> Response:
        """Explain pairs of a user and an item, or of the items that an unseen user liked and an item.

        With `stream` the answer is server-sent events: `token` with a piece of text each, then `done` with the whole
        answer, or `error`.
        """
        if asked.stream:
            return await _stream(answering, asked)
        found = await _unless_gone(request, answering.explain(asked.rows(), asked.evidence))
        return SafeJSONResponse({**about, "explanations": found})

    @routes.get("/recommend/{user_id:path}", response_model=Recommendations, response_model_exclude_none=True)
    async def recommend(
        request: Request,
        user_id: Annotated[str, Path(min_length=1, max_length=256, examples=["u00000"])],
        k: Annotated[int, Query(ge=1, le=MAX_K, description="how many items")] = 10,
        explain: Annotated[bool, Query(description="whether to explain each item")] = False,
    ) -> Response:
        """Recommend a user's best items by the inner product of the graph's embeddings, without what it knows already."""
        found = await _unless_gone(request, answering.recommend(user_id, k, explain))
        masked = answering.model.graph is not None
        return SafeJSONResponse({**about, "user_id": user_id, "masked": masked, "items": found})

    return routes


def _state(answering: Answering, metrics: Metrics) -> APIRouter:
    """Routes of what the server says of itself."""
    routes = APIRouter()

    @routes.get("/", response_class=HTMLResponse)
    async def page() -> Response:
        """Say what the API offers."""
        return HTMLResponse(PAGE, headers={"content-security-policy": CONTENT_POLICY})

    @routes.get("/healthz", response_model=State, response_model_exclude_none=True)
    async def health() -> Response:
        """Say whether the server lives."""
        return SafeJSONResponse({"status": "ok"})

    @routes.get("/readyz", response_model=State, responses={503: {"model": Problem, "description": "It does not work now"}})
    async def ready() -> Response:
        """Say whether the model works."""
        if not answering.is_ready():
            return problem(503, "the model does not answer now; see the server's log")
        return SafeJSONResponse({"status": "ok", "model": answering.model.revision})

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def figures() -> Response:
        """Give the server's figures to Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


async def _stream(answering: Answering, asked: ExplainRequest) -> Response:
    """Server-sent events of the only row of a request; whatever fails before the first one has its status code."""
    with ExitStack() as held:
        held.enter_context(answering.places(1))
        row = await answering.prepare(asked.rows()[0])
        return EventStream(answering.events(row, asked.evidence), held.pop_all())


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Waits for work, and cancels it when the client goes.

    Raises:
        ClientGoneError: the client went.
    """
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_problems(app: FastAPI, options: ServeOptions, metrics: Metrics) -> None:
    """Makes one line of everything that goes wrong."""

    def handle(kind: type[Exception] | int, answer: Callable[[Any], Response]) -> None:
        async def handler(request: Request, error: Exception) -> Response:
            return answer(error)

        app.add_exception_handler(kind, handler)

    def gone(error: ClientGoneError) -> Response:
        metrics.cancelled.inc()
        return Response(status_code=CLIENT_GONE)

    late = f"expected an answer within {options.timeout:g} s, found none; try again, or ask for fewer rows"
    handle(UnknownIdError, lambda error: problem(404, str(error)))
    handle(BadRowError, lambda error: problem(422, str(error)))
    handle(RequestValidationError, lambda error: problem(422, first_error(error)))
    handle(QueueFullError, lambda error: problem(429, str(error), {"retry-after": str(error.retry_after)}))
    handle(WorkFailedError, lambda error: problem(500, str(error)))
    handle(TimeoutError, lambda error: problem(504, late))
    handle(ClientGoneError, gone)
    handle(HTTPException, lambda error: problem(error.status_code, str(error.detail), error.headers))
    handle(Exception, lambda error: problem(500, "the server failed on this request; its log says why"))


def first_error(error: RequestValidationError) -> str:
    """The first thing that is wrong with a request: where, what was expected, and what was found."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return f"expected JSON in the body, found a mistake at character {first['loc'][-1]}: {first['ctx']['error']}"
    if first["loc"] == ("body",) and first["type"] in ("model_attributes_type", "missing"):
        return "expected a JSON object as the body, found none; send it with Content-Type: application/json"
    more = len(error.errors()) - 1
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" + (f" (and {more} more)" if more else "")
