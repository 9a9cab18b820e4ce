"""The checks find what they are for, in the days of their run, and a blocking one keeps the last good copy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kharcha_pipeline_tests.automation.location import DAY, STAGES, Location, respond, respond_daily
from kharcha_pipeline_tests.machine import Machine

UNIQUE = ("usage_events", "event_ids_are_unique")
FROZEN = ("pricing_snapshots", "rates_are_frozen")
ONCE = ("priced_events", "every_event_is_priced_once")
NULLS = ("priced_events", "unknown_costs_are_null")
KEYS = ("session_usage", "keys_are_unique")
SESSIONS = ("session_usage", "sums_equal_priced_events")
DAYS = ("daily_usage", "sums_equal_priced_events")
UNPRICED = ("priced_events", "unpriced_share")


@pytest.fixture
def location(tmp_path: Path) -> Iterator[Location]:
    with dg.DagsterInstance.ephemeral() as instance:
        built = Location(Machine.below(tmp_path), instance)
        respond_daily(built.machine, DAY, 3)
        built.machine.sync()
        yield built


def failed(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dict[str, Any]]:
    """The checks that did not pass, with their metadata."""
    return {
        (one.asset_key.to_user_string(), one.check_name): {key: value.value for key, value in one.metadata.items()}
        for one in result.get_asset_check_evaluations()
        if not one.passed
    }


def checked(result: dg.ExecuteInProcessResult) -> set[tuple[str, str]]:
    return {(one.asset_key.to_user_string(), one.check_name) for one in result.get_asset_check_evaluations()}


def spoil(location: Location, sql: str) -> None:
    with location.machine.warehouse.write() as connection:
        connection.execute(sql)


def test_every_check_passes_on_what_was_built(location: Location) -> None:
    result = location.run("publish")
    assert result.success
    assert checked(result) == {UNIQUE, FROZEN, ONCE, NULLS, KEYS, SESSIONS, DAYS, UNPRICED}
    assert failed(result) == {}


@pytest.mark.parametrize(
    ("found_by", "sql"),
    [
        (UNIQUE, "INSERT INTO core.usage_events FROM core.usage_events LIMIT 1"),
        (FROZEN, "UPDATE pricing_rates SET output_per_mtok = output_per_mtok + 1"),
        (FROZEN, "DELETE FROM pricing_rates"),
        (ONCE, f"DELETE FROM core.priced_events WHERE day = '{DAY}'"),
        (NULLS, "UPDATE core.priced_events SET cost_usd = 0"),
        (NULLS, "UPDATE core.priced_events SET cost_usd = NULL"),
        (KEYS, "INSERT INTO session_usage SELECT * REPLACE (0 AS events) FROM session_usage LIMIT 1"),
        (SESSIONS, "UPDATE session_usage SET cost_usd = cost_usd + 0.000000000001"),
        (SESSIONS, f"DELETE FROM session_usage WHERE day = '{DAY}'"),
        (DAYS, "UPDATE daily_usage SET unpriced_events = 1"),
        (DAYS, "INSERT INTO daily_usage SELECT * REPLACE (DATE '2025-01-01' AS day) FROM daily_usage LIMIT 1"),
    ],
)
def test_what_would_publish_a_wrong_number_keeps_the_last_good_copy(
    location: Location, found_by: tuple[str, str], sql: str
) -> None:
    before = location.machine.warehouse.published_changes()
    spoil(location, sql)
    result = location.run("publish")
    assert not result.success
    assert found_by in failed(result)
    assert location.machine.warehouse.published_changes() == before


def test_a_run_of_a_range_looks_at_its_own_days(location: Location) -> None:
    spoil(location, f"UPDATE daily_usage SET events = 7 WHERE day = '{DAY}'")
    spoil(location, f"UPDATE session_usage SET events = 7 WHERE day <> '{DAY}'")
    result = location.run("build", DAY + timedelta(days=1), DAY + timedelta(days=2))
    assert result.success  # its own days were built anew, and the wrong one is none of them
    assert failed(location.run("publish")) == {
        ("daily_usage", "sums_equal_priced_events"): {"wrong_days": 1, "days": [DAY.isoformat()]}
    }


def test_a_day_that_is_only_half_built_is_stale_and_not_wrong(location: Location) -> None:
    respond(location.machine, f"{DAY}T13:00:00Z", session="more")
    location.run("land")
    location.build(DAY, stages=STAGES[:3])
    assert failed(location.run("publish")) == {}


def test_models_without_a_price_are_named_in_a_warning(location: Location) -> None:
    respond(location.machine, f"{DAY}T13:00:00Z", session="unknown", model="nobody-knows-me-1")
    location.run("land")
    result = location.run("build", DAY)
    assert result.success
    (found,) = failed(result).values()
    assert found["unpriced_events"] == 1
    assert [model["model"] for model in found["models"]] == ["nobody-knows-me-1"]


def test_rejects_are_counted_by_reason(location: Location) -> None:
    path = location.machine.home / ".claude" / "projects" / "p" / "broken.jsonl"
    path.parent.mkdir()
    path.write_text("{this is secret}\n")
    location.machine.sync()
    found = failed(location.run("inspect"))[("log_files", "nothing_was_rejected")]
    assert found["rejects"] == 1
    assert "secret" not in str(found)


def test_a_partition_that_failed_is_listed_until_a_later_run_builds_it(location: Location) -> None:
    spoil(location, "ALTER TABLE daily_usage RENAME TO hidden")
    assert not location.run("build", DAY).success
    spoil(location, "ALTER TABLE hidden RENAME TO daily_usage")
    key = ("kharcha_database", "no_partition_is_failed")
    assert failed(location.run("inspect"))[key]["days"] == {"daily_usage": [DAY.isoformat()]}
    location.build(DAY)
    assert key not in failed(location.run("inspect"))
