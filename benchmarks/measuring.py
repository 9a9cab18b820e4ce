"""Measures whole processes: CPU time, wall time, memory. What is compared runs in turn, and medians are compared."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.corpora import CHECKOUT

RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit in which the operating system tells the peak memory."""

SECONDS_BETWEEN_LOOKS = 0.05
_PROPORTIONAL = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


class ProcessFailedError(Exception):
    """A measured process ended with an error."""


class Usage(NamedTuple):
    """What one process used, its finished children included.

    Attributes:
        cpu: seconds of CPU time, user and system.
        wall: seconds from start to end.
        peak: bytes of memory, of the largest of its processes.
        output: what it printed.
    """

    cpu: float
    wall: float
    peak: int
    output: str


def run(command: Sequence[str | Path], environment: Mapping[str, str]) -> Usage:
    """Runs a process to its end and tells what it used.

    Raises:
        ProcessFailedError: when it ends with an error.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=output, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = errors.read().decode(errors="replace").strip()[-2000:]
            raise ProcessFailedError(f"{Path(command[0]).name} ended with {process.returncode}: {said}")
        return Usage(
            used.ru_utime + used.ru_stime,
            wall,
            used.ru_maxrss * RUSAGE_UNIT,
            output.read().decode(errors="replace"),
        )


def peak_memory(command: Sequence[str | Path], environment: Mapping[str, str]) -> int:
    """The largest memory of a process and its children at one moment, in bytes; shared pages count once.

    Where the operating system does not tell the sum (macOS), that of the largest process.
    """
    ended = threading.Event()
    largest = [0]

    def look() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            largest[0] = max(largest[0], sum(map(_proportional_memory, _descendants(os.getpid()))))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        used = run(command, environment)
    finally:
        ended.set()
        watcher.join()
    return max(largest[0], used.peak)


def _descendants(process: int) -> list[int]:
    found: list[int] = []
    waiting = [process]
    while waiting:
        current = waiting.pop()
        for listing in Path(f"/proc/{current}/task").glob("*/children"):
            try:
                children = [int(child) for child in listing.read_text().split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def _proportional_memory(process: int) -> int:
    try:
        match = _PROPORTIONAL.search(Path(f"/proc/{process}/smaps_rollup").read_bytes())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


class Samples(NamedTuple):
    """One quantity, measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one: what else goes on at the machine moves it least."""
        return statistics.median(self.values)


def cpu(usages: Sequence[Usage]) -> Samples:
    """Seconds of CPU time."""
    return Samples(tuple(used.cpu for used in usages))


def wall(usages: Sequence[Usage]) -> Samples:
    """Seconds of wall time."""
    return Samples(tuple(used.wall for used in usages))


def printed(usages: Sequence[Usage], field: int = 0) -> Samples:
    """One of the numbers that the program printed about itself."""
    return Samples(tuple(float(used.output.split()[field]) for used in usages))


def in_turn(rounds: int, **contenders: Callable[[], Usage]) -> dict[str, list[Usage]]:
    """Runs all contenders once unmeasured, then `rounds` times in turn (A B A B …)."""
    found: dict[str, list[Usage]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            used = contender()
            if number:
                found[name].append(used)
    return found
