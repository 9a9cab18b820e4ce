"""`kharcha rejects`: which lines, files and places could not be used, and why."""

from __future__ import annotations

from typing import Any

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import Format, format_option, home, published_path, source_option
from kharcha_pipeline.cli.tables import Cell, Column, Table
from kharcha_pipeline.cli.texts import short_path

_FIELDS = ("source", "path", "line", "position", "reason", "first_seen_at", "resolved_at")


@click.command()
@source_option
@click.option("--reason", metavar="TEXT", help="Only reasons that contain this.")
@click.option("--file", metavar="TEXT", help="Only paths that contain this.")
@click.option("--each", is_flag=True, help="List every reject instead of one row per reason.")
@click.option("--resolved", is_flag=True, help="Also what could not be read once and could be later.")
@format_option
def command(
    source: tuple[str, ...], reason: str | None, file: str | None, each: bool, resolved: bool, format: Format
) -> None:
    """Show what could not be used, and why.

    A line, file or directory that cannot be used never stops a sync. It is counted here with a fixed reason; its text
    is never kept. JSON and CSV always list every reject.
    """
    from kharcha_pipeline.warehouse.warehouse import connect_published

    connection = connect_published(published_path())
    try:
        rows = connection.execute(
            f"""
            SELECT {", ".join(_FIELDS)} FROM rejects
            WHERE (len(?::VARCHAR[]) = 0 OR list_contains(?, source))
              AND (? IS NULL OR contains(lower(reason), lower(?)))
              AND (? IS NULL OR contains(path, ?))
              AND (? OR resolved_at IS NULL)
            ORDER BY source, reason, path, line, position, first_seen_at
            """,
            [list(source), list(source), reason, reason, file, file, resolved],
        ).fetchall()
    finally:
        connection.close()
    if format is Format.JSON:
        output.print_json({"rejects": [dict(zip(_FIELDS, row, strict=True)) for row in rows]})
    elif format is Format.CSV:
        output.print_csv(_FIELDS, rows)
    elif not rows:
        click.echo("Nothing was rejected." if not (source or reason or file) else "No reject matches.")
    elif each:
        output.print_table(_every_reject(rows))
    else:
        output.print_table(_by_reason(rows))
        click.echo("`kharcha rejects --each` lists every one with its file and line.")


def _every_reject(rows: list[tuple[Any, ...]]) -> Table:
    columns = [
        Column("Agent", importance=60),
        Column("Reason", narrowest=20),
        Column("Line", right=True),
        Column("File", narrowest=24, cut="start"),
    ]
    return Table(
        columns,
        [
            [source, reason, "" if line is None else f"{line:,}", short_path(path, home())]
            for source, path, line, _, reason, *_ in rows
        ],
    )


def _by_reason(rows: list[tuple[Any, ...]]) -> Table:
    groups: dict[tuple[str, str], list[tuple[str, int | None]]] = {}
    for source, path, line, _, reason, *_ in rows:
        groups.setdefault((source, reason), []).append((path, line))
    columns = [
        Column("Agent"),
        Column("Reason", narrowest=24),
        Column("Rejects", right=True),
        Column("Files", right=True, importance=50),
        Column("First", importance=40, narrowest=24, cut="start"),
    ]
    rows_shown: list[list[Cell]] = []
    for (source, reason), places in groups.items():
        path, line = places[0]
        first = short_path(path, home()) + (f":{line}" if line is not None else "")
        files = len({path for path, _ in places})
        rows_shown.append([source, reason, f"{len(places):,}", f"{files:,}", first])
    total = ["Total", "", f"{len(rows):,}", f"{len({row[1] for row in rows}):,}", ""]
    return Table(columns, rows_shown, total)
