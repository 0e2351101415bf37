"""A run that is killed again and again, at random points, and finished in the end."""

import random
import signal
import subprocess
import sys
import time

import pytest

from xrec_dataset_builder.journal import Journal

from .scripted_server import Reply, ScriptedServer, completion, content_of

CONCURRENCY = 8
CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from xrec_dataset_builder.asking import AskOptions, ask
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.teacher import Answer, Request

class Teacher:  # the client is left out: it takes longer to load than a run lasts
    name = "t"
    async def answer(self, request):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
        body = json.dumps({"messages": [{"role": role, "content": content} for role, content in request.messages]}).encode()
        writer.write(b"POST / HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
        head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
        found = json.loads(await reader.readexactly(int(head.split("Content-Length: ")[1].split()[0])))
        writer.close()
        return Answer(found["choices"][0]["message"]["content"], "stop", 10, 2)
    async def close(self):
        pass

def rows():
    for number in range(int(sys.argv[3])):
        text = str(number % int(sys.argv[4]))
        yield Request("explanation", (str(number),), (("user", text),), "", "t", "m", "1", 0.0, 50, 0)

def collect(request, kept):  # straight into the pipe, which outlives this process
    os.write(1, f"{request.hash} {kept}\\n".encode())

os.write(1, b"ready\\n")
with Journal(Path(sys.argv[2])) as journal:
    ask(rows(), Teacher(), journal, lambda request, answer: answer.text, None, AskOptions(), False, collect)
os.write(1, b"done\\n")
"""


def run_killed(path, port, rows, questions, seconds):
    """Run until it ends, or is killed after so many seconds; returns what it said, and whether it ended."""
    command = [sys.executable, "-c", CHILD, str(port), str(path), str(rows), str(questions)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        assert first == "ready\n"
        if seconds is not None:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        said = process.stdout.read().splitlines()
    return [line for line in said if line != "done"], said[-1:] == ["done"]


def kill_and_finish(folder, kills, rows, questions, seed, latest=0.25):
    """Kills at random points in a run; checks every promise after each of them."""
    draw = random.Random(seed)
    served_before = 0
    recorded: set[str] = set()
    with ScriptedServer(lambda body, _: reply(content_of(body))) as server:
        for _ in range(kills):
            said, ended = run_killed(folder / "j", server.port, rows, questions, draw.uniform(0.0, latest))
            assert not ended, "the run ended before its kill; give it more rows"
            with Journal(folder / "j") as journal:
                kept = set(journal.hashes())
                assert len(kept) == len(journal)
            assert {line.split()[0] for line in said} | recorded <= kept  # nothing that was recorded is lost
            asked = len(server.requests) - served_before
            assert asked - len(kept - recorded) <= CONCURRENCY  # no more are repeated than were in flight
            recorded, served_before = kept, len(server.requests)
        said, ended = run_killed(folder / "j", server.port, rows, questions, None)
        assert ended
        assert len(server.requests) <= questions + kills * CONCURRENCY
        repeated = len(server.requests) - questions
        again, _ = run_killed(folder / "j", server.port, rows, questions, None)
        assert len(server.requests) == questions + repeated  # an unchanged run asks nothing
        run_killed(folder / "calm", server.port, rows, questions, None)
        undisturbed, _ = run_killed(folder / "calm", server.port, rows, questions, None)
    assert sorted(said) == sorted(again) == sorted(undisturbed)
    assert len(said) == rows
    with Journal(folder / "j") as journal, Journal(folder / "calm") as calm:
        assert sorted(journal.hashes()) == sorted(calm.hashes())
        assert len(journal) == questions
    return repeated


def reply(text):
    answer = completion(f"answer {text}")
    return Reply(body=answer.body, delay=random.Random(text).uniform(0.001, 0.008))


def test_three_kills_lose_nothing_and_repeat_no_more_than_was_in_flight(tmp_path):
    kill_and_finish(tmp_path, kills=3, rows=450, questions=400, seed=0, latest=0.15)


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_no_more_than_was_in_flight(tmp_path):
    repeated = kill_and_finish(tmp_path, kills=20, rows=7000, questions=6000, seed=1)
    print(f"20 kills: {repeated} requests repeated, {repeated / 20} a kill")
