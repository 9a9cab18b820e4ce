"""Priced events: what the events of a day cost, as a pure function of the events and the stored snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from typing import NamedTuple

import duckdb

from kharcha_pipeline.pricing.snapshots import IN_DAYS, days_parameters

_PRICES_BEFORE = f"""
CREATE OR REPLACE TEMP TABLE prices_before AS
SELECT event_id, cost_usd, price_provider, price_model, snapshot_day, snapshot_revision, price_variant, price_tier,
    price_basis
FROM core.priced_events JOIN core.prices USING (price_id)
WHERE {IN_DAYS} AND (
    cost_usd IS NULL
    OR EXISTS (
        SELECT 1 FROM pricing_snapshots AS snapshots
        WHERE snapshots.price_provider = prices.price_provider AND snapshots.price_model = prices.price_model
            AND snapshots.snapshot_day = prices.snapshot_day AND snapshots.revision > prices.snapshot_revision
    )
)
"""

_STORE_PRICES = f"""
INSERT INTO core.prices BY NAME
SELECT DISTINCT price_id, pricing_status, price_provider, price_model, snapshot_day, snapshot_revision, price_variant,
    price_tier, price_basis
FROM chosen_rates ANTI JOIN core.prices USING (price_id)
WHERE price_id IN (SELECT price_id FROM core.priced_events WHERE {IN_DAYS})
"""

_EVIDENCE = """to_json({{
    'cost_usd': CAST({0}.cost_usd AS VARCHAR), 'price_provider': {0}.price_provider, 'price_model': {0}.price_model,
    'snapshot_day': CAST({0}.snapshot_day AS VARCHAR), 'snapshot_revision': {0}.snapshot_revision,
    'price_variant': {0}.price_variant, 'price_tier': {0}.price_tier, 'price_basis': {0}.price_basis
}})"""

_LOG_CHANGES = f"""
INSERT INTO event_changes (event_id, changed_at, subject, reason, before, after)
SELECT event_id, $now, 'price', CASE WHEN old.cost_usd IS NULL THEN 'price became known' ELSE 'repriced' END,
    {_EVIDENCE.format("old")}, {_EVIDENCE.format("fresh")}
FROM prices_before AS old
JOIN (SELECT * FROM priced_events WHERE {IN_DAYS}) AS fresh USING (event_id)
WHERE fresh.price_basis <> 'reported' AND fresh.cost_usd IS DISTINCT FROM old.cost_usd
ORDER BY event_id
"""


DAYS_AT_ONCE = 92
"""A quarter of a year: rows are sorted in memory before they are written, some 300 bytes each."""


class PricedResult(NamedTuple):
    """How many events were priced, and how many of them have no price."""

    events: int = 0
    unpriced: int = 0


def build_priced_events(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> PricedResult:
    """Replaces the priced events of these local days. Doing it again changes nothing.

    An event whose price became known, or was changed by a reprice, gets a row in `event_changes`.

    Args:
        connection: open, inside the caller's transaction.
        days: local days whose snapshots were captured.
    """
    ordered = sorted(days)
    parts = [
        _build_some_days(connection, ordered[start : start + DAYS_AT_ONCE])
        for start in range(0, len(ordered), DAYS_AT_ONCE)
    ]
    return PricedResult(sum(part.events for part in parts), sum(part.unpriced for part in parts))


def _build_some_days(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> PricedResult:
    parameters = days_parameters(days)
    choose_rates(connection, days)
    connection.execute(_PRICES_BEFORE, parameters)
    connection.execute(f"DELETE FROM core.priced_events WHERE {IN_DAYS}", parameters)
    connection.execute(
        f"INSERT INTO core.priced_events BY NAME {select_priced_events()} ORDER BY day, occurred_at, event_id",
        parameters,
    )
    connection.execute(_STORE_PRICES, parameters)
    if connection.execute("SELECT count(*) FROM prices_before").fetchall()[0][0]:
        connection.execute(_LOG_CHANGES, parameters | {"now": datetime.now(UTC)})
    connection.execute("DROP TABLE prices_before; DROP TABLE chosen_rates")
    counts = connection.execute(
        f"SELECT count(*), count(*) FILTER (WHERE cost_usd IS NULL) FROM core.priced_events WHERE {IN_DAYS}",
        parameters,
    ).fetchall()[0]
    return PricedResult(*counts)


def choose_rates(
    connection: duckdb.DuckDBPyConnection,
    days: Sequence[date],
    snapshots: str = "pricing_snapshots",
    rates: str = "pricing_rates",
) -> None:
    """Makes the temporary table `chosen_rates` that `select_priced_events` reads, for these local days.

    Args:
        connection: open, inside the caller's transaction.
        days: local days; a local day touches at most the UTC days beside it.
        snapshots: where snapshots are read from, in SQL.
        rates: where rates are read from, in SQL.
    """
    parameters = {"first_day": min(days), "last_day": max(days)}
    connection.execute(_sql("chosen_rates.sql").format(snapshots=snapshots, rates=rates), parameters)


def select_priced_events() -> str:
    """The query that prices the events of `$days`; its parameters are those of `IN_DAYS`."""
    return _sql("priced_events.sql")


@cache
def _sql(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
