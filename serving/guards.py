"""What stands before every request: keys, the size of bodies, slow senders; and what every answer says besides."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics

OPEN_PATHS = frozenset(("/", "/healthz", "/readyz", "/openapi.json"))
"""Asked without a key."""
PAGE_FILES = "/page/"
"""What the page loads, asked without a key too."""
DRAINED_BYTES = 2**24
"""Of a body that is too long, this much is read and thrown away, so that the sender gets to read the answer."""
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store", "referrer-policy": "no-referrer"}


class SafeJSONResponse(JSONResponse):
    """JSON that stays harmless when a page puts it into HTML: `<`, `>` and `&` are written as escapes."""

    def render(self, content: Any) -> bytes:
        """The content as bytes."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return harmless(text).encode("utf-8", errors="replace")


def harmless(text: str) -> str:
    """JSON text without the characters that mean something in HTML; it reads as the same values."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> SafeJSONResponse:
    """An answer that says in one line why there is none."""
    return SafeJSONResponse({"detail": " ".join(detail.split())[:400]}, status, {**HEADERS, **(headers or {})})


class KeyRing:
    """The keys that open the server.

    Args:
        keys: of which a request must bring one; none opens to all.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def opens(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header opens; takes the same time whichever key it holds, and however much of one."""
        if not self._digests:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", errors="replace")).digest()
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(found) and scheme.lower() == "bearer"


class Guards:
    """ASGI middleware that turns away what need not be read, and counts.

    Args:
        app: what comes after.
        keys: see `KeyRing`.
        max_body: longest body, in bytes.
        timeout: seconds in which a body must have come.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], max_body: int, timeout: float, metrics: Metrics) -> None:
        self._app, self._keys, self._max_body, self._timeout, self._metrics = app, KeyRing(keys), max_body, timeout, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._guard(scope, receive, send_more)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # never the path itself: anybody could invent more
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        is_open = scope["path"] in OPEN_PATHS or scope["path"].startswith(PAGE_FILES)
        if not is_open and not self._keys.opens(headers.get("authorization")):
            answer = problem(401, "expected a key that this server knows; send it as Authorization: Bearer KEY", WANTED)
            await answer(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._body(receive)
        except TimeoutError:
            await problem(408, f"expected the whole body within {self._timeout:g} s; send it faster", CLOSE)(
                scope, receive, send
            )
            return
        if body is None:
            detail = f"expected a body of at most {self._max_body} bytes, found a longer one; send fewer rows"
            await problem(413, detail, CLOSE)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _body(self, receive: Receive) -> list[Message] | None:
        """The messages of a whole body; None where it is too long."""
        kept: list[Message] = []
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if size <= self._max_body:
                kept.append(message)
            more = message["type"] == "http.request" and message.get("more_body", False)
            if not more or size > DRAINED_BYTES:
                return kept if size <= self._max_body else None


WANTED = {"www-authenticate": "Bearer"}
CLOSE = {"connection": "close"}


def _replay(messages: list[Message], receive: Receive) -> Receive:
    """Gives messages again, then whatever comes after them."""
    left = iter(messages)

    async def give() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return give
