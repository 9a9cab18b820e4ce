"""Files and directories that only their owner can open, whatever the umask; with the standard library alone."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make_directory(path: Path) -> None:
    """Makes a directory, and those above it that are missing. A process's umask is not touched: it has threads.

    Raises:
        OSError: when it cannot be made.
    """
    if path.is_dir():
        return
    if path.parent != path:
        make_directory(path.parent)
    with suppress(FileExistsError):  # another process made it
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # the umask may have taken it from the owner, too


def make_file(path: Path) -> None:
    """Makes an empty file where there is none. One that is there is not even opened.

    Closing any descriptor of a database frees all locks of the process on it, also those that SQLite holds.

    Raises:
        OSError: when it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        own(descriptor)
    finally:
        os.close(descriptor)


def own(descriptor: int) -> None:
    """Lets the owner read and write a new file, whatever the umask took away."""
    if hasattr(os, "fchmod"):  # Windows has none
        os.fchmod(descriptor, 0o600)
