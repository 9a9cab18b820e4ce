"""Calls that the database could not take, one line of JSON each, in a directory beside it until they are drained.

Lines are appended to one open file, under a lock that is held for one write. A drainer gives the file its final
name first, under the same lock, so that what it reads cannot grow any more, and removes it when the lines are in the
database. A drainer that dies in between leaves a file whose lines are known to the database by their event ids.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from kharcha_pipeline.recorder.private import make_directory, own

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock
    fcntl = None  # type: ignore[assignment]

LARGEST_FILE = 64 * 1024
"""Bytes. A call drains one file at most, so this bounds how long it takes."""

LONGEST_WAIT = 0.05
"""Seconds. Whoever has the lock needs it for one write."""

_OPEN = "current.jsonl"
_ATTEMPTS = 100


class Spill:
    """The directory of spilled calls."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self._durable = durable
        self._path = os.fspath(directory)
        self._open = os.path.join(self._path, _OPEN)

    def exists(self) -> bool:
        """Whether anything may be there. It is asked after every call."""
        return os.path.exists(self._path)

    def add(self, line: bytes) -> None:
        """Appends a line, whole or not at all.

        Raises:
            OSError: when it cannot be written.
        """
        for _ in range(_ATTEMPTS):
            try:
                descriptor = os.open(self._open, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                make_directory(self.directory)
                continue
            try:
                if not _locked(descriptor):
                    break
                size = os.fstat(descriptor).st_size
                if not self._is_open(descriptor):  # it was given its final name meanwhile
                    continue
                if size >= LARGEST_FILE:
                    os.rename(self._open, self._final())
                    continue
                self._write(descriptor, line, size)
                return
            finally:
                os.close(descriptor)
        # Somebody holds the lock and does not go on.
        descriptor = os.open(self._final(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._write(descriptor, line, 0)
        finally:
            os.close(descriptor)

    def files(self) -> list[Path]:
        """The files that can be drained, oldest name first; the open one is closed for that.

        Raises:
            OSError: when the directory cannot be read.
        """
        if not self.exists():
            return []
        with suppress(FileNotFoundError):
            descriptor = os.open(self._open, os.O_WRONLY | os.O_CLOEXEC)
            try:
                if _locked(descriptor) and self._is_open(descriptor):
                    os.rename(self._open, self._final())
            finally:
                os.close(descriptor)
        with suppress(FileNotFoundError):
            return sorted(self.directory / name for name in os.listdir(self._path) if name != _OPEN)
        return []

    def remove(self, file: Path) -> None:
        """Removes a file that was drained, and the directory with the last one."""
        file.unlink(missing_ok=True)
        with suppress(OSError):
            os.rmdir(self._path)

    def _write(self, descriptor: int, line: bytes, size: int) -> None:
        if size == 0:
            own(descriptor)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._open)
            if self._durable:
                os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise

    def _is_open(self, descriptor: int) -> bool:
        """Whether the descriptor is of the file that has the open file's name now."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._open))
        except FileNotFoundError:
            return False

    def _final(self) -> str:
        return os.path.join(self._path, f"{time.time_ns():020d}-{uuid.uuid4().hex}.jsonl")


def _locked(descriptor: int) -> bool:
    """Whether the lock was free in time; closing the descriptor frees it again."""
    if fcntl is None:  # pragma: no cover - Windows has no flock
        return True
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.0002)
