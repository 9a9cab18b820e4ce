"""The ways out: one client for each, direct or through a proxy, and which of them a request takes.

A way carries one request and brings the whole answer, or says in a fixed phrase why not. It never quotes what an
exception says: that may hold an address with a password. Where an account names proxies there is no direct way.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple, Protocol

import httpcore2
import httpx2

from kharcha_pipeline import __version__
from kharcha_pipeline.accounts.clock import Clock
from kharcha_pipeline.accounts.configuration import Proxy
from kharcha_pipeline.accounts.failures import ProxiesDown

DIRECT = "direct"

_NO_HTTP = "cannot be asked this: the address or a header has characters that HTTP does not have"
_NOTHING = "sent nothing for too long"
_LOG = logging.getLogger("kharcha_pipeline.accounts")
_FIRST_REST_MS = 60_000
_LONGEST_REST_MS = 3_600_000
_IS_SENDING: ContextVar[bool] = ContextVar("is_sending", default=False)
_LOGGERS = (
    "httpx2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.http2",
    "httpcore2.proxy",
    "httpcore2.socks",
)


class _Discretion(logging.Filter):
    """Keeps the client's own log records of accounts' requests back: they hold addresses and answers' headers."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _IS_SENDING.get()


_DISCRETION = _Discretion()
for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_DISCRETION)


class Outgoing(NamedTuple):
    """A request with everything that goes on the wire, credential included."""

    method: str
    url: str
    query: Sequence[tuple[str, str]]
    headers: Sequence[tuple[str, str]]
    body: bytes | None

    def __repr__(self) -> str:
        return f"Outgoing({self.method})"


class Incoming(NamedTuple):
    """A whole answer: status, headers in lower case, and the decoded body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Patience(NamedTuple):
    """How long one exchange may take and how long its answer may be.

    Attributes:
        connect_seconds: for a connection.
        read_seconds: between two pieces of an answer.
        ends_at: on `Clock.elapsed`, when it is over in any case.
        largest_body: bytes, decoded.
    """

    connect_seconds: float
    read_seconds: float
    ends_at: float
    largest_body: int


class Interrupted(Exception):  # noqa: N818 - it says what is the case
    """There was no whole answer. The message is a fixed phrase that goes on after the vendor's name.

    Attributes:
        is_by_proxy: whether the way is to blame, and not the vendor.
        is_by_time: whether nothing came for too long, for which way or vendor may be to blame.
        is_final: whether the same would happen again.
    """

    def __init__(
        self, phrase: str, *, is_by_proxy: bool = False, is_by_time: bool = False, is_final: bool = False
    ) -> None:
        super().__init__(phrase)
        self.is_by_proxy = is_by_proxy
        self.is_by_time = is_by_time
        self.is_final = is_final


class ProxyRests(Protocol):
    """Where it is remembered which proxies rest: `AccountStore`."""

    def rest_proxy(self, account: str, proxy: str, until_ms: int) -> None:
        """Lets a proxy rest."""
        ...

    def resting_proxies(self, account: str) -> dict[str, int]:
        """Until when each proxy rests, or rested last."""
        ...


class Route:
    """One way, with a client of its own. Not for several threads.

    Attributes:
        name: the proxy's address without credentials, or `direct`.
    """

    def __init__(self, proxy: Proxy | None, trust: ssl.SSLContext, clock: Clock) -> None:
        self.name = proxy.address if proxy else DIRECT
        self._is_proxied = proxy is not None
        self._backend = _Backend(clock)
        self._client = httpx2.Client(
            transport=_Wire(_pool(proxy, trust, self._backend)),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # what a server sets is never sent back
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": f"kharcha-pipeline/{__version__}", "Accept": "application/json"},
        )

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def exchange(self, outgoing: Outgoing, patience: Patience) -> Incoming:
        """Sends a request and takes the whole answer in.

        Raises:
            Interrupted: when there is no whole answer.
        """
        self._backend.ends_at = patience.ends_at
        sending = _IS_SENDING.set(True)
        try:
            return self._exchanged(outgoing, patience)
        except (httpx2.HTTPError, httpx2.StreamError, *_CORE_ERRORS) as error:
            interrupted = self._understood(error)
        except (httpx2.InvalidURL, UnicodeError):
            interrupted = Interrupted(_NO_HTTP, is_final=True)
        finally:
            _IS_SENDING.reset(sending)
        raise interrupted  # out here it carries no context: the client's exceptions hold requests with headers

    def _exchanged(self, outgoing: Outgoing, patience: Patience) -> Incoming:
        with self._client.stream(
            outgoing.method,
            outgoing.url,
            params=list(outgoing.query) or None,
            headers=list(outgoing.headers),
            content=outgoing.body,
            timeout=httpx2.Timeout(patience.read_seconds, connect=patience.connect_seconds),
        ) as response:
            if response.status_code == 407 and self._is_proxied:
                raise Interrupted("was not reached: the proxy wants another name or password", is_by_proxy=True)
            body = bytearray()
            for part in response.iter_bytes():
                body += part
                if len(body) > patience.largest_body:
                    megabytes = patience.largest_body / 2**20
                    raise Interrupted(f"sent an answer of more than {megabytes:g} MB", is_final=True)
            return Incoming(response.status_code, dict(response.headers), bytes(body))

    def _understood(self, error: Exception) -> Interrupted:
        """What happened, as a phrase, and whose fault it is."""
        causes = list(_causes(error))
        is_by_proxy = self._is_proxied
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            return Interrupted(
                "showed a certificate that this machine does not trust", is_by_proxy=is_by_proxy, is_final=True
            )
        if isinstance(error, httpcore2.ProxyError):
            return Interrupted("was not reached: the proxy refused to go there", is_by_proxy=True)
        if isinstance(error, httpcore2.ConnectTimeout):
            return Interrupted("could not be connected to in time", is_by_proxy=is_by_proxy)
        if isinstance(error, httpcore2.ConnectError):
            is_unnamed = any(isinstance(cause, socket.gaierror) for cause in causes)
            phrase = "has a name that cannot be resolved" if is_unnamed else "could not be connected to"
            return Interrupted(phrase, is_by_proxy=is_by_proxy)
        if isinstance(error, httpcore2.TimeoutException):
            return Interrupted(_NOTHING, is_by_time=True)
        if isinstance(error, httpcore2.LocalProtocolError):
            return Interrupted(_NO_HTTP, is_final=True)
        if isinstance(error, httpx2.DecodingError):
            return Interrupted("sent an answer that cannot be decompressed")
        if self._backend.has_received:
            return Interrupted("sent an answer that ends too early or is no HTTP")
        return Interrupted("cut the connection without an answer", is_by_proxy=is_by_proxy)


class Egress:
    """An account's ways, and which is next: the one that was used longest ago, unless it rests.

    Args:
        account: its name.
        proxies: all of them; none for the direct way.
        rests: where rests are remembered.
        clock: the time.
    """

    def __init__(self, account: str, proxies: Sequence[Proxy], rests: ProxyRests, clock: Clock) -> None:
        self._account = account
        self._rests = rests
        self._clock = clock
        trust = httpx2.create_ssl_context()
        routes = [Route(proxy, trust, clock) for proxy in proxies] or [Route(None, trust, clock)]
        self._is_direct = not proxies
        self._waiting = deque(routes)
        # Cycles of one request each would otherwise all take the first.
        self._waiting.rotate(-(clock.now_ms() // 60_000))
        self._failures: dict[str, int] = {}
        self._suspects: set[str] = set()
        self._last_reason = ""

    def close(self) -> None:
        """Closes all connections."""
        for route in self._waiting:
            with suppress(Exception):
                route.close()

    def next(self) -> Route:
        """The way that the next request takes.

        Raises:
            ProxiesDown: when all proxies rest.
        """
        if self._is_direct:
            return self._waiting[0]
        now_ms = self._clock.now_ms()
        rests = self._rests.resting_proxies(self._account)
        for route in list(self._waiting):
            if rests.get(route.name, 0) <= now_ms:
                self._waiting.remove(route)
                self._waiting.append(route)
                return route
        reason = f" (by the last one the vendor {self._last_reason})" if self._last_reason else ""
        raise ProxiesDown(
            f"None of the account's {len(self._waiting)} proxies can be used at present{reason}. They are tried "
            "again later; look whether they run, and whether their addresses and passwords are configured right.",
            until_ms=min(rests[route.name] for route in self._waiting),
        )

    def failed(self, route: Route, reason: str) -> None:
        """Lets a proxy rest: for a minute, and twice as long each further time, up to an hour.

        Args:
            route: the way by it.
            reason: what happened, as a phrase that goes on after the vendor's name.
        """
        failures = self._failures.get(route.name, 0)
        self._failures[route.name] = failures + 1
        rest_ms = min(_LONGEST_REST_MS, _FIRST_REST_MS * 2 ** min(failures, 10))
        self._rests.rest_proxy(self._account, route.name, self._clock.now_ms() + rest_ms)
        self._last_reason = reason
        _LOG.info(
            "%s: the proxy %s rests for %d seconds: by it the vendor %s",
            self._account,
            route.name,
            rest_ms // 1000,
            reason,
        )

    def suspect(self, route: Route) -> None:
        """Nothing came on this way. If the same request gets its answer on another, this one was to blame."""
        if not self._is_direct:
            self._suspects.add(route.name)

    def worked(self, route: Route) -> None:
        """An answer came on this way."""
        self._failures.pop(route.name, None)
        for suspected in self._waiting:
            if suspected.name in self._suspects and suspected is not route:
                self.failed(suspected, _NOTHING)
        self._suspects.clear()


_CORE_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _pool(proxy: Proxy | None, trust: ssl.SSLContext, backend: _Backend) -> httpcore2.ConnectionPool:
    if proxy is None:
        return httpcore2.ConnectionPool(trust, max_connections=2, keepalive_expiry=5.0, network_backend=backend)
    password = proxy.password.reveal()
    is_encrypted = proxy.address.startswith("https:")
    return httpcore2.HTTPProxy(
        proxy.address,
        proxy_auth=(proxy.user, password) if proxy.user or password else None,
        ssl_context=trust,
        proxy_ssl_context=trust if is_encrypted else None,
        max_connections=2,
        # A connection that was closed while it waited looks like a proxy that cuts.
        max_keepalive_connections=0,
        network_backend=backend,
    )


class _Wire(httpx2.BaseTransport):
    """Carries the client's requests over a pool whose sockets know when everything is over."""

    def __init__(self, pool: httpcore2.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        core = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream if isinstance(request.stream, httpx2.SyncByteStream) else None,
            extensions=request.extensions,
        )
        response = self._pool.handle_request(core)
        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _Backend(httpcore2.NetworkBackend):
    """Real sockets, with one end of time for everything that happens on them.

    Timeouts begin anew with every piece that comes, also while headers come; a server that sends a byte now and then
    would keep the client for ever.
    """

    def __init__(self, clock: Clock) -> None:
        self.ends_at = 0.0
        self.has_received = False
        self._clock = clock
        self._sockets = httpcore2.SyncBackend()

    def left(self, timeout: float | None, error: type[Exception]) -> float:
        """How long a step may take."""
        left = self.ends_at - self._clock.elapsed()
        if left <= 0:
            raise error
        return left if timeout is None else min(timeout, left)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        self.has_received = False
        left = self.left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._sockets.connect_tcp(host, port, left, local_address, socket_options), self)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._backend.left(timeout, httpcore2.ReadTimeout))
        self._backend.has_received |= bool(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._backend.has_received = False
        self._stream.write(buffer, self._backend.left(timeout, httpcore2.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = self._backend.left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._backend)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
