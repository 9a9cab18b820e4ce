"""Fills a warehouse with invented settled records, day after day, until it holds a given number of events.

    python -m benchmarks.programs.add_history EVENTS EVENTS_PER_DAY

The records are made inside DuckDB; all stages then build their days as they would build those of real logs.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta

import duckdb

from kharcha_pipeline import stages
from kharcha_pipeline.events.names import names
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.warehouse import Warehouse
from kharcha_pipeline.warehouse.zone import pin_machine, pin_zone

FIRST_DAY = date(2024, 4, 10)
"""The first of 800 days that all lie in the past, and after the release of every model below."""

MODELS = (
    ("claude-code", "", "claude-3-opus-20240229"),
    ("claude-code", "", "claude-3-haiku-20240307"),
    ("codex", "openai", "gpt-4-turbo-2024-04-09"),
    ("opencode", "openai", "gpt-3.5-turbo-0125"),
)
DAYS_AT_ONCE = 50
MICROSECONDS_OF_A_DAY = 86_400_000_000

INVENTED = """
CREATE OR REPLACE TEMP TABLE invented AS
SELECT *, md5(concat_ws(' ', session_id, model_raw, is_subagent))::UUID AS digest FROM (
    SELECT
        md5(number::VARCHAR)::UUID AS event_id, $first::DATE + (number // $per_day)::INTEGER AS day,
        make_timestamptz(epoch_us(day::TIMESTAMP) + (number % $per_day) * ($microseconds // $per_day)) AS occurred_at,
        hash(number) AS family_key, '' AS account, 'bench' AS machine, 'session ' || number // 97 AS session_id,
        '/home/sam/project-' || number // 97 % 23 AS project, 'main' AS git_branch, number % 11 = 0 AS is_subagent,
        unnest(models[1 + number % len(models)]), '' AS endpoint, 'standard' AS service_tier, 'ok' AS status,
        0 AS premium_request_count, number * 7919 % 4001 AS input_tokens, number * 104729 % 2003 AS output_tokens,
        number * 1299709 % 90001 AS cache_read_tokens, number * 611953 % 9001 AS cache_write_5m_tokens,
        0 AS cache_write_1h_tokens, 0 AS reasoning_tokens, 0 AS web_search_requests, NULL AS reported_cost_usd,
        'exact' AS time_quality, 'exact' AS model_quality, 'message' AS evidence, now() AS recorded_at
    FROM range($from, $to) AS numbers(number), (
        SELECT $models::STRUCT(
            source VARCHAR, provider_raw VARCHAR, model_raw VARCHAR, provider VARCHAR, model VARCHAR, route VARCHAR
        )[] AS models
    )
);
"""
STORED = """
INSERT INTO core.contexts BY NAME
SELECT nextval('core.context_ids') AS context_id, * FROM (
    SELECT DISTINCT digest, source, account, session_id, project, git_branch, is_subagent, provider, model,
        provider_raw, model_raw, route, endpoint, service_tier, status, premium_request_count, time_quality,
        model_quality, evidence
    FROM invented ANTI JOIN core.contexts USING (digest) ORDER BY session_id
);
INSERT INTO core.usage_events BY NAME
SELECT event_id, day, occurred_at, family_key, context_id, machine, input_tokens, output_tokens, cache_read_tokens,
    cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens, web_search_requests, reported_cost_usd,
    recorded_at, 1 AS responses, NULL AS reported_total_tokens
FROM invented JOIN core.contexts USING (digest) ORDER BY day, occurred_at, event_id;
DROP TABLE invented
"""


def main() -> None:
    """Adds what is missing, and prints the last day and the number of priced events."""
    events, per_day = map(int, sys.argv[1:])
    settings = load_settings()
    warehouse = Warehouse(settings.data_directory)
    prices = PriceSources.load(settings.prices)
    if not warehouse.path.exists():
        with warehouse.write() as connection:
            pin_zone(connection, settings)
            pin_machine(connection, settings)
    with warehouse.read() as connection:
        done = _number(connection, "core.usage_events") // per_day
    for start in range(done, events // per_day, DAYS_AT_ONCE):
        end = min(start + DAYS_AT_ONCE, events // per_day)
        days = [FIRST_DAY + timedelta(days=number) for number in range(start, end)]
        with warehouse.write() as connection:
            connection.execute(
                INVENTED,
                {
                    "first": FIRST_DAY,
                    "per_day": per_day,
                    "microseconds": MICROSECONDS_OF_A_DAY,
                    "from": start * per_day,
                    "to": end * per_day,
                    "models": [_named(*model) for model in MODELS],
                },
            )
            connection.execute(STORED)
            ledger.want(connection, days)
        stages.build_stale(warehouse, prices, surely=True)
    with warehouse.read() as connection:
        priced = _number(connection, "priced_events WHERE cost_usd IS NOT NULL")
    print(FIRST_DAY + timedelta(days=events // per_day - 1), priced)


def _number(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {rows}").fetchall()[0][0])


def _named(source: str, provider_raw: str, model_raw: str) -> dict[str, str]:
    named = names(source, provider_raw, model_raw)
    return {
        "source": source,
        "provider_raw": provider_raw,
        "model_raw": model_raw,
        "provider": named.provider,
        "model": named.model,
        "route": named.route,
    }


if __name__ == "__main__":
    main()
