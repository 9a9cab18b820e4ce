"""Local days: every event in exactly one, whatever the zone does, and a change of zone that changes no total."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline.settings import SettingsError, checked_zone
from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript

ZONES = (
    "UTC",
    "America/New_York",
    "America/Los_Angeles",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",
)


def at(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def synced(machine: Machine, moments: list[datetime]) -> None:
    transcript(machine.home, *[line(f"msg_{n}", f"req_{n}", at=at(moment)) for n, moment in enumerate(moments)])
    machine.sync()


@pytest.mark.parametrize("zone", ZONES)
def test_every_event_is_in_its_local_day(tmp_path: Path, zone: str) -> None:
    machine = Machine.below(tmp_path, timezone=zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [start + timedelta(minutes=977 * number) for number in range(480)]  # nine months, every hour of the day
    synced(machine, moments)
    expected = Counter(moment.astimezone(ZoneInfo(zone)).date() for moment in moments)
    assert dict(machine.query("SELECT day, sum(events)::BIGINT FROM daily_usage GROUP BY day")) == expected


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("America/Santiago", date(2026, 9, 6), 23),
        ("Africa/Cairo", date(2026, 4, 24), 23),
        ("Asia/Beirut", date(2026, 3, 29), 23),
    ],
)
def test_a_day_has_the_length_its_zone_gives_it(tmp_path: Path, zone: str, day: date, hours: float) -> None:
    machine = Machine.below(tmp_path, timezone=zone)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    moments = [noon + timedelta(minutes=30 * number) for number in range(-80, 80)]
    synced(machine, moments)
    assert machine.query("SELECT sum(events)::BIGINT FROM daily_usage WHERE day = ?", [day]) == [(hours * 2,)]


def test_a_session_over_midnight_has_a_row_for_each_of_its_days(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path, timezone="Asia/Kolkata")
    synced(machine, [datetime(2026, 3, 4, 18, 29, 59, tzinfo=UTC), datetime(2026, 3, 4, 18, 30, tzinfo=UTC)])
    rows = machine.query("SELECT day, events FROM session_usage ORDER BY day")
    assert rows == [(date(2026, 3, 4), 1), (date(2026, 3, 5), 1)]


def test_changing_the_zone_moves_days_and_nothing_else(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path, timezone="America/Los_Angeles")
    write_corpus(machine.home, 11, 24, 20, LAST_DAY)
    machine.sync()
    events = machine.query("SELECT * EXCLUDE (day) FROM priced_events ORDER BY event_id")
    result = rebucket(machine.warehouse, "Asia/Tokyo", PriceSources.load())
    assert (result.zone_before, result.zone_after) == ("America/Los_Angeles", "Asia/Tokyo")
    machine.timezone = "Asia/Tokyo"
    machine.sync()
    assert machine.query("SELECT * EXCLUDE (day) FROM priced_events ORDER BY event_id") == events
    fresh = Machine(machine.home, tmp_path / "fresh", "Asia/Tokyo")
    fresh.sync()
    assert machine.contents() == fresh.contents()
    assert machine.query("SELECT zone_before, zone_after, events FROM rebuckets") == [
        ("America/Los_Angeles", "Asia/Tokyo", len(events))
    ]
    rebucket(machine.warehouse, "America/Los_Angeles", PriceSources.load())
    machine.warehouse.publish()
    assert machine.query("SELECT * EXCLUDE (day) FROM priced_events ORDER BY event_id") == events


def test_sync_after_a_change_of_zone_uses_the_new_one(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path, timezone="UTC")
    path = transcript(machine.home, line("msg_1", at="2026-03-04T20:00:00.000Z"))
    machine.sync()
    rebucket(machine.warehouse, "Asia/Tokyo", PriceSources.load())
    machine.timezone = "Asia/Tokyo"
    path.write_text(path.read_text() + path.read_text().replace("msg_1", "msg_2"))
    machine.sync()
    assert machine.query("SELECT DISTINCT day FROM daily_usage") == [(date(2026, 3, 5),)]


@pytest.mark.parametrize("name", ["+05:30", "Etc/GMT+5", "EST", "UTC+2", "Mars/Olympus", "", "Europe/Berlinn"])
def test_a_zone_that_is_no_place_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        checked_zone(name, "a test")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zone=st.sampled_from(ZONES),
    seconds=st.lists(st.integers(1_577_923_200, 1_790_000_000), min_size=1, max_size=60, unique=True),
)
def test_any_instants_in_any_zone_are_conserved(
    tmp_path_factory: pytest.TempPathFactory, zone: str, seconds: list[int]
) -> None:
    machine = Machine.below(tmp_path_factory.mktemp("days"), timezone=zone)
    moments = [datetime.fromtimestamp(second, UTC) for second in seconds]
    synced(machine, moments)
    expected = Counter(moment.astimezone(ZoneInfo(zone)).date() for moment in moments)
    assert dict(machine.query("SELECT day, count(*) FROM priced_events GROUP BY day")) == expected


def test_an_hour_that_spans_two_local_days_is_split_between_them(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path, timezone="Asia/Kolkata")
    synced(machine, [datetime(2026, 3, 4, 18, 10, tzinfo=UTC), datetime(2026, 3, 4, 18, 40, tzinfo=UTC)])
    rows = machine.query("SELECT hour, day, events FROM hourly_usage ORDER BY day")
    hour = datetime(2026, 3, 4, 18, tzinfo=UTC)
    assert rows == [(hour, date(2026, 3, 4), 1), (hour, date(2026, 3, 5), 1)]
