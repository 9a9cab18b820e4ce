"""Cursor, polled: the fake vendor over real HTTP, its connectors, and a store, on a clock that tests turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.configuration import Account
from kharcha_pipeline.accounts.connector import AccountSettings, Answer, Connector, Window
from kharcha_pipeline.accounts.connectors.cursor_dashboard import CURSOR_DASHBOARD, CursorDashboardSettings
from kharcha_pipeline.accounts.connectors.cursor_team import CURSOR_TEAM, EVENTS, CursorTeamSettings
from kharcha_pipeline.accounts.credentials import resolve
from kharcha_pipeline.accounts.cycle import Polled, configured, poll
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline.accounts.store import AccountStatus, AccountStore, Applied
from kharcha_pipeline.accounts.transport import Transport
from kharcha_pipeline_tests.accounts.cursor_vendor import CursorVendor, Usage, event
from kharcha_pipeline_tests.accounts.storing import rows, standing, versions
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, TurnedClock, VendorServer

YESTERDAY = NOON_MS - DAY_MS


class Team:
    """Accounts of one team, each with a key of its own.

    Attributes:
        clock: tells the vendor and the poll the time.
        vendor: the world.
        server: what was asked.
        store: what was stored.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = TurnedClock()
        self.vendor = CursorVendor(self.clock)
        self.vendor.keys = {}
        self._accounts: dict[str, Account] = {}
        self._environment: dict[str, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.server = self._open.enter_context(VendorServer(self.vendor.answer, self.clock))
        self.store = self._open.enter_context(AccountStore(self.directory))
        self.add("team")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, name: str) -> None:
        """One more account of the same team."""
        key = f"crsr_key_of_{name}"
        self.vendor.keys[key] = "/"
        self._add(name, CURSOR_TEAM, CursorTeamSettings, key)

    def add_dashboard(self, name: str) -> None:
        """The dashboard of somebody of the team."""
        self._add(
            name, CURSOR_DASHBOARD, CursorDashboardSettings, self.vendor.people[0].cookie, accept_unofficial=True
        )

    def _add(
        self, name: str, connector: Connector, settings: type[AccountSettings], secret: str, **more: Any
    ) -> None:
        variable = f"SECRET_OF_{name.upper()}"
        self._environment[variable] = secret
        chosen = settings(
            secret=f"env:{variable}", base_url=self.server.url, history_days=25, lookback_days=2, **more
        )
        self._accounts[name] = Account(name, connector, chosen, self.directory)
        self.store.configure([configured(account) for account in self._accounts.values()])

    def happened(self, at_ms: int = YESTERDAY, *, visible_from: int = 0, **changes: Any) -> Usage:
        """Something was used: an event of the vendor's world, which may come into view late."""
        usage = Usage(event(at_ms, **changes), visible_from)
        self.vendor.events.append(usage)
        return usage

    def poll(self, name: str = "team", *, after_hours: float = 1) -> Polled:
        """Polls an account some time later."""
        self.clock.advance(after_hours * HOUR_MS / 1000)
        return poll(self._accounts[name], self.store, self.clock, self._environment, is_forced=True)

    def read_events(self, window: Window, name: str = "team") -> Sequence[Answer]:
        """What a worker reads of events who stores it later, or never."""
        account = self._accounts[name]
        secret = resolve(account.settings.secret, self._environment, self.directory)
        with Transport(
            name,
            account.connector,
            account.settings,
            secret,
            store=self.store,
            clock=self.clock,
            environment=self._environment,
        ) as session:
            return account.connector.read(session, account.settings, EVENTS, window)

    def apply_events(self, window: Window, answers: Sequence[Answer], name: str = "team") -> Applied:
        """Stores what a worker read."""
        account = self._accounts[name]
        normalized = account.connector.normalize(account.settings, EVENTS, window, answers)
        return self.store.apply(
            name, EVENTS, window, answers, normalized, now_ms=self.clock.now_ms(), closed_before_ms=0
        )

    def events(self, name: str = "team", *, after_hours: float = 1) -> Applied:
        """What a poll that went well changed about events."""
        polled = self.poll(name, after_hours=after_hours)
        assert (polled.outcome, polled.sentence) == ("polled", "")
        return polled.applied["events"]

    def status(self, name: str = "team") -> AccountStatus:
        """How an account is."""
        status = self.store.status(name)
        assert status is not None
        return status

    def standing(self) -> list[VendorEvent]:
        """The events that stand."""
        return [item for item in standing(self.store) if isinstance(item, VendorEvent)]

    def reasons(self) -> list[str]:
        """Why each version of an event was written."""
        return [reason for _, _, reason in versions(self.store)]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query finds in the file."""
        return rows(self.store, query, *values)

    def everything(self) -> list[tuple[Any, ...]]:
        """All versions of everything, to see that nothing was added."""
        return self.rows("SELECT * FROM versions ORDER BY id")


def only(applied: Applied, **expected: int) -> bool:
    """Whether a poll changed this and nothing else; readings of several windows are together one result."""
    found = Counter(inserted=applied.inserted, changed=applied.changed, vanished=applied.vanished)
    return +(found + Counter(returned=applied.returned)) == +Counter(expected)


def charges(events: Sequence[VendorEvent]) -> list[str | None]:
    """What events cost, sorted."""
    return sorted((None if one.charged_usd is None else str(one.charged_usd) for one in events), key=str)
