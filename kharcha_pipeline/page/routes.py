"""The routes of the usage page: the page itself, the same numbers as JSON and CSV, and the files it loads.

    Starlette(routes=page_routes(Path("kharcha.duckdb")))

Every request looks at the published file; as long as it is the same, an answer is rendered once. Questions are asked
in threads of their own, a few at a time, so that whatever else the server does goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import ipaddress
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from kharcha_pipeline import __version__
from kharcha_pipeline.page.answers import Answer, Answers, RecentFigures
from kharcha_pipeline.page.database import NotPublishedError, PublishedDatabase, Snapshot, UnreadableError
from kharcha_pipeline.page.figures import Figures, figures
from kharcha_pipeline.page.html import message, usage_page
from kharcha_pipeline.page.json_answer import json_of
from kharcha_pipeline.page.selection import Selection, WrongParameterError, understood
from kharcha_pipeline.page.static_files import StaticFiles
from kharcha_pipeline.page.tables import TABLES, csv_of

MayRead = Callable[[Request], bool | Awaitable[bool]]

HTML, JSON, CSV = "text/html; charset=utf-8", "application/json", "text/csv; charset=utf-8"
ASKED_AT_ONCE = 2
NOT_PUBLISHED = "Nothing was published yet. Run `kharcha sync` once on this machine."

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer: nothing is loaded from elsewhere, nothing inline is executed, nobody else may frame it."""


def loopback_only(request: Request) -> bool:
    """Whether a request comes from this machine and names it: another name may be a foreign site's trick.

    Behind a proxy every request does; a server behind one must decide otherwise.
    """
    host = request.url.hostname or ""
    client = request.client.host if request.client else ""
    return (host == "localhost" or _is_loopback(host)) and _is_loopback(client)


def page_routes(
    published_path: Path,
    *,
    hide_projects: bool = False,
    may_read: MayRead = loopback_only,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[BaseRoute]:
    """The routes of the usage page, for a server to mount at its root.

    Args:
        published_path: the published database; it may not be there yet, and may be replaced at any time.
        hide_projects: shows neutral labels instead of the names of projects.
        may_read: decides about each request. Whoever may not read is sent to `sign-in`, or gets 401 for data.
        now: the clock, in whatever zone; «today» is its day in the warehouse's reporting zone.
    """
    page = _Page(published_path, hide_projects, may_read, now)
    return [
        Route("/", page.html, name="usage page"),
        Route("/api/usage", page.json, name="usage as JSON"),
        Route("/usage.csv", page.csv, name="usage as CSV"),
        Route("/static/{name}", page.static, name="files of the usage page"),
    ]


class _Page:
    def __init__(
        self, published_path: Path, hide_projects: bool, may_read: MayRead, now: Callable[[], datetime]
    ) -> None:
        self._database = PublishedDatabase(published_path)
        self._hide_projects = hide_projects
        self._may_read = may_read
        self._now = now
        self._files = StaticFiles()
        self._answers = Answers()
        self._recent = RecentFigures()
        self._limiter = anyio.CapacityLimiter(ASKED_AT_ONCE)

    async def html(self, request: Request) -> Response:
        """The page."""
        if not await self._allowed(request):
            return _to_sign_in(request)
        try:
            selection, _ = understood(request.query_params.multi_items(), hide_projects=self._hide_projects)
            return await self._answer(request, selection, "html")
        except WrongParameterError as error:
            return self._message("This address asks for something unknown", str(error), 400)
        except NotPublishedError:
            return self._message("There is no usage yet", NOT_PUBLISHED.replace("`", ""), 200, "kharcha sync")
        except UnreadableError as error:
            return self._message("The numbers cannot be read just now", str(error).replace("`", ""), 503)

    async def json(self, request: Request) -> Response:
        """The same numbers for programs."""
        return await self._data(request, "json")

    async def csv(self, request: Request) -> Response:
        """One of the page's tables."""
        return await self._data(request, "csv")

    async def static(self, request: Request) -> Response:
        """A file that comes with the page. These are no secret."""
        found = self._files.find(request.path_params["name"])
        if found is None:
            return _sentence("There is no such file.", 404)
        content, media_type = found
        headers = SECURITY_HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=media_type, headers=headers)

    async def _data(self, request: Request, form: str) -> Response:
        if not await self._allowed(request):
            return _sentence("You may not read this. Sign in first, or ask for a right to read.", 401)
        try:
            selection, more = understood(
                request.query_params.multi_items(),
                hide_projects=self._hide_projects,
                also=("table",) if form == "csv" else (),
            )
            table = more.get("table", "")
            if form == "csv" and table not in TABLES:
                raise WrongParameterError(f"The parameter table must be one of {', '.join(TABLES)}.")
            return await self._answer(request, selection, form, table)
        except WrongParameterError as error:
            return _sentence(str(error), 400)
        except NotPublishedError:
            return _sentence(NOT_PUBLISHED, 503)
        except UnreadableError as error:
            return _sentence(str(error), 503)

    async def _allowed(self, request: Request) -> bool:
        allowed = self._may_read(request)
        return bool(await allowed) if inspect.isawaitable(allowed) else bool(allowed)

    async def _answer(self, request: Request, selection: Selection, form: str, table: str = "") -> Response:
        """The answer to a request, rendered unless it is known already, or 304 when the browser has it."""
        snapshot = self._database.opened(self._database.state())
        tag = self._tag(snapshot, selection, form, table) if snapshot else ""
        given = {text.strip().removeprefix("W/") for text in request.headers.get("If-None-Match", "").split(",")}
        if tag and given & {f'"{tag}"', "*"}:
            return Response(status_code=304, headers=_headers(tag))
        kept = self._answers.get(tag) if tag else None
        if kept is None:
            tag, answer = await anyio.to_thread.run_sync(
                self._rendered, selection, form, table, limiter=self._limiter
            )
            if f'"{tag}"' in given:
                return Response(status_code=304, headers=_headers(tag))
        else:
            answer = kept
        headers = _headers(tag)
        if form == "csv":
            headers["Content-Disposition"] = f'attachment; filename="kharcha-{table}.csv"'
        return Response(answer.body, media_type=answer.media_type, headers=headers)

    def _rendered(self, selection: Selection, form: str, table: str) -> tuple[str, Answer]:
        with self._database.reading() as snapshot:
            tag = self._tag(snapshot, selection, form, table)
            answer = self._answers.get(tag)  # somebody else may have asked in the meantime
            if answer is None:
                found = self._figures(snapshot, selection)
                if form == "html":
                    answer = Answer(usage_page(found, static=self._files.address).encode(), HTML)
                elif form == "json":
                    answer = Answer(json_of(found).encode(), JSON)
                else:
                    answer = Answer(csv_of(found, table).encode(), CSV)
                self._answers.keep(tag, answer)
            return tag, answer

    def _figures(self, snapshot: Snapshot, selection: Selection) -> Figures:
        """What a selection shows; how it is drawn makes no difference to the numbers."""
        today = self._today(snapshot)
        asked = selection.showing(measure="cost", per="")
        found = self._recent.get(
            (snapshot.state, today, asked.query()),
            lambda: figures(snapshot, asked, today, hide_projects=self._hide_projects),
        )
        return dataclasses.replace(found, selection=selection)

    def _today(self, snapshot: Snapshot) -> date:
        return self._now().astimezone(ZoneInfo(snapshot.zone)).date()

    def _tag(self, snapshot: Snapshot, selection: Selection, form: str, table: str) -> str:
        """What an answer depends on: the copy, the day, the settings, this version, and the question."""
        parts = [
            __version__, self._files.digest, snapshot.about.get("changes"), *vars(snapshot.state).values(),
            self._today(snapshot), self._hide_projects, form, table, selection.query(),
        ]  # fmt: skip
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]

    def _message(self, title: str, sentence: str, status: int, command: str = "") -> Response:
        body = message(title, sentence, static=self._files.address, command=command)
        return Response(body, status, SECURITY_HEADERS | {"Cache-Control": "no-store"}, HTML)


def _headers(tag: str) -> dict[str, str]:
    """For what may be kept by the browser it was sent to, which must ask each time whether it is still so."""
    return SECURITY_HEADERS | {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}


def _sentence(text: str, status: int) -> Response:
    headers = SECURITY_HEADERS | {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = "30"
    return Response(
        json.dumps({"ok": False, "error": text, "details": []}, ensure_ascii=False), status, headers, JSON
    )


def _to_sign_in(request: Request) -> Response:
    root = request.scope.get("root_path", "")
    wanted = f"{root}/" + (f"?{request.url.query}" if request.url.query else "")
    address = f"{root}/sign-in?next={quote(wanted, safe='')}"
    return RedirectResponse(address, 303, SECURITY_HEADERS | {"Cache-Control": "no-store"})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
