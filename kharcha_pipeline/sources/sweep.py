"""Finds log files below directories, quickly and with the standard library alone.

A run in which nothing changed does nothing but this sweep, so it neither imports nor allocates more than it must:
`typing` alone would be a quarter of such a run, which is why it is imported for the type checker only.
Links are followed; a file or directory that can be reached in two ways is visited once, by the first way.
"""

from __future__ import annotations

import os
import stat
from collections import namedtuple
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

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

else:
    Found = namedtuple("Found", "path device inode size modified_ns")
    Unreadable = namedtuple("Unreadable", "path reason")


Visited = set[tuple[int, int]]

NO_TEXT = "path is not valid utf-8"


def sweep(top: str, endings: tuple[str, ...], visited: Visited) -> Iterator[Found | Unreadable]:
    """All files below `top` whose names end in one of `endings`; `top` itself when it is a file.

    Args:
        top: a directory or a file, existing or not.
        endings: file-name endings that count; ignored when `top` is a file.
        visited: identities met before; extended. Share one set between places to visit every file once.
    """
    try:
        status = os.stat(top)
    except FileNotFoundError:
        return
    except OSError as error:
        yield _unreadable(top, error_phrase(error))
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _below(top, status, endings, visited)
    elif stat.S_ISREG(status.st_mode):
        yield from _file(top, status, visited)


def _file(path: str, status: os.stat_result, visited: Visited) -> Iterator[Found | Unreadable]:
    identity = (status.st_dev, status.st_ino)
    if identity not in visited:
        visited.add(identity)
        yield _found(path, status)


def _found(path: str, status: os.stat_result) -> Found | Unreadable:
    if path.isascii() or _is_text(path):
        return Found(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _unreadable(path, NO_TEXT)


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


def _below(
    top: str, status: os.stat_result, endings: tuple[str, ...], visited: Visited
) -> Iterator[Found | Unreadable]:
    waiting = [(top, status)]
    while waiting:
        directory, status = waiting.pop()
        identity = (status.st_dev, status.st_ino)
        if identity in visited:
            continue
        visited.add(identity)
        try:
            with os.scandir(directory) as listing:
                entries = list(listing)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield _unreadable(directory, error_phrase(error))
            continue
        for entry in entries:
            counts = entry.name.endswith(endings)
            try:
                if entry.is_dir():
                    waiting.append((entry.path, entry.stat()))
                elif counts and entry.is_file():
                    found = entry.stat()
                    identity = (found.st_dev, found.st_ino)
                    if identity not in visited:
                        visited.add(identity)
                        yield _found(entry.path, found)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield _unreadable(entry.path, error_phrase(error))


def sweep_all(
    places: Iterable[tuple[str, tuple[str, ...]]],
) -> Iterator[tuple[int, Found | Unreadable]]:
    """Sweeps several `(top, endings)` in order, every file once, and tells which place it came from."""
    visited: Visited = set()
    for number, (top, endings) in enumerate(places):
        for found in sweep(top, endings, visited):
            yield number, found


def listing(found: Iterable[tuple[int, Found | Unreadable]]) -> bytes:
    """A sweep as text, one line a file. Whatever cannot be read makes every listing different."""
    return "".join(
        f"{number}\0{file.path}\0{file.inode}\0{file.size}\0{file.modified_ns}\n"
        if type(file) is Found
        else f"{os.urandom(16).hex()}\n"
        for number, file in found
    ).encode("utf-8", "surrogateescape")


def error_phrase(error: OSError) -> str:
    """The fixed phrase for an operating-system error; it names no path."""
    return (error.strerror or type(error).__name__).lower()
