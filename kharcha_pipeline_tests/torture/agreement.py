"""What must hold in every published copy at every moment, and what must be equal in the end."""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb

from kharcha_pipeline.warehouse.warehouse import connect_published
from kharcha_pipeline_tests.corpus import Truth
from kharcha_pipeline_tests.machine import EVENT_TABLES, Machine

_TOKENS = (
    "sum(input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT"
)
_OF_EVENTS = "count(*)"
_OF_ROLLUPS = "sum(events)::BIGINT"

Totals = dict[date, tuple[Any, ...]]


def disagreements(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Days on which a published table does not say what `usage_events` and `priced_events` say: none, ever."""
    found = []
    usage = _by_day(connection, f"SELECT day, {_OF_EVENTS}, {_TOKENS} FROM usage_events GROUP BY day")
    cost = "sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL)"
    priced = _by_day(connection, f"SELECT day, {_OF_EVENTS}, {_TOKENS}, {cost} FROM priced_events GROUP BY day")
    found += _differing("priced_events", usage, {day: row[:2] for day, row in priced.items()})
    summed = f"{_OF_ROLLUPS}, {_TOKENS}, sum(cost_usd), sum(unpriced_events)::BIGINT"
    for table in ("session_usage", "daily_usage", "daily_rollups", "hourly_usage"):
        found += _differing(table, priced, _by_day(connection, f"SELECT day, {summed} FROM {table} GROUP BY day"))
    doubled = connection.execute("SELECT count(*) - count(DISTINCT event_id) FROM usage_events").fetchall()[0][0]
    return [*found, *([f"{doubled} events are there twice"] if doubled else [])]


def totals(connection: duckdb.DuckDBPyConnection) -> tuple[Any, ...]:
    """Events, tokens and cost of a copy."""
    return connection.execute(f"SELECT count(*), {_TOKENS}, sum(cost_usd) FROM priced_events").fetchall()[0]


def result(machine: Machine, tables: tuple[str, ...] = EVENT_TABLES) -> dict[str, list[tuple[Any, ...]]]:
    """All published rows, but for the instants of recording and the revision: an undone reprice leaves two behind."""
    columns = {
        "usage_events": "* EXCLUDE (recorded_at)",
        "priced_events": "* EXCLUDE (recorded_at, snapshot_revision)",
    }
    return {
        table: sorted(machine.query(f"SELECT {columns.get(table, '*')} FROM {table}"), key=repr) for table in tables
    }


def assert_consistent(machine: Machine) -> None:
    """Fails when the published copy contradicts itself."""
    connection = connect_published(machine.data / "kharcha.duckdb")
    try:
        found = disagreements(connection)
    finally:
        connection.close()
    assert not found, found


def assert_equal_to_undisturbed(machine: Machine, undisturbed: Machine, truth: Truth | None = None) -> None:
    """Fails unless the tables are those of a machine on which nothing ever went wrong, and those of the truth."""
    assert_consistent(machine)
    if truth is not None:
        assert machine.cells() == truth
    expected = result(undisturbed)
    for table, rows in result(machine).items():
        assert rows == expected[table], table


def _by_day(connection: duckdb.DuckDBPyConnection, query: str) -> Totals:
    return {day: tuple(rest) for day, *rest in connection.execute(query).fetchall()}


def _differing(table: str, expected: Totals, found: Totals) -> list[str]:
    days = sorted(day for day in expected.keys() | found.keys() if expected.get(day) != found.get(day))
    return [f"{table} of {day}: {found.get(day)} instead of {expected.get(day)}" for day in days]
