"""A proxy for model calls that records what they used: the standard library and `kharcha_pipeline.recorder`.

    python docs/examples/recording_proxy.py --upstream https://api.openai.com --port 8080

Point a client's base URL at it. Requests are passed on as they come, keys included, and answers as they come back,
also streams. It is an example: it has no limits, no timeouts of its own and no access control. Let it listen on
loopback only.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from kharcha_pipeline.recorder import (
    AnthropicStream,
    OpenAIStream,
    Recorder,
    UsageCounts,
    anthropic_usage,
    openai_usage,
)

ENDPOINTS = {
    "/v1/chat/completions": ("chat.completions", "openai"),
    "/v1/responses": ("responses", "openai"),
    "/v1/embeddings": ("embeddings", "openai"),
    "/v1/messages": ("messages", "anthropic"),
}
"""Paths whose calls are recorded. Everything else is passed on and forgotten."""

ACCOUNT_HEADER = "X-Account"
INTERNAL_HEADER = "X-Internal-Pricing-Sync"
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host"}
    | {"content-length", "accept-encoding", ACCOUNT_HEADER.lower(), INTERNAL_HEADER.lower()}
)
"""Headers that are not passed on. Without `Accept-Encoding` the answer comes as plain text, so it can be read."""

CHUNK = 64 * 1024


class Proxy(ThreadingHTTPServer):
    """Passes requests on to one upstream."""

    def __init__(self, address: tuple[str, int], upstream: str, recorder: Recorder) -> None:
        super().__init__(address, Handler)
        self.upstream = urlsplit(upstream)
        self.recorder = recorder

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the upstream."""
        kind = http.client.HTTPSConnection if self.upstream.scheme == "https" else http.client.HTTPConnection
        return kind(self.upstream.netloc, timeout=600)


class Handler(BaseHTTPRequestHandler):
    """Passes one request on, and its answer back."""

    server: Proxy

    def do_GET(self) -> None:
        """Passes on what is not recorded."""
        self._pass_on(b"", None)

    def do_POST(self) -> None:
        """Passes a call on, and records it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = Call.of(self.path, body)
        if call is None:
            self._pass_on(body, None)
            return
        started = time.monotonic()
        try:
            self._pass_on(call.body, call)
        finally:
            self.server.recorder.record_usage(
                account=self.headers.get(ACCOUNT_HEADER, "default"),
                model_id=call.model,
                endpoint=call.endpoint,
                upstream_format=call.upstream_format,
                is_streaming=call.is_streaming,
                usage=call.usage,
                duration_ms=(time.monotonic() - started) * 1000,
                status=call.status,
                request_id=call.request_id,
                is_internal=INTERNAL_HEADER in self.headers,
            )

    def _pass_on(self, body: bytes, call: Call | None) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        upstream = self.server.connect()
        try:
            upstream.request(self.command, self.server.upstream.path + self.path, body, headers)
            answer = upstream.getresponse()
        except (OSError, http.client.HTTPException):
            upstream.close()
            self.send_error(502, "The upstream cannot be reached")
            return  # the call's status is still `error`
        try:
            self._pass_back(answer, call)
        finally:
            upstream.close()

    def _pass_back(self, answer: http.client.HTTPResponse, call: Call | None) -> None:
        try:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Connection", "close")  # the end of the answer is the end of the connection
            self.end_headers()
            for piece in call.watched(answer) if call else pieces(answer):
                self.wfile.write(piece)
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):  # the client is gone
            if call:
                call.status = "aborted"
        except (OSError, http.client.HTTPException):  # the upstream broke off
            if call:
                call.status = "error"

    def log_message(self, format: str, *arguments: object) -> None:
        """Stays quiet: a path may hold a secret."""


class Call:
    """One call that is to be recorded."""

    def __init__(self, endpoint: str, upstream_format: str, body: bytes, asked: dict[str, object]) -> None:
        self.endpoint = endpoint
        self.upstream_format = upstream_format
        self.body = body
        self.model = asked.get("model")
        self.is_streaming = asked.get("stream") is True
        self.status = "error"  # until the upstream has answered
        self.request_id: str | None = None
        self.usage: UsageCounts | None = None

    @classmethod
    def of(cls, path: str, body: bytes) -> Call | None:
        """The call that a request is, `None` when it is none that is recorded."""
        known = ENDPOINTS.get(urlsplit(path).path)
        if known is None:
            return None
        try:
            asked = json.loads(body)
        except ValueError:
            return None
        if not isinstance(asked, dict):
            return None
        if known[0] == "chat.completions" and asked.get("stream") is True:
            # Without being asked, OpenAI tells no usage of a stream. The client sees one more chunk, without choices.
            options = asked.get("stream_options")
            asked["stream_options"] = (options if isinstance(options, dict) else {}) | {"include_usage": True}
            body = json.dumps(asked).encode()
        return cls(*known, body, asked)

    def watched(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """The pieces of an answer as they come. What they say of usage is known when they end, or break off."""
        self.request_id = answer.getheader("request-id") or answer.getheader("x-request-id")
        if answer.status >= 400:
            yield from pieces(answer)
            return
        self.status = "ok"
        if "text/event-stream" in (answer.getheader("Content-Type") or ""):
            stream = AnthropicStream() if self.upstream_format == "anthropic" else OpenAIStream()
            try:
                for piece in pieces(answer):
                    stream.feed(piece)
                    yield piece
            finally:
                self.usage = stream.usage
            return
        whole = b"".join(pieces(answer))
        try:
            said = json.loads(whole)
            raw = said.get("usage") if isinstance(said, dict) else None
            self.usage = anthropic_usage(raw) if self.upstream_format == "anthropic" else openai_usage(raw)
        except ValueError:
            pass  # recorded as what it is: a call that succeeded without usage, which `kharcha rejects` shows
        yield whole


def pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """An answer as it comes in."""
    while piece := answer.read1(CHUNK):
        yield piece


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description="Passes model calls on and records what they used.")
    parser.add_argument("--upstream", required=True, help="where to: https://api.openai.com")
    parser.add_argument("--port", type=int, default=8080)
    chosen = parser.parse_args()
    with Recorder() as recorder, Proxy(("127.0.0.1", chosen.port), chosen.upstream, recorder) as proxy:
        print(f"Listening on http://127.0.0.1:{proxy.server_address[1]}", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever supervises it ends it as Ctrl-C does
        with suppress(KeyboardInterrupt):
            proxy.serve_forever()


if __name__ == "__main__":
    main()
