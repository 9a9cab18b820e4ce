"""A real warehouse database, and usage events in it."""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kharcha_pipeline.events.names import names
from kharcha_pipeline.pricing import json_rows
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.pricing.priced_events import PricedResult, build_priced_events
from kharcha_pipeline.pricing.snapshots import CaptureResult, capture_snapshots
from kharcha_pipeline.warehouse.warehouse import create_schema

TODAY = date(2026, 11, 22)
_context_ids = itertools.count()


@cache
def shipped_prices() -> PriceSources:
    """The prices that come with this version, as of one and the same day in every test."""
    return PriceSources.load(today=TODAY)


@dataclass
class Ledger:
    """The warehouse's tables, filled with events, and the two stages of pricing."""

    connection: duckdb.DuckDBPyConnection
    prices: PriceSources = field(default_factory=shipped_prices)

    def add(self, model: str, at: str | datetime, **values: Any) -> str:
        """Adds one usage event; returns its id."""
        return self.add_all([self.event(model, at, **values)])[0]

    def add_all(self, events: list[dict[str, Any]]) -> list[str]:
        """Adds usage events made by `event`, in one statement; returns their ids."""
        for table in ("core.contexts", "core.usage_events"):
            columns = {row[0]: row[1] for row in self.query(f"DESCRIBE {table}")}
            rows = [[event[name] for name in columns] for event in events]
            json_rows.insert(self.connection, table, columns, rows)
        return [event["event_id"] for event in events]

    def event(self, model: str, at: str | datetime, **values: Any) -> dict[str, Any]:
        """One usage event. `at` is an instant in UTC; the local day is that of UTC unless given."""
        moment = at if isinstance(at, datetime) else datetime.fromisoformat(at)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        source = values.pop("source", "claude-code")
        provider_raw = values.pop("provider_raw", "")
        named = names(source, provider_raw, model)
        return {
            "context_id": next(_context_ids),
            "digest": str(uuid.uuid4()),
            "family_key": 0,
            "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, repr((model, moment, sorted(values.items()), source)))),
            "day": moment.date(),
            "occurred_at": moment,
            "source": source,
            "account": "",
            "machine": "m",
            "session_id": "s",
            "project": "",
            "git_branch": "",
            "is_subagent": False,
            "provider": named.provider,
            "model": named.model,
            "provider_raw": provider_raw,
            "model_raw": model,
            "route": named.route,
            "endpoint": "",
            "service_tier": named.service_tier_hint or "standard",
            "status": "ok",
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_read_tokens": 0,
            "cache_write_5m_tokens": 0,
            "cache_write_1h_tokens": 0,
            "reasoning_tokens": 0,
            "web_search_requests": 0,
            "premium_request_count": Decimal(0),
            "reported_cost_usd": None,
            "time_quality": "exact",
            "model_quality": "exact",
            "evidence": "message",
            "recorded_at": moment,
            "responses": 1,
            "reported_total_tokens": None,
        } | values

    @property
    def days(self) -> list[date]:
        return [row[0] for row in self.query("SELECT DISTINCT day FROM usage_events ORDER BY day")]

    def capture(self, days: list[date] | None = None, prices: PriceSources | None = None) -> CaptureResult:
        return capture_snapshots(self.connection, self.days if days is None else days, prices or self.prices)

    def build(self, days: list[date] | None = None) -> PricedResult:
        return build_priced_events(self.connection, self.days if days is None else days)

    def price(self, days: list[date] | None = None, prices: PriceSources | None = None) -> CaptureResult:
        captured = self.capture(days, prices)
        self.build(days)
        return captured

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(parameters)).fetchall()

    def cost(self, event_id: str) -> Decimal | None:
        return self.priced(event_id)["cost_usd"]

    def priced(self, event_id: str) -> dict[str, Any]:
        cursor = self.connection.execute("SELECT * FROM priced_events WHERE event_id = ?", [event_id])
        columns = [column[0] for column in cursor.description or ()]
        (row,) = cursor.fetchall()
        return dict(zip(columns, row, strict=True))

    def contents(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT * FROM priced_events ORDER BY event_id")


def warehouse(path: str = ":memory:") -> duckdb.DuckDBPyConnection:
    """A new database with the tables of the warehouse."""
    connection = duckdb.connect(path)
    connection.execute("SET TimeZone = 'UTC'")
    create_schema(connection)
    return connection


@pytest.fixture(scope="session")
def empty_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty warehouse, made once: creating its tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "warehouse.duckdb"
    warehouse(str(path)).close()
    return path


@pytest.fixture
def ledger(empty_warehouse: Path, tmp_path: Path) -> Iterator[Ledger]:
    path = shutil.copy(empty_warehouse, tmp_path / "warehouse.duckdb")
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield Ledger(connection)


@pytest.fixture
def prices_file(tmp_path: Path) -> Any:
    """Writes a prices file and reads it back as the pipeline does."""

    def write(text: str, name: str = "prices.toml", today: date = TODAY) -> PriceSources:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return PriceSources.load(path, today=today)

    return write
