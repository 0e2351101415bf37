"""A chat endpoint on the loopback interface that gives every question the same answer after a while.

python loopback_endpoint.py SECONDS      # prints its port and serves until its input ends
"""

import asyncio
import json
import sys

TEXT = "You would enjoy it for its crisp crust and its quiet garden, though the service is slow. " * 2
MESSAGE = {"role": "assistant", "content": TEXT}
ANSWER = {
    "id": "answer",
    "object": "chat.completion",
    "created": 0,
    "model": "loopback",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 500, "completion_tokens": 40, "total_tokens": 540},
}


class Endpoint(asyncio.Protocol):
    """One connection, one question after another."""

    def __init__(self, seconds: float, reply: bytes) -> None:
        self.seconds, self.reply = seconds, reply
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the way back."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers when a question is whole."""
        self.read += data
        head, _, rest = self.read.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        if not _ or len(rest) < length:
            return
        self.read = rest[length:]
        if self.seconds:
            asyncio.get_running_loop().call_later(self.seconds, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        """Sends the answer, if anybody is there."""
        if not self.transport.is_closing():
            self.transport.write(self.reply)


async def serve(seconds: float) -> None:
    """Listens on a free port until the standard input ends."""
    body = json.dumps(ANSWER).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Endpoint(seconds, head.encode() + body), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
