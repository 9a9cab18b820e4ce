"""The published copy, kept open for reading and exchanged when a sync has replaced the file.

A connection by path would not do: DuckDB shares one database between all connections of a process to one path, so a
replaced file would be seen only after the last of them is closed. Each state of the file gets an engine of its own,
to which it is attached; requests that still read an older one finish undisturbed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import duckdb

from kharcha_pipeline.warehouse.engine import CONFIGURATION

Found = TypeVar("Found")

_LIMITS: dict[str, str | bool | int | float | list[str]] = {
    **CONFIGURATION,
    "memory_limit": "1GB",
    "temp_directory": "",  # nothing is ever written, not even what does not fit into memory
}
_ATTEMPTS = 5


class NotPublishedError(Exception):
    """Nothing was published yet."""


class UnreadableError(Exception):
    """The published copy cannot be used. The message is a sentence."""


@dataclass(frozen=True)
class FileState:
    """What tells one published copy from the next."""

    device: int
    inode: int
    modified_ns: int
    size: int


@dataclass
class Snapshot:
    """One state of the published copy, open.

    Attributes:
        state: of the file when it was opened.
        connection: to an engine of its own; `rows` makes cursors of it.
    """

    state: FileState
    connection: duckdb.DuckDBPyConnection
    _remembered: dict[str, object] = field(default_factory=dict, repr=False)
    _readers: int = field(default=0, repr=False)
    _retired: bool = field(default=False, repr=False)

    def rows(self, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Asks a question; safe from any thread.

        Raises:
            UnreadableError: when it cannot be answered.
        """
        try:
            with self.connection.cursor() as cursor:  # knows neither the zone nor the database of its connection
                cursor.execute("USE published")
                cursor.execute("SET TimeZone = 'UTC'")
                return cursor.execute(sql, parameters).fetchall()
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise UnreadableError(
                "The published database was made by another version of Kharcha Pipeline. Run `kharcha sync` once; it "
                "publishes a new one."
            ) from error
        except duckdb.Error as error:
            raise UnreadableError("The published database could not be read; the next sync replaces it.") from error

    @cached_property
    def about(self) -> dict[str, str]:
        """The facts about this copy."""
        return {str(name): str(value) for name, value in self.rows("SELECT name, value FROM about")}

    @cached_property
    def project_labels(self) -> dict[str, str]:
        """A neutral label for every project: numbers in the order in which this warehouse got to know them.

        A project that appears later is known later, so the labels of the others stay.
        """
        found = self.rows(
            "SELECT project FROM priced_events WHERE project <> '' "
            "GROUP BY project ORDER BY min(recorded_at), min(occurred_at), project"
        )
        return {"": ""} | {str(project): f"Project {number}" for number, (project,) in enumerate(found, 1)}

    def remembered(self, name: str, ask: Callable[[], Found]) -> Found:
        """The answer to a question that is the same for every page of this copy, asked once."""
        if name not in self._remembered:
            self._remembered[name] = ask()
        return cast("Found", self._remembered[name])

    @property
    def zone(self) -> str:
        """The reporting zone."""
        return self.about.get("timezone", "UTC")


class PublishedDatabase:
    """The published copy at a path, whichever it is at the moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()
        self._current: Snapshot | None = None

    def state(self) -> FileState:
        """What tells the file that is there now from others.

        Raises:
            NotPublishedError: when there is none.
            UnreadableError: when it cannot be looked at.
        """
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise NotPublishedError from None
        except OSError as error:
            raise UnreadableError(f"The published database cannot be read ({error.strerror}).") from error
        return FileState(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)

    def opened(self, state: FileState) -> Snapshot | None:
        """The snapshot of that state if it is the one that is open; it may be closed at any time."""
        current = self._current
        return current if current is not None and current.state == state else None

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """The newest published copy, held open until the body ends.

        Raises:
            NotPublishedError: when there is none.
            UnreadableError: when it cannot be opened.
        """
        with self._guard:
            state = self.state()
            snapshot = self.opened(state)
            if snapshot is None:
                snapshot = self._open()
                if self._current is not None:
                    self._current._retired = True
                    _close_unread(self._current)
                self._current = snapshot
            snapshot._readers += 1
        try:
            yield snapshot
        finally:
            with self._guard:
                snapshot._readers -= 1
                _close_unread(snapshot)

    def close(self) -> None:
        """Lets the file go."""
        with self._guard:
            if self._current is not None:
                self._current._retired = True
                _close_unread(self._current)
            self._current = None

    def _open(self) -> Snapshot:
        for _ in range(_ATTEMPTS):
            before = self.state()
            connection = duckdb.connect(":memory:", config=dict(_LIMITS))
            try:
                quoted = str(self.path).replace("'", "''")
                connection.execute(f"ATTACH '{quoted}' AS published (READ_ONLY)")
                connection.execute("SET enable_external_access = false")
            except duckdb.Error as error:
                connection.close()
                if self.state() == before:
                    raise UnreadableError(
                        "The published database could not be opened; the next sync replaces it."
                    ) from error
                continue
            if self.state() == before:  # else it was replaced in between, and which one is open is not known
                snapshot = Snapshot(before, connection)
                try:
                    _ = snapshot.about  # so that an answer from the cache needs no question
                except UnreadableError:
                    connection.close()
                    raise
                return snapshot
            connection.close()
        raise UnreadableError("The published database is being replaced again and again. Try again in a moment.")


def _close_unread(snapshot: Snapshot) -> None:
    if snapshot._retired and not snapshot._readers:
        with suppress(duckdb.Error):
            snapshot.connection.close()
