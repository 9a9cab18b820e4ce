"""Races that were found while everything ran at once, each made to happen for certain."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from kharcha_pipeline import stages
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline.sources.landing import land
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline_tests.corpus import append_corpus, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.torture.agreement import assert_consistent, assert_equal_to_undisturbed

REBUCKET = [
    sys.executable,
    "-c",
    "import sys; from kharcha_pipeline.cli.main import main; sys.exit(main())",
    "rebucket",
]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 11, 12, 6, LAST_DAY)
    machine.sync()
    machine.timezone = ""  # whatever the warehouse says
    return machine


def test_a_zone_that_changes_while_logs_are_read_leaves_no_event_on_a_day_of_the_old_one(machine: Machine) -> None:
    append_corpus(machine.home, 11, 2, LAST_DAY)
    started: list[subprocess.Popen[bytes]] = []

    def change_zone(done: int, total: int) -> None:
        if not started:
            program = [*REBUCKET, "--timezone", "Pacific/Auckland"]
            started.append(subprocess.Popen(program, env={**os.environ, **machine.environment}))
            try:
                started[0].wait(2.5)
            except subprocess.TimeoutExpired:
                return  # it waits for the landing to end, as it should

    land(machine.warehouse, machine.settings, SOURCES, progress=change_zone)
    assert started[0].wait() == 0
    machine.sync()
    zone = ZoneInfo("Pacific/Auckland")
    for day, instant in machine.raw("SELECT day, occurred_at FROM raw.settled_records"):
        assert instant.astimezone(zone).date() == day
    assert_consistent(machine)


def test_the_zone_can_be_changed_while_days_wait_to_be_built(machine: Machine) -> None:
    truth = machine.cells()
    append_corpus(machine.home, 11, 2, LAST_DAY)
    land(machine.warehouse, machine.settings, SOURCES)
    totals = rebucket(machine.warehouse, "Pacific/Auckland", PriceSources.load()).totals
    machine.warehouse.publish()
    assert_consistent(machine)
    assert totals.events > sum(tokens.events for tokens in truth.values())


def test_a_day_of_which_only_some_stages_are_built_is_not_published(machine: Machine, tmp_path: Path) -> None:
    before = machine.contents()
    append_corpus(machine.home, 11, 2, LAST_DAY)
    days = sorted(land(machine.warehouse, machine.settings, SOURCES).touched_days)
    prices = PriceSources.load()
    for stage in stages.STAGES[:-1]:
        stages.build(machine.warehouse, prices, days, [stage])
        assert not machine.warehouse.publish()
        assert machine.contents() == before
    stages.build(machine.warehouse, prices, days, stages.STAGES[-1:])
    assert machine.warehouse.publish()
    undisturbed = Machine(machine.home, tmp_path / "undisturbed")
    undisturbed.sync()
    assert_equal_to_undisturbed(machine, undisturbed)


def test_a_build_that_stopped_between_two_stages_is_finished_and_published_by_the_next_sync(machine: Machine) -> None:
    append_corpus(machine.home, 11, 2, LAST_DAY)
    days = sorted(land(machine.warehouse, machine.settings, SOURCES).touched_days)
    stages.build(machine.warehouse, PriceSources.load(), days, ["usage_events"])
    assert machine.sync().published
    assert_consistent(machine)
    assert datetime.now(UTC) >= machine.query("SELECT max(recorded_at) FROM priced_events")[0][0]
