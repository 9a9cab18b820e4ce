"""The event log of our `dagster.yaml`: holds what Dagster's own would hold, and takes many days at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kharcha_pipeline.automation.event_log import BatchedEventLog
from kharcha_pipeline.automation.home import prepare_home
from kharcha_pipeline_tests.automation.location import DAY, STAGES, Location, respond_daily
from kharcha_pipeline_tests.machine import Machine

ASSETS = (*STAGES, "usage_records")


@contextmanager
def dagster(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The Dagster of a home directory."""
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """A home with Dagster's own event log, and one with ours."""
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.mkdir()
    (plain / "dagster.yaml").touch()
    prepare_home(ours)
    return plain, ours


def logged(instance: dg.DagsterInstance, run_id: str) -> list[tuple[Any, ...]]:
    """What the log of a run says, in its order. Times and ids of processes differ from run to run."""
    events = [entry.get_dagster_event() for entry in instance.all_logs(run_id) if entry.is_dagster_event]
    return [
        (event.event_type_value, event.step_key, event.asset_key, event.partition)
        for event in events
        if event.event_type_value != "ENGINE_EVENT"
    ]


def known_of(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    """All that Dagster knows of an asset without looking into runs."""
    key = dg.AssetKey(asset)
    records = instance.fetch_materializations(key, limit=1000).records
    (summary,) = instance.get_asset_records([key])
    last = summary.asset_entry.last_materialization_record
    assert last is not None
    return {
        "materializations": [
            (record.partition_key, record.asset_materialization.metadata)
            for record in records
            if record.asset_materialization is not None
        ],
        "partitions": instance.get_materialized_partitions(key),
        "last": (last.partition_key, last.storage_id == records[0].storage_id),
        "last run": summary.asset_entry.last_run_id == records[0].run_id,
    }


def test_it_holds_what_dagster_s_own_event_log_holds(
    tmp_path: Path, homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine.below(tmp_path)
    respond_daily(machine, DAY, 3)
    machine.sync()
    found = []
    for home in homes:
        with dagster(home, monkeypatch) as instance:
            assert isinstance(instance.event_log_storage, BatchedEventLog) == (home is homes[1])
            location = Location(machine, instance)
            location.tick()
            told = {name: known_of(instance, name) for name in ASSETS}
            run = location.run("build", DAY, DAY + timedelta(days=1))
            assert run.success
            built = {name: known_of(instance, name) for name in ASSETS}
            found.append((told, built, logged(instance, run.run_id)))
    (told, built, log), ours = found
    assert ours == (told, built, log)
    assert len(told["daily_usage"]["materializations"]) == 3
    assert len(built["daily_usage"]["materializations"]) == 5
    assert [entry[3] for entry in log if entry[:2] == ("ASSET_MATERIALIZATION", "daily_usage")] == [
        DAY.isoformat(), (DAY + timedelta(days=1)).isoformat()
    ]  # fmt: skip


def test_a_home_may_go_back_to_dagster_s_own_event_log(
    tmp_path: Path, homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine.below(tmp_path)
    respond_daily(machine, DAY, 3)
    machine.sync()
    with dagster(homes[1], monkeypatch) as instance:
        Location(machine, instance).tick()
        known = {name: known_of(instance, name) for name in ASSETS}
    (homes[1] / "dagster.yaml").write_text("")
    with dagster(homes[1], monkeypatch) as instance:
        assert not isinstance(instance.event_log_storage, BatchedEventLog)
        assert {name: known_of(instance, name) for name in ASSETS} == known


def materialize(instance: dg.DagsterInstance, days: int) -> None:
    for number in range(days):
        day = date(2025, 1, 1) + timedelta(days=number)
        instance.report_runless_asset_event(dg.AssetMaterialization("daily_usage", partition=day.isoformat()))


def test_nothing_is_stored_of_what_was_interrupted(homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with dagster(homes[1], monkeypatch) as instance:
        event_log = instance.event_log_storage
        assert isinstance(event_log, BatchedEventLog)
        with pytest.raises(KeyboardInterrupt), event_log.together():
            materialize(instance, 2)
            raise KeyboardInterrupt
        assert instance.get_materialized_partitions(dg.AssetKey("daily_usage")) == set()
        materialize(instance, 1)
        assert instance.get_materialized_partitions(dg.AssetKey("daily_usage")) == {"2025-01-01"}


def test_many_days_together_take_a_fraction_of_the_time(
    homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dagster(homes[1], monkeypatch) as instance:
        event_log = instance.event_log_storage
        assert isinstance(event_log, BatchedEventLog)
        materialize(instance, 1)
        started = time.process_time()
        materialize(instance, 50)
        one_by_one = time.process_time() - started
        with event_log.together():
            started = time.process_time()
            materialize(instance, 50)
        together = time.process_time() - started
    assert together < one_by_one / 2
