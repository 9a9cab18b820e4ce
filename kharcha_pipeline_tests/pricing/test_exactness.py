"""No float on the money path: not in a column, not in SQL, not in Python."""

from __future__ import annotations

import ast
import re
from datetime import date
from importlib import resources
from pathlib import Path

import pytest

import kharcha_pipeline.pricing
from kharcha_pipeline.pricing.priced_events import choose_rates, select_priced_events
from kharcha_pipeline.pricing.snapshots import days_parameters
from kharcha_pipeline_tests.pricing.conftest import warehouse

ROOM = Path(kharcha_pipeline.pricing.__file__).parent
MODULES = [*sorted(ROOM.glob("*.py")), ROOM.parent / "events" / "names.py"]


def test_no_column_of_the_warehouse_is_a_float() -> None:
    columns = (
        warehouse()
        .execute("SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal")
        .fetchall()
    )
    assert {"priced_events", "pricing_rates"} <= {row[0] for row in columns}
    assert [row for row in columns if row[2] in ("FLOAT", "DOUBLE", "REAL")] == []


def test_money_columns_have_the_scales_they_are_documented_with() -> None:
    types = dict(
        warehouse()
        .execute(
            "SELECT table_name || '.' || column_name, data_type FROM duckdb_columns() "
            "WHERE column_name LIKE '%_usd' OR column_name LIKE '%_per_mtok' OR column_name LIKE '%_per_k'"
        )
        .fetchall()
    )
    assert {kind for name, kind in types.items() if name.endswith("_usd")} == {"DECIMAL(38,12)"}
    assert {kind for name, kind in types.items() if not name.endswith("_usd")} == {"DECIMAL(18,6)"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_float_in_python(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), ast.unparse(node)
        assert not (isinstance(node, ast.Name) and node.id in ("float", "round")), node.lineno
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            assert ast.unparse(node.left).startswith("Path("), ast.unparse(node)


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.sql")), ids=lambda path: path.name)
def test_no_float_in_sql(path: Path) -> None:
    text = re.sub(r"--.*|'(?:[^']|'')*'", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"\b(?:double|float|real|avg|round)\b", text, re.IGNORECASE)
    assert not re.search(r"(?<!/)/(?!/)", text)
    assert not re.search(r"\d\.\d", text)


def test_intermediate_types_are_decimals() -> None:
    connection = warehouse()
    days = [date(2026, 1, 1)]
    choose_rates(connection, days)
    described = connection.execute(f"DESCRIBE {select_priced_events()}", days_parameters(days)).fetchall()
    assert {row[0]: row[1] for row in described}["cost_usd"] == "DECIMAL(38,12)"
    rates = connection.execute("DESCRIBE chosen_rates").fetchall()
    assert {row[1] for row in rates if row[0].endswith("_rate")} == {"DECIMAL(18,12)"}


def test_every_table_and_column_of_pricing_is_documented() -> None:
    connection = warehouse()
    undocumented = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL AND (table_name LIKE '%pric%') "
        "UNION ALL SELECT table_name || '.' || column_name FROM duckdb_columns() "
        "WHERE comment IS NULL AND schema_name = 'main' AND table_name IN "
        "('priced_events', 'pricing_snapshots', 'pricing_rates', 'reprice_log')"
    ).fetchall()
    assert undocumented == []
    assert resources.files("kharcha_pipeline.pricing").joinpath("corrections.toml").is_file()
