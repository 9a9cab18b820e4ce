"""Changes the reporting zone: the one operation that moves events between days."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import msgspec

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.pricing.priced_events import build_priced_events
from kharcha_pipeline.recorder.upkeep import tend_recorder
from kharcha_pipeline.rollups.rollups import build_daily_usage, build_session_usage
from kharcha_pipeline.settings import checked_zone
from kharcha_pipeline.stages import build_waiting
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError, fact, set_fact


class Totals(msgspec.Struct, frozen=True):
    """What must not change when days do. The cost is USD; `None` when nothing is priced."""

    events: int
    tokens: int
    cost_usd: Decimal | None
    unpriced_events: int


class RebucketResult(msgspec.Struct, frozen=True):
    """What a rebucket did. Warnings are sentences: the recorder's database follows with the next sync, if not now."""

    zone_before: str
    zone_after: str
    days_before: int
    days_after: int
    totals: Totals
    warnings: list[str] = []


def rebucket(warehouse: Warehouse, zone: str, prices: PriceSources) -> RebucketResult:
    """Moves every event to its local day in another zone and rebuilds all days, in one transaction.

    Sums that somebody else made keep the day they were sent with, and are not part of the totals: where all single
    responses of such a day move away, the sum counts in their place.

    No price of a built day is looked up: snapshots belong to UTC days, which do not move, so every cost stays what
    it is. The totals before and after are compared, and the change is logged in `rebuckets`. No log file is read
    meanwhile, because a landing knows the zone from its beginning on. The recorder's days follow in a transaction of
    their own.

    Args:
        warehouse: the warehouse.
        zone: an IANA name.
        prices: the price sources in force, for days that wait to be built: that is done first.

    Raises:
        SettingsError: when there is no such zone.
        LockTimeoutError: when a landing or a transaction of another process goes on for too long.
        WarehouseError: when a total would change; then nothing was changed.
    """
    zone = checked_zone(zone, "the command line")
    with warehouse.landing(), warehouse.write() as connection:
        build_waiting(connection, prices)
        before, days_before = _totals(connection), _days(connection)
        zone_before = fact(connection, "timezone") or "UTC"
        set_fact(connection, "timezone", zone)
        connection.execute("CREATE OR REPLACE TEMP TABLE moved AS FROM core.usage_events")
        connection.execute("DELETE FROM core.usage_events")
        connection.execute(
            """
            INSERT INTO core.usage_events BY NAME
            SELECT * REPLACE (
                CASE WHEN context_id IN (SELECT context_id FROM core.contexts WHERE evidence = 'aggregate') THEN day
                    ELSE CAST(timezone(?, occurred_at) AS DATE)
                END AS day
            ) FROM moved
            ORDER BY day, occurred_at, event_id
            """,
            [zone],
        )
        days = sorted(
            {
                row[0]
                for row in connection.execute("SELECT day FROM moved UNION SELECT day FROM priced_events").fetchall()
            }
            | {row[0] for row in connection.execute("SELECT DISTINCT day FROM core.usage_events").fetchall()}
        )
        if days:
            ledger.want(connection, days)
            build_priced_events(connection, days)
            build_session_usage(connection, days)
            build_daily_usage(connection, days)
            ledger.mark_built(connection, ledger.STAGES, days)
        after, days_after = _totals(connection), _days(connection)
        if after != before:
            raise WarehouseError(
                f"Changing the zone to {zone} would change the totals from {before} to {after}. Nothing was changed. "
                "This is a fault in Kharcha Pipeline: please report it."
            )
        connection.execute(
            "INSERT INTO rebuckets VALUES (now(), ?, ?, ?, ?, ?, ?, ?)",
            [zone_before, zone, days_before, days_after, after.events, after.tokens, after.cost_usd],
        )
    warnings = tend_recorder(warehouse.directory, prices, zone)
    return RebucketResult(zone_before, zone, days_before, days_after, after, warnings)


def _totals(connection: duckdb.DuckDBPyConnection) -> Totals:
    row = connection.execute(
        """
        SELECT count(*), coalesce(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens
            + cache_write_1h_tokens), 0)::BIGINT, sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL)
        FROM priced_events WHERE evidence <> 'aggregate'
        """
    ).fetchall()[0]
    return Totals(*row)


def _days(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT count(DISTINCT day) FROM priced_events").fetchall()[0][0])
