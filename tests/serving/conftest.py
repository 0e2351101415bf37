import asyncio
import contextlib
import dataclasses
import socket
import threading
import time

import httpx2 as httpx
import polars as pl
import pytest
import uvicorn

from xrec_serving.api import create_app
from xrec_serving.explaining import ExplainingModel
from xrec_serving.options import ServeOptions

NEW_TOKENS = 16


@pytest.fixture(scope="session")
def options(tiny_run, tiny_data, tiny_graph):
    """Options of a server with everything."""
    return ServeOptions(model=str(tiny_run), data=tiny_data, graph=tiny_graph, max_new_tokens=NEW_TOKENS)


@pytest.fixture(scope="session")
def model(options):
    """The small world's model, loaded to be served."""
    return ExplainingModel(options)


@pytest.fixture(scope="session")
def pairs(tiny_data):
    """Users and items of the test split."""
    table = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet").head(12)
    return table.select("user_id", "item_id").rows()


class Patient:
    """The model, but its calls begin when `go` is set, and end early when nobody listens any more."""

    def __init__(self, model):
        self._model = model
        self.go, self.began = threading.Event(), threading.Event()
        self.batches, self.abandoned, self.hears_nothing = [], 0, False

    def __getattr__(self, name):
        return getattr(self._model, name)

    def explain(self, rows, listeners):
        self.batches.append(len(rows))
        self.began.set()
        for who in listeners:
            if who.on_text is not None:
                who.on_text("First")
        while not self.go.wait(0.01):
            if not self.hears_nothing and all(who.cancelled for who in listeners):
                self.abandoned += 1
                break
        return self._model.explain(rows, [dataclasses.replace(Silent(), cancelled=who.cancelled) for who in listeners])


@dataclasses.dataclass
class Silent:
    """A listener who waits for the whole answer."""

    cancelled: bool = False
    on_text: object = None


@pytest.fixture
def patient(model):
    found = Patient(model)
    yield found
    found.go.set()


@pytest.fixture
def silent():
    return Silent


@pytest.fixture
def serve(options, model):
    """Serves a model by a real uvicorn in a thread; gives a client of it, whose `app` is the application."""
    with contextlib.ExitStack() as running:

        def start(served=None, **changes):
            app = create_app(dataclasses.replace(options, **changes), served or model)
            listening = running.enter_context(contextlib.closing(socket.create_server(("127.0.0.1", 0))))
            server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=5))
            thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
            thread.start()

            def stop():
                server.should_exit = True
                thread.join(timeout=20)

            running.callback(stop)
            wait_for(lambda: server.started)
            base = f"http://127.0.0.1:{listening.getsockname()[1]}"
            client = running.enter_context(httpx.Client(base_url=base, timeout=30))
            client.app = app
            return client

        yield start


def wait_for(condition, seconds=10):
    """Waits until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


@pytest.fixture(name="wait_for")
def wait_for_fixture():
    return wait_for
