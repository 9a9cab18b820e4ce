"""Which windows a cycle reads: no gap, no more than is due, in windows that stay the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, AccountSettings, Resource, Window
from kharcha_pipeline.accounts.planning import Known, Reading, plan
from kharcha_pipeline.accounts.windows import merged, without

SETTINGS = AccountSettings(secret="env:KEY")
EVENTS = Resource("events", "event", span=timedelta(days=1), history=timedelta(days=90))
MONTHS = Resource("invoices", "invoice", span=timedelta(days=31), alignment="month", history=timedelta(days=365))
MEMBERS = Resource("members", "member")


def at(text: str) -> int:
    """An instant in UTC, in milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


NOW = at("2026-11-26T13:10")


def days(readings: list[Reading]) -> list[str]:
    """Windows as people write them."""
    return [
        "…".join(datetime.fromtimestamp(end / 1000, UTC).strftime("%m-%d %H:%M") for end in reading.window)
        for reading in readings
    ]


def covered(readings: list[Reading]) -> list[Window]:
    return merged(reading.window for reading in readings)


def everything(readings: list[Reading], now_ms: int, before: Known | None = None) -> Known:
    """What is known after all readings were stored, the last a minute ago."""
    read = covered(readings)
    return Known(merged([*(before or Known()).covered, *read]), read, now_ms)


def test_a_new_account_is_read_newest_first_down_to_its_whole_history() -> None:
    readings = plan([EVENTS], SETTINGS, {}, NOW)
    assert days(readings)[:3] == ["11-26 00:00…11-26 13:10", "11-25 00:00…11-26 00:00", "11-24 00:00…11-25 00:00"]
    assert covered(readings) == [Window(at("2026-08-28T00:00"), NOW)]
    starts = [reading.window.from_ms for reading in readings]
    assert starts == sorted(starts, reverse=True)


def test_an_account_that_is_up_to_date_is_read_for_its_lookback_only() -> None:
    known = everything(plan([EVENTS], SETTINGS, {}, NOW), NOW)
    readings = plan([EVENTS], SETTINGS, {"events": known}, NOW + HOUR_MS)
    assert days(readings) == [
        "11-26 00:00…11-26 14:10",
        "11-25 00:00…11-26 00:00",
        "11-24 00:00…11-25 00:00",
        "11-23 00:00…11-24 00:00",
    ]


def test_once_a_day_the_deep_lookback_is_read_as_well_and_gone_on_with_where_it_ended() -> None:
    known = everything(plan([EVENTS], SETTINGS, {}, NOW), NOW)._replace(fresh=[])
    readings = plan([EVENTS], SETTINGS, {"events": known}, NOW + DAY_MS)
    assert covered(readings) == [Window(at("2026-10-27T00:00"), NOW + DAY_MS)]
    half = known._replace(fresh=covered(readings[:15]))
    rest = plan([EVENTS], SETTINGS, {"events": half}, NOW + DAY_MS + HOUR_MS)
    assert [one for one in rest if not one.is_recent] == readings[15:]


def test_the_time_in_which_an_account_could_not_be_asked_is_read_however_long_it_was() -> None:
    known = everything(plan([EVENTS], SETTINGS, {}, NOW), NOW)
    later = NOW + 200 * DAY_MS
    readings = plan([EVENTS], SETTINGS, {"events": known._replace(fresh=[])}, later)
    assert covered(readings) == [Window(at("2026-11-26T00:00"), later)]


def test_a_gap_that_was_half_filled_is_filled_to_its_end() -> None:
    known = everything(plan([EVENTS], SETTINGS, {}, NOW), NOW)
    later = NOW + 200 * DAY_MS
    first = plan([EVENTS], SETTINGS, {"events": known}, later)[:20]  # the newest; then the process was killed
    half = everything(first, later, known)
    second = plan([EVENTS], SETTINGS, {"events": half}, later)
    assert everything(second, later, half).covered == [Window(at("2026-08-28T00:00"), later)]
    assert len(second) < 200


def test_first_sync_with_90_days_chunked_at_30_days_resumable_in_the_middle() -> None:
    monthly = EVENTS._replace(span=timedelta(days=30))
    readings = plan([monthly], SETTINGS, {}, NOW)
    assert max(reading.window.until_ms - reading.window.from_ms for reading in readings) <= 30 * DAY_MS
    known = Known()
    polls = 0
    while holes := [
        one for one in plan([monthly], SETTINGS, {"events": known}, NOW) if one.window.from_ms < NOW - 32 * DAY_MS
    ]:
        known = everything([*plan([monthly], SETTINGS, {"events": known}, NOW)[:2], holes[0]], NOW, known)
        polls += 1
    assert known.covered == [Window(at("2026-08-28T00:00"), NOW)]
    assert polls > 1


def test_snapshots_are_read_in_every_cycle_but_not_more_often_than_they_may() -> None:
    assert plan([MEMBERS], SETTINGS, {}, NOW) == [Reading(MEMBERS, SNAPSHOT, is_recent=True)]
    rare = MEMBERS._replace(every=timedelta(hours=6))
    assert plan([rare], SETTINGS, {"members": Known(last_ms=NOW - 5 * HOUR_MS)}, NOW) == []
    assert plan([rare], SETTINGS, {"members": Known(last_ms=NOW - 6 * HOUR_MS)}, NOW) == [
        Reading(rare, SNAPSHOT, is_recent=True)
    ]
    assert plan([rare], SETTINGS, {"members": Known(last_ms=NOW + HOUR_MS)}, NOW) != []  # a clock that was ahead


def test_what_is_recent_comes_before_history_for_all_resources() -> None:
    readings = plan([EVENTS, MONTHS, MEMBERS], SETTINGS, {}, NOW)
    names = [reading.resource.name for reading in readings]
    assert names[:6] == ["events"] * 4 + ["invoices", "members"]
    assert names.index("invoices", 6) < len(names)


def test_months_are_those_of_the_calendar() -> None:
    readings = plan([MONTHS], SETTINGS, {}, at("2027-01-02T05:00"))
    assert days(readings)[:3] == ["01-01 00:00…01-02 05:00", "12-01 00:00…01-01 00:00", "11-01 00:00…12-01 00:00"]
    assert len(readings) == 13


def test_windows_end_where_the_vendor_s_data_end() -> None:
    late = EVENTS._replace(lag=timedelta(minutes=15))
    assert plan([late], SETTINGS, {}, NOW)[0].window.until_ms == NOW - 15 * MINUTE_MS


def test_the_account_s_own_lookback_and_history_count() -> None:
    own = AccountSettings(secret="env:KEY", lookback_days=1, history_days=10)
    readings = plan([EVENTS], own, {}, NOW)
    assert len(readings) == 11
    known = everything(readings, NOW)
    assert len(plan([EVENTS], own, {"events": known}, NOW + 1)) == 2


def test_what_the_vendor_has_forgotten_is_not_asked_for() -> None:
    short = EVENTS._replace(retention=timedelta(days=30))
    known = Known([Window(at("2026-01-01T00:00"), at("2026-06-01T00:00"))], [], at("2026-06-01T00:00"))
    assert covered(plan([short], SETTINGS, {"events": known}, NOW)) == [Window(at("2026-10-28T00:00"), NOW)]
    asked = Window(at("2026-10-01T00:00"), at("2026-11-01T00:00"))
    readings = plan([short], SETTINGS, {}, NOW, backfill=asked)
    assert covered(readings) == [Window(at("2026-10-28T00:00"), at("2026-11-01T00:00"))]


def test_a_backfill_reads_what_was_asked_for_and_was_not_read_before() -> None:
    known = everything(plan([EVENTS], SETTINGS, {}, NOW), NOW)
    asked = Window(at("2026-08-01T00:00"), at("2026-10-01T00:00"))
    readings = plan([EVENTS, MEMBERS], SETTINGS, {"events": known}, NOW, backfill=asked)
    assert covered(readings) == [Window(at("2026-08-01T00:00"), at("2026-08-28T00:00"))]
    again = plan([EVENTS, MEMBERS], SETTINGS, {"events": known}, NOW, backfill=asked, reads_again=True)
    assert covered(again) == [asked]
    ahead = Window(at("2026-11-01T00:00"), at("2026-12-01T00:00"))
    assert covered(plan([EVENTS], SETTINGS, {}, NOW, backfill=ahead))[-1].until_ms == NOW


@pytest.mark.parametrize(
    "zone_change", ["2026-03-29T00:59", "2026-03-29T01:01", "2026-10-25T00:30", "2026-10-25T01:30"]
)
def test_clock_moves_over_a_dst_change_windows_in_utc_no_gap_no_overlap(zone_change: str) -> None:
    for moment in (zone_change, zone_change.replace("03-29", "04-01").replace("10-25", "11-01")):
        readings = plan([EVENTS, MONTHS], SETTINGS, {}, at(moment))
        for name in ("events", "invoices"):
            ordered = sorted(one.window for one in readings if one.resource.name == name)
            assert all(before.until_ms == after.from_ms for before, after in pairwise(ordered))
        inner = [bound for one in readings for bound in one.window if bound != at(moment)]
        assert all(bound % DAY_MS == 0 for bound in inner)


instants = st.integers(at("2024-01-01T00:00"), at("2028-01-01T00:00"))
resources = st.builds(
    Resource,
    st.just("any"),
    st.just("event"),
    span=st.integers(1, 40).map(lambda number: timedelta(days=number)),
    lookback=st.integers(0, 10).map(lambda number: timedelta(days=number)),
    deep_lookback=st.integers(0, 60).map(lambda number: timedelta(days=number)),
    history=st.integers(0, 120).map(lambda number: timedelta(days=number)),
    alignment=st.sampled_from(["minute", "day", "month"]),
    lag=st.integers(0, 3000).map(lambda number: timedelta(minutes=number)),
    retention=st.none(),
)


@given(resources, instants, st.lists(st.tuples(st.integers(1, 200 * 24), st.integers(0, 8)), max_size=6))
def test_no_gap_and_no_overlap_however_polls_are_interrupted(
    resource: Resource, start_ms: int, polls: list[tuple[int, int]]
) -> None:
    known, now_ms = Known(), start_ms
    for hours, stored in polls:
        now_ms += hours * HOUR_MS
        readings = plan([resource], SETTINGS, {"any": known}, now_ms)[:stored]
        known = everything(readings, now_ms, known)
    readings = plan([resource], SETTINGS, {"any": known}, now_ms)
    windows = sorted(one.window for one in readings)
    assert all(window.from_ms < window.until_ms for window in windows)
    assert all(before.until_ms <= after.from_ms for before, after in pairwise(windows))
    end_ms = now_ms - resource.lag // timedelta(milliseconds=1)
    after = merged([*known.covered, *windows])
    if end_ms > 0 and windows:
        first = min(window.from_ms for window in after)
        assert without([Window(first, end_ms)], after) == []
        wanted = end_ms - max(resource.history, resource.lookback) // timedelta(milliseconds=1)
        assert without([Window(wanted, end_ms)], after) == []


spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda ends: Window(min(ends), max(ends))))


@given(spans, spans)
def test_windows_are_sets_of_instants(left: list[Window], right: list[Window]) -> None:
    def inside(windows: list[Window]) -> set[int]:
        return {instant for window in windows for instant in range(*window)}

    assert inside(merged(left)) == inside(left)
    assert inside(without(left, right)) == inside(left) - inside(right)
    assert all(before.until_ms < after.from_ms for before, after in pairwise(merged(left)))
