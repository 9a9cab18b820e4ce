"""A connector over the real transport, a fake vendor on loopback and a real store: what a cycle would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Answer, Connector, Normalized, Resource, Window
from kharcha_pipeline.accounts.credentials import Secret
from kharcha_pipeline.accounts.items import Member
from kharcha_pipeline.accounts.store import AccountStore, Applied
from kharcha_pipeline.accounts.transport import Transport
from kharcha_pipeline_tests.accounts.storing import ACCOUNT, opened
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Received, Reply, TurnedClock, VendorServer

TODAY = NOON_MS // DAY_MS * DAY_MS
"""The day on which a turned clock begins, 2026-11-20; a Friday."""

YESTERDAY = Window(TODAY - DAY_MS, TODAY)
WEEK = Window(TODAY - 7 * DAY_MS, TODAY)
MONTH = Window(TODAY - 30 * DAY_MS, TODAY + 1)


class Reading:
    """One account, ready to be read."""

    def __init__(
        self,
        connector: Connector,
        settings: Any,
        secret: str,
        server: VendorServer,
        store: AccountStore,
        clock: TurnedClock,
    ) -> None:
        self.connector = connector
        self.settings = settings
        self.server = server
        self.store = store
        self.clock = clock
        self._secret = secret

    @contextmanager
    def cycle(self) -> Iterator[Transport]:
        """The session of one cycle."""
        with Transport(
            ACCOUNT,
            self.connector,
            self.settings,
            Secret(self._secret),
            store=self.store,
            clock=self.clock,
            environment={},
        ) as session:
            yield session

    def probe(self) -> Sequence[Member]:
        """Whose account it is."""
        with self.cycle() as session:
            return self.connector.probe(session, self.settings)

    def resource(self, name: str) -> Resource:
        """A resource by its name."""
        (found,) = [resource for resource in self.connector.resources(self.settings) if resource.name == name]
        return found

    def answers(self, name: str, window: Window = SNAPSHOT) -> Sequence[Answer]:
        """All answers of a window, read in a cycle of its own."""
        with self.cycle() as session:
            return self.connector.read(session, self.settings, self.resource(name), window)

    def normalized(self, name: str, window: Window = SNAPSHOT) -> Normalized:
        """What a window says."""
        answers = self.answers(name, window)
        return self.connector.normalize(self.settings, self.resource(name), window, answers)

    def items(self, name: str, window: Window = SNAPSHOT) -> list[Any]:
        """The items of a window."""
        return list(self.normalized(name, window).items)

    def poll(self, name: str, window: Window = SNAPSHOT) -> Applied:
        """Reads a window and stores it."""
        resource = self.resource(name)
        answers = self.answers(name, window)
        normalized = self.connector.normalize(self.settings, resource, window, answers)
        return self.store.apply(
            ACCOUNT, resource, window, answers, normalized, now_ms=self.clock.now_ms(), closed_before_ms=0
        )


@contextmanager
def reading(
    connector: Connector,
    vendor: Callable[[Received], Reply],
    secret: str,
    directory: Path,
    clock: TurnedClock,
    **settings: Any,
) -> Iterator[Reading]:
    """An account of a fake vendor. What was stored is there when the same directory is opened again."""
    with VendorServer(vendor, clock) as server, opened(directory) as store:
        table = {"connector": connector.name, "secret": "env:KEY", "base_url": server.url, **settings}
        yield Reading(connector, msgspec.convert(table, connector.settings_type), secret, server, store, clock)
