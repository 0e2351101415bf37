import signal
import subprocess
import sys

import httpx2 as httpx
import pytest
import uvicorn

from xrec_serving.stopping import StoppingServer

HANGING = """
import sys, time
from xrec_serving import commands, explaining
explaining.ExplainingModel.explain = lambda *arguments: time.sleep(600)
commands.GRACE, commands.ENDING = 1, 1
commands.serve_command(sys.argv[1:])
"""


def server(seconds, ended, busy=0.0):
    return StoppingServer(uvicorn.Config(lambda: None), seconds, lambda: busy, ended.append)


def test_a_second_signal_ends_the_process_and_the_first_does_not():
    ended = []
    stopping = server(60, ended, busy=7.2)
    stopping.handle_exit(signal.SIGTERM, None)
    assert (stopping.should_exit, ended) == (True, [])
    stopping.handle_exit(signal.SIGINT, None)
    stopping.stopped()
    assert len(ended) == 1
    assert "a second signal (the model's call runs since 7 s)" in ended[0]


def test_what_does_not_stop_in_its_time_is_ended(wait_for):
    ended = []
    stopping = server(0.05, ended)
    stopping.handle_exit(signal.SIGTERM, None)
    wait_for(lambda: ended)
    assert "nothing after 0.05 s" in ended[0]


def test_what_has_stopped_is_left_alone():
    ended = []
    stopping = server(0.05, ended)
    stopping.stopped()  # without a signal
    stopping.handle_exit(signal.SIGTERM, None)
    timer = stopping._timer
    stopping.stopped()
    timer.join(5)
    assert ended == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "found"), [((signal.SIGTERM,), "nothing after 3 s"), ((signal.SIGTERM, signal.SIGINT), "a second signal")]
)
def test_a_hung_model_holds_no_process(tiny_run, tmp_path, wait_for, signals, found):
    command = [sys.executable, "-c", HANGING, str(tiny_run), "--port", "0", "--timeout", "1"]
    with (
        (tmp_path / "errors").open("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            base = process.stdout.readline().split()[-1]
            with httpx.Client(base_url=base, timeout=60) as client:
                pair = {"user_id": client.get("/v1/users").json()["users"][0]["user_id"]}
                pair["item_id"] = client.get("/v1/items").json()["items"][0]["item_id"]
                assert client.post("/v1/explain", json={"pairs": [pair]}).status_code == 504
            for one in signals:  # of two kinds, for a signal that waits swallows another of its kind
                process.send_signal(one)
            assert process.wait(timeout=60) == 1
        finally:
            process.kill()
        errors.seek(0)
        lines = errors.read().splitlines()
    assert found in lines[-1]
    assert not any("Traceback" in line for line in lines)
