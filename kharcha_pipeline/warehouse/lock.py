"""A lock between processes on one machine, freed by the kernel when its holder dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock
    fcntl = None  # type: ignore[assignment]

LONGEST_WAIT = 600.0
"""Seconds. A holder needs the lock for one short transaction; whoever waits longer should be told."""


class LockTimeoutError(Exception):
    """Somebody else held the lock for too long. The message is a sentence for the user."""


@contextmanager
def exclusive(path: Path, purpose: str, longest_wait: float = LONGEST_WAIT) -> Iterator[None]:
    """Holds the lock file at `path` exclusively, waiting for other processes and threads.

    Args:
        path: the lock file; created when missing, never deleted (deleting it would split the lock in two).
        purpose: what is waited for, as in "waiting to {purpose}".
        longest_wait: seconds after which waiting is given up.

    Raises:
        LockTimeoutError: when the lock was not free in time.
        OSError: when the lock file cannot be created.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, purpose, longest_wait)
        yield
    finally:
        os.close(descriptor)  # closing frees the lock


def _acquire(descriptor: int, path: Path, purpose: str, longest_wait: float) -> None:
    if fcntl is None:  # pragma: no cover - Windows has no flock
        return
    deadline = time.monotonic() + longest_wait
    pause = 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockTimeoutError(
                    f"Waited {longest_wait:.0f} seconds to {purpose}, but another process holds {path}. "
                    "Let it finish or stop it, then run this again; nothing was changed."
                ) from None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
