"""Who asks, and what they may: a token or an admin's session to send rows, less than that to look at the page."""

from __future__ import annotations

import hmac
import ipaddress
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from kharcha_pipeline.ingest.access import Access, Session, Token
from kharcha_pipeline.server.answers import AnswerError
from kharcha_pipeline.server.limits import FailureLimit, origin_of

COOKIE = "kharcha_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Over https. Browsers then take it from this host alone, and never over http."""

CSRF_HEADER = "X-CSRF-Token"
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="kharcha"'}

_PROXY_HEADERS = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
)
_LONGEST_SECRET = 512


class Sender(NamedTuple):
    """Somebody who may send rows.

    Attributes:
        name: of the token or the user.
        machine: label of rows that name no machine.
    """

    name: str
    machine: str


class Authority:
    """Decides about every request of a server.

    Attributes:
        access: tokens, users and sessions.
        is_local: whether the server listens on a loopback address.
        is_public: whether everybody may look at the page.
    """

    def __init__(self, access: Access, *, is_local: bool, is_public: bool) -> None:
        self.access = access
        self.is_local = is_local
        self.is_public = is_public
        self._wrong_tokens = FailureLimit(30, 60.0)

    async def sender(self, request: Request) -> Sender:
        """Who sends rows.

        Raises:
            AnswerError: when nobody may who has not shown more.
        """
        if "authorization" in request.headers:
            token = await self._token(request)
            return Sender(token.name, token.machine)
        session = await self.session(request)
        if session is None:
            raise AnswerError(401, "Send a token: `Authorization: Bearer kharcha_…`.", headers=CHALLENGE)
        if session.role != "admin":
            raise AnswerError(401, "Only an admin may send rows.", headers=CHALLENGE)
        if not equal(request.headers.get(CSRF_HEADER, ""), session.csrf):
            raise AnswerError(
                403, f"The header {CSRF_HEADER} must hold the `csrf` of `/api/session`: a form elsewhere has not."
            )
        return Sender(session.user, "")

    async def _token(self, request: Request) -> Token:
        """The token a request shows. A right one always passes; after many wrong ones an address has to wait."""
        token = await run_in_threadpool(self._shown_token, request)
        if token is not None:
            return token
        origin = origin_of(address_of(request))
        if wait := self._wrong_tokens.wait(origin):
            raise AnswerError(
                429,
                f"Too many wrong tokens came from this address. Try again in {wait} seconds.",
                headers={"Retry-After": str(wait)},
            )
        self._wrong_tokens.note(origin)
        raise AnswerError(401, "This token is not known, or it was revoked.", headers=CHALLENGE)

    def _shown_token(self, request: Request) -> Token | None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or len(secret) > _LONGEST_SECRET:
            return None
        return self.access.token(secret.strip())

    async def session(self, request: Request) -> Session | None:
        """The session of a request's cookie."""
        cookie = session_cookie(request)
        return await run_in_threadpool(self.access.session, cookie) if cookie else None

    async def may_read(self, request: Request) -> bool:
        """Whether a request may see the numbers.

        From this machine itself everybody may: whoever can ask here could read the database as well. It must come
        directly, since behind a proxy everybody does, and name this machine, since a foreign site may have its own
        name lead here. All others need the setting, a session or a token.
        """
        if self.is_public or (self.is_local and is_from_here(request)):
            return True
        if "authorization" in request.headers:
            return await run_in_threadpool(self._shown_token, request) is not None
        return await self.session(request) is not None


def is_from_here(request: Request) -> bool:
    """Whether a request comes from this machine, without a proxy, under a name that only this machine has.

    Some proxies tell nothing of themselves unless they are told to; HTTP/1.0 is a sign of them.
    """
    if any(name in request.headers for name in _PROXY_HEADERS) or request.scope.get("http_version") == "1.0":
        return False
    name = request.headers.get("host", "").rpartition("@")[2].lower()
    host = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    return (host == "localhost" or is_loopback(host)) and is_loopback(address_of(request))


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's own."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def address_of(request: Request) -> str:
    """The address a request comes from; behind a trusted proxy the one that it tells."""
    return request.client.host if request.client else ""


def session_cookie(request: Request) -> str:
    """The id in the session cookie; empty without one."""
    cookie = request.cookies.get(SECURE_COOKIE if is_secure(request) else COOKIE, "")
    return cookie if len(cookie) <= _LONGEST_SECRET else ""


def is_secure(request: Request) -> bool:
    """Whether the browser came over https, to us or to a trusted proxy before us."""
    return request.url.scheme == "https"


def equal(given: str, expected: str) -> bool:
    """Whether two secrets are the same, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
