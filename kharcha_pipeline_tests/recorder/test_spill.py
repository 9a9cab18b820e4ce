"""When the database cannot take a call: it is kept aside and drained exactly once, and the caller never notices."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from kharcha_pipeline.recorder import Recorder, Statistics
from kharcha_pipeline.recorder.spill import LARGEST_FILE, Spill
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.recorder.database import NOW, call, rows
from kharcha_pipeline_tests.recorder.test_processes import assert_consistent, in_child


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Somebody else writes into the database and does not finish."""
    with closing(sqlite3.connect(data / "recorder.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.fixture
def hasty(machine: Machine) -> Iterator[Recorder]:
    """A recorder that waits for nobody."""
    with Recorder(busy_ms=1, clock=lambda: NOW) as recorder:
        yield recorder


def spill_of(machine: Machine) -> list[Path]:
    return sorted((machine.data / "recorder.spill").glob("*"))


def test_calls_beside_a_locked_database_are_drained_once_by_the_next_call(hasty: Recorder, machine: Machine) -> None:
    with locked(machine.data):
        for number in range(5):
            hasty.record_usage(call(request_id=f"spilled {number}"))
        hasty.record_usage(call(account=None))
        assert hasty.statistics == Statistics(spilled=6, rejected=1)
    assert len(spill_of(machine)) == 1
    hasty.record_usage(call(request_id="next"))
    assert hasty.statistics == Statistics(recorded=1, spilled=6, drained=6, rejected=1)
    assert set(assert_consistent(machine.data)) == {"next", *(f"spilled {number}" for number in range(5))}
    assert [row["reason"] for row in rows(machine.data, "rejects")] == ["account is missing"]
    assert not (machine.data / "recorder.spill").exists()


def test_sync_drains_as_well_and_is_not_held_to_be_unneeded(hasty: Recorder, machine: Machine) -> None:
    hasty.record_usage(call(request_id="first"))
    hasty.close()
    machine.sync()
    with locked(machine.data):
        hasty.record_usage(call(request_id="second"))
    hasty.close()
    machine.sync()
    machine.sync()
    assert not (machine.data / "recorder.spill").exists()
    assert machine.query("SELECT count(*), sum(input_tokens)::BIGINT FROM usage_events") == [(2, 200)]


def test_how_long_a_caller_waits_is_bounded(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by a clock that only sleeping moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    recorder = Recorder()
    with locked(machine.data):
        recorder.record_usage(call())
    assert 0.2 <= now[0] < 0.21
    assert recorder.statistics.spilled == 1


def test_draining_twice_doubles_nothing(hasty: Recorder, machine: Machine) -> None:
    """As after a kill between the commit and the removal of the file."""
    with locked(machine.data):
        for number in range(3):
            hasty.record_usage(call(usage={"input_tokens": number}))
        hasty.record_usage(call(account=7))
    (file,) = spill_of(machine)
    kept = machine.home / "kept"
    with file.open("ab") as stream:
        stream.write(b'{"call": {"event_id": 7}}\nno json\n\n')
    shutil.copy(file, kept)
    hasty.record_usage(call())
    before = [rows(machine.data, table) for table in ("usage_events", "usage_daily")]
    rejects = len(rows(machine.data, "rejects"))
    assert rejects == 1 + 3
    for _ in range(2):
        (machine.data / "recorder.spill").mkdir()
        shutil.copy(kept, file)
        machine.sync()
        assert [rows(machine.data, table) for table in ("usage_events", "usage_daily")] == before
    assert hasty.statistics.drained == 3 + 1 + 3


def test_a_spilled_call_that_was_recorded_meanwhile_counts_once(hasty: Recorder, machine: Machine) -> None:
    with locked(machine.data):
        hasty.record_usage(call(request_id="req_1"))
    kept = machine.home / "kept"
    (file,) = spill_of(machine)
    file.rename(kept)
    hasty.record_usage(call(request_id="req_1"))
    (machine.data / "recorder.spill").mkdir(exist_ok=True)
    kept.rename(file)
    hasty.record_usage(call(request_id="req_1"))
    assert assert_consistent(machine.data) == Counter(["req_1"])


def test_a_file_of_spilled_calls_is_bounded_and_a_call_drains_one_of_them(hasty: Recorder, machine: Machine) -> None:
    with locked(machine.data):
        while len(spill_of(machine)) < 3:
            hasty.record_usage(call())
    assert max(path.stat().st_size for path in spill_of(machine)) < LARGEST_FILE + 2000
    spilled = hasty.statistics.spilled
    for _ in range(3):
        assert spill_of(machine)
        hasty.record_usage(call())
    assert not spill_of(machine)
    assert hasty.statistics.drained == spilled
    assert len(rows(machine.data, "usage_events")) == spilled + 3


def test_lines_of_many_processes_stay_whole_while_others_drain(machine: Machine) -> None:
    spill = Spill(machine.data / "recorder.spill")
    children = []
    for child in range(3):
        process = os.fork()
        if process == 0:
            for number in range(500):
                spill.add(json.dumps([child, number] + ["x"] * 50).encode() + b"\n")
            os._exit(0)
        children.append(process)
    found: Counter[tuple[int, int]] = Counter()
    while children or spill.exists():
        for file in spill.files():
            found.update((line[0], line[1]) for line in map(json.loads, file.read_bytes().splitlines()))
            spill.remove(file)
        children = [child for child in children if os.waitpid(child, os.WNOHANG)[0] == 0]
    assert found == Counter((child, number) for child in range(3) for number in range(500))


def test_a_lock_that_nobody_frees_stops_no_spilling(hasty: Recorder, machine: Machine) -> None:
    with locked(machine.data):
        hasty.record_usage(call())
        with (machine.data / "recorder.spill" / "current.jsonl").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            hasty.record_usage(call())
            hasty.record_usage(call())
    assert len(spill_of(machine)) == 3
    for _ in range(3):
        hasty.record_usage(call())
    assert len(rows(machine.data, "usage_events")) == 6
    assert not spill_of(machine)


def test_a_database_that_cannot_be_opened_fills_the_spill_until_it_can(machine: Machine) -> None:
    (machine.data / "recorder.sqlite").mkdir(parents=True)
    with Recorder() as recorder:
        recorder.record_usage(call(request_id="1"))
        assert recorder.statistics == Statistics(spilled=1)
        (machine.data / "recorder.sqlite").rmdir()
        recorder.record_usage(call(request_id="2"))
    assert set(assert_consistent(machine.data)) == {"1", "2"}


def test_a_file_that_is_no_database_is_left_as_it_is(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.data.mkdir()
    content = b"somebody's notes, longer than a header of a database is" * 50
    (machine.data / "recorder.sqlite").write_bytes(content)
    with Recorder() as recorder:
        recorder.record_usage(call())
        assert recorder.statistics == Statistics(spilled=1)
    assert "file is not a database" in caplog.text
    result = machine.sync()
    assert any("could not be tended (file is not a database)" in warning for warning in result.built.warnings)
    assert machine.query("SELECT reason FROM rejects") == [("database is damaged",)]
    assert (machine.data / "recorder.sqlite").read_bytes() == content
    assert len(spill_of(machine)) == 1


def test_where_nothing_can_be_written_a_call_is_lost_loudly(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.data.write_text("a file where the data directory should be")
    with Recorder() as recorder, caplog.at_level(logging.ERROR):
        recorder.record_usage(call())
        recorder.record_usage(call())
    assert recorder.statistics == Statistics(lost=2)
    assert "could not be recorded and is lost" in caplog.text


def test_a_logging_handler_that_fails_is_not_the_callers_trouble(machine: Machine) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError

    logger = logging.getLogger("kharcha_pipeline.recorder")
    logger.addHandler(handler := Broken())
    try:
        machine.data.write_text("no directory")
        Recorder().record_usage(call())
    finally:
        logger.removeHandler(handler)


def test_a_full_disk_harms_no_caller_and_what_fits_is_kept(machine: Machine) -> None:
    Recorder().close()
    size = (machine.data / "recorder.sqlite").stat().st_size

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        recorder = Recorder()
        for number in range(2000):
            recorder.record_usage(call(request_id=str(number), account="x" * 100))
        told = recorder.statistics
        assert told.recorded + told.spilled + told.lost == 2000
        assert told.recorded and told.spilled
        (machine.home / "told").write_text(f"{told.recorded + told.spilled}")

    in_child(fill)
    machine.sync()
    found = assert_consistent(machine.data)
    assert len(found) == int((machine.home / "told").read_text())


def test_a_process_that_is_killed_while_it_drains_doubles_nothing(machine: Machine) -> None:
    with Recorder(busy_ms=1) as recorder, locked(machine.data):
        for number in range(300):
            recorder.record_usage(call(request_id=str(number)))
    script = """
import os, signal
from kharcha_pipeline.recorder import Recorder
from kharcha_pipeline.recorder.spill import Spill
from kharcha_pipeline_tests.recorder.database import call
Spill.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Recorder().record_usage(call(request_id="killed"))
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert spill_of(machine)
    machine.sync()
    assert not spill_of(machine)
    expected = Counter([*map(str, range(300)), "killed"])
    assert assert_consistent(machine.data) == expected
    assert machine.query("SELECT count(*) FROM usage_events") == [(301,)]
