"""Prints results as JSON, as CSV or as a table. Amounts leave as decimal strings, never as floats."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import click

from kharcha_pipeline.cli.nothing_changed import SCHEMA_VERSION
from kharcha_pipeline.cli.tables import Table, terminal_width, wants_colour
from kharcha_pipeline.cli.texts import exact


def print_json(document: Mapping[str, Any]) -> None:
    """Prints a document under the current schema version."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **plain(document)}, indent=2, ensure_ascii=False))


def print_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows as CSV with a heading; unknown values are empty, several values are joined by semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_value(value) for value in row])
    click.echo(text.getvalue(), nl=False)


def print_table(table: Table, *, fit: bool = True) -> None:
    """Prints a table, fitted to the terminal unless nothing may be cut."""
    click.echo("\n".join(table.lines(terminal_width() if fit else None, wants_colour())))


def plain(value: Any) -> Any:
    """A value as JSON can hold it: decimals as strings with every digit, instants in ISO form, unknown as null."""
    if isinstance(value, Decimal):
        return exact(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, UUID | timedelta):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def as_text(value: Any) -> str:
    """A value for a cell of a table."""
    value = plain(value)
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def instant(value: datetime) -> str:
    """An instant in ISO form, in UTC as `Z`."""
    return value.isoformat().replace("+00:00", "Z")


def _csv_value(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, list):
        return ";".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    if isinstance(value, bool | dict):
        return json.dumps(value)
    return value
