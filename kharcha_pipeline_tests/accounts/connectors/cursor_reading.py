"""Cursor's two ways over real HTTP, for tests that hold for both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Answer, Connector, Normalized, Resource, Window
from kharcha_pipeline.accounts.connectors.cursor_dashboard import CURSOR_DASHBOARD, CursorDashboardSettings
from kharcha_pipeline.accounts.connectors.cursor_team import CURSOR_TEAM, CursorTeamSettings
from kharcha_pipeline.accounts.credentials import Secret
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.accounts.transport import Transport
from kharcha_pipeline_tests.accounts.cursor_vendor import CursorVendor, Usage, event
from kharcha_pipeline_tests.accounts.storing import configured
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Received, TurnedClock, VendorServer

MORNING = NOON_MS // DAY_MS * DAY_MS
YESTERDAY = Window(MORNING - DAY_MS, MORNING)
"""2026-11-19: a whole day, of which nothing new is expected."""


@dataclass
class Cursor:
    """One of Cursor's ways, and the world behind it."""

    connector: Any
    settings: Any
    secret: str
    vendor: CursorVendor
    server: VendorServer
    clock: TurnedClock
    session: Transport
    store: AccountStore

    @property
    def events(self) -> Resource:
        """The resource of events."""
        return self.resource("events")

    @property
    def vendor_path(self) -> str:
        """Where events are asked for."""
        is_team = self.connector is CURSOR_TEAM
        return "/teams/filtered-usage-events" if is_team else "/api/dashboard/get-filtered-usage-events"

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

    def signed_in(self, secret: str) -> Transport:
        """A session with another credential."""
        return Transport(
            "acme",
            self.connector,
            msgspec.structs.replace(self.settings, base_url=self.server.url),
            Secret(secret),
            store=self.store,
            clock=self.clock,
            environment={},
        )

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
    with (
        TemporaryDirectory() as directory,
        AccountStore(Path(directory)) as store,
        VendorServer(vendor.answer, clock) as server,
    ):
        chosen = kind(secret="env:CURSOR", base_url=server.url, **{"deadline_seconds": 86_400, **own, **settings})
        store.configure([configured("acme", connector=connector.name, vendor="cursor", source="cursor")])
        with Transport(
            "acme", connector, chosen, Secret(secret), store=store, clock=clock, environment={}
        ) as session:
            yield Cursor(connector, chosen, secret, vendor, server, clock, session, store)


def team(**settings: Any) -> Any:
    """The Admin API."""
    return cursor(CURSOR_TEAM, **settings)


def dashboard(**settings: Any) -> Any:
    """The dashboard."""
    return cursor(CURSOR_DASHBOARD, **settings)
