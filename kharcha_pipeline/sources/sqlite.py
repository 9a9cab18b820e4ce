"""Reads SQLite databases: those that belong to somebody else without leaving a trace beside them, and our own.

Opening a database in WAL mode, even read-only, creates `-shm` and `-wal` files beside it. So a database whose
`-wal` holds nothing is opened as immutable, and one whose `-wal` holds something is copied with it to a temporary
directory of our own. Either is safe only while the owner writes nothing into the database file itself: that is
checked afterwards, and the reading is done again when it did.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple, TypeVar

from kharcha_pipeline.sources.lines import LONGEST_LINE
from kharcha_pipeline.warehouse.lock import LockTimeoutError, exclusive

Answer = TypeVar("Answer")

ATTEMPTS = 5
BUSY_SECONDS = 5.0

_PENDING = ("-wal", "-journal")
"""Endings of the files that hold what is not in the database file yet. The `-shm` is rebuilt from the `-wal`."""

FAILURES = (sqlite3.Error, UnicodeDecodeError, MemoryError)
"""How Python tells that a database is damaged: a message about it that quotes damaged names cannot be decoded, and a
damaged length may ask for more memory than there is."""

_PREFIX, _LOCK = "kharcha-copy-", "lock"
"""How the directory of a copy is called, and the file in it that is locked for as long as somebody reads the copy."""

_WAL_HEADER = 32
"""Bytes. The header's salts change whenever the owner starts the `-wal` from its beginning again."""


class _State(NamedTuple):
    """What must stay the same while a database is read or copied; its `-wal` may grow meanwhile."""

    inode: int
    size: int
    modified_ns: int
    wal_header: bytes


def read_snapshot(path: str, read: Callable[[sqlite3.Connection], Answer]) -> Answer:
    """What `read` answers about one consistent state of the database, seen in one read transaction.

    `read` may be called again and must not keep anything from an earlier call. Text columns come as bytes: what
    somebody else wrote need not be UTF-8.

    A value longer than `LONGEST_LINE` counts as damage.

    Raises:
        sqlite3.Error, UnicodeDecodeError, MemoryError: when the file is no database, or damaged (`FAILURES`).
        OSError: when the file cannot be read, or its owner never left it alone for long enough.
    """
    for _ in range(ATTEMPTS):
        before = _state(path)
        pending = [ending for ending in _PENDING if _size(path + ending)]
        try:
            answer = _read_copy(path, pending, before, read) if pending else _read_in_place(path, before, read)
        except FAILURES:
            if _state(path) == before:
                raise
        except _Disturbed:
            continue
        else:
            return answer
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)


def read_live(path: str, mode: Literal["ro", "rw"], read: Callable[[sqlite3.Connection], Answer]) -> Answer:
    """What `read` answers about a database of our own, seen in one read transaction while its writers go on.

    It is opened as any participant opens it: nothing is copied, and what SQLite keeps beside it may be used or made.
    Text columns come as bytes, as from `read_snapshot`.

    Args:
        path: the database.
        mode: `ro`, or `rw` to take part in what lies beside the database.
        read: asked once.

    Raises:
        sqlite3.Error, UnicodeDecodeError, MemoryError: when the file is no database, damaged or locked (`FAILURES`).
    """
    return _read(f"{Path(path).absolute().as_uri()}?mode={mode}", read)


def read_ours(path: str, read: Callable[[sqlite3.Connection], Answer]) -> Answer:
    """What `read` answers about a database of our own that others only append to, in one read transaction.

    It is opened as it is while its `-wal` holds something; a copy, as of other programs' databases, would grow with
    history.

    Raises:
        sqlite3.Error, UnicodeDecodeError, MemoryError: when it is no database, or damaged (`FAILURES`).
        OSError: when it cannot be read now.
    """
    try:
        is_pending = os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        is_pending = False
    try:
        return read_live(path, "ro", read) if is_pending else read_snapshot(path, read)
    except FAILURES as error:
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path) from error
        raise


def is_no_database(error: Exception) -> bool:
    """Whether one of `FAILURES` says that the file is something else than a database."""
    return _code(error) == sqlite3.SQLITE_NOTADB


def _code(error: Exception) -> int:
    """SQLite's primary result code, 0 where there is none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


class _Disturbed(Exception):  # noqa: N818 - nothing is wrong, only to be done again
    """The owner wrote while we read."""


def _read_in_place(path: str, before: _State, read: Callable[[sqlite3.Connection], Answer]) -> Answer:
    answer = _read(f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1", read)
    if _state(path)[:3] != before[:3]:
        raise _Disturbed
    return answer


def _read_copy(path: str, pending: list[str], before: _State, read: Callable[[sqlite3.Connection], Answer]) -> Answer:
    with _directory_of_our_own() as directory:
        copy = directory / "copy.db"
        for ending in ("", *pending):
            try:
                shutil.copyfile(path + ending, f"{copy}{ending}")
            except FileNotFoundError:  # the owner closed its database meanwhile
                raise _Disturbed from None
        if _state(path) != before:
            raise _Disturbed
        return _read(f"{copy.as_uri()}?mode=rw", read)


@contextmanager
def _directory_of_our_own() -> Iterator[Path]:
    """A directory for a copy. What killed processes left of theirs is removed: there are conversations in it."""
    with TemporaryDirectory(prefix=_PREFIX) as name:
        directory = Path(name)
        with exclusive(directory / _LOCK, "copy a database"):
            for other in directory.parent.glob(f"{_PREFIX}*"):
                if other != directory:
                    _remove_abandoned(other, directory.stat().st_uid)
            yield directory


def _remove_abandoned(directory: Path, owner: int) -> None:
    """Removes the directory of a copy, unless it is somebody else's or its reader is alive and holds the lock."""
    with suppress(OSError, LockTimeoutError):
        status = directory.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == owner and (directory / _LOCK).exists():
            with exclusive(directory / _LOCK, "remove the copy of a database", longest_wait=0.0):
                shutil.rmtree(directory)


def _read(uri: str, read: Callable[[sqlite3.Connection], Answer]) -> Answer:
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_LINE)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now the transaction sees a state
        return read(connection)


def _state(path: str) -> _State:
    status = os.stat(path)
    header = b""
    if _size(f"{path}-wal"):
        with suppress(FileNotFoundError), open(f"{path}-wal", "rb") as wal:
            header = wal.read(_WAL_HEADER)
    return _State(status.st_ino, status.st_size, status.st_mtime_ns, header)


def _size(path: str) -> int:
    """Bytes in a file. None where there is no file, and in a pipe, which could keep its reader waiting for ever."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
