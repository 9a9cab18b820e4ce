"""Local days as partitions: today is one, the days of clock changes are ones like any other, ranges have no gaps."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.assets.partitions import as_days, contiguous_ranges, daily_partitions, known_days

DAYS = st.sets(st.dates(date(2025, 1, 1), date(2025, 3, 1)))


@given(DAYS)
def test_ranges_cover_exactly_the_days_given(days: set[date]) -> None:
    covered = [day for one in contiguous_ranges(days) for day in one.days]
    assert covered == sorted(days)


@given(DAYS)
def test_ranges_are_the_fewest_there_are(days: set[date]) -> None:
    ranges = contiguous_ranges(days)
    assert all(later.first - earlier.last > timedelta(days=1) for earlier, later in pairwise(ranges))


def test_keys_become_days_in_order() -> None:
    assert as_days(["2025-01-02", "2025-01-01"]) == [date(2025, 1, 1), date(2025, 1, 2)]


def test_a_run_without_days_fails_for_good() -> None:
    with pytest.raises(dg.Failure, match="ends before it begins"):
        as_days([])


def test_today_is_a_partition_in_its_zone_and_tomorrow_is_not() -> None:
    two_in_the_morning = datetime(2025, 9, 22, 2, tzinfo=UTC)
    last = {}
    with dg.partition_loading_context(effective_dt=two_in_the_morning):
        for zone in ("America/Los_Angeles", "UTC", "Asia/Kolkata"):
            last[zone] = daily_partitions(zone).get_last_partition_key()
    assert last == {"America/Los_Angeles": "2025-09-21", "UTC": "2025-09-22", "Asia/Kolkata": "2025-09-22"}


@pytest.mark.parametrize(("day", "hours"), [("2025-03-30", 23), ("2025-10-26", 25), ("2025-06-01", 24)])
def test_a_day_is_as_long_as_the_clocks_make_it(day: str, hours: int) -> None:
    window = daily_partitions("Europe/Berlin").time_window_for_partition_key(day)
    assert window.end.timestamp() - window.start.timestamp() == hours * 3600


def test_days_before_2020_and_days_to_come_are_no_partitions() -> None:
    partitions = daily_partitions("Pacific/Apia")
    days = [date(2019, 12, 31), date(2020, 1, 1), date(9999, 12, 31)]
    assert known_days(partitions, days) == [date(2020, 1, 1)]
