"""The sensor `stale_days`: nothing is lost, nothing is asked for twice, and Dagster knows what is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from kharcha_pipeline.assets.partitions import DayRange
from kharcha_pipeline.automation.requests import RANGE_END, RANGE_START
from kharcha_pipeline.automation.sensors import MOST_REQUESTS, build_requests
from kharcha_pipeline_tests.automation.location import DAY, STAGES, Location, respond, respond_daily
from kharcha_pipeline_tests.machine import Machine


@pytest.fixture
def location(tmp_path: Path) -> Iterator[Location]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(Machine.below(tmp_path), instance)


def days_asked_for(requests: list[dg.RunRequest]) -> list[str]:
    return [
        request.partition_key or f"{request.tags[RANGE_START]}...{request.tags[RANGE_END]}"
        for request in requests
        if request.job_name == "build"
    ]


def test_touched_days_become_one_run_for_every_range_without_gaps(location: Location) -> None:
    noon = "T12:00:00.000Z"
    respond(location.machine, *(f"2025-09-{day}{noon}" for day in ("10", "11", "12", "20")), session="gaps")
    assert location.run("land").success
    requests = location.tick()
    assert days_asked_for(requests) == ["2025-09-10...2025-09-12", "2025-09-20"]
    assert all(location.follow(request).success for request in requests)
    assert location.tick() == []
    assert location.machine.query("SELECT count(*), count(cost_usd) FROM priced_events") == [(4, 4)]


def test_nothing_is_asked_for_before_anything_was_landed(location: Location) -> None:
    assert location.tick() == []
    assert not location.machine.data.exists()


def test_an_update_that_arrives_while_a_run_is_under_way_is_asked_for_again(location: Location) -> None:
    respond(location.machine, "2025-09-10T12:00:00.000Z", session="first")
    location.run("land")
    (first,) = location.tick()
    # The run has read its input, and is between its stages, when more of the same day lands.
    location.build(DAY, stages=STAGES[:2])
    respond(location.machine, "2025-09-10T13:00:00.000Z", session="second")
    location.run("land")
    location.build(DAY, stages=STAGES[2:])
    (again,) = location.tick()
    assert again.partition_key == first.partition_key
    assert again.run_key != first.run_key
    location.build(DAY)
    assert location.machine.raw("SELECT events FROM daily_usage") == [(2,)]
    assert location.tick() == []


def test_a_request_is_the_same_until_more_is_wanted(location: Location) -> None:
    respond(location.machine, "2025-09-10T12:00:00.000Z", session="first")
    location.run("land")
    (first,), (second,) = location.tick(), location.tick()
    assert first.run_key == second.run_key
    respond(location.machine, "2025-09-10T13:00:00.000Z", session="second")
    location.run("land")
    (third,) = location.tick()
    assert third.run_key != first.run_key


def test_ranges_that_keep_failing_do_not_keep_others_waiting() -> None:
    stale = [DAY + timedelta(days=2 * number) for number in range(3 * MOST_REQUESTS)]
    wanted = dict.fromkeys(stale, 1)
    asked: list[DayRange] = []
    requested_to = None
    for _ in range(3):  # nothing of it is ever built
        requests = build_requests(stale, wanted, requested_to)
        assert len(requests) == MOST_REQUESTS
        asked += [days for days, _ in requests]
        requested_to = asked[-1].last
    assert asked == [DayRange(day, day) for day in stale]
    assert build_requests(stale, wanted, requested_to)[0][0].first == stale[0]


def test_days_built_by_the_command_line_become_materialized_partitions(location: Location) -> None:
    respond_daily(location.machine, DAY, 3)
    location.machine.sync()
    assert location.tick() == []
    expected = {"2025-09-10", "2025-09-11", "2025-09-12"}
    assert {name: location.partitions(name) for name in (*STAGES, "usage_records")} == dict.fromkeys(
        (*STAGES, "usage_records"), expected
    )


def test_the_command_line_s_days_carry_the_same_metadata_as_a_run_s(location: Location) -> None:
    respond_daily(location.machine, DAY, 1)
    location.machine.sync()
    location.tick()
    location.build(DAY)
    for name in STAGES:
        by_run, by_sensor = location.told(name, DAY)
        assert by_sensor == by_run
        assert by_sensor["dagster/partition_row_count"] == 1
    assert by_sensor["cost_usd_exact"] == format(
        location.machine.query("SELECT cost_usd FROM daily_usage")[0][0], "f"
    )


def test_dagster_is_told_of_a_version_once(location: Location) -> None:
    respond_daily(location.machine, DAY, 2)
    location.machine.sync()
    location.tick()
    location.tick()
    assert len(location.told("daily_usage", DAY)) == 1
    respond(location.machine, "2025-09-10T13:00:00.000Z", session="more")
    location.machine.sync()
    location.tick()
    assert [told["dagster/partition_row_count"] for told in location.told("usage_events", DAY)] == [2, 1]
    assert len(location.told("daily_usage", DAY + timedelta(days=1))) == 1


def test_what_dagster_built_itself_is_not_told_again(location: Location) -> None:
    respond_daily(location.machine, DAY, 2)
    location.run("land")
    location.tick()
    location.build(DAY, DAY + timedelta(days=1))
    location.tick()
    assert {len(location.told(name, DAY)) for name in STAGES} == {1}


def test_a_new_dagster_is_told_everything(location: Location) -> None:
    respond_daily(location.machine, DAY, 2)
    location.machine.sync()
    location.tick()
    with dg.DagsterInstance.ephemeral() as another:
        fresh = Location(location.machine, another)
        assert fresh.tick() == []
        assert {len(fresh.partitions(name)) for name in STAGES} == {2}


def test_telling_dagster_leaves_the_published_copy_current(location: Location) -> None:
    respond_daily(location.machine, DAY, 2)
    location.machine.sync()
    for _ in range(3):
        assert location.tick() == []
    assert not location.machine.warehouse.publish()


def test_what_was_built_without_publishing_is_published_once_it_is_quiet(location: Location) -> None:
    respond_daily(location.machine, DAY, 2)
    location.run("land")
    location.build(DAY, DAY + timedelta(days=1))
    assert location.machine.warehouse.published_changes() is None
    assert location.tick() == []
    (request,) = location.tick()
    assert request.job_name == "publish"
    assert location.follow(request).success
    assert location.machine.query("SELECT count(*) FROM daily_usage") == [(2,)]
    assert location.tick() == []


def test_a_day_that_has_not_come_yet_waits(location: Location) -> None:
    ahead = datetime.now(UTC) + timedelta(days=3)
    respond(location.machine, f"{DAY}T12:00:00.000Z", ahead.strftime("%Y-%m-%dT%H:%M:%S.000Z"), session="ahead")
    location.run("land")
    assert days_asked_for(location.tick()) == [DAY.isoformat()]
    location.machine.sync()
    location.tick()
    assert location.partitions("daily_usage") == {DAY.isoformat()}


def test_today_is_built(location: Location) -> None:
    now = datetime.now(UTC)
    respond(location.machine, now.strftime("%Y-%m-%dT%H:%M:%S.000Z"), session="now")
    location.run("land")
    assert days_asked_for(location.tick()) == [now.date().isoformat()]
    location.build(now.date())
    assert location.partitions("usage_records") == location.partitions("daily_usage") == {now.date().isoformat()}
    assert location.machine.raw("SELECT day, events FROM daily_usage") == [(now.date(), 1)]


def test_a_cursor_edited_by_hand_is_no_obstacle(location: Location) -> None:
    respond_daily(location.machine, DAY, 1)
    location.run("land")
    location.cursor = "not what the sensor wrote"
    assert days_asked_for(location.tick()) == ["2025-09-10"]


def test_a_failed_run_becomes_one_clear_line(location: Location) -> None:
    location.machine.data.mkdir(parents=True)
    location.machine.warehouse.path.write_text("this is no database")
    result = location.run("publish")
    line = failure_of(location, result)
    assert line.startswith(f"Run {result.run_id[:8]} of publish failed. ")
    assert "warehouse.duckdb could not be used" in line
    assert "\n" not in line


def test_a_range_that_ends_before_it_begins_fails_and_names_its_days(location: Location) -> None:
    result = location.run("build", DAY, DAY - timedelta(days=4))
    line = failure_of(location, result)
    assert f"of build for {DAY}…{DAY - timedelta(days=4)} failed." in line
    assert "its partition range ends before it begins" in line


def failure_of(location: Location, result: dg.ExecuteInProcessResult) -> str:
    """What the sensor `run_failed` says of a run, handed to the alert."""
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failed",
        dagster_instance=location.instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
        repository_def=location.definitions.get_repository_def(),
        resources={"alert": location.alerts.append},
    ).for_run_failure()
    location.definitions.resolve_sensor_def("run_failed")(context)
    (line,) = location.alerts
    return line
