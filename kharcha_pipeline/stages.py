"""The daily stages in their order, and how a set of local days is built.

Every stage is a pure function of its input for those days: building any days in any order, any number of times,
changes nothing. A stage and the version of the input it read are stored in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal

import duckdb
import msgspec

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.pricing.priced_events import build_priced_events
from kharcha_pipeline.pricing.snapshots import capture_snapshots, unpriced_days
from kharcha_pipeline.rollups.rollups import build_daily_usage, build_session_usage
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.ledger import STAGES
from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError, fact, set_fact


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
    warehouse: Warehouse, prices: PriceSources, days: Sequence[date], stages: Sequence[str] = STAGES
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


def build_stale(warehouse: Warehouse, prices: PriceSources, *, surely: bool = False) -> BuildResult:
    """Builds every day on which some stage has not the wanted version, and days a new price may now price.

    Args:
        warehouse: where.
        prices: the price sources in force.
        surely: whether the caller knows that a day is stale, so that nobody needs to look first.

    Raises:
        LockTimeoutError, WarehouseError: when the warehouse cannot be written.
    """
    if not surely:
        with warehouse.read() as connection:
            if not waiting(connection, prices):
                return BuildResult()
    with warehouse.write() as connection:
        return build_waiting(connection, prices)


def build_waiting(connection: duckdb.DuckDBPyConnection, prices: PriceSources) -> BuildResult:
    """Builds, within the caller's transaction, all that `waiting` asks about."""
    want_newly_priced_days(connection, prices)
    days = ledger.stale_days(connection)
    return _build(connection, prices, days, STAGES) if days else BuildResult()


def waiting(connection: duckdb.DuckDBPyConnection, prices: PriceSources) -> bool:
    """Whether anything is left to build: a stale day, or prices that were not tried yet."""
    return bool(ledger.stale_days(connection)) or _tried(connection) != (prices.digest, prices.today)


def want_newly_priced_days(connection: duckdb.DuckDBPyConnection, prices: PriceSources) -> None:
    """Raises the wanted version of days whose unpriced events may have a price now, once for every new chance.

    New price sources are a chance for all of them; a new UTC day only for events dated to days that had not come.
    """
    tried = _tried(connection)
    if tried == (prices.digest, prices.today):
        return
    days = unpriced_days(connection)
    if tried is not None and tried[0] == prices.digest:
        days = [day for day in days if day >= tried[1] - timedelta(days=1)]
    ledger.want(connection, days)
    set_fact(connection, "tried_prices", f"{prices.digest} {prices.today}")


def _tried(connection: duckdb.DuckDBPyConnection) -> tuple[str, date] | None:
    """Digest of the price sources and the UTC day of the last attempt to price what had no price."""
    text = fact(connection, "tried_prices")
    if text is None:
        return None
    digest, _, day = text.partition(" ")
    return digest, date.fromisoformat(day)


def _build(
    connection: duckdb.DuckDBPyConnection, prices: PriceSources, days: Sequence[date], stages: Sequence[str]
) -> BuildResult:
    result = BuildResult(days=list(days))
    in_order = [stage for stage in STAGES if stage in stages]
    for stage in in_order:
        if stage == "pricing_snapshots":
            result.warnings += capture_snapshots(connection, days, prices).warnings
        else:
            _BUILDERS[stage](connection, days)
        result.statistics[stage] = day_statistics(connection, stage, days)
    ledger.mark_built(connection, in_order, days)
    _refuse_disagreement(result.statistics)
    return result


def _refuse_disagreement(statistics: dict[str, dict[date, DayStatistics]]) -> None:
    """Rolls a build back whose rollups do not add up to its events: a wrong number must not be published.

    Raises:
        WarehouseError: when tokens, cost or the number of unpriced events differ on any day.
    """
    totals = [statistics[stage] for stage in ("priced_events", "session_usage", "daily_usage") if stage in statistics]
    for other in totals[1:]:
        for day, expected in totals[0].items():
            found = other[day]
            if (found.tokens, found.cost_usd, found.unpriced_events) != (
                expected.tokens,
                expected.cost_usd,
                expected.unpriced_events,
            ):
                raise WarehouseError(
                    f"The sums of {day} do not agree between events and rollups, so nothing was stored. "
                    "This is a fault in Kharcha Pipeline: please report it."
                )


_BUILDERS: dict[str, Callable[[duckdb.DuckDBPyConnection, Sequence[date]], object]] = {
    "usage_events": lambda connection, days: None,  # a view of what was settled
    "priced_events": build_priced_events,
    "session_usage": build_session_usage,
    "daily_usage": build_daily_usage,
}


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
    "usage_events": f"SELECT day, count(*), {_TOKENS} FROM core.usage_events {_OF_DAYS}",
    "pricing_snapshots": """
        SELECT snapshot_day, count(*) FROM pricing_snapshots
        WHERE snapshot_day BETWEEN $first AND $last AND snapshot_day IN (SELECT unnest($days::DATE[]))
        GROUP BY snapshot_day""",
    "priced_events": f"""
        SELECT day, count(*), {_TOKENS}, sum(cost_usd),
            coalesce(sum(responses) FILTER (WHERE cost_usd IS NULL), 0)::BIGINT
        FROM core.priced_events {_OF_DAYS}""",
    **{
        table: f"SELECT day, count(*), {_TOKENS}, sum(cost_usd), sum(unpriced_events)::BIGINT FROM {table} {_OF_DAYS}"
        for table in ("session_usage", "daily_usage")
    },
}
