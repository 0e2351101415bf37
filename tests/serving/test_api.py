import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from xrec_serving.problems import PROBLEMS
from xrec_serving.schemas import RECOMMEND_EXAMPLES, REQUEST_EXAMPLES, ExplainRequest, RecommendRequest

from .asking import asked, events, figures, kill, read_until, send_raw, streamed

JSON = {"content-type": "application/json"}


def test_many_clients_at_once_read_the_texts_that_one_reads_alone(serve, pairs):
    alone, together = serve(max_batch=1, cache=0), serve(max_batch=8, cache=0, deadline_ms=200)
    expected = [alone.post("/v1/explain", json=asked([pair])).json() for pair in pairs]
    with ThreadPoolExecutor(len(pairs)) as clients:
        found = list(clients.map(lambda pair: together.post("/v1/explain", json=asked([pair])).json(), pairs))
    texts = [[one["explanations"][0]["explanation"] for one in answers] for answers in (expected, found)]
    assert texts[0] == texts[1]
    assert figures(alone)["xrec_batch_rows_count",] == len(pairs)
    assert figures(together)["xrec_batch_rows_count",] <= len(pairs) / 2
    one_request = together.post("/v1/explain", json=asked(pairs)).json()["explanations"]
    assert [one["explanation"] for one in one_request] == texts[0]
    assert [(one["user_id"], one["item_id"]) for one in one_request] == pairs


def test_a_stream_says_the_text_in_pieces_and_then_the_whole_answer(serve, pairs):
    client = serve(cache=0)
    plain = client.post("/v1/explain", json=asked(pairs[:1], evidence=True)).json()
    found = streamed(client, asked(pairs[:1], evidence=True, stream=True))
    assert [name for name, _ in found[:-1]] == ["token"] * (len(found) - 1)
    assert len(found) > 3
    assert "".join(data["text"] for _, data in found[:-1]) == plain["explanations"][0]["explanation"]
    assert found[-1][0] == "done"
    assert found[-1][1]["model"] == plain["model"]
    done = {name: value for name, value in found[-1][1].items() if name not in ("model", "notes")}
    assert done.pop("evidence") == plain["explanations"][0].pop("evidence")
    for name, value in plain["explanations"][0].items():
        assert done[name] == (pytest.approx(value, abs=1e-5) if name == "score" else value)


def test_the_cache_answers_what_was_asked_before_streamed_or_not(serve, pairs):
    client = serve()
    first, again = (client.post("/v1/explain", json=asked(pairs[:2])).json()["explanations"] for _ in range(2))
    assert [one["cached"] for one in first + again] == [False, False, True, True]
    assert [one["explanation"] for one in first] == [one["explanation"] for one in again]
    name, data = streamed(client, asked(pairs[:1], stream=True))[-1]
    assert (name, data["cached"], data["explanation"]) == ("done", True, first[0]["explanation"])
    other = asked([]) | {"pairs": [{"user_id": pairs[0][0], "item_id": pairs[0][1], "title": "Another"}]}
    assert client.post("/v1/explain", json=other).json()["explanations"][0]["cached"] is False
    found = figures(client)
    assert (found["xrec_cache_hits_total",], found["xrec_cache_misses_total",], found["xrec_cache_entries",]) == (3, 3, 3)


def test_rows_asked_twice_in_a_request_are_explained_once(serve, patient, pairs):
    patient.go.set()
    client = serve(patient)
    found = client.post("/v1/explain", json=asked([pairs[0], pairs[1], pairs[0]])).json()["explanations"]
    assert patient.batches == [2]
    assert found[0] == found[2] != found[1]


def test_recommendations_leave_training_items_out_and_explain_on_request(serve, model, pairs):
    client, user = serve(), pairs[0][0]
    plain = client.get(f"/v1/recommend/{user}", params={"k": 4}).json()
    assert (plain["masked"], plain["user_id"], plain["notes"]) == (True, user, [])
    assert plain["items"] == [pytest.approx(item) for item in model.recommend(user, 4)]
    explained = client.get(f"/v1/recommend/{user}", params={"k": 4, "explain": True}).json()["items"]
    texts = client.post("/v1/explain", json=asked([(user, item["item_id"]) for item in plain["items"]])).json()
    assert [item["explanation"]["explanation"] for item in explained] == [one["explanation"] for one in texts["explanations"]]


def test_beyond_the_queue_there_is_429_and_when_to_come_again(serve, patient, pairs, wait_for):
    client = serve(patient, queue=2, cache=0)
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(client.post, "/v1/explain", json=asked([pair])) for pair in pairs[:2]]
        wait_for(lambda: client.app.state.answering.batcher.taken == 2)
        for body in (asked(pairs[2:3]), asked(pairs[2:3], stream=True)):
            refused = client.post("/v1/explain", json=body)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        assert client.get(f"/v1/recommend/{pairs[0][0]}").status_code == 429
        assert client.get("/healthz").status_code == 200
        patient.go.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
    assert client.post("/v1/explain", json=asked(pairs[2:3])).status_code == 200
    assert client.post("/v1/explain", json=asked(pairs[:3])).status_code == 422  # never fits
    assert figures(client)["xrec_rejected_total",] == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_client_frees_its_place_and_stops_its_row(serve, patient, pairs, wait_for, stream):
    client = serve(patient, queue=1, cache=0)
    sock = send_raw(client, asked(pairs[:1], stream=stream))
    wait_for(patient.began.is_set)
    if stream:
        read_until(sock, b"First")
    assert client.app.state.answering.batcher.taken == 1
    kill(sock)
    wait_for(lambda: client.app.state.answering.batcher.taken == 0)
    wait_for(lambda: patient.abandoned == 1)
    patient.go.set()
    assert client.post("/v1/explain", json=asked(pairs[1:2])).status_code == 200
    if not stream:
        assert figures(client)["xrec_cancelled_total",] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_given_up(serve, patient, pairs, wait_for, stream):
    client = serve(patient, timeout=0.3, cache=0)
    if stream:
        assert streamed(client, asked(pairs[:1], stream=True))[-1][0] == "error"
    else:
        answer = client.post("/v1/explain", json=asked(pairs[:1]))
        assert (answer.status_code, "within 0.3 s" in answer.json()["detail"]) == (504, True)
    wait_for(lambda: patient.abandoned == 1)
    assert client.app.state.answering.batcher.taken == 0


def test_a_server_whose_model_hangs_is_not_ready_and_lives(serve, patient, pairs, wait_for):
    client = serve(patient, timeout=0.2, cache=0)
    patient.hears_nothing = True
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/explain", json=asked(pairs[:1])).status_code == 504
    wait_for(lambda: client.get("/readyz").status_code == 503)
    assert client.get("/healthz").status_code == 200
    patient.go.set()
    wait_for(lambda: client.get("/readyz").status_code == 200)


class Broken:
    """A model whose calls fail."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def explain(self, rows, listeners):
        raise RuntimeError("secret of the machine")

    def recommend(self, who, k, exclude):
        raise KeyError("secret of the machine")


def test_no_answer_holds_a_traceback_or_what_the_error_said(serve, model, pairs):
    client = serve(Broken(model))
    answers = [
        client.post("/v1/explain", json=asked(pairs[:1])),
        client.post("/v1/explain", json=asked(pairs[:1], stream=True)),
        client.get(f"/v1/recommend/{pairs[0][0]}"),
    ]
    assert [answer.status_code for answer in answers] == [500, 200, 500]
    assert events(answers[1].text.splitlines())[-1][0] == "error"
    for answer in answers:
        assert "log" in answer.text
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{bro", 422, "mistake at character 1"),
        (b"", 422, "JSON object"),
        (b"[]", 422, "JSON object"),
        (b"{}", 422, "expected 1 to 64 pairs and histories, found 0"),
        (b'{"user_id": "u", "item_id": "i"}', 422, """or 'histories', found 'user_id'; send {"pairs": [...]}"""),
        (b'{"stream": true, "item_id": "i", "history": ["i"]}', 422, """found 'item_id'; send {"histories": [...]}"""),
        (b'{"pairs": [], "colour": "red"}', 422, "body.colour: expected no such name here"),
        (b"\xff\xfe", 422, "expected JSON"),
        (b"[" * 100_000, 400, "body"),
        (b"9" * 10_000, 400, "body"),
        (b"x" * 1_000_000, 413, "at most 262144 bytes"),
        (b'{"pairs": [{"user_id": 1, "item_id": "i"}]}', 422, "body.pairs.0.user_id"),
        (b'{"pairs": [{"user_id": "u", "item_id": "i", "colour": "red"}]}', 422, "body.pairs.0.colour"),
        (b'{"histories": [{"history": [], "item_id": "i"}]}', 422, "body.histories.0.history"),
        (b'{"pairs": [{"user_id": "\\ud800", "item_id": "i"}]}', 422, "body.pairs.0.user_id"),
        (b'{"pairs": [{"user_id": "nobody <b>", "item_id": "i"}]}', 404, "unknown user"),
        (json.dumps({"histories": [{"history": ["none"], "item_id": "none"}]}).encode(), 404, "unknown item 'none'"),
        (b'{"histories": [{"history": ["i"], "item_id": "i", "profile_of": "u", "user_profile": ""}]}', 422, "found both"),
        (json.dumps({"histories": [{"history": ["i"], "item_id": "i", "profile_of": "x"}]}).encode(), 404, "unknown user 'x'"),
        (json.dumps({"pairs": [{"user_id": "u", "item_id": "i"}] * 65}).encode(), 422, "body.pairs"),
        (json.dumps({"pairs": [{"user_id": "u", "item_id": "i"}] * 2, "stream": True}).encode(), 422, "with stream"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_gets_its_status_and_one_line(serve, body, status, says):
    client = serve()
    answer = client.post("/v1/explain", content=body, headers=JSON)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert says in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert "<" not in answer.text
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/recommend/nobody", 404), ("/v1/recommend/u00000?k=0", 422), ("/v1/recommend/u00000?k=101", 422),
     ("/v1/recommend/a/b/../c%2Fd", 404), ("/v1/recommend/", 422), ("/v1/explain", 405), ("/docs", 404)],
)  # fmt: skip
def test_other_wrong_requests_get_their_status(serve, path, status):
    answer = serve().get(path)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])


def test_markers_and_html_in_texts_are_harmless_and_the_answer_still_quotes_them(serve, model, pairs):
    client = serve(cache=0)
    title = "</script><img src=x onerror=alert(1)> & <|xrec_user|><|xrec_item|>"
    row = {"user_id": pairs[0][0], "item_id": pairs[0][1], "title": title, "user_profile": title, "item_profile": title}
    answer = client.post("/v1/explain", json={"pairs": [row]})
    assert answer.status_code == 200  # one marker a side, else the model refuses the prompt
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/json"
    assert not set("<>&") & set(answer.text)
    assert answer.json()["explanations"][0]["title"] == title
    assert streamed(client, {"pairs": [row], "stream": True})[-1][1]["title"] == title
    ids = model.prepare(row).row["input_ids"]
    assert [ids.count(token) for token in (model.processor.user_token_id, model.processor.item_token_id)] == [1, 1]


def test_a_body_that_comes_too_slowly_is_given_up(serve, pairs):
    client = serve(timeout=0.3)
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as sock:
        sock.sendall(b"POST /v1/explain HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert b" 408 " in sock.recv(4096)
    assert client.get("/healthz").status_code == 200


def test_keys_open_and_everything_else_does_not(serve, pairs):
    client = serve(keys=("first-key", "second-key"))
    body = asked(pairs[:1])

    def status(header):
        return client.post("/v1/explain", json=body, headers={} if header is None else {"authorization": header}).status_code

    wrong = [None, "", "Bearer", "Bearer first", "Bearer first-key2", "first-key", "Basic first-key", "Bearer é"]
    assert [status(header if header is None else header.encode("latin-1")) for header in wrong] == [401] * len(wrong)
    assert [status("Bearer first-key"), status("bearer second-key")] == [200, 200]
    refused = client.get("/metrics")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.post("/v1/explain", content=b"x" * 1_000_000).status_code == 401  # unread
    assert [client.get(path).status_code for path in ("/", "/healthz", "/readyz", "/openapi.json")] == [200] * 4
    assert "first-key" not in client.get("/openapi.json").text
    assert client.get("/openapi.json").json()["components"]["securitySchemes"]


@pytest.mark.slow
def test_a_thousand_requests_at_once_each_get_an_answer(serve, pairs):
    client = serve(queue=64, max_batch=64, cache=0)

    async def ask_all():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=client.base_url, timeout=60, limits=limits) as http:
            posts = (http.post("/v1/explain", json=asked([pairs[number % len(pairs)]])) for number in range(1000))
            return await asyncio.gather(*posts)

    answers = asyncio.run(ask_all())
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
    found = figures(client)
    assert found["xrec_requests_total", "/v1/explain", "200"] == statuses.count(200) >= 64
    assert found["xrec_requests_total", "/v1/explain", "429"] == statuses.count(429) == found["xrec_rejected_total",]
    assert found["xrec_queue_rows",] == 0


def test_paths_of_strangers_make_no_new_figures(serve):
    client = serve()
    for number in range(20):
        client.get(f"/stranger/{number}")
        client.get(f"/v1/recommend/stranger-{number}")
    labels = {label for name, *labels in figures(client) if name == "xrec_requests_total" for label in labels}
    assert labels == {"404", "other", "/v1/recommend/{user_id:path}"}


@pytest.mark.parametrize(
    ("path", "asked_for", "examples"),
    [("/v1/explain", ExplainRequest, REQUEST_EXAMPLES), ("/v1/recommend", RecommendRequest, RECOMMEND_EXAMPLES)],
)
def test_the_examples_of_the_description_are_good_requests(serve, path, asked_for, examples):
    description = serve().get("/openapi.json").json()
    content = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert {name: example["value"] for name, example in content["examples"].items()} == {
        name: asked_for(**example["value"]).model_dump(exclude_unset=True) for name, example in examples.items()
    }
    assert set(PROBLEMS) <= {int(status) for status in description["paths"][path]["post"]["responses"]}
