"""`kharcha sync`: reads what is new in the agents' logs, prices it and publishes the tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kharcha_pipeline import locations
from kharcha_pipeline.cli import nothing_changed
from kharcha_pipeline.cli.options import json_option
from kharcha_pipeline.cli.places import looked_in
from kharcha_pipeline.cli.texts import bytes_of, counted, dollars, exact, short_path

if TYPE_CHECKING:
    from kharcha_pipeline.settings import Settings
    from kharcha_pipeline.sources.landing import LandingResult, Progress
    from kharcha_pipeline.sources.source import Place
    from kharcha_pipeline.sync import SyncResult
    from kharcha_pipeline.unchanged import Look

LONG_WORK_BYTES = 32 * 1024 * 1024
"""Less than this is read in about a second: a progress bar would only flicker."""


@click.command()
@click.option("--full", is_flag=True, help="Read and compare everything again, as after an upgrade.")
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but warnings and failures.")
@click.pass_obj
def command(seen: Look | None, full: bool, json: bool, quiet: bool) -> None:
    """Read what is new in the agents' logs.

    New usage is priced, and the published tables are brought up to date. May be repeated, interrupted or run from a
    scheduler at any time: the tables only depend on what the logs say.
    """
    from kharcha_pipeline.settings import load_settings

    settings = load_settings(os.environ)
    result = run_sync(settings, full=full, show_progress=not (json or quiet), seen=seen)
    for warning in result.built.warnings:
        click.echo(f"kharcha: {warning}", err=True)
    if json:
        from kharcha_pipeline.cli import output

        output.print_json(document(result))
    elif not quiet:
        click.echo(summary(settings, result))


def run_sync(
    settings: Settings, *, full: bool = False, show_progress: bool = True, seen: Look | None = None
) -> SyncResult:
    """Runs the main job under a progress bar, if there is somebody to look at it."""
    from kharcha_pipeline.sync import sync

    with _progress_bar(show_progress and sys.stderr.isatty()) as progress:
        return sync(settings, full=full, progress=progress, seen=seen)


def mark_as_samples(data_directory: Path) -> None:
    """Marks a data directory as that of the bundled samples, so that no real usage is ever synced into it."""
    from kharcha_pipeline.warehouse.warehouse import Warehouse

    Warehouse(data_directory).prepare()
    mark = data_directory / locations.SAMPLES_MARK
    mark.touch(0o600)
    mark.write_text("This directory holds the bundled sample logs of Kharcha Pipeline. Delete it at will.\n")


def document(result: SyncResult) -> dict[str, Any]:
    """What a sync did, for programs."""
    landing = result.landing
    return nothing_changed.sync_document(
        landing.files_found,
        changed=landing.changed or bool(result.built.days) or result.published,
        files_read=landing.files_read,
        bytes_read=landing.bytes_read,
        records_landed=landing.records_landed,
        records_by_source=dict(sorted(landing.records_by_source.items())),
        rejects=landing.rejects,
        touched_days=sorted(day.isoformat() for day in landing.touched_days),
        built_days=[day.isoformat() for day in result.built.days],
        cost_usd=exact(result.cost_usd),
        unpriced_events=result.unpriced_events,
        warnings=result.built.warnings,
    )


def summary(settings: Settings, result: SyncResult) -> str:
    """What a sync did, for people."""
    landing, days = result.landing, result.built.days
    if not landing.files_found and not landing.changed and landing.sweep is not None:
        return nothing_found(landing.sweep.places, locations.home(settings.environment))
    if not landing.changed and not days:
        if result.published:
            return "No log changed. The published tables were brought up to date."
        return nothing_changed.sentence(landing.files_found).rstrip("\n")
    lines = [_reading(landing)]
    if days:
        span = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
        lines.append(f"{counted(len(days), 'day')} touched, {span}: {_cost(result)}.")
    if landing.rejects:
        lines.append(f"{counted(landing.rejects, 'new reject')}: `kharcha rejects` tells why.")
    if result.unpriced_events:
        lines.append("`kharcha prices unpriced` tells which models have no known price and what to do.")
    return "\n".join(lines)


def nothing_found(places: Sequence[tuple[str, Place]], home: str) -> str:
    """That no agent has logs on this machine, and where they were looked for."""
    lines = ["No agent has logs on this machine. These places were looked in:"]
    looked = looked_in(places)
    width = max((len(source) for source, _ in looked), default=0)
    lines += [f"  {source:<{width}}  {short_path(path, home)}" for source, path in looked]
    lines.append(
        "Logs elsewhere are named in the settings file or by the agents' own variables: `kharcha config show`."
    )
    return "\n".join(lines)


def _reading(landing: LandingResult) -> str:
    text = f"Read {landing.files_read:,} of {counted(landing.files_found, 'log file')}"
    text += f" ({bytes_of(landing.bytes_read)}): {counted(landing.records_landed, 'new record')}"
    if landing.records_by_source:
        parts = (f"{source} {number:,}" for source, number in sorted(landing.records_by_source.items()))
        text += f" ({', '.join(parts)})"
    return text + "."


def _cost(result: SyncResult) -> str:
    unpriced = f"{counted(result.unpriced_events, 'response')} without a known price"
    if result.cost_usd is None:
        return unpriced if result.unpriced_events else "no usage"
    cost = f"{dollars(result.cost_usd)} USD"
    return f"{cost} and {unpriced}" if result.unpriced_events else cost


@contextmanager
def _progress_bar(wanted: bool) -> Iterator[Progress]:
    """A progress bar on the error stream, which appears only when there is much to read."""
    with ExitStack() as shown:
        advance: list[Progress] = []

        def update(done: int, total: int) -> None:
            if wanted and total >= LONG_WORK_BYTES:
                if not advance:
                    advance.append(shown.enter_context(_shown_bar()))
                advance[0](done, total)

        yield update


@contextmanager
def _shown_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("Reading logs"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("read", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
