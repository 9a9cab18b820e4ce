"""One account's way to its vendor, in one cycle: credential, pace, ways out, attempts and deadline.

    with Transport("team", connector, settings, secret, store=store, clock=clock, environment=environment) as session:
        connector.read(session, settings, resource, window)

Redirects are never followed, cookies of the server never kept, environment proxies never used, and certificates
always verified. What goes out is logged by method and path alone.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from kharcha_pipeline.accounts.classification import SHORTEST_WAIT_MS, classified, described
from kharcha_pipeline.accounts.clock import Clock
from kharcha_pipeline.accounts.configuration import Account, proxies_of
from kharcha_pipeline.accounts.connector import Answer, Connector, Request
from kharcha_pipeline.accounts.credentials import Secret
from kharcha_pipeline.accounts.egress import Egress, Interrupted, Outgoing, Patience, ProxyRests, Route
from kharcha_pipeline.accounts.failures import (
    DeadlinePassed,
    Failure,
    Misconfigured,
    RateLimited,
    Unauthorized,
    Unreachable,
)
from kharcha_pipeline.accounts.rates import RateLimiter, RequestMemory
from kharcha_pipeline.hosts import is_loopback

REMOVED = "(removed)"
"""What stands in an answer where the vendor repeated the credential."""

_NEVER_KEPT = frozenset(
    ("set-cookie", "set-cookie2", "authorization", "cookie", "proxy-authorization", "proxy-authenticate")
)
_CREDENTIAL_HEADERS = ("authorization", "cookie", "key", "token", "secret")
_SHORTEST_CREDENTIAL = 8
_SIGNED_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""A JSON Web Token: the part of a cookie that a vendor may also repeat alone."""

_LOG = logging.getLogger("kharcha_pipeline.accounts")
_JSON = msgspec.json.Encoder(decimal_format="number")


class Memory(RequestMemory, ProxyRests, Protocol):
    """What is remembered from one cycle to the next: `AccountStore`."""


class Limits(NamedTuple):
    """How much is borne. Times in seconds.

    Attributes:
        attempts: how often one request is tried.
        connect_seconds: for a connection.
        read_seconds: between two pieces of an answer.
        answer_seconds: for a whole answer.
        largest_body: bytes of an answer, decoded.
        first_pause: longest pause after the first failure; after each further one it is twice as long.
        longest_pause: longest pause.
        longest_asked: longest pause that a vendor may ask for within a cycle; for a longer one the cycle ends.
        rest: how long an account rests when the vendor goes on refusing and does not say for how long.
    """

    attempts: int = 5
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    answer_seconds: float = 120.0
    largest_body: int = 64 * 2**20
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest_asked: float = 60.0
    rest: float = 900.0


class _AgainError(Exception):
    """The same request may be sent again."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class Transport:
    """The session of one account for one cycle. Not for several threads.

    Attributes:
        requests_sent: attempts included.

    Args:
        account: its name.
        connector: its vendor.
        settings: of the connector's class.
        secret: the credential.
        store: where requests and resting proxies are remembered.
        clock: the time.
        environment: variables that references of proxies may name.
        directory: where `accounts.toml` is: what relative paths of such references are relative to.
        limits: how much is borne.

    Raises:
        AccountsUsageError: when the credential cannot be one of this vendor, or a proxy's address is none.
    """

    def __init__(
        self,
        account: str,
        connector: Connector,
        settings: Any,
        secret: Secret,
        *,
        store: Memory,
        clock: Clock,
        environment: Mapping[str, str],
        directory: Path = Path(),
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        self.requests_sent = 0
        self._account = account
        self._connector = connector
        self._base_url = (settings.base_url or connector.base_url).rstrip("/")
        self._clock = clock
        self._limits = limits
        self._ends_at = clock.elapsed() + settings.deadline_seconds
        self._authorization = dict(connector.authorization(secret.reveal(), settings))
        self._traces = _traces(secret.reveal(), self._authorization)
        self._limiter = RateLimiter(account, connector.rates, store, clock, self._sleep)
        proxies = proxies_of(Account(account, connector, settings, directory), environment)
        self._egress = Egress(account, proxies, store, clock)
        self._has_succeeded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Transport({self._account!r})"

    def close(self) -> None:
        """Closes all connections."""
        self._egress.close()

    def now_ms(self) -> int:
        """The instant now."""
        return self._clock.now_ms()

    def send(self, request: Request) -> Answer:
        """Sends a request until there is a successful answer, or it makes no sense to go on.

        A 401 after something went well is tried once more: single machines of a vendor may be behind.

        Raises:
            Failure: one of its kinds.
        """
        outgoing = self._outgoing(request)
        attempts = Retrying(
            stop=stop_after_attempt(self._limits.attempts),
            retry=retry_if_exception_type(_AgainError),
            wait=self._pause,
            sleep=self._sleep,
            reraise=True,
        )
        may_repeat = self._has_succeeded
        while True:
            try:
                answer: Answer = attempts(self._attempt, request, outgoing)
            except _AgainError as again:
                failure = self._given_up(again.failure)
            except Unauthorized as refused:
                failure = refused
            else:
                self._has_succeeded = True
                return answer
            if not (isinstance(failure, Unauthorized) and may_repeat):
                raise failure  # with nothing behind it that could hold what was sent
            may_repeat = False

    # ---- what goes out

    def _outgoing(self, request: Request) -> Outgoing:
        is_absolute = request.path.startswith(("http://", "https://"))
        url = request.path if is_absolute else self._base_url + request.path
        if is_absolute:
            self._check_address(url, is_bare=request.is_bare)
        headers = (
            {} if request.is_bare else {name.lower(): (name, text) for name, text in self._authorization.items()}
        )
        headers |= {name.lower(): (name, text) for name, text in request.headers}
        body: bytes | None = None
        if request.method == "POST" and request.body is not None:
            body = _JSON.encode(request.body)
            headers.setdefault("content-type", ("Content-Type", "application/json"))
        return Outgoing(request.method, url, request.query, tuple(headers.values()), body)

    def _check_address(self, url: str, *, is_bare: bool) -> None:
        """Lets a credential go to its vendor only, and nothing over lines that anybody may read."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").lower()
        except ValueError:
            host, parts = "", urlsplit("")
        if not host or (parts.scheme != "https" and not is_loopback(host)):
            raise Misconfigured("The vendor names an address that is not encrypted; nothing was sent there.")
        own = (urlsplit(self._base_url).hostname or "").lower()
        if not is_bare and host != own and (is_loopback(own) or _domain(host) != _domain(own)):
            raise Misconfigured(
                f"The vendor names an address that is not below {_domain(own)}; the credential was not sent there."
            )

    # ---- one attempt

    def _attempt(self, request: Request, outgoing: Outgoing) -> Answer:
        answer = self._exchanged(request, outgoing)
        failure = self._connector.classify(answer) or classified(answer, self._base_url)
        if failure is None:
            return answer
        if isinstance(failure, RateLimited | Unreachable) and not self._is_too_late(failure):
            raise _AgainError(failure)
        raise failure

    def _exchanged(self, request: Request, outgoing: Outgoing) -> Answer:
        """One whole answer, by whichever way brings it."""
        while True:
            route = self._egress.next()
            self._limiter.wait(request.budget)
            started = self._clock.elapsed()
            if started >= self._ends_at:
                raise self._deadline_passed()
            self.requests_sent += 1
            interrupted: Interrupted | None = None
            try:
                incoming = route.exchange(outgoing, self._patience(started))
            except Interrupted as caught:
                interrupted = caught
            if interrupted is None:
                break
            self._bear(interrupted, route, request)
        self._egress.worked(route)
        answer = Answer(
            request=request,
            status=incoming.status,
            headers={name: self._cleaned(text) for name, text in incoming.headers.items() if name not in _NEVER_KEPT},
            body=self._cleaned_bytes(incoming.body),
            fetched_ms=self._clock.now_ms(),
        )
        _LOG.debug(
            "%s: %s %s answered %d (%s)",
            self._account,
            request.method,
            described(answer, self._base_url),
            answer.status,
            route.name,
        )
        return answer

    def _patience(self, started: float) -> Patience:
        limits = self._limits
        ends_at = min(self._ends_at, started + limits.answer_seconds)
        return Patience(limits.connect_seconds, limits.read_seconds, ends_at, limits.largest_body)

    def _bear(self, interrupted: Interrupted, route: Route, request: Request) -> None:
        """Returns when another way may be taken at once.

        Raises:
            Failure, _AgainError: when not.
        """
        if self._clock.elapsed() >= self._ends_at:
            raise self._deadline_passed()
        if interrupted.is_by_proxy:
            self._egress.failed(route, str(interrupted))
            return
        if interrupted.is_by_time:
            self._egress.suspect(route)
        asked = Answer(request=request, status=0, headers={}, body=b"", fetched_ms=0)
        failure = Unreachable(f"{described(asked, self._base_url)} {interrupted}.")
        raise failure if interrupted.is_final else _AgainError(failure)

    # ---- how long to go on

    def _is_too_late(self, failure: Failure) -> bool:
        """Whether the vendor asks for a longer pause than a cycle waits."""
        until_ms = failure.until_ms
        return until_ms is not None and until_ms - self._clock.now_ms() > self._limits.longest_asked * 1000

    def _pause(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: as asked for, else twice as long each time; never the same for all."""
        again = state.outcome.exception() if state.outcome else None
        until_ms = again.failure.until_ms if isinstance(again, _AgainError) else None
        if until_ms is not None:
            asked = max(until_ms - self._clock.now_ms(), SHORTEST_WAIT_MS) / 1000
            return asked + random.uniform(0, 1)  # noqa: S311 - no secret
        longest = min(self._limits.longest_pause, self._limits.first_pause * 2 ** (state.attempt_number - 1))
        return random.uniform(longest / 2, longest)  # noqa: S311 - no secret

    def _sleep(self, seconds: float) -> None:
        """Waits, unless the cycle would be over by then."""
        if self._clock.elapsed() + seconds >= self._ends_at:
            raise self._deadline_passed(seconds)
        self._clock.sleep(seconds)

    def _deadline_passed(self, seconds: float = 0.0) -> DeadlinePassed:
        return DeadlinePassed(
            "The cycle would take longer than it may. What was read is kept, and the next one goes on from there.",
            until_ms=self._clock.now_ms() + round(seconds * 1000) if seconds else None,
        )

    def _given_up(self, failure: Failure) -> Failure:
        """What is said after the last attempt."""
        attempts = f"{self._limits.attempts} attempts were made"
        said = str(failure).removesuffix(".")
        if isinstance(failure, RateLimited):
            rest_ms = self._clock.now_ms() + round(self._limits.rest * 1000)
            return RateLimited(f"{said}; {attempts}.", until_ms=max(rest_ms, failure.until_ms or 0))
        return Unreachable(f"{said}; {attempts}, and the next cycle tries again.")

    # ---- what is never kept

    def _cleaned(self, text: str) -> str:
        for trace in self._traces:
            text = text.replace(trace, REMOVED)
        return text

    def _cleaned_bytes(self, body: bytes) -> bytes:
        for trace in self._traces:
            body = body.replace(trace.encode(), REMOVED.encode())
        return body


def _traces(secret: str, authorization: Mapping[str, str]) -> tuple[str, ...]:
    """The forms in which a vendor might repeat the credential, longest first."""
    forms = {secret}
    for name, text in authorization.items():
        if any(word in name.lower() for word in _CREDENTIAL_HEADERS):
            forms |= {text, text.rpartition(" ")[2], text.partition("=")[2]}
    forms |= {token for form in forms for token in _SIGNED_TOKEN.findall(form)}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST_CREDENTIAL), key=len, reverse=True))


def _domain(host: str) -> str:
    """The domain that a vendor's hosts share: the last two labels, three where the second is as short as `co`."""
    labels = host.split(".")
    if ":" in host or labels[-1].isdigit():  # an address in numbers shares nothing
        return host
    return ".".join(labels[-3:] if len(labels) > 2 and len(labels[-2]) <= 3 else labels[-2:])
