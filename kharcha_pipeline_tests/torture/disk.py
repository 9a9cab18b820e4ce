"""Disks that are full: a limit on the size of files, and a small file system where one may be mounted."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kharcha_pipeline_tests.corpus import Truth, append_corpus, merged, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.torture.agreement import assert_consistent, result

SYNC = [
    sys.executable,
    "-c",
    "import sys; from kharcha_pipeline.cli.main import main; sys.exit(main())",
    "sync",
    "-q",
]
MEGABYTE = 1_000_000


class Victim:
    """A machine whose disk fills up, and the truth of its logs."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.seed, self.turn = seed, 0
        self.machine = Machine.below(directory, "victim")
        self.truth: Truth = write_corpus(self.machine.home, seed, 12, 10, LAST_DAY)

    def grow(self) -> None:
        """Lets the logs grow."""
        self.turn += 1
        self.truth = merged(self.truth, append_corpus(self.machine.home, self.seed, 2, LAST_DAY, self.turn))

    def sync_in_need(self, under: Sequence[str] = (), before: Callable[[], None] | None = None) -> str:
        """Syncs as a program of its own. A failure is one sentence, and nothing is lost.

        Args:
            under: a program that starts it, with its arguments.
            before: called in the new process before it begins.

        Returns:
            `succeeded`, `failed` or `killed`.
        """
        published = self.machine.data / "kharcha.duckdb"
        known = result(self.machine) if published.exists() else None
        environment = {**os.environ, **self.machine.environment}
        program = [*under, *SYNC]
        ended = subprocess.run(
            program, env=environment, capture_output=True, text=True, preexec_fn=before, check=False
        )
        if ended.returncode == 0:
            assert self.machine.cells() == self.truth
            return "succeeded"
        was_killed = ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if not was_killed:
            assert ended.returncode == 1, ended.stderr
            assert len(ended.stderr.splitlines()) == 1, ended.stderr
            assert ended.stderr.startswith("kharcha: "), ended.stderr
        if known is not None:
            assert_consistent(self.machine)
            assert result(self.machine) == known or self.machine.cells() == self.truth
        return "killed" if was_killed else "failed"

    def sync_with_space(self) -> None:
        """The next sync after there is space again."""
        self.machine.sync()
        assert_consistent(self.machine)
        assert self.machine.cells() == self.truth


def limit_file_sizes(directory: Path, seed: int, times: int) -> Counter[str]:
    """Syncs under random limits on the size of a file; every write beyond fails, in whatever file it is."""
    victim, rng, ends = Victim(directory, seed), random.Random(seed), Counter[str]()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    victim.sync_with_space()
    for number in range(times):
        size = (victim.machine.data / "warehouse.duckdb").stat().st_size
        smallest = size - MEGABYTE if number % 2 else 0
        limit = rng.randrange(smallest, size + MEGABYTE)
        victim.grow()
        limits = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, hard))
        ends[victim.sync_in_need(before=limits)] += 1
        victim.sync_with_space()
    return ends


@contextmanager
def mounted(directory: Path, megabytes: int) -> Iterator[bool]:
    """A file system in memory of so many megabytes at `directory`; tells whether it could be mounted."""
    directory.mkdir(parents=True)
    options = f"size={megabytes}m,mode=0700"
    program = ["mount", "-t", "tmpfs", "-o", options, "kharcha-torture", str(directory)]
    can_mount = shutil.which("mount") is not None
    is_mounted = can_mount and subprocess.run(program, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill_file_systems(directory: Path, seed: int, times: int) -> Counter[str]:
    """Syncs, from the first one on, on a file system that is nearly full; does nothing where none can be mounted."""
    victim, rng, ends = Victim(directory, seed), random.Random(seed), Counter[str]()
    with mounted(victim.machine.data, 48) as is_mounted:
        if not is_mounted:
            return ends
        ballast = victim.machine.data / "ballast"
        for _ in range(times):
            ballast.unlink(missing_ok=True)
            free = shutil.disk_usage(victim.machine.data).free
            left = rng.randrange(20 * MEGABYTE)
            with ballast.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, max(1, free - left))
            ends[victim.sync_in_need()] += 1
            ballast.unlink()
            victim.sync_with_space()
            victim.grow()
    return ends


FILES = (
    "warehouse.duckdb",
    "warehouse.duckdb.wal",
    "warehouse.duckdb.journal",
    "warehouse.duckdb.journal.new",
    "kharcha.duckdb",
    "kharcha.duckdb.new",
    "kharcha.duckdb.new.wal",
)
FAULTS = ("error=EIO", "error=ENOSPC", "signal=KILL")
CALLS = {
    "openat": 30,
    "pwrite64": 40,
    "write": 20,
    "fsync": 5,
    "fdatasync": 16,
    "ftruncate": 2,
    "rename": 4,
    "unlink": 8,
    "copy_file_range": 1,
    "sendfile": 1,
}
"""Calls that change the data directory, and about how often one sync makes each of them."""


def inject_faults(directory: Path, seed: int, seconds: float) -> Counter[str]:
    """Syncs under strace, which fails one call on our files or kills the process there; nothing without strace."""
    victim, rng, ends = Victim(directory, seed), random.Random(seed), Counter[str]()
    strace = shutil.which("strace")
    if strace is None:
        return ends
    victim.sync_with_space()
    paths = [argument for name in FILES for argument in ("-P", str(victim.machine.data / name))]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        call = rng.choice(list(CALLS))
        fault = f"inject={call}:{rng.choice(FAULTS)}:when={rng.randrange(1, CALLS[call] + 1)}"
        victim.grow()
        under = [strace, "-f", "-qq", "-o", os.devnull, *paths, "-e", f"trace={call}", "-e", fault]
        ends[victim.sync_in_need(under)] += 1
        victim.sync_with_space()
    return ends
