"""Many threads, many processes, forks, and SIGKILL at any instant: every acknowledged call is there, once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.recorder import Recorder, Statistics
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.recorder.database import NOW, call, rows


def start(name: str, calls: int, output: Path) -> subprocess.Popen[bytes]:
    """A process that records calls."""
    command = [sys.executable, "-m", "kharcha_pipeline_tests.recorder.caller", name, str(calls)]
    with output.open("wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.PIPE)


def assert_consistent(data: Path) -> Counter[str]:
    """The request ids that are stored; the daily sums must be those of the rows."""
    events = rows(data, "usage_events")
    days = rows(data, "usage_daily")
    assert sum(day["req_count"] for day in days) == len(events)
    assert sum(day["input_tokens"] for day in days) == sum(event["input_tokens"] for event in events)
    with closing(sqlite3.connect(data / "recorder.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return Counter(event["request_id"] for event in events)


def drained(data: Path) -> None:
    """Takes what was spilled into the database, as the next call or sync does."""
    with Recorder(data) as recorder:
        while (data / "recorder.spill").exists():
            recorder.record_usage(call(request_id="drains"))


def test_threads_share_a_recorder(recorder: Recorder, machine: Machine) -> None:
    def record(thread: int) -> None:
        for number in range(200):
            recorder.record_usage(call(request_id=f"{thread}-{number}"))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drained(machine.data)
    found = assert_consistent(machine.data)
    assert recorder.statistics.lost == 0
    assert {name for name in found if name != "drains"} == {f"{a}-{b}" for a in range(8) for b in range(200)}


def test_four_processes_at_once_lose_nothing(machine: Machine, tmp_path: Path) -> None:
    processes = [start(f"p{number}", 400, tmp_path / f"{number}") for number in range(4)]
    for process in processes:
        assert process.wait() == 0
        assert process.stderr is not None
        recorded, spilled, lost = map(int, process.stderr.read().split()[-3:])
        process.stderr.close()
        assert (recorded + spilled, lost) == (400, 0)
    drained(machine.data)
    found = assert_consistent(machine.data)
    assert found - Counter(drains=1) == Counter(f"p{a}-{b}" for a in range(4) for b in range(400))


def test_every_acknowledged_call_of_killed_processes_is_there_once(machine: Machine, tmp_path: Path) -> None:
    rng = random.Random(4711)
    outputs = []
    Recorder().close()
    for turn in range(8):
        processes = []
        for number in range(2):
            output = tmp_path / f"{turn}-{number}"
            processes.append(start(f"t{turn}p{number}", 0, output))
            outputs.append(output)
        while not all(output.stat().st_size for output in outputs[-2:]):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
        assert_consistent(machine.data)
    acknowledged = {
        line for output in outputs for line in output.read_text().splitlines(keepends=True) if line.endswith("\n")
    }
    drained(machine.data)
    machine.sync()
    found = assert_consistent(machine.data)
    assert len(acknowledged) > 100
    assert {line.strip() for line in acknowledged} <= found.keys()
    assert set(found.values()) == {1}
    assert machine.query("SELECT count(*) FROM usage_events") == [(len(found),)]


# -------------------------------------------------------------------------------------------------------- forks


def in_child(work: Any) -> None:
    """Does something in a forked process and waits for it."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_opens_its_own_connection(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call(request_id="before"))

    def child() -> None:
        assert recorder.statistics == Statistics()
        recorder.record_usage(call(request_id="child"))
        in_child(lambda: recorder.record_usage(call(request_id="grandchild")))
        recorder.record_usage(call(request_id="child again"))

    in_child(child)
    recorder.record_usage(call(request_id="after"))
    assert set(assert_consistent(machine.data)) == {"before", "child", "grandchild", "child again", "after"}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_that_outlives_its_parent_keeps_its_locks(machine: Machine) -> None:
    """As a daemon does. The last to close a database removes its write-ahead log: nobody may believe to be it."""
    script = """
import os, sys
from kharcha_pipeline.recorder import Recorder
from kharcha_pipeline_tests.recorder.database import call
recorder = Recorder()
recorder.record_usage(call(request_id="parent"))
told, heard = os.pipe(), os.pipe()
if os.fork():
    os.read(told[0], 1)
    os._exit(0)
recorder.record_usage(call(request_id="child"))
os.write(told[1], b".")
sys.stdin.read(1)
recorder.record_usage(call(request_id="child again"))
print(recorder.statistics.recorded, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.wait()  # the parent; the child still holds the pipes
        with Recorder() as other:
            other.record_usage(call(request_id="other"))
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(".")
        process.stdin.flush()
        assert process.stdout.readline() == "2\n"
    assert set(assert_consistent(machine.data)) == {"parent", "child", "other", "child again"}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_records_hangs_nobody(recorder: Recorder, machine: Machine) -> None:
    ended = threading.Event()

    def record() -> None:
        while not ended.is_set():
            recorder.record_usage(call())

    thread = threading.Thread(target=record)
    thread.start()
    try:
        for number in range(10):
            in_child(lambda number=number: recorder.record_usage(call(request_id=f"child {number}")))  # type: ignore[misc]
    finally:
        ended.set()
        thread.join()
    drained(machine.data)
    assert {f"child {number}" for number in range(10)} <= set(assert_consistent(machine.data))


def test_a_process_whose_fork_nobody_announced_starts_anew(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call(request_id="before"))
    recorder._process = -1  # as after a fork by something that told Python nothing
    recorder._lock.acquire()  # and while another thread recorded
    recorder.record_usage(call(request_id="after"))
    assert set(assert_consistent(machine.data)) == {"before", "after"}
    assert recorder.statistics == Statistics(recorded=1)
    assert rows(machine.data, "usage_events")[0]["occurred_at"] == NOW
