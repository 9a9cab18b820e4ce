"""What the tests of the store share: a small vendor that says what it is told to, and windows of its time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Answer, Connector, Normalized, Request, Resource, Window
from kharcha_pipeline.accounts.items import ItemKind, VendorEvent, VendorItem
from kharcha_pipeline.accounts.store import AccountStore, Applied, Configured

START = 1_790_000_000_000 // DAY_MS * DAY_MS
"""The beginning of a day."""

DAY = Window(START, START + DAY_MS)
ACCOUNT = "acme"
EVENTS = Resource("events", "event", span=timedelta(days=1))
REPORTS = Resource("usage", "report", span=timedelta(days=31))
PERIODS = Resource("periods", "period")
INVOICES = Resource("invoices", "invoice")
LIMITS = Resource("limits", "limit")
MEMBERS = Resource("members", "member")
RESOURCES = (EVENTS, REPORTS, PERIODS, INVOICES, LIMITS, MEMBERS)


def configured(name: str = ACCOUNT, **changes: Any) -> Configured:
    """An account as the settings say it."""
    return Configured(
        name=name,
        connector="example",
        vendor="Example",
        source="example",
        label="Acme",
        owner="somebody@example.com",
        counted=True,
        local_sources=("claude-code",),
        local_account=None,
        tolerance_percent=1,
        is_enabled=True,
    )._replace(**changes)


def opened(directory: Path, *names: str) -> AccountStore:
    """A store with accounts."""
    store = AccountStore(directory)
    store.configure([configured(name) for name in names or (ACCOUNT,)])
    return store


def event(
    at_ms: int = START + HOUR_MS, charged: str | None = "0.10", tokens: int = 100, **fields: Any
) -> VendorEvent:
    """A usage event of one model."""
    fields = {"model_raw": "example-large", "output_tokens": tokens, **fields}
    return VendorEvent(at_ms=at_ms, charged_usd=None if charged is None else Decimal(charged), **fields)


def answers(items: Sequence[VendorItem], fetched_ms: int) -> list[Answer]:
    """One answer that says these items, and nothing else."""
    request = Request(path="/items", query=(("page", "1"),))
    return [Answer(request=request, status=200, headers={}, body=msgspec.json.encode(items), fetched_ms=fetched_ms)]


def apply(
    store: AccountStore,
    items: Sequence[VendorItem],
    fetched_ms: int,
    *,
    window: Window = DAY,
    resource: Resource = EVENTS,
    account: str = ACCOUNT,
    closed_before_ms: int = 0,
    **normalized: Any,
) -> Applied:
    """Stores a window in which the vendor shows these items."""
    return store.apply(
        account,
        resource,
        window,
        answers(items, fetched_ms),
        Normalized(items, **normalized),
        now_ms=fetched_ms,
        closed_before_ms=closed_before_ms,
    )


def snapshot(store: AccountStore, resource: Resource, items: Sequence[VendorItem], fetched_ms: int) -> Applied:
    """Stores what the vendor says of the present."""
    return apply(store, items, fetched_ms, window=SNAPSHOT, resource=resource)


def connector(**changes: Any) -> Connector:
    """A vendor's module that understands the answers made here; `changes` replace its parts."""

    def normalize(settings: Any, resource: Resource, window: Window, given: Sequence[Answer]) -> Normalized:
        said = (msgspec.json.decode(answer.body, type=list[VendorItem]) for answer in given)
        return Normalized([item for items in said for item in items])

    parts = {"name": "example", "title": "Example", "resources": lambda settings: RESOURCES, "normalize": normalize}
    return cast(Connector, SimpleNamespace(**(parts | changes)))


def versions(store: AccountStore, kind: ItemKind = "event") -> list[tuple[int, VendorItem | None, str]]:
    """Every version: number of its item, what it says, and why it was written."""
    query = "SELECT item, content, reason FROM versions WHERE kind = ? ORDER BY id"
    return [(item, _item(content), reason) for item, content, reason in rows(store, query, kind)]


def standing(store: AccountStore, kind: ItemKind = "event") -> list[VendorItem]:
    """What the newest versions say, as everybody reads it."""
    query = """
        SELECT content FROM versions
        WHERE id IN (SELECT max(id) FROM versions WHERE kind = ? GROUP BY item) AND content IS NOT NULL
        ORDER BY group_key, ordinal
    """
    return [cast(VendorItem, _item(content)) for (content,) in rows(store, query, kind)]


def rows(store: AccountStore, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a query finds in the file, through a connection of its own."""
    with closing(sqlite3.connect(store.path)) as connection:
        return connection.execute(query, values).fetchall()


def _item(content: str | None) -> VendorItem | None:
    return None if content is None else msgspec.json.decode(content, type=VendorItem)
