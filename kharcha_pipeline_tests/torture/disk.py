"""Disks that are full: a limit on the size of files, and a small file system where one may be mounted."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        self.truth: Truth = write_corpus(self.machine.home, seed, 24, 20, LAST_DAY)

    def grow(self) -> None:
        """Lets the logs grow."""
        self.turn += 1
        self.truth = merged(self.truth, append_corpus(self.machine.home, self.seed, 2, LAST_DAY, self.turn))

    def sync_in_need(self, before: Callable[[], None] | None = None) -> bool:
        """Syncs as a program of its own; tells whether it succeeded. A failure is one sentence, and nothing is lost.

        Args:
            before: called in the new process before it begins.
        """
        published = self.machine.data / "kharcha.duckdb"
        known = result(self.machine) if published.exists() else None
        environment = {**os.environ, **self.machine.environment}
        ended = subprocess.run(SYNC, env=environment, capture_output=True, text=True, preexec_fn=before, check=False)
        if ended.returncode == 0:
            assert self.machine.cells() == self.truth
            return True
        assert ended.returncode == 1, ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert ended.stderr.startswith("kharcha: "), ended.stderr
        if known is not None:
            assert_consistent(self.machine)
            assert result(self.machine) == known or self.machine.cells() == self.truth
        return False

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
        succeeded = victim.sync_in_need(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard)))  # noqa: B023
        ends["succeeded" if succeeded else "failed"] += 1
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
    """Syncs, from the first one on, on a file system that has less and less space; empty where none can be mounted."""
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
            succeeded = victim.sync_in_need()
            ends["succeeded" if succeeded else "failed"] += 1
            ballast.unlink()
            victim.sync_with_space()
            victim.grow()
    return ends
