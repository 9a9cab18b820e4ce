"""Builds `usage_events`, day by day, from the settled records of those days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import duckdb


def build_usage_events(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    """Replaces the usage events of the given local days; a day without settled records becomes empty."""
    span = [min(days), max(days), list(days)]
    connection.execute(
        "DELETE FROM usage_events WHERE day BETWEEN ? AND ? AND day IN (SELECT unnest(?::DATE[]))", span
    )
    connection.execute(
        """
        INSERT INTO usage_events BY NAME
        SELECT * FROM raw.normalized_records WHERE day BETWEEN ? AND ? AND day IN (SELECT unnest(?::DATE[]))
        ORDER BY day, occurred_at, event_id
        """,
        span,
    )
