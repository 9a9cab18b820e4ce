"""What an answer means: a success, or a failure by what has to be done about it.

Status codes alone say little: login pages come with 200, bot checkpoints with 429, plan limits with 403, and none of
these is an expired session. Whatever is said here names fields, hosts of our own settings and numbers, never what
stands in an answer.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from kharcha_pipeline.accounts.clock import HOUR_MS
from kharcha_pipeline.accounts.connector import Answer
from kharcha_pipeline.accounts.failures import (
    Blocked,
    Denied,
    Drifted,
    Failure,
    Misconfigured,
    Moved,
    RateLimited,
    SessionExpired,
    Unauthorized,
    Unreachable,
)

SHORTEST_WAIT_MS = 1_000
"""A vendor that asks for no wait at all, or for one until yesterday, gets this one."""

_BOT_WAIT_MS = HOUR_MS
_LOOKED_AT = 262_144
"""Bytes of a page that are looked at: an app's page may have a megabyte of script."""

_LOGIN_STEPS = frozenset(
    (
        "login",
        "log-in",
        "logon",
        "signin",
        "sign-in",
        "sign_in",
        "sso",
        "oauth",
        "oauth2",
        "authorize",
        "authenticate",
    )
)
_LOGIN_HOSTS = frozenset(("login", "signin", "auth", "authenticator", "accounts", "sso", "idp"))
_PAGE = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|!--|\?xml|script)", re.I)
_LOGIN_PAGE = re.compile(
    r"<title[^>]*>[^<]*\b(?:sign|log)[ -]?in\b"
    r"|<input[^>]+type\s*=\s*[\"']?password"
    r"|<form[^>]+action\s*=\s*[\"']?[^\"'>]*(?:login|sign-?in|authenticat)",
    re.I,
)
_CHECKPOINT = re.compile(
    r"<title[^>]*>[^<]*(?:security checkpoint|just a moment|attention required|are you (?:a )?human|access denied)"
    r"|/cdn-cgi/challenge-platform/|cf-chl|_vercel/security|verify(?:ing)? (?:that )?you are (?:a )?human"
    r"|checking your browser",
    re.I,
)
_APP = re.compile(r"<script\b|/_next/|<div[^>]+id\s*=\s*[\"']?(?:root|app|__next)\b", re.I)
_ORIGIN = re.compile(r"\binvalid origin\b|\borigin\b[^.]{0,60}\b(?:not allowed|not permitted|mismatch|missing)", re.I)


def classified(answer: Answer, base_url: str) -> Failure | None:
    """What an answer means by the rules that hold for every vendor; `None` for a success.

    `Unreachable` may be tried again at once, `RateLimited` too when its time is near or it has none.

    Args:
        answer: with its request.
        base_url: where the account's requests go.
    """
    status = answer.status
    where = described(answer, base_url)
    if 200 <= status < 300:
        return None if status == 204 else _wrong_content(answer, where)
    if status == 304 and any(name.lower().startswith("if-") for name, _ in answer.request.headers):
        return None
    if 300 <= status < 400:
        return _led_elsewhere(answer, base_url, where)
    if status >= 400 and _is_checkpoint(answer):
        return _blocked(answer, where)
    if status == 401:
        if _is_page(answer) and _LOGIN_PAGE.search(_text(answer)):
            return SessionExpired(f"{where} answers with a page to sign in: the session has ended.")
        return Unauthorized(f"{where} does not accept the credential (401).")
    if status == 429 or (status in (403, 503) and _is_used_up(answer)):
        if _is_page(answer):
            return _blocked(answer, where)
        return RateLimited(f"{where} asks for a pause: too many requests ({status}).", until_ms=_resumption(answer))
    if status == 403:
        return _forbidden(answer, where)
    if status == 404:
        if _is_page(answer):
            return Moved(f"{where} is not there any more: the answer is a page for people (404).")
        return Denied(f"{where} is not there for this account (404): its plan or the credential's rights lack it.")
    if status in (408, 425) or status >= 500:
        return Unreachable(f"{where} fails ({status}).", until_ms=asked_until(answer))
    return Denied(f"{where} refuses the request ({status}).")


def described(answer: Answer, base_url: str) -> str:
    """Host and path of what was asked, without its query; of signed links the host alone."""
    request = answer.request
    parts = urlsplit(request.path if _is_absolute(request.path) else base_url)
    if request.is_bare:
        return str(parts.hostname)
    path = parts.path if _is_absolute(request.path) else parts.path.rstrip("/") + request.path
    return f"{parts.hostname}{path.partition('?')[0]}"


def asked_until(answer: Answer) -> int | None:
    """When `Retry-After` allows the next request, in milliseconds; `None` when it says nothing that can be used.

    A date is taken by the vendor's own clock where the answer tells it: ours may be wrong.
    """
    text = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        wait_ms = int(text) * 1000
    elif (until_ms := _http_date_ms(text)) is not None:
        vendor_ms = _http_date_ms(answer.headers.get("date", ""))
        wait_ms = until_ms - (answer.fetched_ms if vendor_ms is None else vendor_ms)
    else:
        return None
    return answer.fetched_ms + max(SHORTEST_WAIT_MS, wait_ms)


def _resumption(answer: Answer) -> int | None:
    """When a limit ends: as `Retry-After` says, else when the used up budget is filled again."""
    until_ms = asked_until(answer)
    reset = answer.headers.get("x-ratelimit-reset", "").strip()
    if until_ms is None and answer.headers.get("x-ratelimit-remaining", "").strip() == "0":
        if not re.fullmatch(r"[0-9]{9,11}", reset):  # seconds since the epoch; other vendors mean other things
            return None
        vendor_ms = _http_date_ms(answer.headers.get("date", ""))
        wait_ms = int(reset) * 1000 - (answer.fetched_ms if vendor_ms is None else vendor_ms)
        return answer.fetched_ms + max(SHORTEST_WAIT_MS, wait_ms)
    return until_ms


def _http_date_ms(text: str) -> int | None:
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError, TypeError):
        return None


def _is_used_up(answer: Answer) -> bool:
    """Whether a refusal is one of too many requests, as GitHub's."""
    headers = answer.headers
    return headers.get("x-ratelimit-remaining", "").strip() == "0" or (
        answer.status == 403 and "retry-after" in headers
    )


def _blocked(answer: Answer, where: str) -> Failure:
    longest = max(asked_until(answer) or 0, answer.fetched_ms + _BOT_WAIT_MS)
    return Blocked(
        f"A bot checkpoint stands before {where} ({answer.status}). This says nothing about the credential; the "
        "account is tried again later, and slowly.",
        until_ms=longest,
    )


def _forbidden(answer: Answer, where: str) -> Failure:
    if _is_page(answer):
        if _LOGIN_PAGE.search(_text(answer)):
            return SessionExpired(f"{where} answers with a page to sign in: the session has ended.")
        return _blocked(answer, where)  # an interface answers programs in JSON; this is somebody standing before it
    if _ORIGIN.search(_text(answer)):
        return Misconfigured(
            f"{where} does not like where the request says that it comes from (403). Look whether base_url is right; "
            "if it is, this program has to learn something."
        )
    return Denied(f"{where} is not allowed for this account (403): its plan or the credential's rights lack it.")


def _led_elsewhere(answer: Answer, base_url: str, where: str) -> Failure:
    asked = urlsplit(
        answer.request.path if _is_absolute(answer.request.path) else base_url.rstrip("/") + answer.request.path
    )
    try:
        target = urlsplit(urljoin(asked.geturl(), answer.headers.get("location", "")))
        host = (target.hostname or "").lower()
    except ValueError:
        target, host = urlsplit(""), ""
    own = (asked.hostname or "").lower()
    if host and host != own and host.removeprefix("www.") == own.removeprefix("www.") and target.path == asked.path:
        better = own.removeprefix("www.") if own.startswith("www.") else f"www.{own}"
        return Misconfigured(
            f"{own} leads to {better} ({answer.status}). Credentials are not sent after redirects; write the right "
            "host into base_url."
        )
    if _is_way_to_login(target, host):
        return SessionExpired(f"{where} leads to a page to sign in ({answer.status}): the session has ended.")
    return Moved(f"{where} leads elsewhere ({answer.status}). Redirects are not followed; somebody has to look.")


def _is_way_to_login(target: SplitResult, host: str) -> bool:
    steps = {step for step in target.path.lower().split("/") if step}
    return bool(steps & _LOGIN_STEPS) or host.partition(".")[0] in _LOGIN_HOSTS


def _wrong_content(answer: Answer, where: str) -> Failure | None:
    """Why a success is none."""
    if _is_page(answer):
        text = _text(answer)
        if _is_checkpoint(answer):
            return _blocked(answer, where)
        if _LOGIN_PAGE.search(text):
            return SessionExpired(f"{where} answers with a page to sign in: the session has ended.")
        if _APP.search(text):
            return Moved(f"{where} answers with a page for people instead of data: the endpoint has moved.")
        return Unreachable(f"{where} answers with a page that has nothing to do with it.")
    if not _wants_json(answer):
        return None
    try:
        json.loads(
            answer.body.decode("utf-8-sig"),
            parse_float=len,
            parse_constant=_refused,
            object_pairs_hook=_without_twins,
        )
    except json.JSONDecodeError:
        return Unreachable(f"{where} answers with JSON that breaks off.")
    except UnicodeDecodeError:
        return Unreachable(f"{where} answers with something that is no text.")
    except (ValueError, RecursionError):
        return Drifted(
            f"{where} answers with JSON that has `NaN`, a name twice in one object, or is nested beyond reason: "
            "nothing of it is used."
        )
    return None


def _wants_json(answer: Answer) -> bool:
    accepted = [value.lower() for name, value in answer.request.headers if name.lower() == "accept"]
    return not accepted or any("json" in value for value in accepted)


def _refused(_: str) -> Any:
    raise ValueError


def _without_twins(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError


def _is_page(answer: Answer) -> bool:
    """Whether it is a page for people: by what it is, or by what it says that it is and is no JSON either."""
    if _PAGE.match(answer.body[:1024]):
        return True
    return answer.content_type in ("text/html", "application/xhtml+xml") and answer.body.lstrip()[:1] not in (
        b"{",
        b"[",
    )


def _is_checkpoint(answer: Answer) -> bool:
    if "cf-mitigated" in answer.headers or "x-vercel-mitigated" in answer.headers:
        return True
    return _is_page(answer) and bool(_CHECKPOINT.search(_text(answer)))


def _text(answer: Answer) -> str:
    return answer.body[:_LOOKED_AT].decode("utf-8", "replace")


def _is_absolute(path: str) -> bool:
    return path.startswith(("http://", "https://"))
