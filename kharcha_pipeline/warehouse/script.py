"""Runs a script of several SQL statements with named parameters, which DuckDB binds one statement at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb


def run_script(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any]) -> None:
    """Executes every statement of `sql`, handing each the parameters it names."""
    for statement in connection.extract_statements(sql):
        bound = {name: parameters[name] for name in statement.named_parameters}
        connection.execute(statement, bound or None)
