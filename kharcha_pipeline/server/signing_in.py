"""The sign-in page: plain HTML without scripts, for people who look from elsewhere or send rows from a browser."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from kharcha_pipeline.ingest.access import SESSION_SECONDS, Session
from kharcha_pipeline.server.answers import AnswerError, done
from kharcha_pipeline.server.authority import (
    CHALLENGE,
    COOKIE,
    CSRF_HEADER,
    SECURE_COOKIE,
    Authority,
    address_of,
    equal,
    is_secure,
    session_cookie,
)
from kharcha_pipeline.server.bodies import LONGEST_FORM, body_of
from kharcha_pipeline.server.limits import FailureLimit, origin_of

_STYLE = """
:root { color-scheme: light dark; --edge: #767676; --accent: #0f766e; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --accent: #5ec4b8; --wrong: #f2b8b5; } }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; min-height: 100vh; display: grid; place-items: center; }
main { width: min(22rem, 100vw); padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; }
label { display: block; margin: 0 0 1rem; }
input { display: block; width: 100%; font: inherit; padding: .5rem .6rem; border: 1px solid var(--edge);
  border-radius: .4rem; }
button { font: inherit; padding: .5rem 1.2rem; border: 0; border-radius: .4rem; background: var(--accent);
  color: Canvas; cursor: pointer; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
p.wrong { color: var(--wrong); }
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # without any referrer, browsers would not say where the form came from
}
_WRONG = "The name or the password is wrong."


class SigningIn:
    """The routes for signing in and out."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._for_user = FailureLimit(5, 900.0)
        self._for_address = FailureLimit(20, 900.0)

    def routes(self) -> list[BaseRoute]:
        """What to mount."""
        return [
            Route("/sign-in", self._form, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/api/session", self._session, methods=["GET"]),
        ]

    async def _form(self, request: Request) -> Response:
        session = await self._authority.session(request)
        if session is not None:
            return _page("Signed in", _signed_in(session))
        return _page("Sign in", _form_of(request.query_params.get("next", ""), ""))

    async def _sign_in(self, request: Request) -> Response:
        _refuse_foreign(request)
        fields = await _fields_of(request)
        name, password, wanted = fields.get("name", ""), fields.get("password", ""), fields.get("next", "")
        origin = origin_of(address_of(request))
        keys = ((self._for_user, f"{name.lower()[:64]}\n{origin}"), (self._for_address, origin))
        wait = max(limit.wait(key) for limit, key in keys)
        if wait:
            sentence = f"There were too many wrong passwords. Try again in {wait} seconds."
            return _page("Sign in", _form_of(wanted, sentence), 429, {"Retry-After": str(wait)})
        for limit, key in keys:  # before the answer is known: many attempts at once are many attempts
            limit.note(key)
        session = await run_in_threadpool(self._authority.access.sign_in, name, password)
        if session is None:
            return _page("Sign in", _form_of(wanted, _WRONG), 401, CHALLENGE)
        for limit, key in keys:
            limit.forgive(key)
        answer = RedirectResponse(own_address(wanted), 303, PAGE_HEADERS)
        answer.set_cookie(
            SECURE_COOKIE if is_secure(request) else COOKIE,
            session,
            max_age=SESSION_SECONDS,
            secure=is_secure(request),
            httponly=True,
            samesite="lax",  # strict would ask everybody to sign in again who follows a link to the page
        )
        return answer

    async def _sign_out(self, request: Request) -> Response:
        session = await self._authority.session(request)
        fields = await _fields_of(request)
        if session is not None:
            if not equal(fields.get("csrf", "") or request.headers.get(CSRF_HEADER, ""), session.csrf):
                raise AnswerError(403, "This form is out of date. Open /sign-in and sign out there.")
            await run_in_threadpool(self._authority.access.sign_out, session_cookie(request))
        answer = RedirectResponse("/sign-in", 303, PAGE_HEADERS)
        for name in (COOKIE, SECURE_COOKIE):
            answer.delete_cookie(name, secure=name == SECURE_COOKIE, httponly=True, samesite="lax")
        return answer

    async def _session(self, request: Request) -> Response:
        session = await self._authority.session(request)
        if session is None:
            raise AnswerError(401, "Nobody is signed in.", headers=CHALLENGE)
        return done(user=session.user, role=session.role, csrf=session.csrf)


def own_address(wanted: str) -> str:
    """An address of this server to go to, `/` for anything that could lead elsewhere."""
    if not wanted.startswith("/") or wanted[1:2] in ("/", "\\") or not wanted.isprintable() or len(wanted) > 4_000:
        return "/"
    parts = urlsplit(wanted)
    return "/" if parts.scheme or parts.netloc else wanted


def _refuse_foreign(request: Request) -> None:
    """Refuses a form that another site sent: it could sign somebody in under a name that is not theirs."""
    origin = request.headers.get("origin")
    if origin is not None:
        is_ours = origin != "null" and urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
    else:
        is_ours = request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    if not is_ours:
        raise AnswerError(403, "This form was sent from another site. Open /sign-in and use the form there.")


async def _fields_of(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = await body_of(request, LONGEST_FORM)
    if not data:
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise AnswerError(400, "The form must be sent as application/x-www-form-urlencoded.")
    try:
        fields = parse_qs(data.decode("utf-8"), keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise AnswerError(400, "The form cannot be read.") from None
    return {name: values[0] for name, values in fields.items()}


def _page(title: str, content: str, status: int = 200, headers: dict[str, str] | None = None) -> HTMLResponse:
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · Kharcha</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{title}</h1>\n{content}\n</main>\n</body>\n</html>\n"
    )
    return HTMLResponse(page, status, PAGE_HEADERS | (headers or {}))


def _form_of(wanted: str, wrong: str) -> str:
    said = f'<p class="wrong" role="alert">{escape(wrong)}</p>\n' if wrong else ""
    hidden = f'<input type="hidden" name="next" value="{escape(own_address(wanted))}">\n' if wanted else ""
    return (
        f'{said}<form method="post" action="/sign-in">\n{hidden}'
        '<label>Name <input name="name" autocomplete="username" autocapitalize="none" required autofocus></label>\n'
        '<label>Password <input name="password" type="password" autocomplete="current-password" required></label>\n'
        "<button>Sign in</button>\n</form>"
    )


def _signed_in(session: Session) -> str:
    return (
        f'<p>You are signed in as {escape(session.user)} ({session.role}). <a href="/">To the usage page</a></p>\n'
        f'<form method="post" action="/sign-out"><input type="hidden" name="csrf" value="{escape(session.csrf)}">'
        "<button>Sign out</button></form>"
    )
