"""The daily assets on a real instance: one partition, a range, again, empty days, days of clock changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kharcha_pipeline_tests.automation.location import DAY, MODEL, STAGES, Location, respond, respond_daily
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript, usage


@pytest.fixture
def location(tmp_path: Path) -> Iterator[Location]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(Machine.below(tmp_path), instance)


def tables(machine: Machine) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the daily tables, but for the instants at which something was first known."""
    return {
        name: sorted(
            machine.raw(f"SELECT COLUMNS(lambda c: c NOT IN ('recorded_at', 'captured_at')) FROM {name}"), key=repr
        )
        for name in STAGES
    }


def test_one_partition_builds_its_day_and_no_other(location: Location) -> None:
    respond_daily(location.machine, DAY, 3)
    location.run("land")
    location.build(DAY)
    assert location.machine.raw("SELECT day, events FROM daily_usage") == [(DAY, 1)]
    assert {name: location.partitions(name) for name in STAGES} == {name: {DAY.isoformat()} for name in STAGES}


def test_a_range_equals_its_days_one_by_one(location: Location, tmp_path: Path) -> None:
    respond_daily(location.machine, DAY, 3)
    location.run("land")
    location.build(DAY, DAY + timedelta(days=2))
    by_range = tables(location.machine)
    assert [len(rows) for rows in by_range.values()] == [3] * len(STAGES)
    assert len(location.partitions("daily_usage")) == 3
    single = Location(Machine(location.machine.home, tmp_path / "single"), location.instance)
    single.run("land")
    for day in (2, 0, 1):
        single.build(DAY + timedelta(days=day))
    assert tables(single.machine) == by_range


def test_building_again_changes_nothing(location: Location) -> None:
    respond_daily(location.machine, DAY, 3)
    location.machine.sync()
    before = location.machine.everything()
    location.build(DAY, DAY + timedelta(days=2))
    location.machine.warehouse.publish()
    after = location.machine.everything()
    reported = after.pop("operations.built_days"), before.pop("operations.built_days")
    assert after == before
    assert [row[:3] for row in reported[0]] == [row[:3] for row in reported[1]]
    assert all(built == told for _, _, built, told in reported[0])


def test_a_day_that_lost_its_last_event_becomes_empty(location: Location) -> None:
    early = line(at="2025-09-10T23:59:59.000Z", used=usage(output_tokens=2), model=MODEL)
    path = transcript(location.machine.home, early)
    location.run("land")
    location.build(DAY)
    late = line(at="2025-09-11T00:00:01.000Z", used=usage(output_tokens=318), model=MODEL, uuid="final")
    with path.open("a") as stream:
        stream.write(json.dumps(late) + "\n")
    location.run("land")
    location.build(DAY, DAY + timedelta(days=1))
    assert location.machine.raw("SELECT day, output_tokens FROM daily_usage") == [(DAY + timedelta(days=1), 318)]
    emptied = location.told("daily_usage", DAY)[0]
    assert emptied["dagster/partition_row_count"] == 0
    assert emptied["cost_usd_exact"] == "unknown"
    assert "cost_usd" not in emptied


def test_days_without_any_logs_can_be_built_before_the_first_landing(location: Location) -> None:
    location.build(DAY, DAY + timedelta(days=4))
    assert len(location.partitions("daily_usage")) == 5
    respond(location.machine, f"{DAY}T12:00:00.000Z", session="late")
    location.run("land")
    assert len(location.tick()) == 1
    assert location.machine.raw("SELECT value FROM operations.facts WHERE name = 'timezone'") == [("UTC",)]


@pytest.mark.parametrize(
    ("day", "inside", "outside"),
    [
        ("2025-03-30", ("03-29T23:00:00Z", "03-30T21:59:59Z"), ("03-29T22:59:59Z", "03-30T22:00:00Z")),
        ("2025-10-26", ("10-25T22:00:00Z", "10-26T22:59:59Z"), ("10-25T21:59:59Z", "10-26T23:00:00Z")),
    ],
)
def test_the_days_on_which_clocks_change_hold_their_23_or_25_hours(
    tmp_path: Path, day: str, inside: tuple[str, str], outside: tuple[str, str]
) -> None:
    machine = Machine.below(tmp_path, timezone="Europe/Berlin")
    respond(machine, *(f"2025-{at}" for at in inside + outside), session="clocks")
    with dg.DagsterInstance.ephemeral() as instance:
        location = Location(machine, instance)
        location.run("land")
        location.build(date.fromisoformat(day))
    assert machine.raw("SELECT day, events FROM daily_usage") == [(date.fromisoformat(day), 2)]


def test_every_day_of_a_range_has_metadata_of_its_own(location: Location) -> None:
    respond(location.machine, f"{DAY}T10:00:00Z", f"{DAY}T11:00:00Z", session="known")
    respond(location.machine, f"{DAY + timedelta(days=1)}T10:00:00Z", session="unknown", model="nobody-knows-me-1")
    location.run("land")
    location.build(DAY, DAY + timedelta(days=1))
    first, second = (location.told("priced_events", DAY + timedelta(days=number))[0] for number in (0, 1))
    ((cost, tokens),) = location.machine.raw(
        f"SELECT cost_usd, input_tokens + output_tokens + cache_read_tokens FROM daily_usage WHERE day = '{DAY}'"
    )
    assert Decimal(first["cost_usd_exact"]) == cost > 0
    assert first["cost_usd"] == float(cost)
    assert (first["tokens"], first["unpriced_share"], first["dagster/partition_row_count"]) == (tokens, 0, 2)
    assert (second["cost_usd_exact"], second["unpriced_events"], second["unpriced_share"]) == ("unknown", 1, 1)


def test_landing_touches_only_the_days_whose_records_changed(location: Location) -> None:
    respond_daily(location.machine, DAY, 3)
    location.run("land")
    assert len(location.partitions("usage_records")) == 3
    respond(location.machine, f"{DAY}T13:00:00Z", session="more")
    assert location.run("land").success
    assert [len(location.told("usage_records", DAY + timedelta(days=number))) for number in range(3)] == [2, 1, 1]
    assert location.run("land").success
    assert len(location.told("usage_records", DAY)) == 2


def test_everything_in_one_go_is_what_the_command_line_does(location: Location) -> None:
    respond_daily(location.machine, DAY, 3)
    assert location.run("sync").success
    assert location.machine.query("SELECT count(*) FROM daily_usage") == [(3,)]
    location.tick()
    assert len(location.partitions("daily_usage")) == 3
