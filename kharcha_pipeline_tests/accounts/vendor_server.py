"""Vendors that misbehave: real HTTP on loopback, a clock that tests turn, faults by script, and proxies.

A fake vendor is a function from what was received to a reply. `VendorServer` carries it: it speaks HTTP, writes down
every request, and lets faults happen. `ProxyServer` is a way to it that can be broken on its own.

    with VendorServer(answer, clock) as server:
        server.faults.append(Fault("/teams/members", Reply(503), nth=2))
        server.faults.append(Fault(lambda received: received.credential == "key-2", Behaviour("hang"), sticky=True))
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

NOON_MS = 1_795_176_000_000
"""2026-11-20 12:00 UTC: where a turned clock begins unless told otherwise."""


class TurnedClock:
    """A clock that only tests turn. To sleep is to turn it, so hours pass at once.

    `elapsed` also counts real seconds: deadlines of requests that hang are real ones, and short.

    Attributes:
        slept: every wait that was asked for, in seconds.
    """

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self._lock = threading.Lock()
        self._now_ms = now_ms
        self._turned = 0.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        """The instant now."""
        with self._lock:
            return self._now_ms

    def elapsed(self) -> float:
        """Seconds that were waited on this clock, and real ones."""
        with self._lock:
            return self._turned + time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Turns the clock by what is waited, at once. Milliseconds are rounded up, so no wait is too short."""
        with self._lock:
            self.slept.append(seconds)
            self._turn(seconds)

    def advance(self, seconds: float) -> None:
        """Turns the clock as if so much time had passed."""
        with self._lock:
            self._turn(seconds)

    def turn_to(self, now_ms: int) -> None:
        """Sets the clock, also backwards, as people and time servers do: `elapsed` does not notice."""
        with self._lock:
            self._now_ms = now_ms

    def _turn(self, seconds: float) -> None:
        self._now_ms += math.ceil(seconds * 1000)
        self._turned += seconds


@dataclass
class Received:
    """A request as it came in.

    Attributes:
        method, path: as sent; the path without its query.
        query: pairs, in the order sent.
        headers: names in lower case.
        body: as sent.
        via: name of the proxy that brought it, `direct` for none.
        at_ms: on the server's clock.
        status: what was answered, 0 until then and where nothing was answered.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    via: str = "direct"
    at_ms: int = 0
    status: int = 0

    @property
    def json(self) -> Any:
        """The body, with exact decimals."""
        return json.loads(self.body, parse_float=Decimal)

    @property
    def parameters(self) -> dict[str, str]:
        """The query, where no name repeats."""
        return dict(self.query)

    @property
    def credential(self) -> str:
        """Whose account it is, by what was sent: a bearer token, a basic user, a key's header, else the cookie."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            return base64.b64decode(value).decode().partition(":")[0]
        return value or self.headers.get("x-api-key", "") or self.headers.get("cookie", "")


class Reply(NamedTuple):
    """An answer: bytes as they are, or anything that JSON can say, decimals exact."""

    status: int = 200
    content: Any = b""
    headers: Mapping[str, str] = {}

    def encoded(self) -> tuple[bytes, dict[str, str]]:
        """Body and headers as sent."""
        headers = dict(self.headers)
        if isinstance(self.content, bytes):
            return self.content, headers
        if "content-type" not in map(str.lower, headers):
            headers["Content-Type"] = "application/json"
        return _ENCODER.encode(self.content), headers


_ENCODER = msgspec.json.Encoder(decimal_format="number")


def page(text: str, status: int = 200) -> Reply:
    """A reply of HTML."""
    return Reply(status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


def redirect(location: str, status: int = 307) -> Reply:
    """A reply that leads elsewhere."""
    return Reply(status, b"", {"Location": location})


class Behaviour(NamedTuple):
    """What a server does instead of answering well; the answer that it breaks is the one it would have given.

    Attributes:
        kind: `hang` answers nothing; `slow_headers` sends headers byte by byte; `drip` the body so; `reset` cuts the
            connection; `wrong_length` sends half of the promised body; `cut_json` sends half of it and says that it
            is all; `broken_chunks` ends inside a chunk; `bad_gzip` says gzip and sends something else; `huge` sends
            without end.
        seconds: pause between bytes.
    """

    kind: Literal[
        "hang", "slow_headers", "drip", "reset", "wrong_length", "cut_json", "broken_chunks", "bad_gzip", "huge"
    ]
    seconds: float = 0.05


@dataclass
class Fault:
    """Something that happens to requests instead of what the vendor would answer.

    Faults form a queue: the first that strikes happens, and those behind it do not count that request.

    Attributes:
        matches: a path, or a function of the request.
        happens: a reply, or a behaviour.
        nth: only with the nth request that matches, the first being 1; sticky ones begin there.
        sticky: again and again; otherwise once.
    """

    matches: str | Callable[[Received], bool]
    happens: Reply | Behaviour
    nth: int = 1
    sticky: bool = False
    seen: int = field(default=0, init=False)

    def strikes(self, received: Received) -> bool:
        """Whether it happens to this request; counts it."""
        asked = self.matches
        matched = received.path == asked if isinstance(asked, str) else asked(received)
        self.seen += matched
        return matched and (self.seen >= self.nth if self.sticky else self.seen == self.nth)


_BROUGHT_BY: dict[tuple[str, int], str] = {}
"""The near end of each connection that a proxy holds to a vendor, and the proxy's name."""


class VendorServer:
    """A vendor on loopback.

    Attributes:
        log: every request in the order in which they came.
        faults: what happens instead of an answer; the first that strikes.
        answer: the vendor.
    """

    def __init__(
        self, answer: Callable[[Received], Reply], clock: TurnedClock, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        self.log: list[Received] = []
        self.faults: list[Fault] = []
        self._clock = clock
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._scheme = "https" if tls else "http"
        self._server = _Serving(("127.0.0.1", 0), self._handler(), tls)

    @property
    def url(self) -> str:
        """Base address."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def requests(self, path: str) -> list[Received]:
        """The requests to one path."""
        return [received for received in list(self.log) if received.path == path]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                vendor._serve(self)

            def do_POST(self) -> None:
                vendor._serve(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def date_time_string(self, timestamp: float | None = None) -> str:
                return http_date(vendor._clock.now_ms())

        return Handler

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        received = _received(handler, self._clock.now_ms())
        with self._lock:  # a vendor's state is looked at by one request at a time
            self.log.append(received)
            fault = next((fault for fault in self.faults if fault.strikes(received)), None)
            happens = fault.happens if fault else self.answer(received)
            if isinstance(happens, Reply):
                reply, behaviour = happens, None
            else:
                # Nobody gets an answer by hanging, so nothing of the vendor's state may change by it.
                reply = self.answer(received) if happens.kind != "hang" else Reply(200)
                behaviour = happens
        try:
            self._send(handler, received, reply, behaviour)
        except OSError:  # whoever asked has gone
            handler.close_connection = True

    def _send(
        self, handler: BaseHTTPRequestHandler, received: Received, reply: Reply, behaviour: Behaviour | None
    ) -> None:
        kind = behaviour.kind if behaviour else None
        pause = behaviour.seconds if behaviour else 0.0
        body, headers = reply.encoded()
        if kind == "hang":
            self._closing.wait()
        if kind in ("hang", "reset"):
            _cut(handler.connection)
            handler.close_connection = True
            return
        received.status = reply.status
        length = len(body)
        if kind == "cut_json":
            body = body[: length // 2]
            length = len(body)
        elif kind == "wrong_length":
            body = body[: length // 2]
        elif kind == "bad_gzip":
            body = gzip.compress(body)[:10] + b"\xff" * 20
            length = len(body)
            headers["Content-Encoding"] = "gzip"
        chunked = kind in ("broken_chunks", "huge")
        handler.send_response(reply.status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        elif reply.status not in (204, 304):
            handler.send_header("Content-Length", str(length))
        if kind is not None or handler.headers.get("Connection", "").lower() == "close":
            handler.send_header("Connection", "close")
            handler.close_connection = True
        if kind == "slow_headers":
            head = b"".join(handler._headers_buffer) + b"\r\n"  # type: ignore[attr-defined]
            handler._headers_buffer = []  # type: ignore[attr-defined]
            self._drip(handler, head, pause)
        else:
            handler.end_headers()
        if kind == "drip":
            self._drip(handler, body, pause)
        elif kind == "broken_chunks":
            handler.wfile.write(b"%x\r\n%b" % (len(body) + 10, body))
        elif kind == "huge":
            block = b" " * 65_536
            while not self._closing.is_set():
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
        else:
            handler.wfile.write(body)

    def _drip(self, handler: BaseHTTPRequestHandler, data: bytes, pause: float) -> None:
        for one in data:
            handler.wfile.write(bytes((one,)))
            if self._closing.wait(pause):
                return


class _Serving(socketserver.ThreadingTCPServer):
    """A thread for each connection, encrypted where there is a certificate."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Any, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _received(handler: BaseHTTPRequestHandler, at_ms: int) -> Received:
    parts = urlsplit(handler.path)
    headers: dict[str, str] = {}
    for name, value in handler.headers.items():
        joined = headers.get(name.lower())
        headers[name.lower()] = value if joined is None else f"{joined}; {value}"
    return Received(
        method=handler.command,
        path=unquote(parts.path),
        query=parse_qsl(parts.query, keep_blank_values=True),
        headers=headers,
        body=handler.rfile.read(int(handler.headers.get("Content-Length") or 0)),
        via=_BROUGHT_BY.get(handler.client_address, "direct"),
        at_ms=at_ms,
    )


def http_date(at_ms: int) -> str:
    """An instant as HTTP writes it, e.g. in `Retry-After`."""
    return format_datetime(datetime.fromtimestamp(at_ms // 1000, UTC), usegmt=True)


def nobody_listens() -> str:
    """An address on loopback that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def _cut(connection: socket.socket) -> None:
    """Ends a connection in the way a crash does: with a reset, not with a farewell."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if isinstance(connection, ssl.SSLSocket):
            connection = socket.socket(fileno=connection.detach())
        connection.close()


class ProxyServer:
    """A proxy on loopback for plain requests and tunnels.

    Attributes:
        name: what `Received.via` calls it.
        mode: `ok`; `refuse_407` asks everybody for a password; `reset` cuts; `delay` waits until it is closed.
        credentials: name and password that are asked for, if any.
        targets: host and port of every request that it was asked to carry, also when it refused.
    """

    def __init__(
        self,
        name: str,
        mode: Literal["ok", "refuse_407", "reset", "delay"] = "ok",
        credentials: tuple[str, str] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.mode = mode
        self.credentials = credentials
        self.targets: list[str] = []
        self._closing = threading.Event()
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    proxy._carry(self)

        self._scheme = "https" if tls else "http"
        self._server = _Serving(("127.0.0.1", 0), Handler, tls)

    @property
    def url(self) -> str:
        """Its address, without a name or a password."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening: who comes now is refused."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _carry(self, handler: socketserver.StreamRequestHandler) -> None:
        first = handler.rfile.readline().decode("latin-1")
        head: list[str] = []
        while (line := handler.rfile.readline().decode("latin-1")) not in ("\r\n", "\n", ""):
            head.append(line)
        if not first:
            return
        method, target, version = first.split()
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        self.targets.append(f"{parts.hostname}:{parts.port or 80}")
        if self.mode == "reset":
            _cut(handler.connection)
            return
        if self.mode == "delay":
            self._closing.wait()
            return
        if self.mode == "refuse_407" or not self._knows(head):
            handler.wfile.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                b"Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        with self._connected(str(parts.hostname), parts.port or 80) as vendor:
            if method == "CONNECT":
                handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                own = ("proxy-", "connection:")
                kept = [line for line in head if not line.lower().startswith(own)]
                request = f"{method} {path or '/'} {version}\r\n{''.join(kept)}Connection: close\r\n\r\n"
                vendor.sendall(request.encode("latin-1"))
            _pumped(handler, vendor)

    def _knows(self, head: list[str]) -> bool:
        if self.credentials is None:
            return True
        expected = base64.b64encode(":".join(self.credentials).encode()).decode()
        return any(line.strip().lower() == f"proxy-authorization: basic {expected}".lower() for line in head)

    @contextmanager
    def _connected(self, host: str, port: int) -> Any:
        with socket.create_connection((host, port), timeout=10) as vendor:
            vendor.settimeout(None)
            near = vendor.getsockname()
            _BROUGHT_BY[near] = self.name
            try:
                yield vendor
            finally:
                del _BROUGHT_BY[near]


def _pumped(handler: socketserver.StreamRequestHandler, vendor: socket.socket) -> None:
    """Carries bytes in both directions until the vendor has said everything."""

    def outwards() -> None:
        with suppress(OSError):
            while data := handler.rfile.read1(65_536):  # type: ignore[attr-defined]
                vendor.sendall(data)
            vendor.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=outwards, daemon=True)
    thread.start()
    try:
        while data := vendor.recv(65_536):
            handler.wfile.write(data)
    finally:
        with suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
