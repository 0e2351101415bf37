"""Requests to a server and what comes back, for tests."""

import json
import socket
import struct

from prometheus_client.parser import text_string_to_metric_families


def asked(pairs, **more):
    return {"pairs": [{"user_id": user, "item_id": item} for user, item in pairs], **more}


def figures(client):
    """The samples of /metrics by name and labels, read by Prometheus' own parser."""
    text = client.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def events(lines):
    """Names and data of server-sent events."""
    blocks = "\n".join(lines).strip().split("\n\n")
    parts = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(part["event"], json.loads(part["data"])) for part in parts]


def streamed(client, body):
    with client.stream("POST", "/v1/explain", json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return events(response.iter_lines())


def send_raw(client, body):
    """A socket that has sent a request and waits."""
    sock = socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)
    data = json.dumps(body).encode()
    head = f"POST /v1/explain HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


def read_until(sock, words):
    """Reads until words have come; the timeout of the socket ends it otherwise."""
    read = b""
    while words not in read:
        read += sock.recv(4096)


def kill(sock):
    """Goes without a word: the connection is reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
