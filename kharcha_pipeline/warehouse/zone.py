"""The one reporting zone of a warehouse: pinned at the first run, changed only by an explicit rebucket."""

from __future__ import annotations

import secrets

import duckdb

from kharcha_pipeline.settings import Settings, SettingsError, machine_zone
from kharcha_pipeline.warehouse.warehouse import fact, set_fact


def pin_zone(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Pins the zone asked for, else the machine's, unless one is pinned already.

    Raises:
        SettingsError: when the machine's zone has no usable name.
    """
    if fact(connection, "timezone") is None:
        set_fact(connection, "timezone", settings.timezone or machine_zone())


def is_pinned(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the warehouse has its zone and its machine's label."""
    return fact(connection, "timezone") is not None and fact(connection, "machine") is not None


def pinned_zone(connection: duckdb.DuckDBPyConnection, settings: Settings) -> str:
    """The warehouse's zone.

    Raises:
        SettingsError: when another one is asked for: days already built would not fit new ones.
    """
    zone = fact(connection, "timezone") or "UTC"
    if settings.timezone is not None and settings.timezone != zone:
        raise SettingsError(
            f"The days of this warehouse are those of {zone}, but {settings.origins['timezone']} asks for "
            f"{settings.timezone}. Run `kharcha rebucket --timezone {settings.timezone}` to change them all, "
            "or take the setting back."
        )
    return zone


def pin_machine(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Keeps a random id for this machine, for as long as the settings name none."""
    if fact(connection, "machine") is None:
        set_fact(connection, "machine", secrets.token_hex(4))


def pinned_machine(connection: duckdb.DuckDBPyConnection, settings: Settings) -> str:
    """The label of this machine: the settings' own, else the random id; never the host name."""
    return settings.machine or fact(connection, "machine") or ""
