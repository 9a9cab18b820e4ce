"""The one daily partitions definition, and local days as Dagster writes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple

import dagster as dg

FIRST_DAY = date(2020, 1, 1)
"""Nothing older is accepted: no coding agent logged token counts before."""


class DayRange(NamedTuple):
    """Local days from `first` to `last`, both included."""

    first: date
    last: date

    @property
    def days(self) -> list[date]:
        """Every day of the range, ascending."""
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]


def daily_partitions(zone: str) -> dg.DailyPartitionsDefinition:
    """The days of a reporting zone, today included.

    All daily assets must share one such object: Dagster splits a backfill over assets whose definitions differ.
    """
    return dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone=zone, end_offset=1)


def as_days(keys: Iterable[str]) -> list[date]:
    """Partition keys as local days, ascending.

    Raises:
        dg.Failure: when there is none, as in a range that ends before it begins, which Dagster lets through.
    """
    days = sorted(date.fromisoformat(key) for key in keys)
    if not days:
        raise dg.Failure("The run names no day: its partition range ends before it begins.", allow_retries=False)
    return days


def contiguous_ranges(days: Iterable[date]) -> list[DayRange]:
    """The fewest ranges that cover exactly these days, ascending: one Dagster run covers one range without gaps."""
    ranges: list[DayRange] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1].last == timedelta(days=1):
            ranges[-1] = DayRange(ranges[-1].first, day)
        else:
            ranges.append(DayRange(day, day))
    return ranges


def known_days(partitions: dg.DailyPartitionsDefinition, days: Iterable[date]) -> list[date]:
    """The days that are partitions now; a day that has not come yet (a clock ahead of time) waits until it has."""
    return [day for day in days if partitions.has_partition_key(day.isoformat())]
