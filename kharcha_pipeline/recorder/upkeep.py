"""What the pipeline does for the recorder: it drains the spill, sets the zone and refreshes prices."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.recorder.circumstances import LONGEST_WAIT, first_zone, refresh_prices
from kharcha_pipeline.recorder.recorder import SPILL, drain
from kharcha_pipeline.recorder.spill import Spill
from kharcha_pipeline.recorder.store import FILE, Store, StoreError, opened


def has_recorder(data_directory: Path) -> bool:
    """Whether anything was ever recorded, or spilled, in a data directory."""
    return (data_directory / FILE).exists() or (data_directory / SPILL).exists()


def tend_recorder(data_directory: Path, prices: PriceSources, zone: str | None) -> list[str]:
    """Drains the spill, moves days to the warehouse's zone, and refreshes prices, where there is a recorder.

    Whatever goes wrong stops nothing else: it is told, and tried again next time.

    Args:
        data_directory: where the recorder's database is.
        prices: the price sources in force.
        zone: the warehouse's zone, `None` when it has none yet.

    Returns:
        Warnings, as sentences.
    """
    if not has_recorder(data_directory):
        return []
    try:
        with opened(data_directory, lambda: zone or first_zone(data_directory), _deadline()) as store:
            drain_all(store, data_directory)
            if zone is not None:
                store.rebucket(zone, _deadline())
            refresh_prices(store, prices)
    except (sqlite3.Error, OSError, StoreError) as error:
        return [f"The recorder's database {data_directory / FILE} could not be tended ({_said(error)})."]
    return []


def drain_all(store: Store, data_directory: Path) -> int:
    """Takes all spilled calls into the database; returns how many were new.

    Raises:
        OSError, sqlite3.Error: when something cannot be read or stored; then it stays in the spill.
    """
    spill = Spill(data_directory / SPILL)
    now_ms = time.time_ns() // 1_000_000
    return sum(drain(store, spill, file, now_ms, _deadline()) for file in spill.files())


def _deadline() -> float:
    return time.monotonic() + LONGEST_WAIT


def _said(error: Exception) -> str:
    return str(error).rstrip(".")
