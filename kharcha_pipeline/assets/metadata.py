"""What Dagster shows about a table: its columns, and per local day its size and cost."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from kharcha_pipeline.stages import DayStatistics
from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError, connect_published

Metadata = dict[str, dg.MetadataValue[Any]]

_COLUMNS = """
SELECT table_name, column_name, data_type, comment, is_nullable FROM duckdb_columns()
WHERE schema_name = 'main' ORDER BY table_name, column_index
"""


def day_metadata(statistics: DayStatistics, *, has_cost: bool, rows_are_events: bool = False) -> Metadata:
    """What Dagster plots for one local day.

    The cost stands there twice: as a float, the only number Dagster can plot, and to the last digit as text. A day
    in which nothing is priced has no float, which leaves a gap in the plot: unknown is not zero.

    Args:
        statistics: what the stage holds for the day.
        has_cost: whether its table has a cost at all.
        rows_are_events: whether a row is an event, so that a share of unpriced ones can be told.
    """
    metadata: Metadata = {"dagster/partition_row_count": dg.MetadataValue.int(statistics.rows)}
    if statistics.tokens or has_cost:
        metadata["tokens"] = dg.MetadataValue.int(statistics.tokens)
    if not has_cost:
        return metadata
    cost = statistics.cost_usd
    metadata["cost_usd_exact"] = dg.MetadataValue.text("unknown" if cost is None else format(cost, "f"))
    if cost is not None:
        metadata["cost_usd"] = dg.MetadataValue.float(float(cost))
    metadata["unpriced_events"] = dg.MetadataValue.int(statistics.unpriced_events)
    if rows_are_events and statistics.rows:
        metadata["unpriced_share"] = dg.MetadataValue.float(statistics.unpriced_events / statistics.rows)
    return metadata


def table_metadata(schemas: Mapping[str, dg.TableSchema], table: str) -> Metadata:
    """Name and columns of a published table, for the asset's definition."""
    return {
        "dagster/table_name": dg.MetadataValue.text(f"kharcha.main.{table}"),
        "dagster/column_schema": dg.MetadataValue.table_schema(schemas[table]),
    }


def table_schemas(published_path: Path) -> Mapping[str, dg.TableSchema]:
    """The columns of every published table with their comments, as DuckDB knows them.

    Args:
        published_path: asked first, because it says what analysts see; where nothing was published yet, an empty
            warehouse is made for the purpose.
    """
    try:
        connection = connect_published(published_path)
    except WarehouseError:
        return _schemas_of_an_empty_warehouse()
    try:
        return _schemas(connection)
    finally:
        connection.close()


@cache
def _schemas_of_an_empty_warehouse() -> Mapping[str, dg.TableSchema]:
    with tempfile.TemporaryDirectory() as directory, Warehouse(Path(directory)).write() as connection:
        return _schemas(connection)


def _schemas(connection: duckdb.DuckDBPyConnection) -> Mapping[str, dg.TableSchema]:
    columns: dict[str, list[dg.TableColumn]] = {}
    for table, name, kind, comment, is_nullable in connection.execute(_COLUMNS).fetchall():
        constraints = dg.TableColumnConstraints(nullable=is_nullable)
        columns.setdefault(table, []).append(dg.TableColumn(name, kind, comment, constraints))
    return {table: dg.TableSchema(columns=found) for table, found in columns.items()}
