"""A chat endpoint on the loopback interface that answers as a script says: well, late, broken or not at all."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Script = Callable[[dict, int], "Reply"]
"""Takes the body of a request and its number, from 0, and gives the reply."""


@dataclass(frozen=True)
class Reply:
    """One reply: `body` after `delay` seconds, or, with `cut`, only so many bytes of it and then a reset connection."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None


def completion(text: str | None, finish_reason: str | None = "stop", **message) -> Reply:
    """A chat completion of a text, which counts 10 tokens of the question and 2 of the answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    found = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(found).encode(), headers={"Content-Type": "application/json"})


def refusal(status: int, message: str = "no", headers: dict[str, str] | None = None, **error) -> Reply:
    """An error in the words of OpenAI's protocol."""
    body = json.dumps({"error": {"message": message, "type": "error", **error}}).encode()
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})


def content_of(body: dict) -> str:
    """The last message of a request."""
    return body["messages"][-1]["content"]


class ScriptedServer:
    """Serves in a thread of its own while it is entered; `requests` are the bodies that came, with their headers."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most_in_flight = self.connections = 0
        self._in_flight = 0

    def __enter__(self) -> "ScriptedServer":
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def asked(self, content: str) -> int:
        """How many requests ended in a message."""
        return sum(content_of(body) == content for body in self.requests)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        open_connections: set[asyncio.Task] = set()

        async def connected(reader, writer):
            task = asyncio.current_task()
            open_connections.add(task)
            self.connections += 1
            try:
                while await self._exchange(reader, writer):
                    pass
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                open_connections.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in open_connections:
            task.cancel()

    async def _exchange(self, reader, writer) -> bool:
        """One request and its reply; False where the connection is done with."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        number = len(self.requests)
        self.requests.append(body)
        self.headers.append(headers | {"path": head[0].split()[1]})
        self.times.append(self._loop.time())
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            reply = self.script(body, number)
            await asyncio.sleep(reply.delay)
        finally:
            self._in_flight -= 1
        lines = [f"HTTP/1.1 {reply.status} Scripted", f"Content-Length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body[: reply.cut])
        await writer.drain()
        if reply.cut is not None:
            await asyncio.sleep(0.02)  # until the client has read what came
        return reply.cut is None
