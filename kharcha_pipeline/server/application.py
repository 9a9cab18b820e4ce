"""The ASGI application of `kharcha serve`."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from kharcha_pipeline.ingest.access import Access
from kharcha_pipeline.ingest.contract import RefusedError, understood
from kharcha_pipeline.ingest.errors import BusyError
from kharcha_pipeline.ingest.inbox import Inbox, Taken
from kharcha_pipeline.page.routes import page_routes
from kharcha_pipeline.server.answers import (
    PLAIN_HEADERS,
    AnswerError,
    done,
    of_answer_error,
    of_failure,
    of_http_exception,
    refused,
)
from kharcha_pipeline.server.authority import Authority, Sender, address_of
from kharcha_pipeline.server.bodies import body_of, forget_body
from kharcha_pipeline.server.openapi import description
from kharcha_pipeline.server.publishing import Publisher
from kharcha_pipeline.server.signing_in import SigningIn
from kharcha_pipeline.settings import Settings

RETRY_SECONDS = 5
INGEST_PATH = "/api/usage/ingest"
_AT_ONCE = 4
"""Bodies that are checked and stored at the same time. The others wait: there is one writer anyway."""

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

logger = logging.getLogger("kharcha.access")


def build_application(settings: Settings, *, is_local: bool, publisher: Publisher | None = None) -> Starlette:
    """Makes the application; the databases it needs are opened, and closed when it shuts down.

    Args:
        settings: data directory, and who may look at what.
        is_local: whether the server listens on a loopback address.
        publisher: what publishes; by default a sync in a process of its own.

    Raises:
        WarehouseError: when the data directory cannot be written.
        BusyError: when a database of the doors is locked.
    """
    inbox = Inbox(settings.data_directory)
    access = Access(settings.data_directory)
    authority = Authority(access, is_local=is_local, is_public=settings.public_page)
    publishing = publisher or Publisher(settings.environment)

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        publishing.start()
        if inbox.last_id():  # a sync that has nothing to read ends within a few hundredths of a second
            publishing.ask()
        try:
            yield
        finally:
            await publishing.stop()
            inbox.close()
            access.close()

    application = Starlette(
        routes=[
            *_Ingest(inbox, authority, publishing).routes(),
            *SigningIn(authority).routes(),
            *page_routes(
                settings.data_directory / "kharcha.duckdb",
                hide_projects=settings.hide_projects,
                may_read=authority.may_read,
            ),
        ],
        exception_handlers={
            AnswerError: of_answer_error,
            BusyError: _of_busy,
            HTTPException: of_http_exception,
            Exception: of_failure,
        },
        lifespan=lifespan,
    )
    application.add_middleware(_Headers)
    application.add_middleware(_AccessLog)
    application.router.redirect_slashes = False  # an address is there, or it is not
    return application


class _Ingest:
    """The routes for programs."""

    def __init__(self, inbox: Inbox, authority: Authority, publisher: Publisher) -> None:
        self._inbox = inbox
        self._authority = authority
        self._publisher = publisher
        self._description = description()
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)

    def routes(self) -> list[BaseRoute]:
        """What to mount."""
        return [
            Route(INGEST_PATH, self._ingest, methods=["POST"]),
            Route("/openapi.json", self._openapi, methods=["GET"]),
            Route("/healthz", self._health, methods=["GET"]),
        ]

    async def _ingest(self, request: Request) -> Response:
        try:
            sender = await self._authority.sender(request)
        except AnswerError:
            await forget_body(request)
            raise
        data = await body_of(request)
        _check_kind(request)
        taken = await anyio.to_thread.run_sync(self._take, data, sender, limiter=self._limiter)
        if taken.appended:
            self._publisher.ask()
        return done(
            upserted=taken.upserted,
            changed=taken.changed,
            kept=taken.kept,
            mismatched=taken.mismatched,
            published="soon" if self._publisher.is_busy else "already",
        )

    def _take(self, data: bytes, sender: Sender) -> Taken:
        try:
            return self._inbox.take(understood(data, sender.machine), sender.name)
        except RefusedError as error:
            number = len(error.mistakes) + error.more
            sentence = "The body has a mistake." if number == 1 else f"The body has {number:,} mistakes."
            if error.more:
                sentence += f" The first {len(error.mistakes)} are listed."
            raise AnswerError(400, sentence, error.mistakes) from None

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(self._description, headers=PLAIN_HEADERS)

    async def _health(self, request: Request) -> Response:
        try:
            await run_in_threadpool(self._inbox.last_id)
        except sqlite3.Error:
            raise AnswerError(503, "The inbox cannot be read.", headers={"Retry-After": str(RETRY_SECONDS)}) from None
        return done()


def _check_kind(request: Request) -> None:
    """The body must be said to be JSON, and must not be packed.

    Raises:
        AnswerError: when it is not.
    """
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise AnswerError(400, "The body must be JSON in UTF-8, sent as application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise AnswerError(400, "The body must not be compressed.")


async def _of_busy(request: Request, error: Exception) -> Response:
    return refused(503, str(error), headers={"Retry-After": str(RETRY_SECONDS)})


class _Headers:
    """Adds to every answer what it does not say itself and what protects browsers from being tricked."""

    def __init__(self, app: _Application) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                said = {name.lower() for name, _ in headers}
                message["headers"] = headers + [(name, value) for name, value in _ALWAYS if name not in said]
            await send(message)

        await self._app(scope, receive, with_headers)


_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class _AccessLog:
    """One line for every request: no query and no header, which may hold what nobody else should know."""

    def __init__(self, app: _Application) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            path = bytes(scope.get("raw_path") or b"").partition(b"?")[0][:200].decode("ascii", "replace")
            took = (time.perf_counter() - began) * 1000
            logger.info("%s %s %s %d %.0f ms", address_of(Request(scope)), scope["method"], path, status, took)
