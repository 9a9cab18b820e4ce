"""`kharcha doctor`: what is found where, which versions are at work, whether all is well, and what to do next."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from kharcha_pipeline import __version__
from kharcha_pipeline.cli import exits, output
from kharcha_pipeline.cli.options import json_option
from kharcha_pipeline.cli.places import accompanies
from kharcha_pipeline.cli.tables import painted, terminal_width, wants_colour
from kharcha_pipeline.cli.texts import bytes_of, counted, short_path

if TYPE_CHECKING:
    import duckdb

    from kharcha_pipeline.settings import Settings
    from kharcha_pipeline.warehouse.warehouse import Warehouse

LOCK_SECONDS = 5.0
"""How long the warehouse may be in use before its checks are left out. A transaction rarely takes that long."""

_PACKAGES = ("duckdb", "dagster", "polars", "genai-prices", "tzdata", "msgspec", "click")

State = Literal["ok", "note", "failed"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: `failed` makes the exit code 3, a `note` is worth knowing."""

    state: State
    text: str
    next_step: str = ""


@dataclass(frozen=True)
class FoundPlace:
    """A place where an agent may keep logs, and what is there."""

    source: str
    title: str
    path: str
    account: str
    exists: bool
    files: int
    size: int


@click.command()
@json_option
def command(json: bool) -> None:
    """Show what is found where; check that all is well.

    Changes nothing. Ends with exit code 3 when a check failed.
    """
    from kharcha_pipeline.settings import load_settings

    settings = load_settings(os.environ)
    places, unreadable = look_around(settings)
    findings = [*unreadable, *examine(settings, any(place.files for place in places))]
    findings += account_findings(settings)
    failed = any(finding.state == "failed" for finding in findings)
    if json:
        output.print_json(
            {
                "ok": not failed,
                "versions": versions(),
                "data_directory": str(settings.data_directory),
                "places": [asdict(place) for place in places],
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        _show(settings, places, findings)
    if failed:
        raise click.exceptions.Exit(exits.CHECK_FAILED)


def versions() -> dict[str, str]:
    """The versions of everything that can make a difference."""
    import platform
    import sqlite3
    from importlib import metadata

    found = {"kharcha": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {"system": f"{platform.system()} {platform.machine()}"}


def look_around(settings: Settings) -> tuple[list[FoundPlace], list[Finding]]:
    """Every place of every agent with what is there, and the places that cannot be read."""
    from kharcha_pipeline.sources.registry import SOURCES
    from kharcha_pipeline.sources.scanner import places, sweep_plan
    from kharcha_pipeline.sources.sweep import Found, sweep_all

    everywhere = places(SOURCES, settings)
    titles = {source.name: source.title for source in SOURCES}
    files, sizes = [0] * len(everywhere), [0] * len(everywhere)
    unreadable = []
    for number, found in sweep_all(sweep_plan(everywhere)):
        if isinstance(found, Found):
            files[number] += 1
            sizes[number] += found.size
        else:
            path = short_path(found.path, _home(settings))
            text = f"{path} cannot be read ({found.reason}); its logs are not counted."
            unreadable.append(Finding("note", text, f"Make {path} readable, then run `kharcha sync`."))
    looked = [
        FoundPlace(source, titles[source], place.path, place.account, os.path.exists(place.path), number, size)
        for (source, place), number, size in zip(everywhere, files, sizes, strict=True)
        if not accompanies(place)
    ]
    return looked, unreadable


def examine(settings: Settings, has_logs: bool) -> Iterator[Finding]:
    """Checks the data directory, the warehouse, the published tables and the numbers in them."""
    from kharcha_pipeline.pricing.price_book import read_overrides
    from kharcha_pipeline.warehouse.lock import LockTimeoutError, exclusive
    from kharcha_pipeline.warehouse.warehouse import NoWarehouseError, Warehouse, WarehouseError

    read_overrides(settings.prices)
    if settings.prices is not None:
        yield Finding("ok", f"The prices file {short_path(str(settings.prices), _home(settings))} is valid.")
    warehouse = Warehouse(settings.data_directory)
    step = "Run `kharcha sync`." if has_logs else "Use one of the agents, or run `kharcha run` to see samples."
    nothing_yet = Finding("note", "Nothing was synced yet.", step)
    if not warehouse.path.exists():
        yield nothing_yet
        return
    if not os.access(warehouse.directory, os.W_OK | os.X_OK):
        text = f"The data directory {warehouse.directory} cannot be written."
        yield Finding("failed", text, "Make it writable, or set KHARCHA_DATA_DIR to another directory.")
        return
    try:
        with exclusive(warehouse.directory / "warehouse.lock", "examine the warehouse", LOCK_SECONDS):
            pass
        yield Finding("ok", "No other process holds the warehouse.")
        with warehouse.read() as connection:
            yield from _warehouse_findings(connection, warehouse, settings)
    except LockTimeoutError:
        text = f"Another process has held the warehouse for {LOCK_SECONDS:.0f} seconds; its checks were left out."
        yield Finding("note", text, "Run `kharcha doctor` again when it is done.")
    except NoWarehouseError:  # its creation was interrupted
        yield nothing_yet
        return
    except WarehouseError as error:
        yield Finding("failed", str(error), "See docs/operations.md, «When something is wrong».")
        return
    yield from _published_findings(warehouse)


def account_findings(settings: Settings) -> Iterator[Finding]:
    """Whether accounts.toml is right, and which vendor accounts wait for a person."""
    from kharcha_pipeline.accounts.clock import SystemClock
    from kharcha_pipeline.accounts.configuration import NoAccountsFileError, accounts_file, load_accounts
    from kharcha_pipeline.accounts.failures import AccountsError, AccountsUsageError
    from kharcha_pipeline.accounts.panel import panel
    from kharcha_pipeline.accounts.states import ALERTING
    from kharcha_pipeline.accounts.store import FILE_NAME, AccountStore
    from kharcha_pipeline.ingest.errors import BusyError

    try:
        configuration = load_accounts(accounts_file(settings.environment), settings.environment)
    except NoAccountsFileError:
        return
    except AccountsUsageError as error:
        yield Finding("failed", str(error), "Correct accounts.toml; until then no account is polled.")
        return
    yield Finding("ok", f"{counted(len(configuration.accounts), 'vendor account')} in accounts.toml.")
    if not (settings.data_directory / FILE_NAME).exists():
        yield Finding("note", "No vendor account was polled yet.", "Run `kharcha accounts poll`.")
        return
    try:
        with AccountStore(settings.data_directory) as store:
            rows = [
                row
                for row in panel(store, SystemClock().now_ms())
                if row.account.is_configured and row.account.is_enabled
            ]
    except (AccountsError, BusyError) as error:
        yield Finding("failed", str(error), "See docs/operations.md, «When something is wrong».")
        return
    for row in rows:
        name, state = row.account.name, row.account.state
        if state in ALERTING or state in ("degraded", "waiting", "rate_limited"):
            step = f"Run `kharcha accounts login {name}`." if state == "session_expired" else _ACCOUNTS_STEP
            yield Finding("note", f"Account {name} is {row.status}. {row.account.sentence}", step)
        for number in row.held:
            text = f"Reading {number} of account {name} is held back, as most of it has changed."
            yield Finding(
                "note", text, f"Run `kharcha accounts accept {number}` or `kharcha accounts discard {number}`."
            )


_ACCOUNTS_STEP = "See docs/accounts/README.md, «What to do when …»."


def _warehouse_findings(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, settings: Settings
) -> Iterator[Finding]:
    from kharcha_pipeline.warehouse import ledger
    from kharcha_pipeline.warehouse.warehouse import fact

    yield Finding("ok", f"The warehouse can be read (schema {fact(connection, 'schema_version')}).")
    zone = fact(connection, "timezone")
    if settings.timezone not in (None, zone):
        origin = settings.origins["timezone"]
        text = f"{origin} asks for the zone {settings.timezone}, but the days are those of {zone}."
        yield Finding("failed", text, f"Run `kharcha rebucket --timezone {settings.timezone}`, or take it back.")
    else:
        yield Finding("ok", f"Days are those of {zone}.")
    if waiting := ledger.stale_days(connection):
        text = f"{counted(len(waiting), 'day')} waiting to be built, {waiting[0]} to {waiting[-1]}."
        yield Finding("note", text, "Run `kharcha sync`.")
    else:
        yield Finding("ok", "No day is waiting to be built.")
    changes = int(fact(connection, "changes") or 0)
    published = warehouse.published_changes()
    if published is None:
        yield Finding("failed", "There is no readable published database.", "Run `kharcha sync`.")
    elif published != changes:
        yield Finding("note", "The published tables are older than the warehouse.", "Run `kharcha sync`.")
    else:
        yield Finding("ok", "The published tables are up to date.")


def _published_findings(warehouse: Warehouse) -> Iterator[Finding]:
    from kharcha_pipeline.warehouse.warehouse import WarehouseError, connect_published

    try:
        connection = connect_published(warehouse.published_path)
    except WarehouseError:
        return  # said already
    try:
        yield from _number_findings(connection)
        yield from _history_findings(connection)
    finally:
        connection.close()


_DOUBLE_EVENTS = "SELECT count(*) - count(DISTINCT event_id) FROM priced_events"
_SUMS = """
    SELECT day, sum({events})::BIGINT, coalesce(sum(input_tokens), 0)::BIGINT,
        coalesce(sum(output_tokens), 0)::BIGINT, coalesce(sum(cache_read_tokens), 0)::BIGINT,
        coalesce(sum(cache_write_5m_tokens), 0)::BIGINT, coalesce(sum(cache_write_1h_tokens), 0)::BIGINT,
        sum(cost_usd)
    FROM {table} GROUP BY day
"""
_DAYS_THAT_DIFFER = f"""
    WITH of_events AS ({_SUMS.format(events="responses", table="priced_events")}),
        of_days AS ({_SUMS.format(events="events", table="daily_usage")}),
        of_sessions AS ({_SUMS.format(events="events", table="session_usage")})
    SELECT DISTINCT day FROM (
        (FROM of_events EXCEPT FROM of_days) UNION ALL (FROM of_days EXCEPT FROM of_events)
        UNION ALL (FROM of_events EXCEPT FROM of_sessions) UNION ALL (FROM of_sessions EXCEPT FROM of_events)
    ) ORDER BY day
"""
_UNPRICED = """
    SELECT count(*) FILTER (WHERE cost_usd IS NULL), count(*), count(*) FILTER (WHERE (cost_usd IS NULL)
        <> (pricing_status = 'unpriced')) FROM priced_events
"""


def _number_findings(connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """Exactly once, conservation, and unknown is NULL: checked on what analysts see."""
    (double,) = connection.execute(_DOUBLE_EVENTS).fetchall()[0]
    rebuild = "Run `kharcha sync --full`; if it stays, please report it."
    if double:
        yield Finding("failed", f"{counted(double, 'response')} in the tables more than once.", rebuild)
    else:
        yield Finding("ok", "Every response is in the tables once.")
    differing = [row[0] for row in connection.execute(_DAYS_THAT_DIFFER).fetchall()]
    if differing:
        text = (
            f"Tokens or cost of {counted(len(differing), 'day')} differ between the tables, first on {differing[0]}."
        )
        yield Finding("failed", text, rebuild)
    else:
        yield Finding("ok", "Tokens and cost agree between events, sessions and days.")
    unpriced, events, contradictory = connection.execute(_UNPRICED).fetchall()[0]
    if contradictory:
        text = f"{counted(contradictory, 'response')} with a cost that contradicts its pricing status."
        yield Finding("failed", text, rebuild)
    if unpriced:
        share = f"{100 * unpriced // events or 'less than 1'} %"
        text = f"{unpriced:,} of {counted(events, 'response')} ({share}) have no known price; their cost is NULL."
        yield Finding("note", text, "Run `kharcha prices unpriced`.")
    elif events:
        yield Finding("ok", f"Every response has a price ({events:,}).")


def _history_findings(connection: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    rejects, unreadable = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE line IS NULL AND position IS NULL) FROM rejects "
        "WHERE resolved_at IS NULL"
    ).fetchall()[0]
    if unreadable:
        text = f"{counted(unreadable, 'file or directory', 'files or directories')} could not be read."
        yield Finding("note", text, "Run `kharcha rejects`.")
    if rejects > unreadable:
        text = f"{counted(rejects - unreadable, 'line')} could not be used."
        yield Finding("note", text, "Run `kharcha rejects`.")
    for (finished,) in connection.execute("SELECT max(finished_at) FROM sync_runs").fetchall():
        if finished is not None:
            yield Finding("ok", f"New usage was last read at {output.instant(finished.replace(microsecond=0))}.")


def _show(settings: Settings, places: Sequence[FoundPlace], findings: Sequence[Finding]) -> None:
    home, colour = _home(settings), wants_colour()
    named: dict[str, Any] = versions()
    click.echo(f"Kharcha Pipeline {named.pop('kharcha')} on {named.pop('system')}")
    listed = ", ".join(f"{name} {version}" for name, version in named.items())
    click.echo(textwrap.fill(listed, terminal_width(), initial_indent="  ", subsequent_indent="  "))
    click.echo(f"  {sys.executable}")
    click.echo(f"\nData directory: {short_path(str(settings.data_directory), home)}")
    click.echo("\n" + painted("Logs", "bold", colour))
    for place in places:
        state = f"{counted(place.files, 'file')}, {bytes_of(place.size)}" if place.exists else "not there"
        label = f"  account {place.account}" if place.account else ""
        line = f"  {place.title:<12} {state:<22} {short_path(place.path, home)}{label}"
        click.echo(line if place.files else painted(line, "dim", colour))
    click.echo("\n" + painted("Checks", "bold", colour))
    for finding in findings:
        style: Literal["green", "yellow", "red"] = (
            "green" if finding.state == "ok" else "yellow" if finding.state == "note" else "red"
        )
        mark = painted(f"{finding.state:<6}", style, colour)
        click.echo(f"  {mark}  {finding.text}")
    steps = list(dict.fromkeys(finding.next_step for finding in _most_urgent_first(findings) if finding.next_step))
    click.echo("\n" + painted("Next", "bold", colour))
    for step in steps or ["All is well. `kharcha report` shows the days."]:
        click.echo(f"  {step}")


def _most_urgent_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.state != "failed")


def _home(settings: Settings) -> str:
    from kharcha_pipeline import locations

    return locations.home(settings.environment)
