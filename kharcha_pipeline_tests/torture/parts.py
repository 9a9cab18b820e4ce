"""What `make torture` does, part by part: each works for so long and says how often it did what.

A part runs in a process and a directory of its own. Whatever it raises is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kharcha_pipeline_tests.hostile import fuzz
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.sources.test_claude_code import line
from kharcha_pipeline_tests.torture import concurrency, crashes, disk, program, rapid, versions, writers
from kharcha_pipeline_tests.torture.findings import Finding

ATHERIS = "atheris==3.0.0"
ROUND = 60.0
"""Seconds after which what goes on for long begins anew, with another seed."""


class Part(NamedTuple):
    """A part and its weight: how the time is divided among those that run one after the other."""

    work: Callable[[Path, int, float], Iterator[Finding]]
    weight: float


def everything_at_once(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    rounds, growths, longest = Counter[str](), 0, Counter[str]()
    for turn in _rounds(directory, seed, seconds):
        work = concurrency.run(*turn, concurrency.MORE_WORKERS)
        rounds.update(work.rounds)
        growths += work.growths
        longest |= Counter(work.longest_seconds)
    slowest, took = longest.most_common(1)[0]
    yield Finding(
        f"{len(concurrency.MORE_WORKERS)} processes on one data directory",
        f"{_counted(rounds)}; logs grew {growths} times",
        f"{took:.1f} s for one {slowest}, waiting included",
    )


def agents_at_work(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    done = [writers.run(*turn) for turn in _rounds(directory, seed, seconds)]
    yield Finding(
        "Logs written, rewritten, moved and deleted while they are read",
        f"{sum(one.syncs for one in done):,} syncs, {sum(one.files_read for one in done):,} files read, "
        f"{sum(one.events for one in done):,} responses",
    )


def kills(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    done = crashes.run(directory, seed, sys.maxsize, seconds)
    yield Finding(
        "SIGKILL at a random instant, then the next run",
        f"{done.killed.total()} kills: {_counted(done.killed)}; {done.finished.total()} came too late",
        f"{done.longest_repair:.1f} s for the next run",
    )


def rapid_kills(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    command = [sys.executable, "-m", rapid.__name__, str(directory), str(seconds), str(seed)]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    yield Finding(
        "SIGKILL of a writer, many times a second",
        f"{said['killed']:,} kills; all {said['committed']:,} transactions that were committed are there",
    )


def limited_files(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    yield _disturbed("Files that may not grow", disk.limit_file_sizes(directory, seed, sys.maxsize, seconds))


def full_disks(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    ends = disk.fill_file_systems(directory, seed, sys.maxsize, seconds)
    yield _disturbed("A disk that is full (ENOSPC)", ends, "no file system can be mounted here")


def failing_calls(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    ends = disk.inject_faults(directory, seed, sys.maxsize, seconds)
    yield _disturbed("One system call that fails (EIO, ENOSPC) or kills", ends, "strace is not installed")


def other_versions(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    return versions.run(directory, seed, seconds)


def a_long_line(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    """A line of a gigabyte between two responses costs neither of them, and little memory."""
    machine = Machine.below(directory)
    path = machine.home / ".claude/projects/p/s.jsonl"
    path.parent.mkdir(parents=True)
    piece = b"x" * (1 << 20)
    with path.open("wb") as stream:
        stream.write(json.dumps(line("msg_1", "req_1")).encode() + b'\n{"type":"assistant","text":"')
        for _ in range(1 << 10):
            stream.write(piece)
        stream.write(b'"}\n' + json.dumps(line("msg_2", "req_2")).encode() + b"\n")
    began = time.monotonic()
    process = subprocess.Popen(program.command("sync", seed, machine))
    _, status, used = os.wait4(process.pid, 0)
    took, mebibytes = time.monotonic() - began, used.ru_maxrss // 1024
    assert os.waitstatus_to_exitcode(status) == 0
    assert machine.query("SELECT count(*) FROM priced_events") == [(2,)]
    assert machine.query("SELECT count(*) FROM rejects") == [(1,)]
    assert mebibytes < MOST_MEMORY, mebibytes
    yield Finding("A line of 1 GiB", f"the responses around it are read with {mebibytes} MiB", f"{took:.1f} s")


MOST_MEMORY = 600
"""MiB of one sync."""


def fuzzing(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    """Every kind of file in turn, guided by coverage where atheris is to be had."""
    packages = directory / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), ATHERIS]
    is_guided = subprocess.run(pip, check=False).returncode == 0
    environment = os.environ | ({"PYTHONPATH": str(packages)} if is_guided else {})
    deadline = time.monotonic() + seconds
    cases, guided, failures = 0, 0, 0
    for number, name in enumerate(fuzz.NAMES):
        share = max(1.0, (deadline - time.monotonic()) / (len(fuzz.NAMES) - number))
        command = [sys.executable, "-m", fuzz.__name__, name, "--seconds", str(share), "--first-seed", str(seed)]
        ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
        failures += bool(ended.returncode)
        if not ended.returncode:
            said = fuzz.Fuzzed(*json.loads(ended.stdout))
            cases, guided = cases + said.cases, guided + said.guided
    how = (
        f"{guided} of them guided by coverage ({ATHERIS})" if guided else "from seeds; atheris is not to be had here"
    )
    yield Finding("Fuzzing every reader", f"{cases:,} cases of {len(fuzz.NAMES)} kinds, {how}", failures=failures)


DISTURBANCES = {
    "kills": Part(kills, 0.32),
    "rapid-kills": Part(rapid_kills, 0.08),
    "limited-files": Part(limited_files, 0.07),
    "full-disks": Part(full_disks, 0.07),
    "failing-calls": Part(failing_calls, 0.10),
    "agents-at-work": Part(agents_at_work, 0.14),
    "everything-at-once": Part(everything_at_once, 0.22),
}
"""Those of one process come first, while the other lane installs: eleven processes would leave it little."""

VARIETY = {
    "other-versions": Part(other_versions, 0.62),
    "a-long-line": Part(a_long_line, 0.03),
    "fuzzing": Part(fuzzing, 0.35),
}
PARTS = DISTURBANCES | VARIETY


def _rounds(directory: Path, seed: int, seconds: float) -> Iterator[tuple[Path, int, float]]:
    """Divides the time into rounds: directory, seed and seconds of each."""
    deadline = time.monotonic() + seconds
    number = 0
    while not number or time.monotonic() < deadline - ROUND / 10:
        place = directory / f"round-{number}"
        place.mkdir()
        print(f"round {number}, seed {seed + number}", flush=True)
        yield place, seed + number, min(ROUND, max(1.0, deadline - time.monotonic()))
        shutil.rmtree(place)
        number += 1


def _counted(times: Counter[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in times.items())


def _disturbed(what: str, ends: disk.Ends, why_not: str = "") -> Finding:
    if not ends:
        return Finding(what, f"not done: {why_not}")
    by_end = Counter[str]()
    for (_, end), times in ends.items():
        by_end[end] += times
    operations = sorted({disturbed for disturbed, _ in ends})
    return Finding(what, f"{ends.total()} operations ({', '.join(operations)}): {_counted(by_end)}")
