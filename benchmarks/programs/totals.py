"""Prints what the published tables add up to, per UTC day, source and model as logged."""

from __future__ import annotations

import json
from pathlib import Path

from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.warehouse.warehouse import connect_published

QUERY = """
SELECT
    strftime(timezone('UTC', occurred_at), '%Y-%m-%d'), source, model_raw, count(*), sum(input_tokens)::BIGINT,
    sum(output_tokens)::BIGINT, sum(cache_read_tokens)::BIGINT, sum(cache_write_5m_tokens)::BIGINT,
    sum(cache_write_1h_tokens)::BIGINT, sum(reasoning_tokens)::BIGINT
FROM priced_events GROUP BY ALL
"""
ROLLUPS = """
SELECT
    (SELECT sum(events) FROM daily_usage) IS NOT DISTINCT FROM count(*)
    AND (SELECT sum(events) FROM session_usage) IS NOT DISTINCT FROM count(*)
    AND (SELECT sum(cost_usd) FROM daily_usage) IS NOT DISTINCT FROM sum(cost_usd)
FROM priced_events
"""


def main() -> None:
    """Prints the totals of the data directory in use as JSON, once the rollups are known to agree with them."""
    path: Path = load_settings().data_directory / "kharcha.duckdb"
    connection = connect_published(path)
    if connection.execute(ROLLUPS).fetchall() != [(True,)]:
        raise SystemExit("The rollups do not agree with the priced events.")
    print(json.dumps(connection.execute(QUERY).fetchall()))


if __name__ == "__main__":
    main()
