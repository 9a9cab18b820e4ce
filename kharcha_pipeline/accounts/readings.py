"""Readings: windows that were read as a whole, with the answers as they came, compressed.

The answers of every reading are kept, so that items can be made of them again. Which reading an instant is taken
from follows from when they were fetched: the newest one of it, never the one that was stored last.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import zstandard

from kharcha_pipeline.accounts.connector import SNAPSHOT, Answer, Normalized, Request, Window
from kharcha_pipeline.accounts.windows import merged, without

_LEVEL = 9
"""Of the compression: JSON shrinks to a tenth or less."""

_KEPT_HEADERS = frozenset(
    {"content-disposition", "content-type", "date", "etag", "last-modified", "link", "retry-after"}
)
_KEPT_BEGINNING, _KEPT_ENDING = "x-ratelimit-", "request-id"
"""Headers that are stored. Others are not: any of them may carry a credential."""


Status = Literal["applied", "held", "superseded", "discarded"]
"""What became of a reading."""


class Scope(NamedTuple):
    """What readings and items belong to. Another connector's are not compared with an account's own."""

    account: str
    connector: str
    resource: str


class Reading(NamedTuple):
    """One window as it was read.

    Attributes:
        id: `None` while it is not stored.
        fetched_ms: when its last answer was complete.
        digest: of what the answers say, to know them again.
        bodies: each answer's digest and compressed content; empty when it was loaded.
        notes: what was noticed in the answers, with how often.
    """

    id: int | None
    scope: Scope
    window: Window
    fetched_ms: int
    digest: str
    answers: Sequence[Answer]
    bodies: Sequence[tuple[str, bytes]] = ()
    notes: Mapping[str, int] = {}
    refreshed_ms: int | None = None

    @classmethod
    def of(
        cls, scope: Scope, window: Window, answers: Sequence[Answer], normalized: Normalized, now_ms: int
    ) -> Reading:
        """A reading that is ready to be stored: all work that needs no database is done."""
        compressor = zstandard.ZstdCompressor(level=_LEVEL)
        bodies = [(hashlib.sha256(answer.body).hexdigest(), compressor.compress(answer.body)) for answer in answers]
        digest = hashlib.sha256()
        for answer, (sha256, _) in zip(answers, bodies, strict=True):
            digest.update(f"{answer.request.path} {answer.status} {sha256}\n".encode())
        fetched_ms = max((answer.fetched_ms for answer in answers), default=now_ms)
        return cls(
            None,
            scope,
            window,
            fetched_ms,
            digest.hexdigest(),
            answers,
            bodies,
            normalized.notes,
            normalized.refreshed_ms,
        )


class Known(NamedTuple):
    """A reading of the same window with the same answers that is stored."""

    id: int
    fetched_ms: int


def known(connection: sqlite3.Connection, reading: Reading, status: Status = "applied") -> Known | None:
    """A reading of the same window with the same answers, if one is stored with this status."""
    if not reading.answers:
        return None
    found = connection.execute(_SAME, (*reading.scope, *reading.window, status, reading.digest)).fetchone()
    return Known(*found) if found else None


def store(connection: sqlite3.Connection, reading: Reading, status: Status, *, is_empty: bool = False) -> int:
    """Stores a reading with its answers; returns its id. Equal answers to the same question are stored once.

    Args:
        connection: in a transaction.
        reading: as it was made.
        status: what becomes of it.
        is_empty: whether it says nothing at all, in a form that proves nothing.
    """
    same = known(connection, reading, status)
    notes = json.dumps(dict(reading.notes))
    if same:
        connection.execute(
            "UPDATE readings SET fetched_at = max(fetched_at, ?), notes = ?, refreshed_ms = ? WHERE id = ?",
            (reading.fetched_ms, notes, reading.refreshed_ms, same.id),
        )
        return same.id
    row = (*reading.scope, *reading.window, reading.fetched_ms, status, reading.digest, notes, reading.refreshed_ms)
    reading_id: int = connection.execute(_INSERT, (*row, is_empty)).fetchone()[0]
    connection.executemany("INSERT OR IGNORE INTO bodies VALUES (?, ?)", reading.bodies)
    connection.executemany(
        "INSERT INTO answers VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                reading_id,
                position,
                msgspec.json.encode(answer.request).decode(),
                answer.status,
                json.dumps(_kept(answer.headers)),
                answer.fetched_ms,
                sha256,
            )
            for position, (answer, (sha256, _)) in enumerate(zip(reading.answers, reading.bodies, strict=True))
        ],
    )
    return reading_id


def load(connection: sqlite3.Connection, reading_id: int) -> Reading:
    """A reading that was stored, with its answers."""
    row = connection.execute(_READING, (reading_id,)).fetchone()
    decompressor = zstandard.ZstdDecompressor()
    answers = [
        Answer(
            request=msgspec.json.decode(request, type=Request),
            status=status,
            headers=json.loads(headers),
            body=decompressor.decompress(content),
            fetched_ms=fetched_at,
        )
        for request, status, headers, fetched_at, content in connection.execute(_ANSWERS, (reading_id,))
    ]
    return Reading(reading_id, Scope(*row[:3]), Window(*row[3:5]), row[5], row[6], answers)


def of_held(connection: sqlite3.Connection, held_id: int) -> Reading:
    """The reading that waits for a person under this number."""
    return load(connection, connection.execute("SELECT reading FROM held WHERE id = ?", (held_id,)).fetchone()[0])


def newer_windows(connection: sqlite3.Connection, reading: Reading, reading_id: int | None) -> list[Window]:
    """The windows of applied readings that were fetched after this one and touch its window.

    Args:
        connection: in a transaction.
        reading: whose window it is.
        reading_id: where it is stored, if it is: of two that were fetched in one millisecond, the later one wins.
    """
    from_ms, until_ms = reading.window
    since = (reading.fetched_ms, reading.fetched_ms, _NOT_STORED if reading_id is None else reading_id)
    if reading.window == SNAPSHOT:
        found = connection.execute(f"{_NEWER} AND from_ms = 0 AND until_ms = 0", (*reading.scope, *since))
    else:
        query = f"{_NEWER} AND from_ms < ? AND until_ms > ?"
        found = connection.execute(query, (*reading.scope, *since, until_ms, from_ms))
    return [Window(*row) for row in found]


def supersede(connection: sqlite3.Connection, reading: Reading, reading_id: int, now_ms: int) -> None:
    """Marks older readings that lie inside this one: nothing is taken from them any more, nor asked about them."""
    connection.execute(_SUPERSEDE, (*reading.scope, *reading.window, reading_id, reading.fetched_ms))
    _supersede_held(connection, reading, reading_id, now_ms)


def _supersede_held(connection: sqlite3.Connection, reading: Reading, reading_id: int, now_ms: int) -> None:
    older = (*reading.scope, *reading.window, reading_id, reading.fetched_ms)
    for held_id, held_reading in connection.execute(_HELD_INSIDE, older).fetchall():
        connection.execute("UPDATE readings SET status = 'superseded' WHERE id = ?", (held_reading,))
        close_held(connection, held_id, "superseded", now_ms)


def set_status(connection: sqlite3.Connection, reading: Reading, status: Status) -> None:
    """Changes what became of a stored reading, and what was noticed in it."""
    notes = json.dumps(dict(reading.notes))
    connection.execute("UPDATE readings SET status = ?, notes = ? WHERE id = ?", (status, notes, reading.id))


def has_held(connection: sqlite3.Connection, scope: Scope) -> bool:
    """Whether a reading of this resource waits for a person."""
    return connection.execute(_HAS_HELD, scope).fetchone() is not None


def hold(connection: sqlite3.Connection, reading: Reading, reading_id: int, now_ms: int) -> int | None:
    """Lets a stored reading wait for a person; returns its number, `None` when it waits already.

    Readings of the same time that wait already are not asked about any more.
    """
    if connection.execute("SELECT 1 FROM held WHERE reading = ? AND decision IS NULL", (reading_id,)).fetchone():
        return None
    _supersede_held(connection, reading, reading_id, now_ms)
    inserted = connection.execute(
        "INSERT INTO held (reading, sentence, held_at) VALUES (?, '', ?) RETURNING id", (reading_id, now_ms)
    )
    held: int = inserted.fetchone()[0]
    return held


def explain_held(connection: sqlite3.Connection, held_id: int, sentence: str) -> None:
    """Says why a reading waits, and what to do."""
    connection.execute("UPDATE held SET sentence = ? WHERE id = ?", (sentence, held_id))


def close_held(connection: sqlite3.Connection, held_id: int, decision: str, now_ms: int) -> None:
    """Remembers what became of a reading that waited."""
    connection.execute("UPDATE held SET decision = ?, decided_at = ? WHERE id = ?", (decision, now_ms, held_id))


def is_undecided(connection: sqlite3.Connection, held_id: int, *, may_be_discarded: bool) -> bool:
    """Whether a reading waits for a person, or was discarded where that may be reconsidered."""
    found = connection.execute("SELECT decision FROM held WHERE id = ?", (held_id,)).fetchone()
    return found is not None and (found[0] is None or (may_be_discarded and found[0] == "discarded"))


def was_discarded(connection: sqlite3.Connection, reading: Reading) -> bool:
    """Whether a person did not believe the same answers about the same time before."""
    from_ms, _ = reading.window
    return connection.execute(_DISCARDED, (*reading.scope, from_ms, reading.digest)).fetchone() is not None


def note_rejects(
    connection: sqlite3.Connection, scope: Scope, window: Window, rejects: Iterable[str], seen_ms: int
) -> None:
    """Remembers what could not be used, each reason once for each beginning of a window."""
    connection.executemany(
        "INSERT OR IGNORE INTO rejects (account, resource, reason, first_seen_at, from_ms) VALUES (?, ?, ?, ?, ?)",
        [(scope.account, scope.resource, reason, seen_ms, window.from_ms) for reason in rejects],
    )


def note_last(connection: sqlite3.Connection, reading: Reading) -> None:
    """Remembers when a resource was read."""
    connection.execute(_NOTE_LAST, (*reading.scope, reading.fetched_ms))


def last(connection: sqlite3.Connection, scope: Scope) -> int | None:
    """When a resource was last read."""
    query = "SELECT at FROM last_readings WHERE account = ? AND connector = ? AND resource = ?"
    found = connection.execute(query, scope).fetchone()
    return None if found is None else int(found[0])


def covered(connection: sqlite3.Connection, scope: Scope) -> list[Window]:
    """What was read and applied, in order and merged."""
    found = connection.execute(_COVERED, scope)
    return merged(Window(*row) for row in found)


def since(connection: sqlite3.Connection, scope: Scope, since_ms: int) -> list[Window]:
    """What was read at or after an instant, in order and merged, also what waits for a person or was discarded."""
    return merged(Window(*row) for row in connection.execute(_SINCE, (*scope, since_ms)))


def newest(connection: sqlite3.Connection, scope: Scope) -> list[int]:
    """The applied readings that newer ones do not cover, the newest first; of those of the present only one."""
    found: list[int] = []
    taken: list[Window] = []
    has_snapshot = False
    for reading_id, *bounds in connection.execute(_APPLIED, scope):
        window = Window(*bounds)
        if window == SNAPSHOT:
            if not has_snapshot:
                found.append(reading_id)
            has_snapshot = True
            continue
        if without([window], taken):
            found.append(reading_id)
            taken = merged([*taken, window])
    return found


def notes(connection: sqlite3.Connection, account: str, connector: str) -> dict[str, int]:
    """What was noticed in the answers that stand, with how often."""
    total: dict[str, int] = {}
    for (text,) in connection.execute(_NOTES, (account, connector)):
        for note, count in json.loads(text).items():
            total[note] = total.get(note, 0) + count
    return dict(sorted(total.items()))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name in _KEPT_HEADERS or name.startswith(_KEPT_BEGINNING) or name.endswith(_KEPT_ENDING)
    }


_OF_SCOPE = "account = ? AND connector = ? AND resource = ?"
_SAME = f"""
SELECT id, fetched_at FROM readings
WHERE {_OF_SCOPE} AND from_ms = ? AND until_ms = ? AND status = ? AND digest = ? ORDER BY id DESC LIMIT 1
"""
_INSERT = """
INSERT INTO readings (account, connector, resource, from_ms, until_ms, fetched_at, status, digest, notes,
                      refreshed_ms, is_empty)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""
_READING = """
SELECT account, connector, resource, from_ms, until_ms, fetched_at, digest FROM readings WHERE id = ?
"""
_ANSWERS = """
SELECT request, status, headers, fetched_at, content FROM answers JOIN bodies USING (sha256)
WHERE reading = ? ORDER BY position
"""
_NOT_STORED = 2**62
_NEWER = f"""
SELECT from_ms, until_ms FROM readings
WHERE {_OF_SCOPE} AND status = 'applied' AND NOT is_empty AND (fetched_at > ? OR fetched_at = ? AND id > ?)
"""
# `CROSS JOIN` keeps SQLite from beginning with the readings, of which there are many; those that wait are few.
_HELD_INSIDE = f"""
SELECT held.id, readings.id FROM held CROSS JOIN readings ON readings.id = held.reading
WHERE decision IS NULL AND {_OF_SCOPE} AND from_ms >= ? AND until_ms <= ? AND readings.id <> ? AND fetched_at <= ?
"""
_HAS_HELD = f"""
SELECT 1 FROM held CROSS JOIN readings ON readings.id = held.reading WHERE decision IS NULL AND {_OF_SCOPE}
"""
_DISCARDED = f"SELECT 1 FROM readings WHERE {_OF_SCOPE} AND status = 'discarded' AND from_ms = ? AND digest = ?"
_SUPERSEDE = f"""
UPDATE readings SET status = 'superseded'
WHERE {_OF_SCOPE} AND status = 'applied' AND from_ms >= ? AND until_ms <= ? AND id <> ? AND fetched_at <= ?
"""
_NOTE_LAST = """
INSERT INTO last_readings VALUES (?, ?, ?, ?)
ON CONFLICT (account, connector, resource) DO UPDATE SET at = max(at, excluded.at)
"""
_COVERED = f"SELECT from_ms, until_ms FROM readings WHERE {_OF_SCOPE} AND status = 'applied' AND until_ms > from_ms"
_SINCE = f"SELECT from_ms, until_ms FROM readings WHERE {_OF_SCOPE} AND fetched_at >= ? AND until_ms > from_ms"
_APPLIED = f"""
SELECT id, from_ms, until_ms FROM readings WHERE {_OF_SCOPE} AND status = 'applied' AND NOT is_empty
ORDER BY fetched_at DESC, id DESC
"""
_NOTES = """
SELECT notes FROM readings WHERE account = ? AND connector = ? AND status = 'applied' AND notes <> '{}'
"""
