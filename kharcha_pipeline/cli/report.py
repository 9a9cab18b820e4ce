"""`kharcha report`: what was used and what it cost, by day, week, month, session, project or model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import (
    DAY_FORMS,
    Format,
    format_option,
    home,
    published_path,
    source_option,
    understood_day,
)
from kharcha_pipeline.cli.tables import ALWAYS, Cell, Column, Table, painted, printable, wants_colour
from kharcha_pipeline.cli.texts import counted, dollars, short_path
from kharcha_pipeline.cli.usage import (
    Filters,
    Report,
    Row,
    Usage,
    known_sources,
    project_filter,
    reporting_zone,
    usage,
)

if TYPE_CHECKING:
    from datetime import datetime

NAMED_MODELS = 5
"""How many models without a price a footnote names."""


@click.command()
@click.argument(
    "report",
    type=click.Choice([report.value for report in Report]),
    default=Report.DAILY.value,
    callback=lambda context, parameter, value: Report(value),
)
@click.option("--since", metavar="DAY", help=f"First day: {DAY_FORMS}.")
@click.option("--until", metavar="DAY", help="Last day, included.")
@source_option
@click.option(
    "--model",
    "-m",
    metavar="MODEL",
    multiple=True,
    help="Only this model; * stands for anything: 'claude-*'. May be repeated.",
)
@click.option(
    "--project",
    "-p",
    metavar="PROJECT",
    multiple=True,
    help="Only this project: its directory, the last part of it, or a pattern with *. May be repeated.",
)
@click.option("--last", "-n", metavar="N", type=click.IntRange(min=1), help="Show only N rows; the total counts all.")
@format_option
def command(
    report: Report,
    since: str | None,
    until: str | None,
    source: tuple[str, ...],
    model: tuple[str, ...],
    project: tuple[str, ...],
    last: int | None,
    format: Format,
) -> None:
    """Show what was used and what it cost.

    Days are those of the reporting zone, weeks begin on Monday. Tables show costs in USD rounded to cents, JSON and
    CSV every digit. What has no known price is marked as unpriced and never counted as 0.
    """
    from kharcha_pipeline.warehouse.warehouse import connect_published

    connection = connect_published(published_path())
    try:
        zone = reporting_zone(connection)
        filters = Filters(
            since=understood_day(since, zone, "--since"),
            until=understood_day(until, zone, "--until"),
            sources=source,
            models=model,
            projects=tuple(project_filter(text) for text in project),
        )
        if filters.sources and (unknown := set(filters.sources).difference(known := known_sources(connection))):
            raise click.BadParameter(f"{min(unknown)!r} is none of {', '.join(known)}.", param_hint="--source")
        found = usage(connection, report, filters)
    finally:
        connection.close()
    show(report, filters, found, zone, format, last)


def show_daily(database: Path) -> None:
    """Prints the daily report of a published database, as `kharcha report` would."""
    from kharcha_pipeline.warehouse.warehouse import connect_published

    connection = connect_published(database)
    try:
        zone, found = reporting_zone(connection), usage(connection, Report.DAILY, Filters())
    finally:
        connection.close()
    show(Report.DAILY, Filters(), found, zone, Format.TABLE, None)


def show(report: Report, filters: Filters, found: Usage, zone: str, format: Format, last: int | None) -> None:
    """Prints a report; with `last`, only so many of its rows."""
    rows = _selected(report, found.rows, last)
    if format is Format.JSON:
        output.print_json(
            {
                "report": report.value,
                "timezone": zone,
                "filters": {
                    "since": filters.since,
                    "until": filters.until,
                    "sources": filters.sources,
                    "models": filters.models,
                    "projects": filters.projects,
                },
                "rows": rows,
                "rows_not_shown": len(found.rows) - len(rows),
                "total": found.total,
                "unpriced_models": found.unpriced,
            }
        )
    elif format is Format.CSV:
        output.print_csv(found.names, ([row[name] for name in found.names] for row in rows))
    elif not found.rows:
        click.echo("No usage matches." if filters != Filters() else "There is no usage yet.")
    else:
        _show_table(report, found, rows, zone)


def _selected(report: Report, rows: list[Row], last: int | None) -> list[Row]:
    """The latest rows of a report in the order of time, the dearest of another one."""
    if last is None or last >= len(rows):
        return rows
    return rows[:last] if report in (Report.PROJECT, Report.MODEL) else rows[-last:]


class _Shown(NamedTuple):
    """A column of a report's table and how its cells are made from a row."""

    column: Column
    cell: Callable[[Row], Cell]


def _show_table(report: Report, found: Usage, rows: Sequence[Row], zone: str) -> None:
    keys, sums = _key_columns(report, zone), _sum_columns(found)
    total: list[Cell] = ["Total", *[""] * (len(keys) - 1), *(shown.cell(found.total) for shown in sums)]
    table = Table(
        [shown.column for shown in keys + sums],
        [[shown.cell(row) for shown in keys + sums] for row in rows],
        total,
    )
    colour = wants_colour()
    title = f"{report.value.capitalize()} usage · time zone {zone}"
    click.echo(painted(title, "dim", colour))
    click.echo()
    output.print_table(table)
    if hidden := len(found.rows) - len(rows):
        click.echo(painted(f"Not shown, but in the total: {counted(hidden, 'row')}.", "dim", colour))
    if found.unpriced:
        click.echo()
        click.echo(painted(_footnote(found), "yellow", colour))


def _key_columns(report: Report, zone: str) -> list[_Shown]:
    at_home = home()

    def project(row: Row) -> Cell:
        return short_path(row["project"], at_home) or "(none)"

    def several(name: str) -> Callable[[Row], Cell]:
        return lambda row: tuple(text or "(none)" for text in row[name])

    models = _Shown(Column("Models", importance=40, narrowest=18), several("models"))
    sources = _Shown(Column("Agents", importance=20, narrowest=11), several("sources"))
    if report is Report.SESSION:
        return [
            _Shown(Column("Last used", importance=ALWAYS), lambda row: _local_minute(row["last_at"], zone)),
            _Shown(Column("Agent", importance=60), lambda row: row["source"]),
            _Shown(Column("Session", narrowest=8), lambda row: row["session_id"]),
            _Shown(Column("Project", importance=85, narrowest=12, cut="start"), project),
            models,
        ]
    if report is Report.PROJECT:
        return [_Shown(Column("Project", narrowest=16, cut="start"), project), models, sources]
    if report is Report.MODEL:
        return [
            _Shown(Column("Model", narrowest=16), lambda row: row["model"] or "(none)"),
            _Shown(Column("Provider", importance=60), lambda row: row["provider"] or "(none)"),
            sources,
        ]
    key = {Report.DAILY: "day", Report.WEEKLY: "week", Report.MONTHLY: "month"}[report]
    columns = [_Shown(Column(key.capitalize()), lambda row: str(row[key])), models, sources]
    if report is Report.WEEKLY:
        columns.insert(1, _Shown(Column("From", importance=35), lambda row: str(row["first_day"])))
    return columns


def _sum_columns(found: Usage) -> list[_Shown]:
    mark = " *" if found.unpriced else ""

    def cost(row: Row) -> Cell:
        text = dollars(row["cost_usd"])
        return text + (mark if row["unpriced_events"] else " " * len(mark))

    def number(title: str, importance: int, *names: str) -> _Shown:
        return _Shown(
            Column(title, right=True, importance=importance), lambda row: f"{sum(row[name] for name in names):,}"
        )

    return [
        number("Responses", 30, "events"),
        number("Input", 80, "input_tokens"),
        number("Output", 80, "output_tokens"),
        number("Cache write", 50, "cache_write_5m_tokens", "cache_write_1h_tokens"),
        number("Cache read", 50, "cache_read_tokens"),
        number("Tokens", 90, "total_tokens"),
        _Shown(Column(f"Cost (USD){' ' * len(mark)}", right=True), cost),
    ]


def _footnote(found: Usage) -> str:
    named = [f"{row['model'] or '(no model)'} ({row['events']:,})" for row in found.unpriced[:NAMED_MODELS]]
    if len(found.unpriced) > NAMED_MODELS:
        named.append(f"{len(found.unpriced) - NAMED_MODELS} more")
    events = counted(found.total["unpriced_events"], "response")
    sentence = printable(f"* Without {events} whose price is not known: {', '.join(named)}.")
    return f"{sentence}\n  `kharcha prices unpriced` tells why and what to do."


def _local_minute(instant: datetime, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return instant.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")
