"""Real processes: a backfill through Dagster's daemon beside an analyst who keeps reading, and a killed build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from kharcha_pipeline.automation.home import dagster_home, prepare_home
from kharcha_pipeline.automation.requests import RANGE_END, RANGE_START
from kharcha_pipeline_tests.automation.location import DAY, STAGES, Location, respond_daily
from kharcha_pipeline_tests.machine import Machine

DAYS = [(DAY + timedelta(days=number)).isoformat() for number in range(20)]
LONGEST_WAIT = 150.0
"""Seconds; on a quiet machine it takes about 20."""

READ = """
SELECT count(DISTINCT day), sum(cost_usd) = (SELECT sum(cost_usd) FROM priced_events) FROM daily_usage
"""

PROGRAMS = Path(sys.executable).parent
LOCATION = ("-m", "kharcha_pipeline.definitions")

LAUNCH = """
mutation ($days: [String!]!, $assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {partitionNames: $days, assetSelection: $assets}) {
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.below(tmp_path)


def environment(machine: Machine) -> dict[str, str]:
    home = dagster_home(machine.environment)
    return {**os.environ, **machine.environment, "DAGSTER_HOME": str(home)}


@contextmanager
def daemon(machine: Machine) -> Iterator[None]:
    """Dagster's daemon on this machine's home, with the code server it starts."""
    log = machine.data / "daemon.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [PROGRAMS / "dagster-daemon", "run", *LOCATION],
            env=environment(machine),
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def launch_backfill(machine: Machine) -> str:
    """Asks for a backfill as the UI does, and returns its id."""
    variables = {"days": DAYS, "assets": [{"path": [name]} for name in STAGES]}
    answer = machine.data / "answer.json"  # the program's own output is mixed with log lines
    subprocess.run(
        [PROGRAMS / "dagster-graphql", *LOCATION, "-t", LAUNCH, "-v", json.dumps(variables), "-o", answer],
        env=environment(machine),
        check=True,
        capture_output=True,
    )
    identity = json.loads(answer.read_text())["data"]["launchPartitionBackfill"]["backfillId"]
    assert isinstance(identity, str)
    return identity


def test_a_backfill_of_twenty_days_fails_nowhere_and_disturbs_no_reader(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond_daily(machine, DAY, len(DAYS))
    machine.sync()
    rows = machine.contents()
    prepare_home(dagster_home(machine.environment))
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home(machine.environment)))
    backfill = launch_backfill(machine)
    reads = 0
    with dg.DagsterInstance.get() as instance, daemon(machine):
        deadline = time.monotonic() + LONGEST_WAIT
        while not (runs := finished_runs(instance, backfill)):
            assert time.monotonic() < deadline, (machine.data / "daemon.log").read_text()[-3000:]
            assert machine.query(READ) == [(len(DAYS), True)]
            reads += 1
        (run,) = runs
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert materialized_by(instance, run.run_id) == {name: set(DAYS) for name in STAGES}
    assert reads > 20
    assert machine.contents() == rows


def finished_runs(instance: dg.DagsterInstance, backfill: str) -> list[dg.DagsterRun]:
    """The runs of a backfill, once there are any and all have ended."""
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    return list(runs) if all(run.is_finished for run in runs) else []


def materialized_by(instance: dg.DagsterInstance, run_id: str) -> dict[str, set[str | None]]:
    """Per asset, the partitions that a run materialized."""
    records = {
        name: instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=DAYS), limit=10 * len(DAYS)
        ).records
        for name in STAGES
    }
    return {
        name: {record.partition_key for record in found if record.run_id == run_id} for name, found in records.items()
    }


BUILD = f"""
import dagster as dg
from kharcha_pipeline.definitions import defs
tags = {{"{RANGE_START}": "{DAYS[0]}", "{RANGE_END}": "{DAYS[1]}"}}
with dg.DagsterInstance.ephemeral() as instance:
    defs.resolve_job_def("build").execute_in_process(instance=instance, tags=tags)
"""


def test_a_build_that_is_killed_half_way_is_repaired_by_the_next_run(machine: Machine) -> None:
    respond_daily(machine, DAY, 2)
    with dg.DagsterInstance.ephemeral() as instance:
        location = Location(machine, instance)
        assert location.run("land").success
        process = subprocess.Popen([sys.executable, "-c", BUILD], env=environment(machine), stderr=subprocess.DEVNULL)
        kill_between_two_stages(machine, process)
        assert machine.raw("SELECT count(*) FROM usage_events") == [(2,)]
        assert machine.raw("SELECT count(*) FROM daily_usage") == [(0,)]
        assert machine.warehouse.published_changes() is None
        (request,) = location.tick()
        assert location.follow(request).success
        assert location.tick() == []
        assert {name: location.partitions(name) for name in STAGES} == {name: set(DAYS[:2]) for name in STAGES}
    undisturbed = Machine(machine.home, machine.data.parent / "undisturbed")
    undisturbed.sync()
    assert machine.contents() == undisturbed.contents()


def kill_between_two_stages(machine: Machine, process: subprocess.Popen[bytes]) -> None:
    """Kills a build when its first stage is committed and its last is not, while it waits for the warehouse."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        assert time.monotonic() < deadline
        assert process.poll() is None, "the build ended before it could be killed"
        with machine.warehouse.read() as connection:  # nobody else gets on while this is open
            built = {row[0] for row in connection.execute("SELECT stage FROM operations.built_days").fetchall()}
            if "usage_events" in built and "daily_usage" not in built:
                process.kill()
                process.wait()
                return
