"""A team's accounts for tests of the command and of Dagster: Cursor on loopback, and the accounts.toml of a home."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Self

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline_tests.accounts.cursor_vendor import CursorVendor, Usage, event
from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock, VendorServer

HISTORY_DAYS = 3
KEY = "crsr_key_canary_"
"""How every key of the office begins."""


class Office:
    """Teams with a key each, all of one vendor; every team sees the same usage, shifted by its own while.

    Attributes:
        clock: the vendor's.
        names: the accounts of accounts.toml.
        fields: further lines of an account's table.
        alerts: references of addresses that are told.
        prefix: how every key begins.
    """

    def __init__(self, home: Path, clock: TurnedClock | None = None, prefix: str = KEY) -> None:
        self.home = home
        self.clock = clock or TurnedClock(time.time_ns() // 1_000_000)
        self.vendors: dict[str, CursorVendor] = {}
        self.names: list[str] = []
        self.fields: dict[str, list[str]] = {}
        self.alerts: list[str] = []
        self.prefix = prefix
        self.server = VendorServer(self._answer, self.clock)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__(None, None, None)

    @property
    def file(self) -> Path:
        """accounts.toml."""
        return self.home / ".config/kharcha/accounts.toml"

    def add(self, name: str, *fields: str) -> CursorVendor:
        """An account with its key and two events a day; returns the vendor's side of it."""
        vendor = CursorVendor(self.clock)
        vendor.keys = {self.key(name): "/"}
        vendor.cycle_ms = self.clock.now_ms() // DAY_MS * DAY_MS - 10 * DAY_MS
        begin = self.clock.now_ms() - len(self.names) * 1000
        vendor.events = [
            Usage(event(begin - HOUR_MS - number * 12 * HOUR_MS, chargedCents=Decimal("6.625"), conversationId=name))
            for number in range(2 * HISTORY_DAYS)
        ]
        self.vendors[name] = vendor
        self.names.append(name)
        self.fields[name] = list(fields)
        self.write()
        self.keep(name, self.key(name))
        return vendor

    def key(self, name: str) -> str:
        """The key that an account begins with."""
        return f"{self.prefix}{name}"

    def keep(self, name: str, key: str) -> None:
        """Puts a key where accounts.toml says that it is."""
        path = self.file.with_name(f"{name}.key")
        path.touch(0o600)
        path.write_text(f"{key}\n")

    def write(self) -> None:
        """Writes accounts.toml."""
        lines = []
        for name in self.names:
            lines += [
                f"[accounts.{name}]",
                'connector = "cursor-team"',
                f'secret = "file:{name}.key"',
                f'base_url = "{self.server.url}"',
                f"history_days = {HISTORY_DAYS}",
                "lookback_days = 1",
                *self.fields[name],
                "",
            ]
        if self.alerts:
            lines += ["[alerts]", f"urls = {self.alerts}"]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("\n".join(lines))

    def requests(self, name: str) -> list[Received]:
        """What was asked with the first key of an account."""
        return [received for received in self.server.log if received.credential == self.key(name)]

    def _answer(self, received: Received) -> Reply:
        for vendor in self.vendors.values():
            if received.credential in vendor.keys:
                return vendor.answer(received)
        return Reply(401, {"error": "Unauthorized", "message": "Invalid team API key"})
