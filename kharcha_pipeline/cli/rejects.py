"""`kharcha rejects`: which lines, files and places could not be used, and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import Format, FormatOption, SourceOption, home, published_path
from kharcha_pipeline.cli.tables import Cell, Column, Table
from kharcha_pipeline.cli.texts import short_path

_FIELDS = ("source", "path", "line", "position", "reason", "first_seen_at", "resolved_at")


def command(
    source: SourceOption = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Only reasons that contain this.")
    ] = None,
    file: Annotated[str | None, typer.Option("--file", metavar="TEXT", help="Only paths that contain this.")] = None,
    each: Annotated[bool, typer.Option("--each", help="List every reject instead of one row per reason.")] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Also what could not be read once and could be later.")
    ] = False,
    format: FormatOption = Format.TABLE,
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
            WHERE (? IS NULL OR list_contains(?, source)) AND (? IS NULL OR contains(lower(reason), lower(?)))
              AND (? IS NULL OR contains(path, ?)) AND (? OR resolved_at IS NULL)
            ORDER BY source, reason, path, line, position, first_seen_at
            """,
            [source, source, reason, reason, file, file, resolved],
        ).fetchall()
    finally:
        connection.close()
    if format is Format.JSON:
        output.print_json({"rejects": [dict(zip(_FIELDS, row, strict=True)) for row in rows]})
    elif format is Format.CSV:
        output.print_csv(_FIELDS, rows)
    elif not rows:
        typer.echo("Nothing was rejected." if not (source or reason or file) else "No reject matches.")
    elif each:
        output.print_table(_every_reject(rows))
    else:
        output.print_table(_by_reason(rows))
        typer.echo("`kharcha rejects --each` lists every one with its file and line.")


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
