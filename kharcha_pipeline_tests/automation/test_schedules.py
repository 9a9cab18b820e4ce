"""The schedules: the close covers yesterday and today, and gives failed days their next chance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from kharcha_pipeline.automation.requests import RANGE_END, RANGE_START
from kharcha_pipeline_tests.automation.location import DAY, Location, respond
from kharcha_pipeline_tests.machine import Machine

NIGHT = datetime(2025, 9, 22, 0, 30, tzinfo=ZoneInfo("Asia/Kolkata"))


@pytest.fixture
def location(tmp_path: Path) -> Iterator[Location]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(Machine.below(tmp_path, timezone="Asia/Kolkata"), instance)


def close(location: Location, at: datetime = NIGHT) -> list[dg.RunRequest]:
    context = dg.build_schedule_context(
        instance=location.instance,
        scheduled_execution_time=at,
        repository_def=location.definitions.get_repository_def(),
        resources={"pipeline": location.pipeline},
    )
    schedule = location.definitions.resolve_schedule_def("nightly_close")
    return list(schedule.evaluate_tick(context).run_requests or [])


def test_the_close_builds_yesterday_and_today_of_the_reporting_zone(location: Location) -> None:
    (request,) = close(location, NIGHT.astimezone(ZoneInfo("UTC")))  # still the 21st there
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2025-09-21", "2025-09-22")


def test_days_that_are_still_stale_at_night_are_asked_for_again(location: Location) -> None:
    respond(location.machine, f"{DAY}T06:00:00Z", f"{DAY + timedelta(days=2)}T06:00:00Z", session="stale")
    location.run("land")
    requests = close(location)
    assert [request.partition_key for request in requests[1:]] == ["2025-09-10", "2025-09-12"]
    again = close(location, NIGHT + timedelta(days=1))
    assert not {request.run_key for request in requests} & {request.run_key for request in again}


def test_the_close_builds_checks_and_publishes(location: Location) -> None:
    respond(location.machine, "2025-09-21T06:00:00Z", session="yesterday")
    location.run("land")
    (request,) = close(location)
    assert location.follow(request).success
    assert location.machine.query("SELECT day, events FROM daily_usage") == [((NIGHT - timedelta(days=1)).date(), 1)]


def test_schedules_run_by_the_reporting_zone(location: Location) -> None:
    schedules = {one.name: one for one in location.definitions.get_repository_def().schedule_defs}
    assert {name: one.cron_schedule for name, one in schedules.items()} == {
        "hourly_landing": "0 * * * *",
        "nightly_close": "30 0 * * *",
        "nightly_inspection": "30 1 * * *",
    }
    assert {one.execution_timezone for one in schedules.values()} == {"Asia/Kolkata"}
