"""The main job: land what changed, build the touched days, publish. What `kharcha sync` and its assets share."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import msgspec

from kharcha_pipeline import stages, unchanged
from kharcha_pipeline.accounts.mirror import mirror
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.recorder.upkeep import has_recorder, tend_recorder
from kharcha_pipeline.settings import Settings
from kharcha_pipeline.sources.landing import LandingResult, Progress, land
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.sources.scanner import sweep_plan
from kharcha_pipeline.stages import BuildResult
from kharcha_pipeline.unchanged import Look, Watched
from kharcha_pipeline.warehouse.warehouse import NoWarehouseError, Warehouse, fact


class SyncResult(msgspec.Struct):
    """What one sync did."""

    landing: LandingResult
    built: BuildResult
    published: bool

    @property
    def cost_usd(self) -> Decimal | None:
        """Cost of the touched days in USD; `None` when nothing in them is priced."""
        costs = [day.cost_usd for day in self.built.statistics.get("daily_usage", {}).values()]
        priced = [cost for cost in costs if cost is not None]
        return sum(priced, Decimal(0)) if priced else None

    @property
    def unpriced_events(self) -> int:
        """Events of the touched days whose price is not known."""
        return sum(day.unpriced_events for day in self.built.statistics.get("daily_usage", {}).values())


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


def sync(
    settings: Settings, *, full: bool = False, progress: Progress = no_progress, seen: Look | None = None
) -> SyncResult:
    """Lands what changed, builds the touched days and publishes; may be repeated or killed at any point.

    Args:
        settings: data directory, zone, prices, roots.
        full: read and settle everything again.
        progress: told how many bytes of how many are read.
        seen: how the log files differ from the last complete sync, if that is known: then only those directories are
            looked at.

    Raises:
        SettingsError, PriceFileError: when a setting or the prices file is wrong.
        WarehouseError, LockTimeoutError: when the warehouse cannot be used.
    """
    warehouse = Warehouse(settings.data_directory)
    watched = _watched(settings)
    given = unchanged.inputs(settings.environment, watched)
    prices = PriceSources.load(settings.prices)
    warnings = prepare_recorder(warehouse, prices)
    landing = land(warehouse, settings, SOURCES, full=full, progress=progress, seen=None if full else seen)
    mirrored = mirror(warehouse, full=full)
    built = stages.build_stale(warehouse, prices, surely=bool(landing.touched_days))
    published = warehouse.publish()
    if not warnings and not mirrored.is_busy:  # what could not be done is tried again every time
        _remember(warehouse, settings, prices, landing, watched, given)
    built.warnings += warnings
    return SyncResult(landing, built, published)


def prepare_recorder(warehouse: Warehouse, prices: PriceSources) -> list[str]:
    """Makes the recorder's database ready to be read, where there is one; returns warnings, as sentences.

    A warehouse that is yet to be made has no zone to impose: the first sync after that does.

    Raises:
        WarehouseError, LockTimeoutError: when the warehouse cannot be read.
    """
    if not has_recorder(warehouse.directory):
        return []
    zone = None
    with suppress(NoWarehouseError), warehouse.read() as connection:
        zone = fact(connection, "timezone")
    return tend_recorder(warehouse.directory, prices, zone)


def _watched(settings: Settings) -> Watched:
    """What decides about a sync besides log files."""
    paths = [str(settings.prices)] if settings.prices else []
    for source in SOURCES:
        paths += source.landmarks(settings.environment, settings.roots_of(source.name))
    return Watched([name for source in SOURCES for name in source.variables], paths)


def _remember(
    warehouse: Warehouse,
    settings: Settings,
    prices: PriceSources,
    landing: LandingResult,
    watched: Watched,
    given: str,
) -> None:
    """Lets the next sync return at once if it finds all as it is now, provided nothing is left to do."""
    sweep = landing.sweep
    if sweep is None or sweep.listing is None or sweep.unreadable or landing.unreadable_files:
        return  # what could not be read is tried again every time
    left = unchanged.outputs(settings.environment)
    with warehouse.read() as connection:  # whoever changes the warehouse from here on changes what was left
        if stages.waiting(connection, prices):
            return
    plan = sweep_plan(sweep.places)
    unchanged.remember(settings.environment, watched, (given, left), plan, sweep.listing, landing.files_found)
