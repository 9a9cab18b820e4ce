"""Walks directories for log files, quickly and with the standard library alone.

A run in which nothing changed does nothing but this walk, so it neither imports nor allocates more than it must:
`typing` alone would be a quarter of such a run, which is why it is imported for the type checker only.
Links are followed; a file or directory that can be reached in two ways is visited once, by the first way.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Visited = set[tuple[int, int]]

_BY_DESCRIPTOR = os.scandir in os.supports_fd
"""Whether names can be looked up in an open directory: that spares the system the way there for each of them."""


class Directory:
    """What counts in one directory.

    Attributes:
        prefix: what precedes the names in a path.
        files: names of regular files with their status.
        unreadable: names that cannot be examined, with the reason as a fixed phrase.
    """

    __slots__ = ("files", "prefix", "unreadable")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.files: list[tuple[str, os.stat_result]] = []
        self.unreadable: list[tuple[str, str]] = []


def walk_all(places: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[tuple[int, Directory]]:
    """Walks several `(top, endings)` in order, visits every file once, and tells which place it came from.

    Args:
        places: tops, existing or not, and the file-name endings that count below them. A top that is a file counts
            whatever its name.
    """
    visited: Visited = set()
    for number, (top, endings) in enumerate(places):
        for directory in _walk(top, endings, visited):
            if directory.files or directory.unreadable:
                yield number, directory


def listing(walked: Iterable[tuple[int, Directory]]) -> Iterator[bytes]:
    """A walk as text, a part for each directory: a line for itself, then one for each file.

    With anything unreadable, or a path that is no text, it equals no other listing.
    """
    for number, directory in walked:
        lines = [f"{number}\0{directory.prefix}\n"]
        lines += [
            f"{name}\0{status.st_ino}\0{status.st_size}\0{status.st_mtime_ns}\n" for name, status in directory.files
        ]
        try:
            yield "".join(lines).encode() if not directory.unreadable else os.urandom(16)
        except UnicodeEncodeError:
            yield os.urandom(16)


def error_phrase(error: OSError) -> str:
    """The fixed phrase for an operating-system error; it names no path."""
    return (error.strerror or type(error).__name__).lower()


def _walk(top: str, endings: tuple[str, ...], visited: Visited) -> Iterator[Directory]:
    try:
        status = os.stat(top)
    except FileNotFoundError:
        return
    except OSError as error:
        yield _failed(top, error)
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _below(top, endings, visited)
    elif stat.S_ISREG(status.st_mode):
        name = os.path.basename(top)
        found = Directory(top.removesuffix(name))
        _add(found, name, status, visited)
        yield found


def _below(top: str, endings: tuple[str, ...], visited: Visited) -> Iterator[Directory]:
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            yield _looked_through(path, endings, visited, waiting)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield _failed(path, error)


def _looked_through(path: str, endings: tuple[str, ...], visited: Visited, waiting: list[str]) -> Directory:
    """The files in one directory; the directories in it are left waiting."""
    found = Directory(path if path.endswith(os.sep) else path + os.sep)
    place = os.open(path, os.O_RDONLY | os.O_DIRECTORY) if _BY_DESCRIPTOR else path
    try:
        status = os.stat(place)
        identity = (status.st_dev, status.st_ino)
        if identity in visited:
            return found
        visited.add(identity)
        with os.scandir(place) as listed:
            entries = list(listed)
        for entry in entries:
            name = entry.name
            try:
                if entry.is_dir():
                    waiting.append(found.prefix + name)
                elif name.endswith(endings) and entry.is_file():
                    # without descriptors (on Windows) an entry's own status has no identity
                    status = entry.stat() if _BY_DESCRIPTOR else os.stat(entry.path)
                    identity = (status.st_dev, status.st_ino)
                    if identity not in visited:
                        visited.add(identity)
                        found.files.append((name, status))
            except FileNotFoundError:
                continue
            except OSError as error:
                found.unreadable.append((name, error_phrase(error)))
        return found
    finally:
        if isinstance(place, int):
            os.close(place)


def _add(found: Directory, name: str, status: os.stat_result, visited: Visited) -> None:
    identity = (status.st_dev, status.st_ino)
    if identity not in visited:
        visited.add(identity)
        found.files.append((name, status))


def _failed(path: str, error: OSError) -> Directory:
    """A place that exists but cannot be listed or examined."""
    found = Directory(path)
    found.unreadable.append(("", error_phrase(error)))
    return found
