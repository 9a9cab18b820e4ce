"""Opens the SQLite databases of the doors: in the data directory, for its owner alone, durable at every commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kharcha_pipeline.ingest.errors import BusyError
from kharcha_pipeline.warehouse.journal import private
from kharcha_pipeline.warehouse.warehouse import Warehouse

BUSY_SECONDS = 5.0
"""How long a writer waits for another one. A transaction takes a fraction of a second."""

_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def opened(path: Path, schema: str = "") -> sqlite3.Connection:
    """A connection to a database, which is made with its tables when it is not there.

    SQLite gives its `-wal` and `-shm` files the rights of the database file, so the umask does not matter.

    Args:
        path: the database.
        schema: statements that make what is missing, where anything can be.

    Raises:
        WarehouseError: when the data directory cannot be written.
        BusyError: when the database is locked or the disk is full.
    """
    Warehouse(path.parent).prepare()
    with open(path, "ab", opener=private):
        pass
    with sentences(path):
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # on the disk before the answer, also in a power cut
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            if schema:
                connection.executescript(f"BEGIN IMMEDIATE;\n{schema}\nCOMMIT;")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """One transaction that holds the right to write from its start; rolled back when the body raises.

    Raises:
        BusyError: when the database is locked for too long or the disk is full; nothing was changed then.
    """
    with sentences(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turns what SQLite says of locks and full disks into a sentence; what is damage or a mistake stays as it is."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if (getattr(error, "sqlite_errorcode", 0) & 0xFF) not in _PASSING:
            raise
        raise BusyError(
            f"{path.name} could not be written ({error}): another process holds it, or the disk is full. "
            "Nothing was changed; try again."
        ) from error
