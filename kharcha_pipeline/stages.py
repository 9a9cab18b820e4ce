"""The daily stages in their order, and how a set of local days is built.

Every stage is a pure function of its input for those days: building any days in any order, any number of times,
changes nothing. A stage and the version of the input it read are stored in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal

import duckdb
import msgspec

from kharcha_pipeline.events.usage_events import build_usage_events
from kharcha_pipeline.pricing.prices import Prices
from kharcha_pipeline.pricing.priced_events import build_priced_events
from kharcha_pipeline.pricing.snapshots import capture_snapshots, price_sources_changed
from kharcha_pipeline.rollups.rollups import build_daily_usage, build_session_usage
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.ledger import STAGES
from kharcha_pipeline.warehouse.warehouse import Warehouse


class DayStatistics(msgspec.Struct):
    """What a stage holds for one local day after it was built. Costs are USD; `None` when nothing is priced."""

    rows: int = 0
    tokens: int = 0
    cost_usd: Decimal | None = None
    unpriced_events: int = 0


class BuildResult(msgspec.Struct):
    """Which days were built, what they hold per stage, and warnings about prices that were refused."""

    days: list[date] = []
    statistics: dict[str, dict[date, DayStatistics]] = {}
    warnings: list[str] = []


def build(
    warehouse: Warehouse, prices: Prices, days: Sequence[date], stages: Sequence[str] = STAGES
) -> BuildResult:
    """Builds the given local days of the given stages, in their order, in one transaction.

    Args:
        warehouse: where.
        prices: the price sources in force.
        days: any local days; those without events become empty.
        stages: which stages; the others keep what they have and stay marked as they are.

    Raises:
        LockTimeoutError, WarehouseError: when the warehouse cannot be written.
    """
    if not days:
        return BuildResult()
    with warehouse.write() as connection:
        return _build(connection, prices, sorted(set(days)), stages)


def build_stale(warehouse: Warehouse, prices: Prices) -> BuildResult:
    """Builds every day on which some stage has not the wanted version, and days a new price may now price."""
    with warehouse.read() as connection:
        waiting = bool(ledger.stale_days(connection)) or price_sources_changed(connection, prices)
    if not waiting:
        return BuildResult()
    with warehouse.write() as connection:
        want_unpriced_days(connection, prices)
        days = ledger.stale_days(connection)
        return _build(connection, prices, days, STAGES) if days else BuildResult()


def _build(
    connection: duckdb.DuckDBPyConnection, prices: Prices, days: Sequence[date], stages: Sequence[str]
) -> BuildResult:
    result = BuildResult(days=list(days))
    for stage in STAGES:
        if stage in stages:
            result.warnings += _BUILDERS[stage](connection, days, prices)
            ledger.mark_built(connection, stage, days)
            result.statistics[stage] = day_statistics(connection, stage, days)
    return result


def _usage_events(connection: duckdb.DuckDBPyConnection, days: Sequence[date], prices: Prices) -> list[str]:
    build_usage_events(connection, days)
    return []


def _pricing_snapshots(connection: duckdb.DuckDBPyConnection, days: Sequence[date], prices: Prices) -> list[str]:
    return capture_snapshots(connection, days, prices).warnings


def _priced_events(connection: duckdb.DuckDBPyConnection, days: Sequence[date], prices: Prices) -> list[str]:
    build_priced_events(connection, days)
    return []


def _session_usage(connection: duckdb.DuckDBPyConnection, days: Sequence[date], prices: Prices) -> list[str]:
    build_session_usage(connection, days)
    return []


def _daily_usage(connection: duckdb.DuckDBPyConnection, days: Sequence[date], prices: Prices) -> list[str]:
    build_daily_usage(connection, days)
    return []


_BUILDERS: dict[str, Callable[[duckdb.DuckDBPyConnection, Sequence[date], Prices], list[str]]] = {
    "usage_events": _usage_events,
    "pricing_snapshots": _pricing_snapshots,
    "priced_events": _priced_events,
    "session_usage": _session_usage,
    "daily_usage": _daily_usage,
}


def want_unpriced_days(connection: duckdb.DuckDBPyConnection, prices: Prices) -> None:
    """Raises the wanted version of days with unpriced events when the price sources changed since last time."""
    raise NotImplementedError


def day_statistics(
    connection: duckdb.DuckDBPyConnection, stage: str, days: Sequence[date]
) -> dict[date, DayStatistics]:
    """What a stage holds for each of the given local days; every day has an entry."""
    span = {"first": min(days), "last": max(days), "days": list(days)}
    rows = connection.execute(_STATISTICS[stage], span).fetchall()
    found = {row[0]: DayStatistics(*row[1:]) for row in rows}
    return {day: found.get(day, DayStatistics()) for day in days}


_TOKENS = (
    "sum(input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT"
)
_OF_DAYS = "WHERE day BETWEEN $first AND $last AND day IN (SELECT unnest($days::DATE[])) GROUP BY day"
_STATISTICS = {
    "usage_events": f"SELECT day, count(*), {_TOKENS} FROM usage_events {_OF_DAYS}",
    "pricing_snapshots": f"SELECT snapshot_day AS day, count(*) FROM pricing_snapshots {_OF_DAYS}",
    "priced_events": f"""
        SELECT day, count(*), {_TOKENS}, sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL)
        FROM priced_events {_OF_DAYS}""",
    **{
        table: f"SELECT day, count(*), {_TOKENS}, sum(cost_usd), sum(unpriced_events)::BIGINT FROM {table} {_OF_DAYS}"
        for table in ("session_usage", "daily_usage")
    },
}
