"""Looks into a recorder's database, and makes calls for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from kharcha_pipeline.recorder import UsageCounts
from kharcha_pipeline_tests.machine import Machine

NOW = 1_780_000_000_000
"""2026-05-28 20:26:40 UTC."""

USAGE = UsageCounts(100, 20, 3000, 40, 50, 5, 1)


def call(**changed: Any) -> dict[str, Any]:
    """A call, complete but for what is changed."""
    return {
        "account": "team-a",
        "model_id": "claude-sonnet-4-5",
        "endpoint": "messages",
        "upstream_format": "anthropic",
        "is_streaming": True,
        "usage": USAGE,
        "duration_ms": 812,
        **changed,
    }


def rows(data: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table of the recorder's database."""
    with closing(sqlite3.connect(data / "recorder.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def execute(data: Path, *statements: str) -> None:
    """Changes the recorder's database by hand."""
    with closing(sqlite3.connect(data / "recorder.sqlite", timeout=10)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def with_prices(machine: Machine, content: str) -> dict[str, str]:
    """The environment of a machine whose user has a prices file."""
    path = machine.home / "prices.toml"
    path.write_text(content)
    return {**machine.environment, "KHARCHA_PRICES": str(path)}
