"""Kharcha Pipeline: coding-agent logs in, exact daily cost in DuckDB out.

Importing this package must stay free of everything but the standard library: `kharcha sync` with nothing to do is
faster than the import of any dependency.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the real one is in `typing`, which an unchanged sync has no time to import
if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    import polars

__version__ = "0.1.0"
__all__ = ["__version__", "read"]


def read(
    table: str, *, since: date | None = None, until: date | None = None, database: Path | None = None
) -> polars.DataFrame:
    """One published table or view as a Polars frame: `kharcha_pipeline.read("daily_usage")`.

    Safe at any moment, also while a sync or a backfill runs: it reads the published copy. Costs arrive as exact
    decimals, ids as text. Note that Polars sums all-NULL decimals to 0; sum costs in SQL where that matters.

    Args:
        table: a table or view of `kharcha.duckdb`, see docs/tables.md.
        since: first local day wanted, for tables with a day.
        until: last local day wanted, included.
        database: another published file than that of the settings.

    Raises:
        WarehouseError: when nothing was published yet, or there is no such table.
    """
    from kharcha_pipeline.warehouse.published import read_table

    return read_table(table, since=since, until=until, database=database)
