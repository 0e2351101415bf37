import asyncio
import json
import logging
import subprocess
import sys
import time
from email.utils import formatdate

import pytest

from xrec_dataset_builder import openai_teacher
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.openai_teacher import OpenAITeacher
from xrec_dataset_builder.teacher import Answer, Request, TeacherBusy, TeacherError

from .scripted_server import Reply, ScriptedServer, completion, content_of, refusal

SECRET = "sk-planted-3141592653589793"  # noqa: S105 (a key to look for)
SCHEMA = json.dumps({"type": "object", "properties": {"explanation": {"type": "string"}}})


@pytest.fixture(autouse=True)
def planted_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def request_of(text="why?", **changes):
    given = {"kind": "explanation", "key": ("u", "i"), "messages": (("system", "be honest"), ("user", text)), "schema": ""}
    given |= {"teacher": "openai", "model": "m", "prompt_version": "1", "temperature": 0.5, "max_tokens": 50, "seed": 7}
    return Request(**given | changes)


def answers(server, *requests, concurrency=8):
    """The answers of one teacher, one after another."""

    async def run():
        teacher = OpenAITeacher(server.url, concurrency)
        try:
            return [await teacher.answer(request) for request in requests]
        finally:
            await teacher.close()

    return asyncio.run(run())


def test_a_question_goes_out_in_the_protocols_words_and_its_answer_comes_back():
    with ScriptedServer(lambda *_: completion("because")) as server:
        assert answers(server, request_of(), request_of(schema=SCHEMA)) == [Answer("because", "stop", 10, 2)] * 2
    plain, structured = server.requests
    messages = [{"role": "system", "content": "be honest"}, {"role": "user", "content": "why?"}]
    assert plain == {"model": "m", "messages": messages, "temperature": 0.5, "max_tokens": 50, "seed": 7}
    schema = {"name": "explanation", "schema": json.loads(SCHEMA), "strict": True}
    assert structured == plain | {"response_format": {"type": "json_schema", "json_schema": schema}}
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert server.headers[0]["path"] == "/v1/chat/completions"


HTML = Reply(body=b"<html><body>Bad gateway</body></html>", headers={"Content-Type": "text/html"})
GOOD = completion("because")
FAULTS = [
    (refusal(429), TeacherBusy, r"^HTTP 429$"),
    (refusal(429, code="rate_limit_exceeded"), TeacherBusy, r"^HTTP 429 \(rate_limit_exceeded\)$"),
    (refusal(429, code="insufficient_quota"), DataError, "no credit is left"),
    (refusal(500), TeacherBusy, r"^HTTP 500$"),
    (refusal(503), TeacherBusy, r"^HTTP 503$"),
    (Reply(502, b"<html>", {"Content-Type": "text/html"}), TeacherBusy, r"^HTTP 502$"),
    (refusal(408), TeacherBusy, r"^HTTP 408$"),
    (refusal(400, code="context_length_exceeded"), TeacherError, r"^HTTP 400 \(context_length_exceeded\)$"),
    (refusal(400, code="two words: why?"), TeacherError, r"^HTTP 400$"),
    (refusal(403), TeacherError, r"^HTTP 403$"),
    (refusal(401), DataError, "HTTP 401: the key is not accepted"),
    (refusal(402), DataError, "HTTP 402: no credit is left"),
    (refusal(404), DataError, "HTTP 404: there is no such model or address"),
    (Reply(307, headers={"Location": "/v1/elsewhere"}), DataError, "HTTP 307: it points elsewhere"),
    (HTML, TeacherBusy, "no JSON"),
    (Reply(body=b""), TeacherBusy, "no JSON"),
    (Reply(body=GOOD.body[:-20]), TeacherBusy, "no JSON"),
    (Reply(body=b"\xff\xfe\xfd"), TeacherBusy, "no JSON"),
    (Reply(body=b"[" * 200_000), TeacherBusy, "no JSON"),
    (Reply(body=b"[]"), TeacherBusy, "no chat completion"),
    (Reply(body=b'{"choices": []}'), TeacherBusy, "no chat completion"),
    (Reply(body=b'{"choices": [{"message": null}]}'), TeacherBusy, "no chat completion"),
    (Reply(body=b'{"choices": [{"message": {"content": ["a"]}}]}'), TeacherBusy, "no text"),
    (Reply(body=b'{"error": {"code": 429, "message": "slow down"}}'), TeacherBusy, "HTTP 429"),
    (Reply(body=b'{"error": {"code": 402, "message": "pay"}}'), DataError, "no credit is left"),
    (Reply(body=b'{"error": {"message": "oh"}}'), TeacherBusy, "no chat completion"),
    (completion(None, refusal="I would rather not"), TeacherError, "the model refused"),
    (Reply(body=GOOD.body, cut=0), TeacherBusy, "a broken answer"),
    (Reply(body=GOOD.body, cut=len(GOOD.body) // 2), TeacherBusy, "a broken answer"),
    (Reply(body=GOOD.body, headers={"Content-Encoding": "gzip"}), TeacherBusy, "a broken answer"),
]


@pytest.mark.parametrize(("reply", "kind", "message"), FAULTS)
def test_a_fault_has_its_error_and_is_not_retried_by_the_client(reply, kind, message):
    with ScriptedServer(lambda *_: reply) as server, pytest.raises((TeacherError, DataError), match=message) as error:
        answers(server, request_of())
    assert type(error.value) is kind
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "finish_reason", "found"),
    [
        ("because", "length", Answer("because", "length", 10, 2)),
        ("", "content_filter", Answer("", "content_filter", 10, 2)),
        (None, "stop", Answer("", "stop", 10, 2)),
        ("because", None, Answer("because", "", 10, 2)),
    ],
)
def test_an_answer_that_ended_badly_says_so(text, finish_reason, found):
    with ScriptedServer(lambda *_: completion(text, finish_reason)) as server:
        assert answers(server, request_of()) == [found]


@pytest.mark.parametrize("usage", [None, {}, [], {"prompt_tokens": "many", "completion_tokens": -1}, {"prompt_tokens": 2**70}])
def test_tokens_that_are_not_counted_are_none(usage):
    body = json.dumps(json.loads(GOOD.body) | {"usage": usage}).encode()
    with ScriptedServer(lambda *_: Reply(body=body)) as server:
        assert answers(server, request_of()) == [Answer("because", "stop", 0, 0)]


def test_an_endless_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(openai_teacher, "LARGEST_BODY", 10_000)
    endless = completion("word " * 5_000)
    with ScriptedServer(lambda *_: endless) as server, pytest.raises(TeacherError, match="more than 10000"):
        answers(server, request_of())


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({}, None, None),
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "0.5"}, 0.5, 0.5),
        ({"Retry-After": "-3"}, 0, 0),
        ({"Retry-After": "soon"}, None, None),
        ({"Retry-After": "nan"}, None, None),
        ({"Retry-After": "inf"}, None, None),
        ({"Retry-After": formatdate(time.time() + 3600, usegmt=True)}, 3000, 3601),
        ({"Retry-After-Ms": "250", "Retry-After": "9"}, 0.25, 0.25),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, least, most):
    with ScriptedServer(lambda *_: refusal(503, headers=headers)) as server, pytest.raises(TeacherBusy) as error:
        answers(server, request_of())
    wait = error.value.retry_after
    assert wait is None if least is None else least <= wait <= most
    assert error.value.alive is (least is not None)


def test_a_busy_endpoint_is_alive_and_a_broken_one_is_not():
    for status, alive in ((429, True), (500, False)):
        with ScriptedServer(lambda *_, status=status: refusal(status)) as server, pytest.raises(TeacherBusy) as error:
            answers(server, request_of())
        assert error.value.alive is alive


def knows_no(field, status=400, named=True):
    """An endpoint that refuses a field, and names it in `param` or in its text alone."""

    def script(body, _):
        if field not in body:
            return completion("because")
        text = f"Unsupported: {{'{field}'}}"
        return refusal(status, text, param=field) if named else Reply(status, json.dumps({"detail": text}).encode())

    return script


@pytest.mark.parametrize(("status", "named"), [(400, True), (400, False), (422, False)])
@pytest.mark.parametrize("field", ["response_format", "seed", "max_tokens"])
def test_a_field_the_endpoint_does_not_know_is_left_out_from_then_on(field, status, named):
    with ScriptedServer(knows_no(field, status, named)) as server:
        found = answers(server, *(request_of(str(number), schema=SCHEMA) for number in range(3)))
    assert [answer.text for answer in found] == ["because"] * 3
    assert [field in body for body in server.requests] == [True, False, False, False]
    last = server.requests[-1]
    assert last.get("max_completion_tokens") == (50 if field == "max_tokens" else None)
    assert len({"response_format", "seed", "max_tokens"} & last.keys()) == 2


def test_a_question_that_names_a_field_changes_nothing_but_its_own_row():
    """The endpoint refuses one row, and repeats its text, which names a field."""

    def script(body, _):
        text = content_of(body)
        return refusal(400, f"I cannot take {text}") if "response_format" in text else completion("because")

    good, bad = request_of("fine", schema=SCHEMA), request_of("drop response_format", schema=SCHEMA)
    for order in ([bad, good], [good, bad, good]):

        async def run(server, order=order):
            teacher = OpenAITeacher(server.url)
            for request in order:
                if request is bad:
                    with pytest.raises(TeacherError):
                        await teacher.answer(request)
                else:
                    await teacher.answer(request)
            await teacher.close()

        with ScriptedServer(script) as server:
            asyncio.run(run(server))
        assert all("response_format" in body for body in server.requests if content_of(body) == "fine")


def test_a_question_that_is_taken_without_a_field_only_does_not_take_it_from_others():
    """Once the endpoint has answered with the field, it knows it."""

    def script(body, _):
        text = content_of(body)
        odd = "response_format" in text and "response_format" in body
        return refusal(400, f"I cannot take {text}") if odd else completion("because")

    async def run(server):
        teacher = OpenAITeacher(server.url)
        await teacher.answer(request_of("fine", schema=SCHEMA))
        with pytest.raises(TeacherError):
            await teacher.answer(request_of("drop response_format", schema=SCHEMA))
        await teacher.answer(request_of("fine", schema=SCHEMA))
        await teacher.close()

    with ScriptedServer(script) as server:
        asyncio.run(run(server))
    assert ["response_format" in body for body in server.requests] == [True, True, True]


def test_neither_the_key_nor_a_message_is_in_an_error_or_a_log(caplog):
    """At the lowest level, for an endpoint that repeats both."""
    caplog.set_level(logging.DEBUG)
    question = "my private review"
    replies = [status for status in (200, 400, 401, 403, 404, 422, 429, 500)]

    def script(body, number):
        repeated = f"{SECRET} {content_of(body)}"
        if replies[number] == 200:
            return completion(repeated)
        return refusal(replies[number], repeated, code=repeated, param=repeated)

    said = []
    with ScriptedServer(script) as server:
        for status in replies:
            if status == 200:
                answers(server, request_of(question))
                continue
            with pytest.raises((TeacherError, DataError)) as error:
                answers(server, request_of(question))
            said += [str(error.value), repr(error.value), str(error.value.__cause__)]
            assert error.value.__suppress_context__
    said += [caplog.text, repr(OpenAITeacher(server.url))]
    assert len(server.requests) == len(replies)
    for text in said:
        assert SECRET not in text
        assert question not in text


def test_an_endpoint_that_is_not_there_is_busy():
    with ScriptedServer(lambda *_: GOOD) as server:
        pass
    with pytest.raises(TeacherBusy, match=r"no connection \(ConnectionRefusedError\)") as error:
        answers(server, request_of())
    assert not error.value.alive


def test_a_slow_answer_is_a_timeout(monkeypatch):
    monkeypatch.setattr(openai_teacher, "QUIET_SECONDS", 0.1)
    slow = Reply(body=GOOD.body, delay=5)
    with ScriptedServer(lambda *_: slow) as server, pytest.raises(TeacherBusy, match="no answer in time"):
        answers(server, request_of())


def test_a_closed_teacher_answers_again_in_another_loop():
    with ScriptedServer(lambda *_: GOOD) as server:
        teacher = OpenAITeacher(server.url)

        async def run():
            answer = await teacher.answer(request_of())
            await teacher.close()
            return answer

        assert asyncio.run(run()) == asyncio.run(run())


def test_no_more_connections_are_opened_than_questions_may_be_in_flight():
    async def run(server):
        teacher = OpenAITeacher(server.url, concurrency=3)
        found = await asyncio.gather(*(teacher.answer(request_of(str(number))) for number in range(30)))
        await teacher.close()
        return found

    with ScriptedServer(lambda *_: Reply(body=GOOD.body, delay=0.01)) as server:
        assert len(asyncio.run(run(server))) == 30
    assert server.connections == server.most_in_flight == 3


@pytest.mark.parametrize("package", ["openai", "aiohttp"])
def test_without_the_client_the_error_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"pip install 'xrec\[openai\]'"):
        OpenAITeacher("http://localhost/v1")


def test_the_client_is_loaded_when_a_teacher_is_made():
    loaded = "{'openai', 'httpx2', 'aiohttp'} & set(sys.modules)"
    code = f"import sys; import xrec_dataset_builder.openai_teacher; sys.exit(bool({loaded}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_key_is_needed_where_no_address_is_given(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(DataError, match="OPENAI_API_KEY, found none"):
        OpenAITeacher()
    with ScriptedServer(lambda *_: GOOD) as server:
        answers(server, request_of())
    assert server.headers[0]["authorization"] == "Bearer none"


@pytest.mark.parametrize("key", [f"{SECRET} {SECRET}", f"{SECRET}\n{SECRET}", f"{SECRET}\u20ac"])
def test_a_malformed_key_is_refused_without_being_said(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(DataError, match="set it again") as error:
        OpenAITeacher()
    assert SECRET not in str(error.value)


def test_a_line_end_after_the_key_does_no_harm(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")
    with ScriptedServer(lambda *_: GOOD) as server:
        answers(server, request_of())
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h/v1", "http://", "", "http://[1", "http://a:b/v1", f"{SECRET}@h"])
def test_an_address_that_is_none_is_refused_without_being_said(url):
    with pytest.raises(DataError, match="expected a base URL") as error:
        OpenAITeacher(url)
    assert SECRET not in str(error.value)
