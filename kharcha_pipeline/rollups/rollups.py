"""Builds the rollups, day by day, from the priced events of those days. Recomputed, never incremented."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib import resources

import duckdb

_SQL = {
    name: resources.files("kharcha_pipeline.rollups").joinpath(f"{name}.sql").read_text(encoding="utf-8")
    for name in ("session_usage", "daily_usage")
}


def build_session_usage(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    """Replaces `session_usage` of the given local days; keys that no longer exist go with their day."""
    _replace(connection, "session_usage", days)


def build_daily_usage(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> None:
    """Replaces `daily_usage` of the given local days."""
    _replace(connection, "daily_usage", days)


def _replace(connection: duckdb.DuckDBPyConnection, table: str, days: Sequence[date]) -> None:
    span = {"first": min(days), "last": max(days), "days": list(days)}
    connection.execute(
        f"DELETE FROM {table} WHERE day BETWEEN $first AND $last AND day IN (SELECT unnest($days::DATE[]))", span
    )
    connection.execute(_SQL[table], span)
