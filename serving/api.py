"""The HTTP API: explanations, recommendations, and the server's own state."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from .answering import Answering
from .catalogue_routes import catalogue_routes
from .explaining import ExplainingModel
from .guards import Guards, SafeJSONResponse, problem
from .metrics import Metrics
from .options import ServeOptions
from .page import page_routes
from .problems import PROBLEMS, ClientGoneError, add_problems
from .schemas import (
    MAX_ID,
    MAX_K,
    RECOMMEND_EXAMPLES,
    REQUEST_EXAMPLES,
    ExplainRequest,
    Explanations,
    Problem,
    Recommendations,
    RecommendRequest,
    State,
)

Result = TypeVar("Result")
EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {"event": {"enum": ["token", "done", "error"]}, "data": {"type": "string", "description": "JSON"}},
}
STREAMED = {"text/event-stream": {"itemSchema": EVENT, "example": 'event: token\ndata: {"text": "The user"}\n\n'}}
FIND_KEY = HTTPBearer(auto_error=False, description="where the server was started with keys")


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
    keys = [Depends(FIND_KEY)] if options.keys else []
    for routes in (_explanations(answering), _recommendations(answering), catalogue_routes(answering)):
        app.include_router(routes, dependencies=keys)
    app.include_router(_state(answering, metrics))
    app.include_router(page_routes())
    app.add_middleware(Guards, keys=options.keys, max_body=options.max_body, timeout=options.timeout, metrics=metrics)
    add_problems(app, options, metrics)
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
        found = await _unless_gone(request, answering.explain(asked.rows(), asked.evidence, asked.claims))
        return SafeJSONResponse({**about, "explanations": found})

    return routes


def _recommendations(answering: Answering) -> APIRouter:
    """Routes of what the graph recommends."""
    routes = APIRouter(prefix="/v1", responses=PROBLEMS)

    async def best(request: Request, asked: RecommendRequest) -> Response:
        found = await _unless_gone(request, answering.recommend(asked.who(), asked.k, asked.explain, asked.exclude))
        echo = {name: value for name, value in (("user_id", asked.user_id), ("history", asked.history)) if value is not None}
        masked = asked.history is not None or answering.model.graph is not None
        model = answering.model
        return SafeJSONResponse({"model": model.revision, "notes": model.notes, **echo, "masked": masked, "items": found})

    @routes.get("/recommend/{user_id:path}", response_model=Recommendations, response_model_exclude_none=True)
    async def recommend(
        request: Request,
        user_id: Annotated[str, Path(min_length=1, max_length=MAX_ID, examples=["u00000"])],
        k: Annotated[int, Query(ge=1, le=MAX_K, description="how many items")] = 10,
        explain: Annotated[bool, Query(description="whether to explain each item")] = False,
    ) -> Response:
        """Recommend a user's best items by the inner product of the graph's embeddings, without what it knows already."""
        return await best(request, RecommendRequest(user_id=user_id, k=k, explain=explain))

    @routes.post("/recommend", response_model=Recommendations, response_model_exclude_none=True)
    async def recommend_for(
        request: Request, asked: Annotated[RecommendRequest, Body(openapi_examples=RECOMMEND_EXAMPLES)]
    ) -> Response:
        """Recommend the best items of a user, or of an unseen one by the items that it liked, but for those to leave out."""
        return await best(request, asked)

    return routes


def _state(answering: Answering, metrics: Metrics) -> APIRouter:
    """Routes of what the server says of itself."""
    routes = APIRouter()

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
        return EventStream(answering.events(row, asked.evidence, asked.claims), held.pop_all())


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
