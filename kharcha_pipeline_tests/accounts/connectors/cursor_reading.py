"""Cursor's two ways over real HTTP, for tests that hold for both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Answer, Connector, Normalized, Request, Resource, Window
from kharcha_pipeline.accounts.connectors.cursor_dashboard import CURSOR_DASHBOARD, CursorDashboardSettings
from kharcha_pipeline.accounts.connectors.cursor_team import CURSOR_TEAM, CursorTeamSettings
from kharcha_pipeline.accounts.failures import Denied, Moved, Unauthorized
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline_tests.accounts.cursor_vendor import CursorVendor, Usage, event
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Received, TurnedClock, VendorServer

MORNING = NOON_MS // DAY_MS * DAY_MS
YESTERDAY = Window(MORNING - DAY_MS, MORNING)
"""2026-11-19: a whole day, of which nothing new is expected."""


class PlainSession:
    """Sends what a connector asks for, once."""

    def __init__(self, connector: Connector, secret: str, settings: Any, url: str, clock: TurnedClock) -> None:
        self._connector = connector
        self._clock = clock
        self._client = httpx2.Client(
            base_url=url, headers=dict(connector.authorization(secret, settings)), trust_env=False
        )

    def send(self, request: Request) -> Answer:
        """The answer, or the failure that it is."""
        body = {"json": request.body} if request.body is not None else {}
        got = self._client.request(
            request.method, request.path, params=list(request.query), headers=dict(request.headers), **body
        )
        headers = {name.lower(): value for name, value in got.headers.items()}
        answer = Answer(
            request=request,
            status=got.status_code,
            headers=headers,
            body=got.content,
            fetched_ms=self._clock.now_ms(),
        )
        if failure := self._connector.classify(answer):
            raise failure
        if got.status_code == 401:
            raise Unauthorized("The credential was not accepted.")
        if got.status_code >= 400:
            raise Denied("Refused.")
        if answer.content_type == "text/html":
            raise Moved("This is a page for people.")
        return answer

    def now_ms(self) -> int:
        """The instant now."""
        return self._clock.now_ms()

    def close(self) -> None:
        """Ends connections."""
        self._client.close()


@dataclass
class Cursor:
    """One of Cursor's ways, and the world behind it."""

    connector: Any
    settings: Any
    secret: str
    vendor: CursorVendor
    server: VendorServer
    clock: TurnedClock
    session: PlainSession

    @property
    def events(self) -> Resource:
        """The resource of events."""
        return self.resource("events")

    def resource(self, name: str) -> Resource:
        """A resource by its name."""
        return next(one for one in self.connector.resources(self.settings) if one.name == name)

    def happened(self, *at_ms: int, **changes: Any) -> None:
        """Puts events into the world."""
        self.vendor.events += (Usage(event(instant, **changes)) for instant in at_ms)

    def answers(self, name: str = "events", window: Window | None = None) -> Sequence[Answer]:
        """What a reading hands out."""
        resource = self.resource(name)
        return self.connector.read(self.session, self.settings, resource, window or self._window(resource))

    def said(self, name: str = "events", window: Window | None = None) -> Normalized:
        """What a reading means."""
        resource = self.resource(name)
        window = window or self._window(resource)
        answers = self.connector.read(self.session, self.settings, resource, window)
        return self.connector.normalize(self.settings, resource, window, answers)

    def event(self) -> VendorEvent:
        """The only event of yesterday."""
        (item,) = self.said().items
        assert isinstance(item, VendorEvent)
        return item

    def pages(self) -> list[int]:
        """Which pages of events were asked for."""
        return [received.json["page"] for received in self.event_requests()]

    def event_requests(self) -> list[Received]:
        """The requests for events."""
        return [received for received in self.server.log if received.path.endswith("filtered-usage-events")]

    def _window(self, resource: Resource) -> Window:
        return SNAPSHOT if resource.span is None else YESTERDAY


@contextmanager
def cursor(connector: Connector, **settings: Any) -> Iterator[Cursor]:
    """One of Cursor's ways on loopback, at 2026-11-20 12:00 UTC."""
    clock = TurnedClock()
    vendor = CursorVendor(clock)
    is_team = connector is CURSOR_TEAM
    secret = next(iter(vendor.keys)) if is_team else vendor.people[0].cookie
    own: Mapping[str, Any] = {} if is_team else {"accept_unofficial": True}
    kind = CursorTeamSettings if is_team else CursorDashboardSettings
    chosen = kind(secret="env:CURSOR", **{**own, **settings})
    with VendorServer(vendor.answer, clock) as server:
        session = PlainSession(connector, secret, chosen, server.url, clock)
        try:
            yield Cursor(connector, chosen, secret, vendor, server, clock, session)
        finally:
            session.close()


def team(**settings: Any) -> Any:
    """The Admin API."""
    return cursor(CURSOR_TEAM, **settings)


def dashboard(**settings: Any) -> Any:
    """The dashboard."""
    return cursor(CURSOR_DASHBOARD, **settings)
