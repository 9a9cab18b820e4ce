"""`kharcha sql`: any question to the published tables, which it can read and nothing else."""

from __future__ import annotations

import sys
from typing import Any

import click

from kharcha_pipeline.cli import exits, output
from kharcha_pipeline.cli.options import Format, format_option, published_path
from kharcha_pipeline.cli.tables import Column, Table


@click.command()
@click.argument("query")
@format_option
def command(query: str, format: Format) -> None:
    """Ask the published tables anything in SQL.

    QUERY may be - to read it from the standard input. The SQL is DuckDB's, the database is read-only, and queries
    reach neither files nor the network. Times are in UTC. What there is: `kharcha sql "SHOW TABLES"`,
    `kharcha sql "DESCRIBE priced_events"`.
    """
    text = sys.stdin.read() if query == "-" else query
    names, types, rows = ask(text)
    if format is Format.JSON:
        columns = [{"name": name, "type": kind} for name, kind in zip(names, types, strict=True)]
        output.print_json({"columns": columns, "rows": [dict(zip(names, row, strict=True)) for row in rows]})
    elif format is Format.CSV:
        output.print_csv(names, rows)
    elif names:
        columns_shown = [Column(name, right=_is_number(kind)) for name, kind in zip(names, types, strict=True)]
        cells = [[output.as_text(value) for value in row] for row in rows]
        output.print_table(Table(columns_shown, cells), fit=False)


def ask(query: str) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
    """Column names, their types, and rows of a query; of the last one, where there are several.

    Raises:
        Exit: when the query is wrong or asks for what it may not have; why is printed as one sentence.
    """
    import duckdb

    from kharcha_pipeline.warehouse.warehouse import connect_published

    connection = connect_published(published_path())
    try:
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET allow_persistent_secrets = false")  # DuckDB 1.5 writes them whatever follows
        # The database is open by now. Without this, a query could still write a file beside it: its `.wal`.
        connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
        connection.execute("SET lock_configuration = true")
        try:
            if not connection.extract_statements(query):
                raise click.BadParameter("there is no query in it", param_hint="QUERY")
            connection.execute(query)
            described = connection.description or []
            return (
                _distinct([column[0] for column in described]),
                [str(c[1]) for c in described],
                connection.fetchall(),
            )
        except duckdb.Error as error:
            click.echo(f"kharcha: {sentence(error)}", err=True)
            raise click.exceptions.Exit(exits.FAILURE) from None
    finally:
        connection.close()


def sentence(error: Exception) -> str:
    """What DuckDB says about a query, in one line: the problem and, where there is one, its suggestion."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hints = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    return f"The query failed: {' '.join([exits.first_line(error).rstrip('!') + '.', *hints])}"


def _distinct(names: list[str]) -> list[str]:
    """The names with a number added where one comes again, so that each can be a key."""
    seen: set[str] = set()
    distinct = []
    for name in names:
        number, unique = 1, name
        while unique in seen:
            number += 1
            unique = f"{name}_{number}"
        seen.add(unique)
        distinct.append(unique)
    return distinct


def _is_number(kind: str) -> bool:
    return kind.startswith("DECIMAL") or kind.endswith("INT") or kind in ("INTEGER", "DOUBLE", "FLOAT", "NUMBER")
