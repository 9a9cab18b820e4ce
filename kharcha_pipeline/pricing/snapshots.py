"""Pricing snapshots: the rates of every model on every UTC day of its use, written down once.

A day's price must not depend on when one looks: catalogues are edited backwards and forget old models. So the first
price an event of a (price provider, price model, UTC day) gets is stored, and every later pricing reads the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import duckdb

from kharcha_pipeline.pricing import json_rows
from kharcha_pipeline.pricing.price_sources import PriceSources, RateCard, Resolution, UsedName

FIRST_REVISION = 1

UTC_DAY = "CAST(DATE '1970-01-01' + CAST(epoch_ms(occurred_at) // 86400000 AS INTEGER) AS DATE)"
"""The UTC day of an event's instant, in SQL, whatever the session's time zone."""

IN_DAYS = "day BETWEEN $first_day AND $last_day AND day IN (SELECT unnest(CAST($days AS DATE[])))"
"""The local days asked for, in SQL; the range lets DuckDB skip the rest of a long history."""

_NAME = "source, provider, model, route, model_raw"

_MISSING = f"""
WITH used AS (
    SELECT DISTINCT {_NAME}, {UTC_DAY} AS snapshot_day FROM usage_events
    WHERE {IN_DAYS} AND model <> ''
        AND (reported_cost_usd IS NULL OR reported_cost_usd <= 0 AND evidence = 'message') AND evidence <> 'charge'
)
SELECT used.* FROM used
ANTI JOIN operations.price_names USING ({_NAME}, snapshot_day)
ANTI JOIN (SELECT * FROM operations.unpriced_names WHERE price_sources_sha256 = $digest) USING ({_NAME}, snapshot_day)
ORDER BY ALL
"""

_CARRIED = """
SELECT price_provider, price_model, snapshot_day, arg_max(rates_sha256, revision), arg_max(source, revision),
    arg_max(source_version, revision), arg_max(source_model_id, revision), arg_max(source_effective_from, revision),
    arg_max(source_sha256, revision), coalesce(arg_max(carried_from, revision), snapshot_day)
FROM pricing_snapshots
GROUP BY price_provider, price_model, snapshot_day
HAVING arg_max(basis, revision) IN ('exact_day', 'carried')
ORDER BY snapshot_day
"""

SNAPSHOT_COLUMNS = {
    "price_provider": "VARCHAR",
    "price_model": "VARCHAR",
    "snapshot_day": "DATE",
    "revision": "INTEGER",
    "basis": "VARCHAR",
    "carried_from": "DATE",
    "source": "VARCHAR",
    "source_version": "VARCHAR",
    "source_model_id": "VARCHAR",
    "source_effective_from": "DATE",
    "source_sha256": "VARCHAR",
    "rates_sha256": "VARCHAR",
    "captured_at": "TIMESTAMPTZ",
    "reprice_id": "INTEGER",
}
RATE_COLUMNS = {
    "rates_sha256": "VARCHAR",
    "variant": "VARCHAR",
    "prompt_over": "BIGINT",
    "prompt_up_to": "BIGINT",
    "from_minute": "INTEGER",
    "until_minute": "INTEGER",
    "input_per_mtok": "DECIMAL(18, 6)",
    "output_per_mtok": "DECIMAL(18, 6)",
    "cache_read_per_mtok": "DECIMAL(18, 6)",
    "cache_write_5m_per_mtok": "DECIMAL(18, 6)",
    "cache_write_1h_per_mtok": "DECIMAL(18, 6)",
    "web_search_per_k": "DECIMAL(18, 6)",
    "basis": "VARCHAR",
    "source": "VARCHAR",
}
_NAME_COLUMNS = {
    "source": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "route": "VARCHAR",
    "model_raw": "VARCHAR",
    "snapshot_day": "DATE",
}
_PRICE_NAME_COLUMNS = _NAME_COLUMNS | {
    "price_provider": "VARCHAR",
    "price_model": "VARCHAR",
    "match_rule": "VARCHAR",
    "is_vendor_equivalent": "BOOLEAN",
    "is_tier_in_name": "BOOLEAN",
}
_UNPRICED_NAME_COLUMNS = _NAME_COLUMNS | {"reason": "VARCHAR", "price_sources_sha256": "VARCHAR"}


class CaptureResult(NamedTuple):
    """What a capture did.

    Attributes:
        snapshots: snapshots written.
        named: used names that have a price now, counted per UTC day.
        unpriced: used names that were tried and have none, counted per UTC day.
        warnings: sentences for the user about prices that were there but refused; each price once.
    """

    snapshots: int = 0
    named: int = 0
    unpriced: int = 0
    warnings: tuple[str, ...] = ()


class _Earlier(NamedTuple):
    """A snapshot whose rates may be carried on."""

    price_provider: str
    price_model: str
    snapshot_day: date
    rates_sha256: str
    source: str
    source_version: str
    source_model_id: str
    source_effective_from: date | None
    source_sha256: str
    carried_from: date


def days_parameters(days: Sequence[date]) -> dict[str, Any]:
    """The parameters that `IN_DAYS` needs."""
    return {"first_day": min(days), "last_day": max(days), "days": list(days)}


def capture_snapshots(
    connection: duckdb.DuckDBPyConnection, days: Sequence[date], prices: PriceSources
) -> CaptureResult:
    """Writes the snapshots that the events of these local days need and that do not exist yet.

    A day's rates are the user's price for it, else a correction, else the catalogue's price of that day, else the
    nearest earlier snapshot's when the catalogue has forgotten the model. What exists stays as it is. Names without
    a price are remembered and not tried again until a price source changes; then the catalogue is not even read.

    Args:
        connection: open, inside the caller's transaction.
        days: local days whose rows in `usage_events` are complete.
        prices: where rates come from.
    """
    if not days:
        return CaptureResult()
    sources_digest = prices.digest
    missing = connection.execute(_MISSING, days_parameters(days) | {"digest": sources_digest}).fetchall()
    if not missing:
        return CaptureResult()

    now = datetime.now(UTC)
    existing = _existing_keys(connection, [row[5] for row in missing])
    earlier: dict[tuple[str, str], list[_Earlier]] | None = None
    snapshots: dict[tuple[str, str, date], list[Any]] = {}
    cards: dict[str, RateCard] = {}
    price_names: list[list[Any]] = []
    unpriced: list[list[Any]] = []
    warnings: dict[str, None] = {}
    for row in missing:
        used, day = UsedName(*row[:5]), row[5]
        found = prices.resolve(used, day)
        if isinstance(found, Resolution):
            key = (found.price_provider, found.price_model, day)
            flags = [found.rule, found.vendor_equivalent, found.tier_in_name]
            if key not in existing and key not in snapshots:
                snapshots[key] = _first_capture(found, day, now)
                cards[found.card.sha256] = found.card
        else:
            if earlier is None:
                earlier = _earlier_snapshots(connection)
            carried = _carried(used, day, prices, earlier)
            if carried is None:
                if day <= prices.today:
                    unpriced.append([*used, day, found.reason, sources_digest])
                    if found.warning:
                        warnings[found.warning] = None
                continue
            key = (carried.price_provider, carried.price_model, day)
            flags = ["exact", bool(used.route) and carried.price_provider != used.route, False]
            if key not in existing and key not in snapshots:
                snapshots[key] = _carried_on(carried, day, now)
        price_names.append([*used, day, key[0], key[1], *flags])

    store_rates(connection, cards.values())
    json_rows.insert(connection, "pricing_snapshots", SNAPSHOT_COLUMNS, list(snapshots.values()))
    json_rows.insert(connection, "operations.price_names", _PRICE_NAME_COLUMNS, price_names)
    _remember_unpriced(connection, unpriced, price_names)
    return CaptureResult(len(snapshots), len(price_names), len(unpriced), tuple(warnings))


def unpriced_days(connection: duckdb.DuckDBPyConnection) -> list[date]:
    """Local days with events that have no price: to be built again when a price source has changed."""
    rows = connection.execute(
        "SELECT DISTINCT day FROM priced_events WHERE pricing_status = 'unpriced' AND model <> '' "
        "AND evidence <> 'charge' ORDER BY day"
    ).fetchall()
    return [row[0] for row in rows]


def store_rates(
    connection: duckdb.DuckDBPyConnection, cards: Iterable[RateCard], table: str = "pricing_rates"
) -> None:
    """Writes the rates of cards whose digest is not stored yet."""
    known = {row[0] for row in connection.execute("SELECT DISTINCT rates_sha256 FROM pricing_rates").fetchall()}
    rows: dict[tuple[str, int], list[Any]] = {}
    for card in cards:
        if card.sha256 in known:
            continue
        for number, record in enumerate(card.records):
            rows[card.sha256, number] = [
                card.sha256,
                record["variant"],
                record["prompt_over"],
                record["prompt_up_to"],
                record["from_minute"],
                record["until_minute"],
                record["input"],
                record["output"],
                record["cache_read"],
                record["cache_write_5m"],
                record["cache_write_1h"],
                record["web_search_per_k"],
                record["basis"],
                record["source"],
            ]
    json_rows.insert(connection, table, RATE_COLUMNS, list(rows.values()))


def snapshot_row(
    price_provider: str,
    price_model: str,
    day: date,
    revision: int,
    card: RateCard,
    now: datetime,
    reprice_id: int | None,
) -> list[Any]:
    """A row of `pricing_snapshots` for a rate card."""
    return [
        price_provider,
        price_model,
        day,
        revision,
        card.basis,
        None,
        card.source,
        card.source_version,
        card.source_model_id,
        card.source_effective_from,
        card.source_sha256,
        card.sha256,
        now.isoformat(),
        reprice_id,
    ]


def _first_capture(found: Resolution, day: date, now: datetime) -> list[Any]:
    return snapshot_row(found.price_provider, found.price_model, day, FIRST_REVISION, found.card, now, None)


def _carried_on(earlier: _Earlier, day: date, now: datetime) -> list[Any]:
    return [
        earlier.price_provider,
        earlier.price_model,
        day,
        FIRST_REVISION,
        "carried",
        earlier.carried_from,
        earlier.source,
        earlier.source_version,
        earlier.source_model_id,
        earlier.source_effective_from,
        earlier.source_sha256,
        earlier.rates_sha256,
        now.isoformat(),
        None,
    ]


def _existing_keys(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> set[tuple[str, str, date]]:
    rows = connection.execute(
        "SELECT price_provider, price_model, snapshot_day FROM pricing_snapshots WHERE snapshot_day BETWEEN ? AND ?",
        [min(days), max(days)],
    ).fetchall()
    return {(row[0], row[1], row[2]) for row in rows}


def _earlier_snapshots(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[_Earlier]]:
    """Snapshots of the catalogue's prices, per model in order of days. What a file states ends with the file."""
    found: dict[tuple[str, str], list[_Earlier]] = {}
    for row in connection.execute(_CARRIED).fetchall():
        earlier = _Earlier(*row)
        found.setdefault((earlier.price_provider, earlier.price_model), []).append(earlier)
    return found


def _carried(
    used: UsedName, day: date, prices: PriceSources, earlier: dict[tuple[str, str], list[_Earlier]]
) -> _Earlier | None:
    """The nearest earlier snapshot of a model that no source knows any more.

    A model that a source still lists, but without usable rates on this day, is not forgotten: nothing is carried.
    """
    if day > prices.today:
        return None
    for candidate in prices.candidates(used, day):
        if candidate.only_overrides or candidate.tier_in_name:
            continue
        if prices.card(candidate.provider, candidate.model, day) is not None:
            return None
        known = [one for one in earlier.get((candidate.provider, candidate.model), ()) if one.snapshot_day < day]
        if known:
            return known[-1]
    return None


def _remember_unpriced(
    connection: duckdb.DuckDBPyConnection, unpriced: list[list[Any]], priced: list[list[Any]]
) -> None:
    """Replaces what was remembered about the names that were tried now."""
    tried = [row[:6] for row in (*unpriced, *priced)]
    days = [row[5] for row in tried]
    remembered = set(
        connection.execute(
            f"SELECT {_NAME}, snapshot_day FROM operations.unpriced_names WHERE snapshot_day BETWEEN ? AND ?",
            [min(days, default=None), max(days, default=None)],
        ).fetchall()
    )
    if tried_again := [name for name in tried if tuple(name) in remembered]:
        connection.execute("CREATE OR REPLACE TEMP TABLE tried_again AS FROM operations.unpriced_names LIMIT 0")
        json_rows.insert(connection, "tried_again", _NAME_COLUMNS, tried_again)
        connection.execute(
            f"""
            DELETE FROM operations.unpriced_names WHERE ({_NAME}, snapshot_day) IN
                (SELECT ({_NAME}, snapshot_day) FROM tried_again);
            DROP TABLE tried_again
            """
        )
    json_rows.insert(connection, "operations.unpriced_names", _UNPRICED_NAME_COLUMNS, unpriced)
