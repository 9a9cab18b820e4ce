"""The proxy of the documentation, as a process of its own, between a client and an upstream on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.recorder.database import rows
from kharcha_pipeline_tests.recorder.test_normalizers import CHAT, MESSAGE, events
from kharcha_pipeline_tests.write_docs import DOCS

SECRET = "what the people said"


class Upstream(BaseHTTPRequestHandler):
    """Answers like the vendors do."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.headers["Authorization"], asked))
        if asked.get("model") == "busy":
            self.answer(429, {"error": SECRET})
        elif asked.get("model") == "endless":
            self.stream(endless())
        elif asked.get("model") == "breaks":
            self.stream(iter([events(MESSAGE[:3])]), ends=False)
        elif asked.get("stream"):
            content = events(MESSAGE) if self.path == "/v1/messages" else events(CHAT, b"data: [DONE]\n\n")
            self.stream(content[start : start + 50] for start in range(0, len(content), 50))
        else:
            self.answer(200, {"choices": [SECRET], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    def do_GET(self) -> None:
        self.answer(200, {"data": []})

    def answer(self, status: int, said: dict[str, Any]) -> None:
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("x-request-id", f"req_{len(self.asked)}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, content: Iterator[bytes], *, ends: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("request-id", f"req_{len(self.asked)}")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for piece in content:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n" if ends else b"ffff\r\nbroken")
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def endless() -> Iterator[bytes]:
    yield events(MESSAGE[:3])
    while True:
        yield events([{"type": "content_block_delta", "delta": {"text": "x" * 10_000}}])


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Upstream.asked = []
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(machine: Machine, upstream: str) -> Iterator[int]:
    command = [sys.executable, str(DOCS / "examples" / "recording_proxy.py"), "--upstream", upstream, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().rpartition(":")[2])
        process.terminate()
        assert process.wait(30) == 0


def ask(proxy: int, path: str, body: dict[str, Any], **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy)
    try:
        connection.request("POST", path, json.dumps(body), {"Authorization": "Bearer key", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def recorded(machine: Machine, number: int) -> list[dict[str, Any]]:
    """What is recorded, once it is so much: a client has its answer before the proxy has recorded it."""
    for _ in range(1000):
        if (machine.data / "recorder.sqlite").exists() and len(found := rows(machine.data, "usage_events")) >= number:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{number} calls were not recorded")


def test_answers_pass_through_and_their_usage_is_recorded(machine: Machine, upstream: str, proxy: int) -> None:
    said = {"model": "gpt-5", "messages": [SECRET]}
    status, content = ask(proxy, "/v1/chat/completions", said, **{"X-Account": "team-a"})
    assert (status, json.loads(content)["choices"]) == (200, [SECRET])
    (event,) = recorded(machine, 1)
    names = ("account_name", "model_id", "endpoint", "upstream_format", "is_streaming", "status", "request_id")
    assert [event[name] for name in names] == ["team-a", "gpt-5", "chat.completions", "openai", 0, "ok", "req_1"]
    assert (event["input_tokens"], event["output_tokens"], event["input_price_snapshot"]) == (7, 3, "1.25")
    assert Upstream.asked == [("Bearer key", said)]

    assert ask(proxy, "/v1/embeddings", {"model": "text-embedding-3-small", "input": SECRET})[0] == 200
    assert recorded(machine, 2)[1]["endpoint"] == "embeddings"
    written = b"".join(path.read_bytes() for path in machine.data.iterdir() if path.is_file())
    assert SECRET.encode() not in written and b"Bearer" not in written


def test_streams_pass_through_and_their_usage_is_recorded(machine: Machine, upstream: str, proxy: int) -> None:
    _, chat = ask(proxy, "/v1/chat/completions", {"model": "gpt-5", "stream": True})
    assert chat == events(CHAT, b"data: [DONE]\n\n")
    assert Upstream.asked[0][1]["stream_options"] == {"include_usage": True}
    assert ask(proxy, "/v1/messages", {"model": "claude-sonnet-4-5", "stream": True})[1] == events(MESSAGE)
    found = recorded(machine, 2)
    assert [(event["endpoint"], event["is_streaming"], event["status"]) for event in found] == [
        ("chat.completions", 1, "ok"),
        ("messages", 1, "ok"),
    ]
    assert [(event["input_tokens"], event["output_tokens"], event["cache_read_tokens"]) for event in found] == [
        (3, 4, 6),
        (25, 40, 3),
    ]


def test_failures_of_the_upstream_are_passed_on_and_recorded(machine: Machine, upstream: str, proxy: int) -> None:
    status, content = ask(proxy, "/v1/chat/completions", {"model": "busy"})
    assert (status, json.loads(content)) == (429, {"error": SECRET})
    assert events(MESSAGE[:3]) in ask(proxy, "/v1/messages", {"model": "breaks", "stream": True})[1]
    found = recorded(machine, 2)
    assert [(event["status"], event["output_tokens"]) for event in found] == [("error", 0), ("error", 15)]


def test_a_client_that_goes_away_leaves_an_aborted_call(machine: Machine, upstream: str, proxy: int) -> None:
    client = socket.create_connection(("127.0.0.1", proxy))
    body = json.dumps({"model": "endless", "stream": True}).encode()
    client.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert client.recv(1000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed with a reset
    client.close()
    (event,) = recorded(machine, 1)
    assert (event["status"], event["input_tokens"], event["output_tokens"]) == ("aborted", 25, 15)


def test_what_is_internal_or_no_call_is_not_recorded(machine: Machine, upstream: str, proxy: int) -> None:
    assert ask(proxy, "/v1/chat/completions", {"model": "gpt-5"}, **{"X-Internal-Pricing-Sync": "1"})[0] == 200
    assert ask(proxy, "/v1/moderations", {"model": "gpt-5"})[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", proxy)
    connection.request("GET", "/v1/models")
    assert json.loads(connection.getresponse().read()) == {"data": []}
    connection.close()
    assert ask(proxy, "/v1/chat/completions", {"model": "last"})[0] == 200
    assert [event["model_id"] for event in recorded(machine, 1)] == ["last"]


def test_an_upstream_that_is_not_there_is_an_error(machine: Machine) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        command = [sys.executable, str(DOCS / "examples" / "recording_proxy.py"), "--upstream", nobody, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            assert ask(port, "/v1/responses", {"model": "gpt-5"})[0] == 502
            (event,) = recorded(machine, 1)
            process.terminate()
    assert (event["status"], event["endpoint"], event["input_tokens"]) == ("error", "responses", 0)
