"""What goes wrong, and the one line and the status that say so."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from .answering import BadRowError
from .batching import QueueFullError, WorkFailedError
from .explaining import UnknownIdError
from .guards import problem
from .metrics import Metrics
from .options import ServeOptions
from .schemas import Problem

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
"""Answers of every route under /v1 that are none, for the description of the API."""


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


def add_problems(app: FastAPI, options: ServeOptions, metrics: Metrics) -> None:
    """Makes one line of everything that goes wrong.

    Args:
        app: the application.
        options: of the server.
        metrics: where clients that went are counted.
    """

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
    if first["type"] == "extra_forbidden":
        message = "expected no such name here; mend or remove it (/openapi.json says which there are)"
    if first["loc"] == ("body",) and first["type"] == "value_error":
        return message
    return f"{where}: {message}" + (f" (and {more} more)" if more else "")
