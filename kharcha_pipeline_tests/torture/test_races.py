"""Races that were found while everything ran at once, each made to happen for certain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kharcha_pipeline import stages
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline.records import LogFile, Reading
from kharcha_pipeline.sources.claude_code import ClaudeCode
from kharcha_pipeline.sources.landing import land
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline_tests.corpus import append_corpus, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript
from kharcha_pipeline_tests.torture.agreement import assert_consistent, assert_equal_to_undisturbed

REBUCKET = [
    sys.executable,
    "-c",
    "import sys; from kharcha_pipeline.cli.main import main; sys.exit(main())",
    "rebucket",
]


def claude_code(after_reading: Callable[[], object]) -> Source:
    """The source Claude Code, with something that happens to a file right after it was read."""

    class Disturbed(ClaudeCode):
        def read(self, file: LogFile) -> Reading:
            reading = super().read(file)
            after_reading()
            return reading

    return Disturbed()


def numbered(first: int, end: int) -> list[dict[str, Any]]:
    return [line(f"msg_{number}", f"req_{number}") for number in range(first, end)]


def test_a_file_that_is_rewritten_while_it_is_read_loses_nothing(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    transcript(machine.home, *numbered(0, 3))
    source = claude_code(lambda: transcript(machine.home, *numbered(10, 18)))
    land(machine.warehouse, machine.settings, [source])
    machine.sync()
    assert machine.query("SELECT count(*) FROM usage_events") == [(3 + 8,)]


def test_a_file_that_grows_while_it_is_read_is_read_on_from_there(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    path = transcript(machine.home, *numbered(0, 3))
    machine.sync()
    known = path.stat().st_size
    content = path.read_text()
    path.write_text(content + "".join(json.dumps(said) + "\n" for said in numbered(3, 5)))
    content = path.read_text()
    source = claude_code(lambda: path.write_text(content + json.dumps(numbered(5, 6)[0]) + "\n"))
    land(machine.warehouse, machine.settings, [source])
    result = machine.sync()
    assert 0 < result.landing.bytes_read < known
    assert machine.query("SELECT count(*) FROM usage_events") == [(6,)]


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
    for day, instant in machine.raw("SELECT day, occurred_at FROM core.usage_events"):
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
