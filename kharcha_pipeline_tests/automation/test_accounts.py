"""Accounts in Dagster: a partition each, a run for each that is due, and the days they touch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.types import DynamicPartitionsStoreAfterRequests

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.failures import AccountsUsageError
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.assets.pipeline import Pipeline
from kharcha_pipeline.assets.vendor_accounts import POLLS, VENDOR, account_partitions
from kharcha_pipeline.automation.home import dagster_home, prepare_home
from kharcha_pipeline.definitions import build_definitions
from kharcha_pipeline_tests.accounts.office import HISTORY_DAYS, KEY, Office
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Reply, TurnedClock
from kharcha_pipeline_tests.automation.location import Location
from kharcha_pipeline_tests.machine import Machine

HOUR = 3600
PATIENCE = 400.0
"""Seconds; on a quiet machine it takes about a minute."""


@dataclass
class Branch(Location):
    """A code location with an office: accounts are polled by the office's clock."""

    office: Office | None = None

    @property
    def pipeline(self) -> Pipeline:
        assert self.office
        return Pipeline(self.machine.settings, self.office.clock)

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.machine.settings, alert=self.alerts.append, pipeline=self.pipeline)

    def look(self) -> tuple[list[dg.RunRequest], list[str]]:
        """A tick of `accounts_due`: the runs it asks for, and the partitions after it."""
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=self.definitions.get_repository_def(),
            resources={"pipeline": self.pipeline},
        )
        assert self.office
        # As the daemon does: what a tick asks to be added is there for the runs that the same tick asks for.
        added = account_partitions.build_add_request(self.office.names)
        after = DynamicPartitionsStoreAfterRequests.from_requests(self.instance, [added])
        with dg.partition_loading_context(dynamic_partitions_store=after):
            result = self.definitions.resolve_sensor_def("accounts_due").evaluate_tick(context)
        for request in result.dynamic_partitions_requests or []:
            name, keys = request.partitions_def_name, list(request.partition_keys)
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(name, keys)
            else:
                for key in keys:
                    self.instance.delete_dynamic_partition(name, key)
        partitions = self.instance.get_dynamic_partitions(str(account_partitions.name))
        return list(result.run_requests or []), sorted(partitions)

    def follow(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Runs what a sensor asked for."""
        with dg.partition_loading_context(dynamic_partitions_store=self.instance):
            return super().follow(request)

    def poll(self, account: str) -> dg.ExecuteInProcessResult:
        """Polls an account as somebody does who starts the run by hand."""
        return self.follow(dg.RunRequest(job_name="poll_accounts", partition_key=account))

    def latest(self, account: str) -> dict[str, object]:
        """The metadata of the latest materialization of an account."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey("vendor_accounts"), asset_partitions=[account]), limit=1
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        return {key: value.value for key, value in materialization.metadata.items()}

    def check(self, job: str, name: str) -> dg.AssetCheckEvaluation:
        """The latest result of a check after a job."""
        result = self.run(job)
        (evaluation,) = [one for one in result.get_asset_check_evaluations() if one.check_name == name]
        return evaluation


@pytest.fixture
def branch(tmp_path: Path) -> Iterator[Branch]:
    machine = Machine.below(tmp_path)
    clock = TurnedClock(time.time_ns() // 1_000_000 // DAY_MS * DAY_MS - 29 * DAY_MS + DAY_MS // 2)
    with Office(machine.home, clock) as office, dg.DagsterInstance.ephemeral() as instance:
        yield Branch(machine, instance, office=office)


def office_of(branch: Branch) -> Office:
    assert branch.office
    return branch.office


def test_without_accounts_nothing_is_made(branch: Branch) -> None:
    assert branch.look() == ([], [])
    assert not branch.machine.data.exists()


def test_partitions_appear_from_accounts_toml_with_a_run_per_due_account(branch: Branch) -> None:
    office = office_of(branch)
    office.add("one")
    office.add("two", "enabled = false")
    office.add("three")
    requests, partitions = branch.look()
    assert partitions == ["one", "three", "two"]
    assert [request.partition_key for request in requests] == ["one", "three"]
    assert {(request.tags[VENDOR], POLLS in request.tags) for request in requests} == {("cursor", True)}
    assert all(branch.follow(request).success for request in requests)
    assert branch.partitions("vendor_accounts") == {"one", "three"}
    assert branch.latest("one")["outcome"] == "polled"
    assert branch.look()[0] == []
    office.clock.advance(2 * HOUR)
    again, _ = branch.look()
    assert [request.partition_key for request in again] == ["one", "three"]
    assert {request.run_key for request in again}.isdisjoint(request.run_key for request in requests)


def test_a_request_is_the_same_until_its_poll_was_made_and_comes_back_when_its_run_died(branch: Branch) -> None:
    office = office_of(branch)
    office.add("one")
    (first,), (second,) = branch.look()[0], branch.look()[0]
    assert first.run_key == second.run_key
    office.clock.advance(HOUR)
    ((later,), _) = branch.look()
    assert later.run_key != first.run_key
    assert branch.follow(later).success
    asked = len(office.server.log)
    assert branch.follow(first).success  # one that was queued for long asks nothing any more
    assert branch.latest("one")["outcome"] == "early"
    assert len(office.server.log) == asked


def test_a_tick_that_finds_nothing_leaves_the_store_as_it_is(branch: Branch) -> None:
    office_of(branch).add("one")
    for request in branch.look()[0]:
        assert branch.follow(request).success

    def seen() -> list[tuple[str, int, int]]:
        found = [(path.name, path.stat()) for path in sorted(branch.machine.data.glob("accounts.sqlite*"))]
        return [(name, status.st_size, status.st_mtime_ns) for name, status in found]

    before = seen()
    assert before
    assert branch.look() == ([], ["one"])
    assert seen() == before  # so a sync without changes still ends at once


def test_touched_days_flow_on(branch: Branch) -> None:
    office = office_of(branch)
    office.add("one")
    office.add("two")
    requests, _ = branch.look()
    for request in requests:
        assert branch.follow(request).success
    days = branch.tick()
    assert days
    assert all(branch.follow(request).success for request in days)
    events = 2 * HISTORY_DAYS * 2
    assert branch.machine.query("SELECT sum(events) FROM daily_usage WHERE source = 'cursor'") == [(events,)]
    assert len(branch.partitions("usage_records")) >= HISTORY_DAYS
    assert branch.tick() == []
    assert branch.poll("one").success  # the same once more
    assert branch.latest("one")["inserted"] == 0
    assert branch.tick() == []


def test_account_removed_from_accounts_toml_loses_its_partition_and_keeps_its_history(branch: Branch) -> None:
    office = office_of(branch)
    office.add("one")
    office.add("two")
    for request in branch.look()[0]:
        assert branch.follow(request).success
    office.names.remove("two")
    office.write()
    office.clock.advance(2 * HOUR)
    asked = len(office.requests("two"))
    assert not branch.poll("two").success  # a run that was queued before
    assert len(office.requests("two")) == asked
    requests, partitions = branch.look()
    assert partitions == ["one"]
    assert [request.partition_key for request in requests] == ["one"]
    for request in branch.tick():
        assert branch.follow(request).success
    accounts = "SELECT account, sum(events)::INTEGER FROM daily_usage GROUP BY account ORDER BY account"
    assert branch.machine.query(accounts) == [("one", 2 * HISTORY_DAYS), ("two", 2 * HISTORY_DAYS)]
    office.file.unlink()
    assert branch.look() == ([], [])


def test_a_mistake_in_accounts_toml_fails_the_tick_and_removes_nothing(branch: Branch) -> None:
    office = office_of(branch)
    office.add("one")
    branch.look()
    office.file.write_text("[accounts.one]\nconnector = 7\n")
    with pytest.raises(AccountsUsageError):
        branch.look()
    assert branch.instance.get_dynamic_partitions(str(account_partitions.name)) == ["one"]


def test_an_expired_session_is_no_failed_run_but_a_check_that_warns(branch: Branch) -> None:
    office = office_of(branch)
    gone = office.add("gone")
    office.add("good")
    gone.keys = {}
    for request in branch.look()[0]:
        assert branch.follow(request).success
    metadata = branch.latest("gone")
    assert metadata["outcome"] == "failed"
    assert "login gone" in str(metadata["what_is_wrong"])
    evaluation = branch.check("inspect", "no_account_needs_a_person")
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert set(evaluation.metadata["sentences"].value) == {"gone"}  # type: ignore[call-overload]
    office.clock.advance(30 * 24 * HOUR)
    requests, _ = branch.look()
    assert [request.partition_key for request in requests] == ["good"]
    gone.keys = {f"{KEY}another": "/"}
    office.keep("gone", f"{KEY}another")
    requests, _ = branch.look()
    assert [request.partition_key for request in requests] == ["gone", "good"]
    assert all(branch.follow(request).success for request in requests)
    assert branch.latest("gone")["outcome"] == "polled"
    assert branch.check("inspect", "no_account_needs_a_person").passed


def test_a_rest_is_kept_also_by_runs_that_are_started_by_hand(branch: Branch) -> None:
    office = office_of(branch)
    office.add("one")
    limit = Reply(429, {"error": "Too Many Requests"}, {"Retry-After": "7200"})
    office.server.faults.append(Fault("/teams/filtered-usage-events", limit))
    branch.look()
    assert branch.poll("one").success
    asked = len(office.server.log)
    office.clock.advance(HOUR)
    assert branch.poll("one").success
    assert branch.latest("one")["outcome"] == "resting"
    assert branch.look()[0] == []
    assert len(office.server.log) == asked
    office.clock.advance(2 * HOUR)
    (request,) = branch.look()[0]
    assert branch.follow(request).success
    assert branch.latest("one")["outcome"] == "polled"


def test_a_sum_that_nobody_explains_is_a_check_that_warns(branch: Branch) -> None:
    office = office_of(branch)
    office.add("one")
    assert branch.check("inspect", "reconciliation_is_explained").passed
    for request in branch.look()[0]:
        assert branch.follow(request).success
    assert branch.check("inspect", "reconciliation_is_explained").severity == dg.AssetCheckSeverity.WARN


def test_keys_stand_nowhere_in_dagster_s_home_or_in_the_data_directory(
    branch: Branch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = office_of(branch)
    office.add("one")
    gone = office.add("gone")
    gone.keys = {}
    home = tmp_path / "dagster"
    prepare_home(home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        branch.instance = instance
        for request in branch.look()[0]:
            assert branch.follow(request).success
        for request in branch.tick():
            assert branch.follow(request).success
    for top in (home, branch.machine.data):
        contents = [path.read_bytes() for path in top.rglob("*") if path.is_file()]
        assert len(contents) > 3
        assert not any(KEY.encode() in content for content in contents)


PROGRAMS = Path(sys.executable).parent


def test_the_daemon_polls_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine.below(tmp_path)
    home = dagster_home(machine.environment)
    prepare_home(home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with Office(machine.home) as office:
        office.add("one")
        office.add("two")
        log = tmp_path / "daemon.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [PROGRAMS / "dagster-daemon", "run", "-m", "kharcha_pipeline.definitions"],
                env={**os.environ, **machine.environment, "DAGSTER_HOME": str(home)},
                stdout=stream,
                stderr=stream,
            )
        try:
            deadline = time.monotonic() + PATIENCE
            with dg.DagsterInstance.get() as instance:
                while len(polls := instance.get_runs(dg.RunsFilter(job_name="poll_accounts"))) < 2 or not all(
                    run.is_finished for run in polls
                ):
                    assert time.monotonic() < deadline, log.read_text()[-3000:]
                    time.sleep(0.5)
                assert instance.get_dynamic_partitions(str(account_partitions.name)) == ["one", "two"]
            assert sorted(run.tags["dagster/partition"] for run in polls) == ["one", "two"]
            assert {run.status for run in polls} == {dg.DagsterRunStatus.SUCCESS}
            with AccountStore(machine.data) as store:
                assert [status.events for status in store.statuses()] == [2 * HISTORY_DAYS, 2 * HISTORY_DAYS]
        finally:
            process.terminate()
            process.wait()
