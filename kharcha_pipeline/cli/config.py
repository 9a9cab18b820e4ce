"""`kharcha config`: which settings are in force, and where each comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kharcha_pipeline.cli import output
from kharcha_pipeline.cli.options import Format, format_option, home
from kharcha_pipeline.cli.tables import Column, Table
from kharcha_pipeline.cli.texts import short_path

if TYPE_CHECKING:
    from kharcha_pipeline.settings import Settings


@click.group(name="config")
def command() -> None:
    """Look at the settings."""


@command.command()
@format_option
def show(format: Format) -> None:
    """Show every setting, its value, and where the value comes from.

    An environment variable comes before the settings file, which comes before the default.
    """
    from kharcha_pipeline.settings import load_settings
    from kharcha_pipeline.sources.registry import SOURCES

    settings = load_settings(os.environ)
    rows = [*_settings(settings), *_agents_variables(settings, SOURCES)]
    if format is Format.JSON:
        output.print_json(
            {
                "config_file": str(settings.config_file),
                "config_file_exists": settings.config_file.exists(),
                "settings": [dict(zip(("setting", "value", "from"), row, strict=True)) for row in rows],
                "roots": [
                    {"source": root.source, "path": root.path, "account": root.account} for root in settings.roots
                ],
            }
        )
    elif format is Format.CSV:
        output.print_csv(("setting", "value", "from"), rows)
    else:
        columns = [
            Column("Setting"),
            Column("Value", narrowest=20, cut="start"),
            Column("From", narrowest=24, cut="start"),
        ]
        cells = [[short_path(text, home()) for text in row] for row in rows]
        output.print_table(Table(columns, cells))
        state = "" if settings.config_file.exists() else " (not there)"
        click.echo(f"\nSettings file: {short_path(str(settings.config_file), home())}{state}")


def _settings(settings: Settings) -> list[tuple[str, str, str]]:
    origins = settings.origins
    rows = [
        ("data_directory", str(settings.data_directory), origins["data_directory"]),
        ("timezone", *_timezone(settings)),
        ("machine", settings.machine or "a random id kept in the warehouse", origins["machine"]),
        ("prices", str(settings.prices) if settings.prices else "none", origins["prices"]),
        ("public_page", "yes" if settings.public_page else "no", origins["public_page"]),
        ("hide_projects", "yes" if settings.hide_projects else "no", origins["hide_projects"]),
    ]
    for root in settings.roots:
        label = f", account {root.account}" if root.account else ""
        rows.append((f"root of {root.source}", f"{root.path}{label}", origins["roots"]))
    return rows


def _timezone(settings: Settings) -> tuple[str, str]:
    if settings.timezone is not None:
        return settings.timezone, settings.origins["timezone"]
    if zone := published_zone(settings.data_directory):
        return zone, "pinned by the first sync"
    from kharcha_pipeline.settings import machine_zone

    return machine_zone(), "this machine; the first sync pins it"


def published_zone(data_directory: Path) -> str | None:
    """The zone of the published tables, `None` where there are none that can be read."""
    from kharcha_pipeline.cli.usage import reporting_zone
    from kharcha_pipeline.warehouse.warehouse import WarehouseError, connect_published

    try:
        connection = connect_published(data_directory / "kharcha.duckdb")
    except WarehouseError:
        return None
    try:
        return reporting_zone(connection)
    finally:
        connection.close()


def _agents_variables(settings: Settings, sources: Any) -> list[tuple[str, str, str]]:
    """The variables that say where the logs are, as far as they are set. No other variable is ever shown."""
    names = {"HOME": "home directory"}
    for source in sources:
        names |= {name: f"logs of {source.title}" for name in source.variables if name not in names}
    return [
        (what, settings.environment[name], name) for name, what in names.items() if settings.environment.get(name)
    ]
