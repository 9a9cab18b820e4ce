"""What a walk through the places of logs found, file by file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kharcha_pipeline.sources.walk import Directory, walk_all

NO_TEXT = "path is not valid utf-8"


class Found(NamedTuple):
    """A regular file: its path, identity (`device`, `inode`), size in bytes and modification time (ns)."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int


class Unreadable(NamedTuple):
    """A place that exists but cannot be listed or examined, with the reason as a fixed phrase."""

    path: str
    reason: str


def sweep_all(
    places: Iterable[tuple[str, tuple[str, ...]]],
) -> Iterator[tuple[int, Found | Unreadable]]:
    """Sweeps several `(top, endings)` in order, every file once, and tells which place it came from."""
    for number, directory in walk_all(places):
        for found in files_in(directory):
            yield number, found


def files_in(directory: Directory) -> Iterator[Found | Unreadable]:
    """What a walk found in one directory."""
    for name, status in directory.files:
        path = directory.prefix + name
        if path.isascii() or _is_text(path):
            yield Found(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        else:
            yield _unreadable(path, NO_TEXT)
    for name, reason in directory.unreadable:
        yield _unreadable(directory.prefix + name, reason)


def _is_text(path: str) -> bool:
    """Whether a path can be stored: the system allows any bytes in it, and no table or message can hold them."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(path: str, reason: str) -> Unreadable:
    """A place that cannot be read, its path in a form that can be stored and shown."""
    return Unreadable(path.encode("utf-8", "backslashreplace").decode(), reason)
