"""Disks that are full or fail: a limit on the size of files, a small file system, single system calls that fail."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from kharcha_pipeline_tests.torture import program
from kharcha_pipeline_tests.torture.agreement import assert_consistent
from kharcha_pipeline_tests.torture.scene import DISTURBED, Scene

MEGABYTE = 1_000_000

Ends = Counter[tuple[str, str]]
"""What was disturbed and how it ended, `succeeded`, `failed` or `killed`, and how often."""


def in_need(
    scene: Scene, disturbed: str, under: Sequence[str] = (), before: Callable[[], None] | None = None
) -> tuple[str, str]:
    """Does an operation as a program of its own. A failure is one sentence, and readers see no part of it.

    Args:
        scene: where it is done.
        disturbed: what is done; `scene` is prepared for it.
        under: a program that starts it, with its arguments.
        before: called in the new process before it begins.
    """
    operation = disturbed.split()[-1]
    command = program.command(operation, scene.rng.randrange(1_000_000), scene.machine)
    ended = subprocess.run([*under, *command], capture_output=True, text=True, preexec_fn=before, check=False)
    if (scene.machine.data / "kharcha.duckdb").exists():
        assert_consistent(scene.machine)
    if ended.returncode == 0:
        return disturbed, "succeeded"
    if ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return disturbed, "killed"
    assert ended.returncode == 1, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("kharcha: "), ended.stderr
    return disturbed, "failed"


def limit_file_sizes(directory: Path, seed: int, times: int, seconds: float = float("inf")) -> Ends:
    """Works under random limits on the size of a file; every write beyond fails, in whatever file it is."""
    scene, ends = Scene(directory, seed), Ends()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for disturbed in _in_turn(times, seconds):
        size = (scene.machine.data / "warehouse.duckdb").stat().st_size
        scene.prepare(disturbed)
        limit = scene.rng.randrange(scene.rng.choice((0, max(0, size - MEGABYTE))), size)
        limits = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, hard))
        ends[in_need(scene, disturbed, before=limits)] += 1
        scene.repair()
    scene.compare()
    return ends


def _in_turn(times: int, seconds: float) -> Iterator[str]:
    """What to disturb next, so many times at most and for so long at most."""
    deadline = time.monotonic() + seconds
    for disturbed in islice(cycle(DISTURBED), times):
        if time.monotonic() >= deadline:
            return
        yield disturbed


MEGABYTES = 64
"""Of the file system that is filled: enough for all that is done there, with the ballast away."""


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


def fill_file_systems(directory: Path, seed: int, times: int, seconds: float = float("inf")) -> Ends:
    """Works on a file system that is nearly full; does nothing where none can be mounted."""
    ends = Ends()
    with mounted(directory / "victim" / "data", MEGABYTES) as is_mounted:
        if not is_mounted:
            return ends
        scene = Scene(directory, seed)
        ballast = scene.machine.data / "ballast"
        for disturbed in _in_turn(times, seconds):
            scene.prepare(disturbed)
            free = shutil.disk_usage(scene.machine.data).free
            with ballast.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, max(1, free - scene.rng.randrange(8 * MEGABYTE)))
            ends[in_need(scene, disturbed)] += 1
            ballast.unlink()
            scene.repair()
        scene.compare()
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


def inject_faults(directory: Path, seed: int, times: int, seconds: float = float("inf")) -> Ends:
    """Works under strace, which fails one call on our files or kills the process there; nothing without strace."""
    ends = Ends()
    strace = shutil.which("strace")
    if strace is None:
        return ends
    scene = Scene(directory, seed)
    paths = [argument for name in FILES for argument in ("-P", str(scene.machine.data / name))]
    for disturbed in _in_turn(times, seconds):
        call = scene.rng.choice(list(CALLS))
        fault = f"inject={call}:{scene.rng.choice(FAULTS)}:when={scene.rng.randrange(1, CALLS[call] + 1)}"
        scene.prepare(disturbed)
        under = [strace, "-f", "-qq", "-o", os.devnull, *paths, "-e", f"trace={call}", "-e", fault]
        ends[in_need(scene, disturbed, under)] += 1
        scene.repair()
    scene.compare()
    return ends
