"""`kharcha run`: one command that shows something, on any machine.

The bundled samples are synced as if the whole machine were another one: another home directory, another data
directory, none of the user's log roots. So they can never mix with real usage.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from kharcha_pipeline import locations
from kharcha_pipeline.cli import nothing_changed, report
from kharcha_pipeline.cli.config import published_zone
from kharcha_pipeline.cli.sync import mark_as_samples, nothing_found, run_sync, summary
from kharcha_pipeline.cli.texts import short_path
from kharcha_pipeline.unchanged import unchanged_files

if TYPE_CHECKING:
    from kharcha_pipeline.settings import Settings

_OF_THIS_MACHINE = ("KHARCHA_CONFIG", "KHARCHA_MACHINE", "XDG_CONFIG_HOME", "APPDATA", "LOCALAPPDATA")
"""Variables that lead to the user's own settings."""


@click.command()
def command() -> None:
    """Sync, then show the days; samples if need be.

    Where no agent has logs, the bundled sample logs are shown instead, and it says so. Samples are kept in `demo/`
    inside the data directory and never mix with real usage.
    """
    from kharcha_pipeline.settings import load_settings

    settings = load_settings(os.environ)
    files = unchanged_files(settings.environment)
    if files:
        click.echo(nothing_changed.sentence(files))
        report.show_daily(settings.data_directory / "kharcha.duckdb")
    elif _has_usage(settings):
        _sync_and_show(settings)
    else:
        _show_samples(settings)


def _has_usage(settings: Settings) -> bool:
    """Whether any agent has logs here, or had some that were synced."""
    from kharcha_pipeline.sources.registry import SOURCES
    from kharcha_pipeline.sources.scanner import places, sweep_places
    from kharcha_pipeline.warehouse.warehouse import WarehouseError, connect_published

    if sweep_places(places(SOURCES, settings)).files:
        return True
    try:
        connection = connect_published(settings.data_directory / "kharcha.duckdb")
    except WarehouseError:
        return False
    try:
        return bool(connection.execute("SELECT 1 FROM daily_usage LIMIT 1").fetchall())
    finally:
        connection.close()


def _sync_and_show(settings: Settings) -> None:
    result = run_sync(settings)
    for warning in result.built.warnings:
        click.echo(f"kharcha: {warning}", err=True)
    click.echo(summary(settings, result))
    click.echo()
    report.show_daily(settings.data_directory / "kharcha.duckdb")


def _show_samples(settings: Settings) -> None:
    from kharcha_pipeline.settings import load_settings
    from kharcha_pipeline.sources.registry import SOURCES
    from kharcha_pipeline.sources.scanner import places

    samples = locations.sample_home()
    if samples is None:
        click.echo(nothing_found(places(SOURCES, settings), locations.home(settings.environment)))
        return
    variables = {name for source in SOURCES for name in source.variables}
    demo = load_settings(demo_environment(settings, samples, variables))
    home = locations.home(settings.environment)
    click.echo(
        "No agent has logs on this machine, so these are the bundled samples: the usage of an invented developer.\n"
        f"They are kept apart, in {short_path(str(demo.data_directory), home)}.\n"
        "To ask more about them, set KHARCHA_DATA_DIR to that directory.\n"
    )
    pinned = published_zone(demo.data_directory)
    if demo.timezone and pinned and pinned != demo.timezone:
        shutil.rmtree(demo.data_directory)  # samples cost nothing to read again, so another zone just starts anew
    mark_as_samples(demo.data_directory)
    files = unchanged_files(demo.environment)
    if files is None:
        _sync_and_show(demo)
        return
    click.echo(nothing_changed.sentence(files))
    report.show_daily(demo.data_directory / "kharcha.duckdb")


def demo_environment(settings: Settings, samples: str, agents_variables: set[str]) -> Mapping[str, str]:
    """The environment of a machine that has the sample logs and nothing else."""
    left_out = agents_variables.union(_OF_THIS_MACHINE)
    environment = {name: value for name, value in settings.environment.items() if name not in left_out}
    environment |= {"HOME": samples, "KHARCHA_DATA_DIR": str(settings.data_directory / "demo")}
    if settings.timezone is not None:
        environment["KHARCHA_TIMEZONE"] = settings.timezone
    if settings.prices is not None:
        environment["KHARCHA_PRICES"] = str(settings.prices)
    return environment
