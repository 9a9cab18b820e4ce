"""Reads the published copy, as analysts do."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import polars

from kharcha_pipeline import locations
from kharcha_pipeline.warehouse.warehouse import WarehouseError, connect_published


def read_table(table: str, *, since: date | None, until: date | None, database: Path | None) -> polars.DataFrame:
    """One table or view, limited to local days where asked; see `kharcha_pipeline.read`."""
    path = database or Path(locations.data_directory(os.environ)) / "kharcha.duckdb"
    connection = connect_published(path)
    try:
        columns = dict(
            connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = ?",
                [table],
            ).fetchall()
        )
        if not columns:
            known = connection.execute("SELECT table_name FROM (SHOW TABLES) t(table_name) ORDER BY ALL").fetchall()
            raise WarehouseError(
                f"There is no table {table!r} in {path}. There are: {', '.join(row[0] for row in known)}."
            )
        day = next((name for name in ("day", "date", "snapshot_day") if name in columns), None)
        if day is None and (since or until):
            raise WarehouseError(f"The table {table!r} has no day, so it cannot be limited to days.")
        relation = connection.table(table)
        if since:
            relation = relation.filter(f"{day} >= DATE '{since.isoformat()}'")
        if until:
            relation = relation.filter(f"{day} <= DATE '{until.isoformat()}'")
        return polars.DataFrame(relation)  # over Arrow's C stream: `relation.pl()` would ask for pyarrow
    finally:
        connection.close()
