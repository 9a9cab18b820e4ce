"""The ledger: which local days should have which version, and which version each stage has built.

`wanted` is raised in the transaction of the change itself. A stage that builds a day stores the version of the
input it read, in the transaction that replaces the day. Whoever asks what is to do asks where the two differ, so
no change can be missed, and asking or building twice is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import duckdb

STAGES = ("usage_events", "pricing_snapshots", "priced_events", "session_usage", "daily_usage")
"""The stages that are built by local day, each after the ones before it."""

INPUT_OF = {
    "pricing_snapshots": "usage_events",
    "priced_events": "pricing_snapshots",
    "session_usage": "priced_events",
    "daily_usage": "priced_events",
}
"""Which stage's built version a stage inherits; `usage_events` reads the settled records: the wanted version."""

_SETTLED = "settled records"


def want(connection: duckdb.DuckDBPyConnection, days: Iterable[date]) -> None:
    """Raises the wanted version of the given days."""
    connection.execute(
        """
        INSERT INTO operations.wanted_days SELECT DISTINCT unnest(?::DATE[]), 1
        ON CONFLICT (day) DO UPDATE SET wanted = wanted + 1
        """,
        [list(days)],
    )


def stale_days(connection: duckdb.DuckDBPyConnection, stages: Sequence[str] = STAGES) -> list[date]:
    """Days on which at least one of the stages has not built the wanted version, ascending."""
    rows = connection.execute(
        """
        SELECT day FROM operations.wanted_days CROSS JOIN (SELECT unnest(?) AS stage)
        LEFT JOIN operations.built_days USING (stage, day)
        WHERE built IS DISTINCT FROM wanted GROUP BY day ORDER BY day
        """,
        [list(stages)],
    ).fetchall()
    return [row[0] for row in rows]


def half_built_days(connection: duckdb.DuckDBPyConnection) -> list[date]:
    """Days whose tables come from different versions of their input: some stages are built, others still to come."""
    stages = [stage for stage in STAGES if stage != "pricing_snapshots"]
    rows = connection.execute(
        """
        SELECT day FROM operations.built_days WHERE stage IN (SELECT unnest(?::VARCHAR[])) GROUP BY day
        HAVING count(*) < ? OR min(built) < max(built) ORDER BY day
        """,
        [stages, len(stages)],
    ).fetchall()
    return [row[0] for row in rows]


def wanted_versions(connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> dict[date, int]:
    """The wanted version of each of the given days; days that were never touched are left out."""
    rows = connection.execute(
        "SELECT day, wanted FROM operations.wanted_days WHERE day IN (SELECT unnest(?::DATE[]))", [list(days)]
    ).fetchall()
    return dict(rows)


def mark_built(connection: duckdb.DuckDBPyConnection, stages: Sequence[str], days: Sequence[date]) -> None:
    """Stores, in the transaction that replaced the days, the version of the input that these stages were built from.

    Args:
        connection: of that transaction.
        stages: in the order in which they were built, so that one may have read what another had built just before.
        days: what was built.
    """
    inputs: dict[str, str] = {}
    for stage in stages:
        source = INPUT_OF.get(stage, _SETTLED)
        inputs[stage] = inputs.get(source, source)
    connection.execute(
        """
        INSERT INTO operations.built_days (stage, day, built)
        SELECT replaced.stage, day, version
        FROM (SELECT unnest($stages::VARCHAR[]) AS stage, unnest($inputs::VARCHAR[]) AS input) AS replaced
        JOIN (
            SELECT $settled AS input, day, wanted AS version FROM operations.wanted_days
            UNION ALL SELECT stage, day, built FROM operations.built_days
        ) USING (input)
        WHERE day IN (SELECT unnest($days::DATE[]))
        ON CONFLICT (stage, day) DO UPDATE SET built = excluded.built
        """,
        {"settled": _SETTLED, "stages": list(inputs), "inputs": list(inputs.values()), "days": list(days)},
    )


def unreported(connection: duckdb.DuckDBPyConnection, limit: int) -> list[tuple[str, date, int]]:
    """`(stage, day, version)` of what was built and Dagster does not know yet, oldest day first."""
    return connection.execute(
        """
        SELECT stage, day, built FROM operations.built_days WHERE reported <> built
        ORDER BY day, list_position(?, stage) LIMIT ?
        """,
        [list(STAGES), limit],
    ).fetchall()


def mark_reported(connection: duckdb.DuckDBPyConnection, reported: Sequence[tuple[str, date, int]]) -> None:
    """Stores the versions that Dagster was told of."""
    stages, days, versions = zip(*reported, strict=True) if reported else ((), (), ())
    connection.execute(
        """
        UPDATE operations.built_days AS ledger SET reported = told.version
        FROM (SELECT unnest(?::VARCHAR[]) AS stage, unnest(?::DATE[]) AS day, unnest(?::BIGINT[]) AS version) AS told
        WHERE ledger.stage = told.stage AND ledger.day = told.day
        """,
        [list(stages), list(days), list(versions)],
    )


def forget_reported(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes everything unreported, for a Dagster instance that was told nothing yet."""
    connection.execute("UPDATE operations.built_days SET reported = 0 WHERE reported <> 0")
