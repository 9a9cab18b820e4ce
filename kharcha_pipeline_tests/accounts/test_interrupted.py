"""Polls that are killed anywhere, polls beside each other, and a month of 100,000 events in little memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.failures import AccountsError
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.storing import ACCOUNT, START, apply, event, opened, rows

DAYS = 5
EVENTS_A_DAY = 40
FIRST, SECOND = START + 40 * DAY_MS, START + 41 * DAY_MS

FORKED = multiprocessing.get_context("fork")
"""A process that begins at once: most of them are killed."""


def day(number: int, charged: str) -> list[VendorEvent]:
    """A day of events, each fourth a twin of the one before."""
    begin = START + number * DAY_MS
    return [event(at_ms=begin + minute - (minute % 4 == 3), charged=charged) for minute in range(EVENTS_A_DAY)]


def polls(directory: Path) -> None:
    """Reads all days twice: half of the amounts are others the second time."""
    with AccountStore(directory) as store, store.polling(ACCOUNT):
        for fetched_ms, charged in ((FIRST, "0.1"), (SECOND, "0.2")):
            for number in range(DAYS):
                window = Window(START + number * DAY_MS, START + (number + 1) * DAY_MS)
                half = day(number, "0.1")[::2] + day(number, charged)[1::2]
                apply(store, half, fetched_ms, window=window)
            store.note_poll(ACCOUNT, fetched_ms, None, succeeded=True)


def everything(directory: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored but for ids, which tell where polls began again."""
    with AccountStore(directory) as store:
        return {
            "versions": rows(
                store, "SELECT group_key, ordinal, content, seen_at, reason FROM versions ORDER BY 1, 2, versions.id"
            ),
            "items": rows(store, "SELECT group_key, ordinal, missed, guarded FROM items ORDER BY 1, 2"),
            "readings": rows(store, "SELECT from_ms, until_ms, fetched_at, status FROM readings ORDER BY 1, 2, 3"),
            "answers": rows(store, "SELECT sha256, count(*) FROM answers GROUP BY 1 ORDER BY 1"),
            "account": rows(store, "SELECT events, last_success FROM accounts"),
        }


def check_whole_windows(directory: Path) -> None:
    """Each window is there with all of its items and answers, or not at all."""
    with AccountStore(directory) as store:
        assert rows(store, "PRAGMA integrity_check") == [("ok",)]
        assert rows(store, "PRAGMA foreign_key_check") == []
        read = {from_ms for (from_ms,) in rows(store, "SELECT DISTINCT from_ms FROM readings")}
        for number in range(DAYS):
            begin = START + number * DAY_MS
            query = "SELECT count(*) FROM items WHERE at_ms >= ? AND at_ms < ?"
            assert rows(store, query, begin, begin + DAY_MS) == [(EVENTS_A_DAY if begin in read else 0,)]
            again = rows(store, "SELECT id FROM readings WHERE from_ms = ? AND fetched_at = ?", begin, SECOND)
            query = "SELECT count(*) FROM versions WHERE at_ms >= ? AND at_ms < ? AND reason = 'revised'"
            assert rows(store, query, begin, begin + DAY_MS) == [(EVENTS_A_DAY // 2 if again else 0,)]
        assert rows(store, "SELECT count(*) FROM readings WHERE id NOT IN (SELECT reading FROM answers)") == [(0,)]
        newest = "SELECT count(*) FROM items WHERE version <> (SELECT max(id) FROM versions WHERE item = items.id)"
        assert rows(store, newest) == [(0,)]


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What is stored when nothing was killed."""
    opened(tmp_path / "whole").close()
    polls(tmp_path / "whole")
    check_whole_windows(tmp_path / "whole")
    return everything(tmp_path / "whole")


def _dies_at(step: int, directory: Path) -> None:
    """Polls until so many functions were called, and dies without a word."""
    left = step

    def count(frame: object, what: str, argument: object) -> None:
        nonlocal left
        if what in ("call", "c_call"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    polls(directory)


def _steps(directory: Path) -> int:
    """How many functions a whole poll calls."""
    steps = 0

    def count(frame: object, what: str, argument: object) -> None:
        nonlocal steps
        steps += what in ("call", "c_call")

    sys.setprofile(count)
    try:
        polls(directory)
    finally:
        sys.setprofile(None)
    return steps


def run(task: Callable[..., None], *arguments: object) -> int | None:
    """Runs a task in a process of its own and returns how it ended."""
    process = FORKED.Process(target=task, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def test_killed_at_any_step_of_a_poll_there_is_no_gap_and_no_double(
    tmp_path: Path, expected: dict[str, list[tuple[Any, ...]]]
) -> None:
    opened(tmp_path / "counted").close()
    steps = _steps(tmp_path / "counted")
    chance = random.Random(7)
    killed = 0
    for attempt in range(3):
        directory = tmp_path / str(attempt)
        opened(directory).close()
        for _ in range(12):
            killed += run(_dies_at, chance.randrange(steps // 20, steps), directory) == -signal.SIGKILL
            check_whole_windows(directory)
        polls(directory)
        assert everything(directory) == expected
    assert killed > 20


def test_killed_at_any_instant_of_a_poll_there_is_no_gap_and_no_double(
    tmp_path: Path, expected: dict[str, list[tuple[Any, ...]]]
) -> None:
    opened(tmp_path / "killed").close()
    chance = random.Random(11)
    killed = 0
    for _ in range(20):
        process = FORKED.Process(target=polls, args=(tmp_path / "killed",))
        process.start()
        time.sleep(chance.uniform(0.0, 0.2))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        check_whole_windows(tmp_path / "killed")
    assert killed
    polls(tmp_path / "killed")
    assert everything(tmp_path / "killed") == expected


def _polls_when_it_may(directory: Path) -> None:
    for _ in range(3):
        with suppress(AccountsError):  # the other one is at it
            polls(directory)
    while True:
        with suppress(AccountsError):
            polls(directory)
            return


def test_two_processes_that_poll_one_account(tmp_path: Path, expected: dict[str, list[tuple[Any, ...]]]) -> None:
    opened(tmp_path / "shared").close()
    processes = [FORKED.Process(target=_polls_when_it_may, args=(tmp_path / "shared",)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    check_whole_windows(tmp_path / "shared")
    assert everything(tmp_path / "shared") == expected


def _applies_without_asking(directory: Path, seed: int) -> None:
    chance = random.Random(seed)
    with AccountStore(directory) as store:
        for _ in range(40):
            number = chance.randrange(DAYS)
            window = Window(START + number * DAY_MS, START + (number + 1) * DAY_MS)
            fetched_ms, charged = chance.choice(((FIRST, "0.1"), (SECOND, "0.2")))
            half = day(number, "0.1")[::2] + day(number, charged)[1::2]
            apply(store, half, fetched_ms, window=window)


def test_two_processes_that_apply_the_same_windows_at_once(
    tmp_path: Path, expected: dict[str, list[tuple[Any, ...]]]
) -> None:
    opened(tmp_path / "shared").close()
    processes = [
        FORKED.Process(target=_applies_without_asking, args=(tmp_path / "shared", seed)) for seed in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    polls(tmp_path / "shared")  # whatever they did not come to
    assert everything(tmp_path / "shared")["items"] == expected["items"]
    with AccountStore(tmp_path / "shared") as store, AccountStore(tmp_path / "whole") as whole:
        newest = """
            SELECT versions.group_key, versions.ordinal, content FROM items
            JOIN versions ON versions.id = items.version ORDER BY 1, 2
        """
        assert rows(store, newest) == rows(whole, newest)


MONTH = """
import json, re, sys
from pathlib import Path
from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.storing import START, apply, event, opened

def peak():  # not getrusage, which counts what the process was before it became this program
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

directory, days, events = Path(sys.argv[1]), 30, int(sys.argv[2])
peaks = []
with opened(directory) as store:
    for poll in range(2):
        for day in range(days):
            begin = START + day * DAY_MS
            window = Window(begin, begin + DAY_MS)
            step = DAY_MS // events
            items = [event(at_ms=begin + number * step, user="somebody@example.com") for number in range(events)]
            apply(store, items, START + (40 + poll) * DAY_MS, window=window)
            peaks.append(peak())
print(json.dumps(peaks))
"""


def test_a_month_of_100_000_events_in_windows_of_a_day_is_bounded_in_memory(tmp_path: Path) -> None:
    a_day = 3_334
    ended = subprocess.run(
        [sys.executable, "-c", MONTH, str(tmp_path), str(a_day)], capture_output=True, text=True, check=True
    )
    peaks = json.loads(ended.stdout)
    with closing(sqlite3.connect(tmp_path / "accounts.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM versions").fetchone() == (30 * a_day,)
    # What the first days took is what all of them take: nothing is kept from one window to the next.
    assert peaks[-1] - peaks[2] < 40 * 1024 * 1024
    assert peaks[-1] < 400 * 1024 * 1024


def test_windows_that_end_now_leave_few_readings_that_stand(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for hour in range(1, 73):
            now_ms = START + hour * HOUR_MS
            for number in range((hour - 1) // 24 + 1):
                begin = START + number * DAY_MS
                apply(store, [], now_ms, window=Window(begin, min(begin + DAY_MS, now_ms)))
        assert rows(store, "SELECT count(*) FROM readings WHERE status = 'applied'") == [(3,)]
        assert store.covered(ACCOUNT, "events") == [Window(START, START + 3 * DAY_MS)]
