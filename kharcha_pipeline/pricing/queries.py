"""What `kharcha prices` shows: stored rates, the price of a model on a day, what has no price. Rows, no printing."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import NamedTuple

import duckdb

from kharcha_pipeline.pricing.price_sources import PriceSources, Resolution, Unpriceable, UsedName, used_name


class SnapshotRates(NamedTuple):
    """One row of rates of a stored snapshot, in USD per million tokens."""

    price_provider: str
    price_model: str
    snapshot_day: date
    revision: int
    snapshot_basis: str
    variant: str
    prompt_over: int
    from_minute: int
    until_minute: int
    input_per_mtok: Decimal
    output_per_mtok: Decimal
    cache_read_per_mtok: Decimal | None
    cache_write_5m_per_mtok: Decimal | None
    cache_write_1h_per_mtok: Decimal | None
    web_search_per_k: Decimal | None
    rates_basis: str
    rates_source: str


class PriceSpan(NamedTuple):
    """Days of use in a row on which a model had the same rates; the standard base rates stand for all."""

    price_provider: str
    price_model: str
    first_day: date
    last_day: date
    days: int
    basis: str
    source: str
    input_per_mtok: Decimal
    output_per_mtok: Decimal
    cache_read_per_mtok: Decimal | None
    cache_write_5m_per_mtok: Decimal | None
    cache_write_1h_per_mtok: Decimal | None


class UnpricedUse(NamedTuple):
    """Events without a price, and why they have none."""

    provider: str
    model: str
    route: str
    model_raw: str
    service_tier: str
    events: int
    tokens: int
    first_day: date
    last_day: date
    reason: str


def stored_rates(
    connection: duckdb.DuckDBPyConnection, model: str, provider: str = "", day: date | None = None
) -> list[SnapshotRates]:
    """The rates in force of a model's snapshots, of one UTC day or of the last one that was used.

    Args:
        connection: open on the warehouse or on its published copy.
        model: the price model, or a model in any spelling that `events.names` knows.
        provider: whose list; `''` for every list.
        day: the UTC day; `None` for the latest snapshot of each list.
    """
    spelled = used_name(provider, model)
    rows = connection.execute(
        """
        WITH latest AS (
            SELECT * FROM pricing_snapshots
            WHERE lower(price_model) IN ($model, $spelled) AND ($provider = '' OR price_provider = $provider)
                AND (CAST($day AS DATE) IS NULL OR snapshot_day = CAST($day AS DATE))
            QUALIFY row_number() OVER (
                PARTITION BY price_provider, price_model ORDER BY snapshot_day DESC, revision DESC) = 1
        )
        SELECT price_provider, price_model, snapshot_day, revision, latest.basis, variant, prompt_over, from_minute,
            until_minute, input_per_mtok, output_per_mtok, cache_read_per_mtok, cache_write_5m_per_mtok,
            cache_write_1h_per_mtok, web_search_per_k, rates.basis, rates.source
        FROM latest JOIN pricing_rates AS rates USING (rates_sha256)
        ORDER BY price_provider, price_model, variant <> 'standard', variant, prompt_over, from_minute
        """,
        {
            "model": model.strip().lower(),
            "spelled": spelled.model,
            "provider": spelled.route or spelled.provider if provider else "",
            "day": day,
        },
    ).fetchall()
    return [SnapshotRates(*row) for row in rows]


def present_price(prices: PriceSources, model: str, provider: str, day: date) -> Resolution | Unpriceable:
    """What the price sources say now about a model in any spelling, whether or not it was ever used.

    Args:
        prices: where rates come from.
        model: as an agent would write it.
        provider: vendor or route, or `''`.
        day: UTC day.
    """
    used: UsedName = used_name(provider, model)
    return prices.resolve(used, day)


def price_spans(connection: duckdb.DuckDBPyConnection) -> list[PriceSpan]:
    """Every price that was used, as spans of days of use with equal rates."""
    rows = connection.execute(
        """
        WITH latest AS (
            SELECT * FROM pricing_snapshots
            QUALIFY row_number() OVER (
                PARTITION BY price_provider, price_model, snapshot_day ORDER BY revision DESC) = 1
        ),
        changes AS (
            SELECT *, lag(rates_sha256) OVER days IS DISTINCT FROM rates_sha256
                OR lag(basis) OVER days IS DISTINCT FROM basis AS is_change
            FROM latest WINDOW days AS (PARTITION BY price_provider, price_model ORDER BY snapshot_day)
        ),
        spans AS (
            SELECT *, count(*) FILTER (WHERE is_change) OVER (
                PARTITION BY price_provider, price_model ORDER BY snapshot_day) AS span
            FROM changes
        )
        SELECT price_provider, price_model, min(snapshot_day), max(snapshot_day), count(*), any_value(spans.basis),
            any_value(spans.source), any_value(input_per_mtok), any_value(output_per_mtok),
            any_value(cache_read_per_mtok), any_value(cache_write_5m_per_mtok), any_value(cache_write_1h_per_mtok)
        FROM spans JOIN pricing_rates AS rates USING (rates_sha256)
        WHERE variant = 'standard' AND prompt_over = -1 AND from_minute = 0
        GROUP BY price_provider, price_model, span
        ORDER BY price_provider, price_model, min(snapshot_day)
        """
    ).fetchall()
    return [PriceSpan(*row) for row in rows]


def unpriced_uses(connection: duckdb.DuckDBPyConnection) -> list[UnpricedUse]:
    """Everything that has no price, the largest first, with the reason that pricing found.

    Args:
        connection: open on the warehouse: the published copy does not keep the reasons.
    """
    rows = connection.execute(
        """
        WITH reasons AS (
            SELECT source, provider, model, route, model_raw, arg_max(reason, snapshot_day) AS reason
            FROM operations.unpriced_names GROUP BY ALL
        ),
        named AS (SELECT DISTINCT source, provider, model, route, model_raw FROM operations.price_names),
        uses AS (
            SELECT source, provider, model, route, model_raw, service_tier, web_search_requests > 0 AS searched,
                evidence = 'charge' AS is_charge,
                sum(responses) AS events, min(day) AS first_day, max(day) AS last_day,
                coalesce(sum(
                    input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens
                ), 0) AS tokens
            FROM priced_events WHERE pricing_status = 'unpriced' GROUP BY ALL
        )
        SELECT provider, model, route, model_raw, service_tier,
            CAST(sum(events) AS BIGINT), CAST(sum(tokens) AS BIGINT), min(first_day), max(last_day),
            max(CASE
                WHEN is_charge THEN 'the vendor has told neither a charge nor token counts'
                WHEN model = '' THEN 'the log names no model'
                WHEN reasons.reason IS NOT NULL THEN reasons.reason
                WHEN named.model IS NOT NULL AND searched THEN 'the price of a web search, or of the tier '
                    || service_tier || ', is not known'
                WHEN named.model IS NOT NULL THEN 'no rates are known for the tier ' || service_tier
                ELSE 'no price was looked up yet'
            END)
        FROM uses
        LEFT JOIN reasons USING (source, provider, model, route, model_raw)
        LEFT JOIN named USING (source, provider, model, route, model_raw)
        GROUP BY provider, model, route, model_raw, service_tier
        ORDER BY 7 DESC, 1, 2, 3, 4, 5
        """
    ).fetchall()
    return [UnpricedUse(*row) for row in rows]
