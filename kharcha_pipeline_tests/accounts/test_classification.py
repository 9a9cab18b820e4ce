"""What answers mean, by what stands in them: by status codes alone a bot checkpoint would be an expired session."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.classification import asked_until, classified
from kharcha_pipeline.accounts.clock import HOUR_MS
from kharcha_pipeline.accounts.connector import Answer, Request
from kharcha_pipeline.accounts.failures import (
    Blocked,
    Denied,
    Failure,
    Misconfigured,
    Moved,
    RateLimited,
    SessionExpired,
    Unauthorized,
    Unreachable,
)
from kharcha_pipeline_tests.accounts.sending import MEMBERS, session
from kharcha_pipeline_tests.accounts.tiny_connector import CookieConnector
from kharcha_pipeline_tests.accounts.vendor_server import (
    NOON_MS,
    Reply,
    TurnedClock,
    VendorServer,
    page,
    redirect,
)

CANARY = "answer-canary-0123456789"
BASE = "https://vendor.example/v1"
LOGIN_PAGE = f"<!DOCTYPE html><html><head><title>Sign in - {CANARY}</title></head><body><form></form></body></html>"
PASSWORD_PAGE = f'<html><body>{CANARY}<input name="p" type="password"></body></html>'
FORM_PAGE = f"<html><body>{CANARY}<form method=post action=/auth/login><input></form></body></html>"
APP_PAGE = f'<!doctype html><html><head><script src="/_next/x.js"></script></head><body>{CANARY} login</body></html>'
OTHER_PAGE = f"<html><body><h1>It works! {CANARY}</h1></body></html>"
VERCEL_PAGE = f"<!DOCTYPE html><html><title>Vercel Security Checkpoint</title>{CANARY}</html>"
CLOUDFLARE_PAGE = f'<html><title>Just a moment...</title>{CANARY}<input type="password"></html>'


def answer(reply: Reply, path: str = "/members", **request: object) -> Answer:
    """An answer as the transport would hand it over."""
    body, headers = reply.encoded()
    return Answer(
        request=Request(path=path, **request),  # type: ignore[arg-type]
        status=reply.status,
        headers={name.lower(): text for name, text in headers.items()},
        body=body,
        fetched_ms=NOON_MS,
    )


def meant(reply: Reply, base_url: str = BASE, path: str = "/members", **request: object) -> Failure:
    failure = classified(answer(reply, path, **request), base_url)
    assert failure is not None
    assert CANARY not in str(failure)
    assert str(failure).endswith(".")
    return failure


def error(status: int, **headers: str) -> Reply:
    return Reply(status, {"error": "x", "message": CANARY}, headers)


@pytest.mark.parametrize("status", [302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        f"/login?next={CANARY}",
        "/auth/sign-in",
        f"https://authenticator.vendor.example/?client_id={CANARY}",
        "https://auth.other.example/authorize",
        "//login.vendor.example/",
        "https://vendor.example/oauth/start",
    ],
)
def test_redirect_to_a_login_path_or_login_host_is_an_expired_session(status: int, location: str) -> None:
    failure = meant(redirect(location, status))
    assert type(failure) is SessionExpired
    assert str(failure) == f"vendor.example/v1/members leads to a page to sign in ({status}): the session has ended."


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_308_from_www_to_the_bare_host_is_a_mistake_in_the_configuration(status: int) -> None:
    failure = meant(redirect("https://vendor.example/v1/members", status), "https://www.vendor.example/v1")
    assert type(failure) is Misconfigured
    assert "www.vendor.example leads to vendor.example" in str(failure)
    login = meant(redirect("https://vendor.example/api/login", status), "https://www.vendor.example/api", "/login")
    assert type(login) is Misconfigured
    other = meant(redirect("https://www.vendor.example/v1/members", status))
    assert "vendor.example leads to www.vendor.example" in str(other)


@pytest.mark.parametrize(
    "location", ["/v2/members", "https://elsewhere.example/v1/members", "", "https://[broken", "/members/loginless"]
)
def test_any_other_redirect_has_moved(location: str) -> None:
    assert type(meant(redirect(location, 308))) is Moved


@pytest.mark.parametrize("text", [LOGIN_PAGE, PASSWORD_PAGE, FORM_PAGE])
@pytest.mark.parametrize("status", [200, 401, 403])
def test_a_login_page_is_an_expired_session_with_any_status(text: str, status: int) -> None:
    assert type(meant(page(text, status))) is SessionExpired
    assert type(meant(Reply(status, text.encode(), {"Content-Type": "application/json"}))) is SessionExpired


def test_200_with_an_apps_page_is_an_endpoint_that_moved() -> None:
    failure = meant(page(APP_PAGE + " " * 1_000_000))
    assert type(failure) is Moved
    assert str(failure) == (
        "vendor.example/v1/members answers with a page for people instead of data: the endpoint has moved."
    )
    assert type(meant(page(APP_PAGE, 404))) is Moved


def test_200_with_any_other_page_is_unexpected_and_may_pass() -> None:
    assert type(meant(page(OTHER_PAGE))) is Unreachable


@pytest.mark.parametrize("text", [VERCEL_PAGE, CLOUDFLARE_PAGE])
@pytest.mark.parametrize("status", [200, 401, 403, 429, 503])
def test_a_bot_checkpoint_is_blocked_with_any_status(text: str, status: int) -> None:
    failure = meant(page(text, status))
    assert type(failure) is Blocked
    assert failure.until_ms == NOON_MS + HOUR_MS
    later = meant(Reply(status, text.encode(), {"Content-Type": "text/html", "Retry-After": "7200"}))
    assert later.until_ms == NOON_MS + 2 * HOUR_MS


@pytest.mark.parametrize("status", [403, 429])
def test_a_page_instead_of_a_refusal_is_blocked_too(status: int) -> None:
    assert type(meant(page(OTHER_PAGE, status))) is Blocked


@pytest.mark.parametrize("header", ["cf-mitigated", "x-vercel-mitigated"])
def test_a_checkpoint_that_says_so_in_a_header_is_blocked(header: str) -> None:
    assert type(meant(Reply(403, b"", {header: "challenge"}))) is Blocked


def test_401_says_nothing_but_that_the_credential_was_not_accepted() -> None:
    assert type(meant(error(401))) is Unauthorized
    assert type(meant(page(OTHER_PAGE, 401))) is Unauthorized


@pytest.mark.parametrize(
    "message",
    ["Invalid origin for state-changing request", "The Origin header is missing", "origin https://x is not allowed"],
)
def test_403_invalid_origin_is_a_mistake_and_not_an_expired_session(message: str) -> None:
    failure = meant(Reply(403, {"error": message}))
    assert type(failure) is Misconfigured
    assert "base_url" in str(failure)


def test_403_by_plan_or_permission_concerns_this_endpoint() -> None:
    assert type(meant(error(403))) is Denied
    assert type(meant(Reply(403, {"error": "original plan required"}))) is Denied
    assert type(meant(error(403, **{"x-ratelimit-remaining": "17"}))) is Denied


def test_404_because_of_a_missing_scope_is_a_permission() -> None:
    failure = meant(error(404))
    assert type(failure) is Denied
    assert "its plan or the credential's rights lack it" in str(failure)


@pytest.mark.parametrize("status", [400, 402, 405, 410, 415, 422, 451])
def test_other_refusals_concern_this_endpoint(status: int) -> None:
    assert type(meant(error(status))) is Denied


@pytest.mark.parametrize("status", [408, 425, 500, 501, 502, 503, 504, 520, 529, 599])
def test_what_may_pass_is_unreachable(status: int) -> None:
    assert type(meant(error(status))) is Unreachable
    assert type(meant(page(OTHER_PAGE, status))) is Unreachable


def test_rate_limits_with_their_end() -> None:
    assert meant(error(429)).until_ms is None
    assert meant(error(429, **{"Retry-After": "30"})).until_ms == NOON_MS + 30_000
    for past in ("0", "Thu, 01 Jan 1970 00:00:00 GMT"):
        assert meant(error(429, **{"Retry-After": past})).until_ms == NOON_MS + 1_000
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOON_MS // 1000 + 90)}
    for status in (403, 429):
        failure = meant(error(status, **used_up))
        assert (type(failure), failure.until_ms) == (RateLimited, NOON_MS + 90_000)
    assert meant(error(403, **used_up | {"Retry-After": "5"})).until_ms == NOON_MS + 5_000
    assert meant(error(429, **used_up | {"X-RateLimit-Reset": "90"})).until_ms is None


def test_a_success_is_one() -> None:
    assert classified(answer(Reply(200, {"members": []})), BASE) is None
    assert classified(answer(Reply(200, b"[]", {"Content-Type": "text/html"})), BASE) is None
    assert classified(answer(Reply(204)), BASE) is None


def test_of_signed_links_and_queries_nothing_is_said() -> None:
    signed = meant(error(403), path=f"https://files.vendor.example/{CANARY}", is_bare=True)
    assert str(signed).startswith("files.vendor.example is not allowed")
    absolute = meant(error(403), path=f"https://files.vendor.example/list?token={CANARY}")
    assert str(absolute).startswith("files.vendor.example/list is not allowed")


@given(st.text(max_size=60))
def test_retry_after_is_understood_or_passed_over_whatever_it_says(text: str) -> None:
    until = asked_until(answer(Reply(429, b"", {"Retry-After": text})))
    assert until is None or until >= NOON_MS + 1_000


@given(st.integers(100, 599), st.binary(max_size=200), st.sampled_from(["text/html", "application/json", "", "x"]))
def test_every_answer_means_something(status: int, body: bytes, content_type: str) -> None:
    made = answer(Reply(status, body, {"Content-Type": content_type}))
    failure = classified(made, BASE)
    assert failure is None or isinstance(failure, Failure)
    assert (failure is None) <= (200 <= status < 300)


def test_one_account_sees_each_of_them_over_the_wire(tmp_path: Path) -> None:
    clock = TurnedClock()
    cases: list[tuple[Reply, type[Failure]]] = [
        (redirect("/login"), SessionExpired),
        (page(LOGIN_PAGE), SessionExpired),
        (page(APP_PAGE), Moved),
        (page(VERCEL_PAGE, 429), Blocked),
        (error(401), Unauthorized),
        (error(403), Denied),
        (error(404), Denied),
    ]
    replies = iter([reply for reply, _ in cases])
    with (
        VendorServer(lambda _: next(replies), clock) as server,
        session(server.url, clock, tmp_path, connector=CookieConnector()) as transport,
    ):
        for _, expected in cases:
            with pytest.raises(expected):
                transport.send(MEMBERS)
    assert len(server.log) == len(cases)
    assert clock.slept == []
