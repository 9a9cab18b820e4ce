"""A machine of one's own for a test: a home directory with logs, a data directory, and its syncs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from kharcha_pipeline.settings import Settings, load_settings
from kharcha_pipeline.sync import SyncResult, sync
from kharcha_pipeline.warehouse.archive import Span
from kharcha_pipeline.warehouse.warehouse import Warehouse, connect_published
from kharcha_pipeline_tests.corpus import Tokens, Truth

EVENT_TABLES = ("usage_events", "priced_events", "session_usage", "daily_usage")
"""What must come out the same from the same logs, in whatever order and however often they were read."""


@dataclass
class Machine:
    """A home directory and a data directory below a temporary one."""

    home: Path
    data: Path
    timezone: str = "UTC"

    @classmethod
    def below(cls, directory: Path, name: str = "machine", timezone: str = "UTC") -> Machine:
        """A fresh machine."""
        home = directory / name / "home"
        home.mkdir(parents=True)
        return cls(home, directory / name / "data", timezone)

    @property
    def environment(self) -> dict[str, str]:
        """The variables this machine runs under."""
        return {
            "HOME": str(self.home),
            "KHARCHA_DATA_DIR": str(self.data),
            "KHARCHA_TIMEZONE": self.timezone,
            "KHARCHA_MACHINE": "test",
        }

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return load_settings(self.environment)

    @property
    def warehouse(self) -> Warehouse:
        """Its warehouse."""
        return Warehouse(self.data)

    def sync(self, *, full: bool = False) -> SyncResult:
        """Runs the main job."""
        return sync(self.settings, full=full)

    def query(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Asks the published database, as an analyst would."""
        connection = connect_published(self.data / "kharcha.duckdb")
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        """Asks the warehouse itself, raw layer included."""
        with self.warehouse.read() as connection:
            return connection.execute(sql).fetchall()

    def archived(self) -> bytes:
        """All batches of the archive, as they were before they were compressed."""
        spans = self.raw("SELECT position, size FROM raw.usage_records ORDER BY position")
        return b"\n".join(self.warehouse.archive.read(Span(*span) for span in spans))

    def cells(self) -> Truth:
        """What the published events add up to, in the shape of a corpus's truth."""
        rows = self.query(
            """
            SELECT CAST(timezone('UTC', occurred_at) AS DATE), source, model_raw, count(*), sum(input_tokens)::BIGINT,
                sum(output_tokens)::BIGINT, sum(cache_read_tokens)::BIGINT, sum(cache_write_5m_tokens)::BIGINT,
                sum(cache_write_1h_tokens)::BIGINT, sum(reasoning_tokens)::BIGINT
            FROM priced_events GROUP BY ALL
            """
        )
        return {(day, source, model): Tokens(*counts) for day, source, model, *counts in rows}

    def contents(self, tables: tuple[str, ...] = EVENT_TABLES) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of the given tables, but for the instant at which an event was first known."""
        found = {}
        for table in tables:
            columns = "* EXCLUDE (recorded_at)" if table in ("usage_events", "priced_events") else "*"
            found[table] = sorted(self.query(f"SELECT {columns} FROM {table}"), key=repr)
        return found

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables of the warehouse, the log of runs and the counter of changes left out."""
        with self.warehouse.read() as connection:
            return all_rows(connection)


def all_rows(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that a second sync must not change."""
    names = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT temporary AND table_name <> 'sync_runs'"
    ).fetchall()
    found = {}
    for schema, table in names:
        where = "WHERE name <> 'changes'" if table == "facts" else ""
        found[f"{schema}.{table}"] = sorted(
            connection.execute(f'FROM "{schema}"."{table}" {where}').fetchall(), key=repr
        )
    return found


LAST_DAY = date(2026, 11, 10)
"""Last day of the corpora that tests write."""
