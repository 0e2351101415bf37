from concurrent.futures import ThreadPoolExecutor

from .asking import asked, kill, send_raw, streamed


class BreaksOn:
    """A model whose calls fail when an item is among their rows."""

    def __init__(self, model, item):
        self._model, self._item = model, item

    def __getattr__(self, name):
        return getattr(self._model, name)

    def explain(self, rows, listeners):
        if any(row.row["basis"]["item_id"] == self._item for row in rows):
            raise RuntimeError("this one")
        return self._model.explain(rows, listeners)


def test_equal_rows_of_different_requests_share_a_call_until_nobody_waits(serve, patient, pairs, wait_for):
    client = serve(patient, cache=0)
    batcher = client.app.state.answering.batcher
    body = asked(pairs[:1])
    with ThreadPoolExecutor(3) as clients:
        killed = send_raw(client, body)
        wait_for(patient.began.is_set)
        waiting = [clients.submit(client.post, "/v1/explain", json=body) for _ in range(2)]
        stream = clients.submit(streamed, client, body | {"stream": True})
        wait_for(lambda: batcher.taken == 4)
        kill(killed)  # the one that came first
        wait_for(lambda: batcher.taken == 3)
        patient.go.set()
        found = [one.result().json()["explanations"][0] for one in waiting]
        heard = stream.result()
    assert (patient.batches, patient.abandoned) == ([1], 0)
    assert found[0] == found[1]
    assert "".join(data["text"] for name, data in heard if name == "token") == found[0]["explanation"]
    assert heard[-1][1]["explanation"] == found[0]["explanation"]


def test_a_stream_beside_a_row_that_breaks_the_model_has_its_text(serve, model, pairs):
    client = serve(BreaksOn(model, pairs[1][1]), cache=0, deadline_ms=300)
    bodies = [asked(pairs[:1], stream=True), asked(pairs[1:2]), asked(pairs[2:3])]
    with ThreadPoolExecutor(3) as clients:
        stream = clients.submit(streamed, client, bodies[0])
        bad, good = clients.map(lambda body: client.post("/v1/explain", json=body), bodies[1:])
        heard = stream.result()
    assert (bad.status_code, good.status_code, heard[-1][0]) == (500, 200, "done")
    expected = serve(cache=0).post("/v1/explain", json=asked([pairs[0], pairs[2]])).json()["explanations"]
    assert "".join(data["text"] for _, data in heard[:-1]) == expected[0]["explanation"]
    assert good.json()["explanations"][0]["explanation"] == expected[1]["explanation"]
