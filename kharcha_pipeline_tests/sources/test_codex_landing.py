"""Codex through the whole landing: growing, forked, archived and compressed threads in a real warehouse."""

from __future__ import annotations

from pathlib import Path

import pytest

from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.sources.codex_rollouts import CHILD, PARENT, Rollout, usage

FIRST = usage(12000, 9000, 700, 500)
SECOND = usage(20000, 12000, 300, 100)
OWN = usage(40000, 30000, 55)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.below(tmp_path)


def parent() -> Rollout:
    return Rollout().session().context().response(FIRST, 60).refresh(FIRST, 61).response(SECOND, 120)


def child() -> Rollout:
    """A fork whose copy of the history was written too slowly to be recognized without the parent."""
    rollout = Rollout(CHILD, Rollout().start + 3_600_000).session(forked_from_id=PARENT).session(id=PARENT).context()
    return rollout.response(FIRST, 3).response(SECOND, 6).response(OWN, 60)


def outputs(machine: Machine) -> list[tuple[str, int]]:
    return machine.query("SELECT session_id, output_tokens FROM usage_events ORDER BY occurred_at")


def test_a_parent_that_is_found_later_corrects_its_fork(machine: Machine) -> None:
    child().write(machine.home)
    machine.sync()
    assert outputs(machine) == [(CHILD, 700), (CHILD, 300), (CHILD, 55)]
    parent().write(machine.home)
    machine.sync()
    assert outputs(machine) == [(PARENT, 700), (PARENT, 300), (CHILD, 55)]


def test_a_thread_that_grows_is_archived_and_compressed_counts_once(machine: Machine) -> None:
    rollout = parent()
    path = rollout.write(machine.home)
    whole = path.read_bytes()
    for end in (len(whole) // 3, len(whole) - 7, len(whole)):
        path.write_bytes(whole[:end])
        machine.sync()
    expected = [(PARENT, 700), (PARENT, 300)]
    assert outputs(machine) == expected
    for where in ({"archived": True}, {"compressed": True}):
        path.unlink()
        path = rollout.write(machine.home, **where)
        machine.sync()
        assert outputs(machine) == expected
    assert machine.sync().landing.files_read == 0
    assert machine.query("SELECT count(*) FROM rejects") == [(0,)]
