import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import httpx2 as httpx
import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_serving.commands import is_loopback, places, read_keys, serve_command
from xrec_serving.explaining import UNMASKED

START = "import sys; from xrec_serving.commands import serve_command; serve_command(sys.argv[1:])"


@contextlib.contextmanager
def started(*arguments, **environment):
    """A server in a process of its own: the process, its address and the lines that it printed."""
    command = [sys.executable, "-c", START, *map(str, arguments), "--port", "0"]
    environment = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("Serving "), line
            yield process, line.split()[-1]
        finally:
            if process.poll() is None:
                process.kill()


def test_the_folder_of_a_demo_holds_model_graph_and_data(tmp_path):
    for name in ("model", "graph", "data"):
        (tmp_path / "demo" / name).mkdir(parents=True)
    demo = tmp_path / "demo"
    assert places(str(demo)) == (str(demo), None, None)
    (demo / "model" / "config.json").touch()
    assert places(str(demo)) == (str(demo / "model"), demo / "graph", demo / "data")
    assert places(str(demo), data=tmp_path) == (str(demo / "model"), demo / "graph", tmp_path)
    assert places(str(demo / "model")) == (str(demo / "model"), None, None)
    (demo / "graph").rmdir()
    assert places(str(demo)) == (str(demo / "model"), None, demo / "data")
    assert places("name/of-the-hub", demo, demo) == ("name/of-the-hub", demo, demo)


def test_sigterm_finishes_what_was_begun_and_is_no_failure(tiny_run, tiny_data, wait_for):
    rows = pl.read_parquet(tiny_data / "data" / "explanations" / "train.parquet").select("user_id", "item_id").rows()
    body = {"pairs": [{"user_id": user, "item_id": item} for user, item in rows[:32]]}
    key = {"authorization": "Bearer two"}
    answers = []
    options = ("--max-batch", 4, "--cache", 0, "--max-new-tokens", 24)
    with (
        started(tiny_run, *options, XREC_SERVE_KEYS="one, two") as (process, base),
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        assert base.startswith("http://127.0.0.1:")
        assert process.stdout.readline() == f"{UNMASKED}\n"
        assert client.get("/metrics").status_code == 401

        def ask():
            answers.append(httpx.post(f"{base}/v1/explain", json=body, headers=key, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: "xrec_batch_rows_count 0.0" not in client.get("/metrics", headers=key).text, seconds=60)
        process.send_signal(signal.SIGTERM)
        asking.join()
        assert process.wait(timeout=60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{base}/healthz")
    assert answers[0].status_code == 200
    assert len(answers[0].json()["explanations"]) == 32


def test_keys_are_read_from_a_file_before_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nalpha\n\n beta # of the page\n")
    assert read_keys(file, "gamma") == ("alpha", "beta")
    assert read_keys(None, "gamma, delta") == ("gamma", "delta")
    assert read_keys(None, None) == ()
    file.write_text("# none\n")
    for arguments in ((file, None), (tmp_path / "nowhere", None), (None, " ")):
        with pytest.raises(DataError, match="expected"):
            read_keys(*arguments)


def test_a_taken_port_and_a_folder_without_a_model_are_said_in_one_line(tiny_run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(DataError, match=f"expected a free port, but 127.0.0.1:{port} is not"):
            serve_command([str(tiny_run), "--port", port])
    with pytest.raises(DataError, match="found no config"):
        serve_command([str(tmp_path), "--port", "0"])
    with pytest.raises(DataError, match="expected --data beside --graph"):
        serve_command([str(tiny_run), "--graph", str(tmp_path)])


def test_only_addresses_of_this_machine_are_loopback():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "0.0.0.0", "::", "192.0.2.1")] == [True, True] + [False] * 3  # noqa: S104
