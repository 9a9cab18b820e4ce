"""The status panel: how every account is, for people, as the command line and Dagster show it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kharcha_pipeline.accounts.clock import SECOND_MS
from kharcha_pipeline.accounts.store import AccountStatus, AccountStore
from kharcha_pipeline.accounts.values import exact_sum

_ESTIMATES = frozenset({"claude_code"})
"""Reports whose amounts are estimates of a part of what others tell."""

_SHOWN = """
SELECT content FROM items JOIN versions ON versions.id = items.version
WHERE items.account = ? AND items.kind = ? AND items.at_ms >= ? AND content IS NOT NULL
"""


class Spend(NamedTuple):
    """What an account has spent in its open billing cycle, as far as the vendor says.

    Attributes:
        amount_usd: in dollars; `None` when it is unknown.
        since_ms: where the cycle begins: the vendor's billing period, else the month in UTC.
    """

    amount_usd: Decimal | None
    since_ms: int


class Row(NamedTuple):
    """One account of the panel.

    Attributes:
        status: the state in words, `not polled yet`, `disabled` or `removed`.
        held: numbers of the readings that wait for a decision.
    """

    account: AccountStatus
    status: str
    spend: Spend
    held: Sequence[int]


def panel(store: AccountStore, now_ms: int) -> list[Row]:
    """How every account is that was ever configured, by name."""
    with closing(sqlite3.connect(f"{store.path.as_uri()}?mode=ro", uri=True)) as connection:
        return [
            Row(
                account,
                status_of(account),
                _spend(connection, account.name, now_ms),
                [held.id for held in store.held(account.name)],
            )
            for account in store.statuses()
        ]


def status_of(account: AccountStatus) -> str:
    """The state of an account in words."""
    if not account.is_configured:
        return "removed"
    if not account.is_enabled:
        return "disabled"
    if account.state == "active" and account.last_attempt is None:
        return "not polled yet"
    return account.state.replace("_", " ")


def _spend(connection: sqlite3.Connection, account: str, now_ms: int) -> Spend:
    """The vendor's own sum of the open period, else the charges of its events, else its report of costs."""
    moment = datetime.fromtimestamp(now_ms // SECOND_MS, UTC)
    since_ms = int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * SECOND_MS
    for period in _items(connection, account, "period", 0):
        until_ms = period.get("until_ms")
        if not period.get("subject") and period["at_ms"] <= now_ms and (until_ms is None or now_ms < until_ms):
            since_ms = period["at_ms"]
            if (total := _total(period)) is not None:
                return Spend(total, since_ms)
    amounts = [
        event["charged_usd"] for event in _items(connection, account, "event", since_ms) if _has(event, "charged_usd")
    ]
    if not amounts:
        amounts = _reported(_items(connection, account, "report", since_ms))
    return Spend(exact_sum(map(Decimal, amounts)) if amounts else None, since_ms)


def _reported(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The amounts of a cost report; where there is none, those that stand beside usage."""
    told = [
        row
        for row in rows
        if _has(row, "amount") and row.get("currency", "USD") == "USD" and row["report"] not in _ESTIMATES
    ]
    costs = [row["amount"] for row in told if not (_has(row, "input_tokens") or _has(row, "output_tokens"))]
    return costs or [row["amount"] for row in told]


def _total(period: dict[str, Any]) -> Decimal | None:
    if period.get("total_usd") is not None:
        return Decimal(period["total_usd"])
    parts = [Decimal(period[name]) for name in ("included_usd", "on_demand_usd") if _has(period, name)]
    return exact_sum(parts) if parts else None


def _has(item: dict[str, Any], name: str) -> bool:
    return item.get(name) is not None


def _items(connection: sqlite3.Connection, account: str, kind: str, from_ms: int) -> list[dict[str, Any]]:
    """The items of one kind that the vendor shows now."""
    return [json.loads(content) for (content,) in connection.execute(_SHOWN, (account, kind, from_ms))]
