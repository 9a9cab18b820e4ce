"""One DuckDB engine per process, to which a database file is attached for the length of one transaction.

Starting an engine takes 30 milliseconds, attaching a file 5, and a sync opens files half a dozen times. Detaching
writes the file out completely and frees DuckDB's lock on it, as closing a connection to it would.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

STORAGE_VERSION = "v1.5.0"
"""Files are written in this format, so that analysts' older DuckDB clients can read them."""

CONFIGURATION: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}

THREADS = 1
"""The statements of a sync are many and small: handing their parts to other threads costs a tenth of its CPU time and
gains no wall time. Building a whole year in one transaction takes a quarter longer for it."""


class _Engine:
    """The process's engine, made at its first use and made anew after a fork or a fatal error."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._made_for: tuple[int, Path] | None = None

    def connection(self, directory: Path) -> duckdb.DuckDBPyConnection:
        """A connection of one's own to the engine, which puts what does not fit into memory below the directory."""
        made_for = os.getpid(), directory
        with self._guard:
            if self._connection is None or self._made_for != made_for:
                temporary = str(directory / "warehouse.duckdb.tmp")  # by default `.tmp` in the current directory
                config = {**CONFIGURATION, "temp_directory": temporary, "threads": THREADS}
                self._connection = duckdb.connect(":memory:", config=config)
                self._made_for = made_for
            return self._connection.cursor()

    def discard(self) -> None:
        """Gives the engine up: after a fatal error it would refuse everything."""
        with self._guard:
            self._connection = None


_engine = _Engine()
_numbers = itertools.count()


@contextmanager
def attached(path: Path, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables are those of the database file, created when it is missing and may be written.

    The file is written out and let go when the body ends. What the body left uncommitted is rolled back.

    Raises:
        duckdb.Error: when the file cannot be opened.
    """
    connection = _engine.connection(path.parent.absolute())
    name = f"file_{next(_numbers)}"
    quoted = str(path).replace("'", "''")
    before = os.umask(0o077)
    try:
        how = "READ_ONLY" if read_only else f"STORAGE_VERSION '{STORAGE_VERSION}'"
        connection.execute(f"ATTACH '{quoted}' AS {name} ({how})")
    except duckdb.Error as error:
        _close(connection, error)
        raise
    finally:
        os.umask(before)
    failure: BaseException | None = None
    try:
        connection.execute(f"USE {name}")
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except BaseException as error:
        failure = error
        raise
    finally:
        with suppress(duckdb.Error):  # usually nothing is under way any more
            connection.execute("ROLLBACK")
        try:
            connection.execute("USE memory")
            connection.execute(f"DETACH {name}")
        except duckdb.Error as error:
            _close(connection, error)
            if failure is None:
                raise
        else:
            _close(connection, failure)


def _close(connection: duckdb.DuckDBPyConnection, failure: BaseException | None) -> None:
    connection.close()
    if isinstance(failure, duckdb.Error):
        _engine.discard()
