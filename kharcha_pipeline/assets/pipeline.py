"""The plain functions of the stages, bound to one data directory: what assets, checks and sensors use."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

import duckdb

from kharcha_pipeline import stages
from kharcha_pipeline.accounts.clock import Clock, SystemClock
from kharcha_pipeline.accounts.mirror import mirror
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.settings import Settings, machine_zone
from kharcha_pipeline.sources.landing import LandingResult, land
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.stages import DayStatistics
from kharcha_pipeline.sync import prepare_recorder
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError, connect_published
from kharcha_pipeline.warehouse.zone import pin_machine, pin_zone

_logger = logging.getLogger(__name__)

ReportedDay = tuple[str, date, int]
"""Stage, local day, and the version that was built."""


class StageState(NamedTuple):
    """What one stage holds, and which of its days Dagster does not know in that version, seen in one transaction."""

    statistics: dict[date, DayStatistics]
    unreported: list[ReportedDay]


class Pipeline:
    """One data directory and the settings to run it with.

    Attributes:
        settings: data directory, zone, prices, roots.
        warehouse: the warehouse of that directory.
        clock: by which accounts are polled.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.warehouse = Warehouse(settings.data_directory)

    def prices(self) -> PriceSources:
        """The price sources in force now; files are read anew, because a server lives longer than a price list."""
        return PriceSources.load(self.settings.prices)

    def land(self) -> LandingResult:
        """Reads the log files and vendor accounts that changed, and marks days that a new price list may price."""
        prices = self.prices()
        for warning in prepare_recorder(self.warehouse, prices):
            _logger.warning(warning)
        result = land(self.warehouse, self.settings, SOURCES, trigger="dagster")
        mirror(self.warehouse)
        with self.warehouse.read() as connection:
            is_waiting = stages.waiting(connection, prices)
        if is_waiting:
            with self.warehouse.write() as connection:
                stages.want_newly_priced_days(connection, prices)
        return result

    def build(self, stage: str, days: Sequence[date]) -> list[str]:
        """Builds one stage for the given local days and returns its warnings."""
        self._prepare()
        return stages.build(self.warehouse, self.prices(), days, [stage]).warnings

    def state(self, stage: str, days: Sequence[date]) -> StageState:
        """What a stage holds for the given local days, with the versions that Dagster has yet to be told of."""
        wanted = set(days)
        with self.warehouse.read() as connection:
            return StageState(
                stages.day_statistics(connection, stage, days),
                [told for told in unreported(connection) if told[0] == stage and told[1] in wanted],
            )

    def mark_reported(self, told: Sequence[ReportedDay]) -> None:
        """Remembers what Dagster was told of. What was built again since then stays unreported."""
        if told:
            with self.warehouse.write(published=False) as connection:
                ledger.mark_reported(connection, told)

    def forget_reported(self) -> None:
        """Makes every built day unreported: for a Dagster instance that was told nothing yet."""
        self._prepare()
        with self.warehouse.write(published=False) as connection:
            ledger.forget_reported(connection)

    def publish(self) -> bool:
        """Replaces the published copy when it is older than the warehouse; tells whether it did."""
        self._prepare()
        return self.warehouse.publish()

    def zone(self) -> str:
        """The reporting zone: the one asked for, else the warehouse's own, else the machine's.

        The warehouse itself is not opened: Dagster loads its definitions in several processes, and none of them
        should wait for a lock.

        Raises:
            SettingsError: when no zone is known and the machine's has no name.
        """
        return self.settings.timezone or self._published_zone() or machine_zone()

    def _published_zone(self) -> str | None:
        try:
            connection = connect_published(self.warehouse.published_path)
        except WarehouseError:
            return None
        try:
            rows = connection.execute("SELECT value FROM about WHERE name = 'timezone'").fetchall()
            return str(rows[0][0]) if rows else None
        finally:
            connection.close()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A consistent look at the warehouse, made first when there is none yet."""
        self._prepare()
        with self.warehouse.read() as connection:
            yield connection

    def _prepare(self) -> None:
        """Makes the warehouse with its zone, so that a backfill may come before the first landing."""
        if not self.warehouse.path.exists():
            with self.warehouse.write() as connection:
                pin_zone(connection, self.settings)
                pin_machine(connection, self.settings)


def unreported(connection: duckdb.DuckDBPyConnection) -> list[ReportedDay]:
    """Everything that was built and Dagster does not know, oldest day first."""
    return ledger.unreported(connection, 2**31)
