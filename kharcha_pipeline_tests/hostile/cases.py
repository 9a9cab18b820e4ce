"""One damaged file of each kind from one seed: shared by the tests, the torture run and the guided fuzzer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from kharcha_pipeline_tests.hostile.mutation import (
    damaged_bytes,
    damaged_cell,
    damaged_line,
    damaged_lines,
    damaged_pages,
)
from kharcha_pipeline_tests.hostile.subjects import (
    Lines,
    Rows,
    Subjects,
    check_damaged_pages,
    check_damaged_rows,
    check_document,
    check_lines,
    check_some_state,
    database_rows,
    scratch,
)

Case = Callable[[Random], None]
"""Damages something as a random generator says, and raises when something else was lost or the reader failed."""


def cases(subjects: Subjects, directory: Path) -> Iterator[tuple[str, Case]]:
    """All kinds of cases by name. Files are written below `directory`."""
    for name, lines in subjects.lines.items():
        yield name, _lines_case(lines, scratch(lines, directory))
    for name, document in subjects.documents.items():
        yield name, lambda rng, document=document: check_document(document, damaged_line(document.content, rng))
    path = directory / "opencode.db"
    rows = database_rows(subjects.database)
    yield "opencode-rows", lambda rng: check_damaged_rows(path, rows, lambda database: _damage_rows(database, rng))
    yield "opencode-pages", lambda rng: check_damaged_pages(rows, path, damaged_pages(rows.content, rng))
    yield "opencode-schema", lambda rng: check_some_state(path, _damaged_schema(rows, rng), b"")
    content, log = write_ahead_log(rows, directory)
    yield "opencode-log", lambda rng: check_some_state(path, content, damaged_bytes(log, rng))


def _lines_case(lines: Lines, path: Path) -> Case:
    def case(rng: Random) -> None:
        hostile = damaged_lines(lines.pool, rng)
        place = rng.randrange(1, len(lines.guards))
        check_lines(lines, path, hostile, place, growing=rng.random() < 0.3)

    return case


def _damage_rows(database: sqlite3.Connection, rng: Random) -> set[int]:
    """Damages some cells; returns the numbers of the message rows among their rows."""
    table = rng.choice(("message", "message", "message", "part", "session"))
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    numbers = [row[0] for row in database.execute(f"SELECT rowid FROM {table}")]
    touched = set()
    for _ in range(1 + rng.randrange(3)):
        number, column = rng.choice(numbers), rng.choice(columns)
        (value,) = database.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (number,)).fetchone()
        change = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE rowid = ?"
        database.execute(change, (damaged_cell(value, rng), number))
        touched.add(number)
    return touched if table == "message" else set()


def _damaged_schema(rows: Rows, rng: Random) -> bytes:
    """A database in whose first page, which holds the header and the schema, some bytes are changed."""
    content = bytearray(rows.content)
    for _ in range(1 + rng.randrange(6)):
        start = rng.randrange(rng.choice((100, 4096)))
        content[start : start + 1] = rng.randbytes(1)
    return bytes(content)


def write_ahead_log(rows: Rows, directory: Path) -> tuple[bytes, bytes]:
    """A database and its write-ahead log, as its owner leaves them when it is killed."""
    path = directory / "owner" / "opencode.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(rows.content)
    owner = sqlite3.connect(path, isolation_level=None)
    owner.execute("PRAGMA journal_mode = WAL")
    owner.execute("PRAGMA wal_autocheckpoint = 0")
    for name in "abcde":
        owner.execute("INSERT INTO message SELECT ? || id, session_id, 1, 1, data FROM message LIMIT 5", (name,))
    content = path.read_bytes(), path.with_name("opencode.db-wal").read_bytes()
    owner.close()
    return content
