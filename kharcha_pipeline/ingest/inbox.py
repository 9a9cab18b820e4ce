"""The inbox: every row that was ever accepted, and for each key the one that stands.

Accepted rows are appended and never changed; the pipeline reads them by their ascending ids. Which row of a key
stands follows from them alone: of the rows since the last correction, that one included, the one with the greatest
total, and of several the latest. So a smaller total never replaces a larger one unless the sender says that it is a
correction: logs that an agent has deleted must not make history shrink. `standing` holds the answer, so that deciding
takes time for the rows that are sent and not for those that were ever sent.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from typing import NamedTuple

from kharcha_pipeline.ingest.contract import LARGEST, Mistake, RefusedError, Sending, Sent
from kharcha_pipeline.ingest.store import opened, transaction

FILE_NAME = "ingest.sqlite"

_KEY = ("date", "agent", "provider", "model", "machine")
_CONTENT = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_usd",
    "messages",
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, received_at INTEGER NOT NULL, sender TEXT NOT NULL, timezone TEXT NOT NULL,
    correction INTEGER NOT NULL, date TEXT NOT NULL, agent TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    machine TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL, cost_usd TEXT, messages INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS rows_of_key ON rows (date, agent, provider, model, machine);
CREATE TABLE IF NOT EXISTS standing (
    date TEXT, agent TEXT, provider TEXT, model TEXT, machine TEXT, id INTEGER NOT NULL REFERENCES rows (id),
    PRIMARY KEY (date, agent, provider, model, machine)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sums (
    only INTEGER PRIMARY KEY CHECK (only = 1), tokens INTEGER NOT NULL, reported INTEGER NOT NULL,
    messages INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO sums VALUES (1, 0, 0, 0);
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO about VALUES ('version', '1'), ('made_at', '{made_at}');
"""
"""`made_at`, in milliseconds, tells the rows of an inbox that was deleted from those of the one made after it, whose
ids begin with 1 again."""
_SENT = """
CREATE TEMP TABLE IF NOT EXISTS sent (
    position INTEGER PRIMARY KEY, date TEXT, agent TEXT, provider TEXT, model TEXT, machine TEXT,
    input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER,
    reasoning_tokens INTEGER, total_tokens INTEGER, cost_usd TEXT, messages INTEGER
)
"""
_STANDING = f"""
SELECT {", ".join(f"rows.{name}" for name in _CONTENT)} FROM sent
LEFT JOIN standing USING ({", ".join(_KEY)}) LEFT JOIN rows ON rows.id = standing.id ORDER BY position
"""
_KNOWN = f"""
SELECT position FROM sent
WHERE EXISTS (SELECT 1 FROM rows WHERE {" AND ".join(f"rows.{name} IS sent.{name}" for name in _KEY + _CONTENT)})
"""
_APPEND = f"""
INSERT INTO rows (id, received_at, sender, timezone, correction, {", ".join(_KEY + _CONTENT)})
VALUES ({", ".join("?" * (5 + len(_KEY) + len(_CONTENT)))})
"""


class Taken(NamedTuple):
    """What became of the rows of one body.

    Attributes:
        upserted: rows that now stand as they were sent.
        changed: of these, the ones that did not stand so before.
        kept: rows whose total is smaller than that of what stands, which therefore stays.
        mismatched: rows whose own total is not the sum of their counts.
        appended: rows that are new, whether they stand or not; the pipeline has something to read when there are any.
    """

    upserted: int
    changed: int
    kept: int
    mismatched: int
    appended: int


class Inbox:
    """The inbox of a data directory, for all threads of a process; several processes may have it open."""

    def __init__(self, directory: Path) -> None:
        """Opens it, and makes it when it is not there.

        Raises:
            WarehouseError: when the data directory cannot be written.
            BusyError: when the database is locked or the disk is full.
        """
        self.path = directory / FILE_NAME
        self._connection = opened(self.path, _SCHEMA.format(made_at=int(time.time() * 1000)))
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        self._all = [self._connection]

    def close(self) -> None:
        """Closes it."""
        with self._guard:
            for connection in self._all:
                connection.close()

    @contextmanager
    def _writer(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own for as long as the body runs."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = opened(self.path)
            connection.execute(_SENT)
            with self._guard:
                self._all.append(connection)
        try:
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.put(connection)

    def take(self, sending: Sending, sender: str) -> Taken:
        """Takes rows in, all of them or none; they are on the disk when this returns.

        Args:
            sending: rows with distinct keys.
            sender: who sent them, a name of a token or a user.

        Raises:
            RefusedError: when all that stands would add up to more than a `BIGINT` can hold.
            BusyError: when it cannot be written now.
        """
        with self._writer() as connection:
            _hand_over(connection, sending.rows)  # before others have to wait
            # Threads wait here and not in SQLite, which looks again and again whether it may write.
            with self._writing, transaction(connection, self.path):
                return _take(connection, sending, sender)

    def standing(self) -> list[Sent]:
        """Every row that stands, by its key. For tests and examinations."""
        query = f"""
            SELECT {", ".join(f"rows.{name}" for name in _KEY + _CONTENT)} FROM standing JOIN rows USING (id)
            ORDER BY {", ".join(f"standing.{name}" for name in _KEY)}
        """
        with self._guard:
            return [Sent(*row) for row in self._connection.execute(query)]

    def last_id(self) -> int:
        """The id of the row that was appended last, 0 before the first."""
        with self._guard:
            return int(self._connection.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()[0])


def _hand_over(connection: sqlite3.Connection, rows: Sequence[Sent]) -> None:
    """Puts rows into the temporary table `sent`, which is the connection's own and in memory."""
    connection.execute("BEGIN")
    connection.execute("DELETE FROM sent")
    connection.executemany(
        f"INSERT INTO sent VALUES ({', '.join('?' * (1 + len(_KEY) + len(_CONTENT)))})",
        ((position, *row) for position, row in enumerate(rows)),
    )
    connection.execute("COMMIT")


def _take(connection: sqlite3.Connection, sending: Sending, sender: str) -> Taken:
    """Takes in what was handed over, inside a transaction that may write."""
    rows = sending.rows
    before = connection.execute(_STANDING).fetchall()
    same, winning, smaller = _decided(rows, before, correction=sending.correction)
    known = {position for (position,) in connection.execute(_KNOWN)} if smaller else set()
    appended = sorted(winning + [position for position in smaller if position not in known])
    ids = _append(connection, appended, sending, sender) if appended else {}
    if winning:
        _add_up(connection, [(rows[position], before[position]) for position in winning])
        connection.executemany(
            f"INSERT OR REPLACE INTO standing VALUES ({', '.join('?' * (len(_KEY) + 1))})",
            ((*rows[position].key, ids[position]) for position in winning),
        )
    return Taken(len(same) + len(winning), len(winning), len(smaller), sending.mismatched, len(appended))


def _append(
    connection: sqlite3.Connection, positions: Iterable[int], sending: Sending, sender: str
) -> dict[int, int]:
    """Appends rows and tells the id of each position. Ids ascend in the order of commits: there is one writer."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'rows'").fetchone()
    first = (found[0] if found else 0) + 1
    ids = {position: first + number for number, position in enumerate(positions)}
    about = (int(time.time() * 1000), sender, sending.timezone, int(sending.correction))
    connection.executemany(_APPEND, ((number, *about, *sending.rows[position]) for position, number in ids.items()))
    return ids


def _add_up(connection: sqlite3.Connection, changes: Iterable[tuple[Sent, Sequence[int | None]]]) -> None:
    """Keeps the sums over all that stands, which have to fit into the columns of the tables."""
    tokens, reported, messages = connection.execute("SELECT tokens, reported, messages FROM sums").fetchone()
    for row, before in changes:
        tokens += row.sum - sum(count or 0 for count in before[:5])
        reported += row.total_tokens - (before[5] or 0)
        messages += row.messages - (before[7] or 0)
    if max(tokens, reported, messages) > LARGEST:
        raise RefusedError(
            [Mistake("rows", f"With these rows, all rows together would add up to more than {LARGEST}.")]
        )
    connection.execute("UPDATE sums SET tokens = ?, reported = ?, messages = ?", (tokens, reported, messages))


def _decided(
    rows: Sequence[Sent], before: Sequence[Sequence[int | str | None]], *, correction: bool
) -> tuple[list[int], list[int], list[int]]:
    """The positions of rows that stand already, of those that will, and of those that are too small."""
    same: list[int] = []
    winning: list[int] = []
    smaller: list[int] = []
    for position, (row, known) in enumerate(zip(rows, before, strict=True)):
        if known[0] is None:
            winning.append(position)
        elif row[5:] == known:
            same.append(position)
        elif correction or row.sum >= sum(known[:5]):  # type: ignore[arg-type]  # the five counts
            winning.append(position)
        else:
            smaller.append(position)
    return same, winning, smaller
