"""The command `xrec serve`."""

import argparse
import math
import os
import signal
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from xrec_dataset_builder.arguments import Parser
from xrec_dataset_builder.errors import DataError

KEYS_VARIABLE = "XREC_SERVE_KEYS"
GRACE, ENDING = 4, 1
"""Seconds beyond a request's own time that a stopping server waits for it, and then for the model."""


def serve_command(argv: Sequence[str]) -> None:
    """Serve a model until SIGTERM or Ctrl-C; what was begun is finished.

    Args:
        argv: Arguments after `xrec serve`.

    Raises:
        DataError: If the model cannot be served, or the port is taken; the message is one line.
    """
    given = _parser().parse_args(argv)
    import uvicorn

    from .api import create_app
    from .options import ServeOptions
    from .stopping import StoppingServer

    model, graph, data = places(given.model, given.graph, given.data)
    options = ServeOptions(
        model=model,
        graph=graph,
        data=data,
        encoder=given.encoder,
        max_batch=given.max_batch,
        deadline_ms=given.deadline_ms,
        queue=given.queue,
        cache=given.cache,
        timeout=given.timeout,
        keys=read_keys(given.keys, os.environ.get(KEYS_VARIABLE)),
        max_new_tokens=given.max_new_tokens,
    )
    listening = _listen(given.host, given.port)
    with listening:
        app = create_app(options)
        answering = app.state.answering
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"Serving {options.model} on http://{shown}:{port}\n")
        sys.stdout.writelines(f"{note}\n" for note in answering.model.notes)
        if not options.keys and not is_loopback(host):
            sys.stdout.write("Anybody who reaches this address may ask: no --keys were given.\n")
        sys.stdout.flush()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(options.timeout) + GRACE,
            lifespan="on",
        )
        server = StoppingServer(config, math.ceil(options.timeout) + GRACE + ENDING, answering.batcher.working_for)
        # uvicorn raises the signal again when it has stopped; having stopped as asked is no failure.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            server.run(sockets=[listening])
        finally:
            server.stopped()
            signal.signal(signal.SIGTERM, before)


def places(model: str, graph: Path | None = None, data: Path | None = None) -> tuple[str, Path | None, Path | None]:
    """Where the model, its graph and its data lie; a folder that `xrec demo` left holds all three.

    Args:
        model: folder or Hub id of a model, or the demo's folder.
        graph: as given; the demo's own when None.
        data: likewise.
    """
    folder = Path(model)
    if (folder / "config.json").is_file() or not (folder / "model" / "config.json").is_file():
        return model, graph, data
    beside = [path if path.is_dir() else None for path in (folder / "graph", folder / "data")]
    return str(folder / "model"), graph or beside[0], data or beside[1]


def read_keys(file: Path | None, variable: str | None) -> tuple[str, ...]:
    """Keys of a file, one a line, `#` before a comment; or of a variable, between commas or spaces.

    Args:
        file: where they are; the variable is not read then.
        variable: its value.

    Raises:
        DataError: no such file, or no key where some were to be.
    """
    if file is not None:
        try:
            lines = [line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: expected a file of keys, found none that can be read ({error})") from error
        keys, where = tuple(line for line in lines if line), str(file)
    elif variable is not None:
        keys, where = tuple(variable.replace(",", " ").split()), KEYS_VARIABLE
    else:
        return ()
    if not keys:
        raise DataError(f"{where}: expected at least one key, found none; a server without keys is started without them")
    return keys


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    return ip_address(host).is_loopback


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; bound before the model loads, so that a taken port is said at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise DataError(f"expected a free port, but {host}:{port} is not ({error}); choose another") from error
    return listening


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="xrec serve",
        description="Show in a browser, and answer over HTTP, why an item suits a user; /openapi.json describes the API.",
        epilog=f"Keys may also be in the variable {KEYS_VARIABLE}, between commas.",
    )
    parser.add_argument("model", metavar="MODEL", help="model folder or Hub id, or the folder that `xrec demo` left")
    parser.add_argument("--graph", type=Path, metavar="GRAPH", help="the graph that the model was trained with")
    parser.add_argument("--data", type=Path, metavar="DATA", help="its dataset: masks what users know, and gives evidence")
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="sentence encoder, a folder or Hub id, that judges claims (default: none, claims are looked for by their words)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any free one (default: 8000)")
    parser.add_argument("--max-batch", type=int, default=32, metavar="N", help="rows in one model call (default: 32)")
    parser.add_argument("--deadline-ms", type=float, default=10, metavar="D", help="wait for more rows (default: 10)")
    parser.add_argument("--queue", type=int, default=256, metavar="N", help="rows that may wait or be in work (default: 256)")
    parser.add_argument(
        "--cache", type=int, default=4096, metavar="N", help="explanations to keep, 0 for none (default: 4096)"
    )
    parser.add_argument("--timeout", type=float, default=30, metavar="S", help="seconds a request may take (default: 30)")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="bearer keys, one a line (default: none asked for)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=96, metavar="N", help="longest explanation, in tokens (default: 96)"
    )
    return parser
