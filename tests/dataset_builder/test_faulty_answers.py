import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.asking import ask
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.openai_teacher import OpenAITeacher
from xrec_dataset_builder.teacher import Rejected

from .scripted_server import Reply, ScriptedServer, completion, content_of, refusal
from .scripted_teacher import QUICK, request_of, requests_of


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "j") as journal:
        yield journal


def explanation_of(request, answer):
    """What is kept: the text of `{"explanation": text}`, of at most 50 words and no refusal."""
    try:
        text = json.loads(answer.text)["explanation"]
    except (ValueError, TypeError, KeyError):
        raise Rejected("no JSON of the schema") from None
    if not isinstance(text, str) or not text.strip():
        raise Rejected("no text")
    if len(text.split()) > 50:
        raise Rejected("more than 50 words")
    if "I cannot" in text:
        raise Rejected("a refusal")
    return text


GOOD = completion(json.dumps({"explanation": "The crust is crisp."}))
FAULTS = {
    "null": completion(None),
    "empty": completion(""),
    "blank": completion(" \n"),
    "html": Reply(body=b"<html><body>502</body></html>", headers={"Content-Type": "text/html"}),
    "no body": Reply(),
    "truncated": Reply(body=GOOD.body[:-15]),
    "reset": Reply(body=GOOD.body, cut=60),
    "late": Reply(body=GOOD.body, delay=60),
    "no choices": Reply(body=b'{"choices": []}'),
    "a list": Reply(body=b"[1]"),
    "wrong schema": completion('{"reason": "The crust is crisp."}'),
    "wrong type": completion('{"explanation": ["The crust"]}'),
    "no JSON": completion("The crust is crisp."),
    "half JSON": completion('{"explanation": "The cru'),
    "too long": completion(json.dumps({"explanation": "crisp " * 5000})),
    "too wordy": completion(json.dumps({"explanation": "crisp " * 60})),
    "cut": completion(json.dumps({"explanation": "The crust is"}), "length"),
    "filtered": completion(json.dumps({"explanation": "The"}), "content_filter"),
    "refused": completion(None, refusal="I cannot help with that."),
    "refusal": completion(json.dumps({"explanation": "I cannot help with that."})),
    "bad request": refusal(400),
    "forbidden": refusal(403),
    "throttled": refusal(429),
    "throttled for long": refusal(429, headers={"Retry-After": "3600"}),
    "error": refusal(500),
}


def test_of_200_faulty_answers_none_is_accepted_and_all_are_accounted_for(journal):
    """Every fault 8 times, for ever, between 100 good answers; repaired by asking once more."""
    rows = [request_of(f"{name}|{number}") for name in FAULTS for number in range(8)]
    good = [request_of(f"good|{number}") for number in range(100)]
    mixed = rows + good
    random.Random(0).shuffle(mixed)

    def script(body, _):
        return FAULTS.get(content_of(body).split("|")[0], GOOD)

    def repair(request, answer, error):
        return request_of(request.messages[0][1], seed=1)

    settings = {"attempts": 2, "timeout": 1.5, "breaker_failures": 10**9, "concurrency": 16, "stop_after": 10**9}
    with ScriptedServer(script) as server:
        teacher = OpenAITeacher(server.url, 16)
        asked = ask(mixed, teacher, journal, explanation_of, repair, AskOptions(**QUICK | settings), False)
    assert len(rows) == 200
    assert asked.answers == {request.hash: "The crust is crisp." for request in good}
    assert {request.hash for request, _ in asked.failures} == {request.hash for request in rows}
    assert all(reason for _, reason in asked.failures)
    assert sorted(journal.hashes()) == sorted(asked.answers)
    assert {one.hash for one in journal.failures()} == {request.hash for request in rows}
    by_fault = {request.messages[0][1].split("|")[0]: reason for request, reason in asked.failures}
    assert by_fault["html"] == "2 tries, the last: an answer that is no JSON"
    assert by_fault["late"] == "2 tries, the last: no answer in 1.5 s"
    assert by_fault["throttled for long"] == "2 tries, the last: HTTP 429"
    assert by_fault["cut"] == "cut at the limit of 50 tokens"
    assert len(set(by_fault.values())) >= 15


def test_a_server_that_throttles_a_third_is_not_stormed(journal):
    """Every third request is told to come back; nothing fails, and no more are in flight than allowed."""

    def script(body, number):
        return refusal(429, headers={"Retry-After": "0.02"}) if number % 3 == 0 else GOOD

    with ScriptedServer(script) as server:
        settings = AskOptions(**QUICK | {"concurrency": 8, "attempts": 30})
        asked = ask(requests_of(150), OpenAITeacher(server.url, 8), journal, explanation_of, None, settings, False)
    assert asked.counts.answered == 150
    assert server.most_in_flight <= 8
    assert asked.counts.retried == asked.counts.tries - 150 == len(server.requests) - 150
    assert len(server.requests) == pytest.approx(225, abs=2)


INTERRUPTED = """
import sys, threading, _thread, time
from pathlib import Path
from xrec_dataset_builder.asking import AskOptions, ask
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.openai_teacher import OpenAITeacher
from xrec_dataset_builder.teacher import Request

def rows():
    for number in range(100_000):
        yield Request("explanation", (str(number),), (("user", str(number)),), "", "openai", "m", "1", 0.0, 50, 0)

with Journal(Path(sys.argv[2])) as journal:
    print("ready", flush=True)
    ask(rows(), OpenAITeacher(sys.argv[1]), journal, lambda request, answer: answer.text, None, AskOptions(), False)
"""


def test_an_interrupted_run_closes_its_journal_and_loses_nothing_it_recorded(tmp_path):
    with ScriptedServer(lambda *_: Reply(body=GOOD.body, delay=0.002)) as server:
        command = [sys.executable, "-c", INTERRUPTED, server.url, str(tmp_path / "j")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        while len(server.requests) < 30:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        served = len(server.requests)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert not (tmp_path / "j-wal").exists()
    with Journal(tmp_path / "j") as journal:
        assert served - 8 <= len(journal) <= served
        assert journal.failures() == []
