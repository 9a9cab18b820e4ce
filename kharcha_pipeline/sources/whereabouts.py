"""What the warehouse knows about log files: where they are, how far they were read, what in them was rejected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb
import msgspec

from kharcha_pipeline.records import Reading, Reject
from kharcha_pipeline.sources.scanner import Changes, FileState, FileToRead, KnownFile, Sweep
from kharcha_pipeline.warehouse.columns import handed_over


class ReadFile(msgspec.Struct):
    """One file that was read, or could not be."""

    task: FileToRead
    reading: Reading
    sequence: str = ""
    head: bytes = b""
    tail: bytes = b""
    status: str = "read"


def known_files(connection: duckdb.DuckDBPyConnection, only: Iterable[str] | None = None) -> list[KnownFile]:
    """Files that were ever read, as the last landing left them.

    Args:
        connection: to the warehouse.
        only: prefixes of the directories whose files are asked for; `None` for all.
    """
    rows = connection.execute(
        """
        SELECT file_id, source, account, path, inode, size, modified_ns, read_to, lines, status FROM log_files
        WHERE $only IS NULL OR path[:length(path) - length(parse_filename(path))] IN (SELECT unnest($only::VARCHAR[]))
        """,
        {"only": None if only is None else list(only)},
    ).fetchall()
    return [KnownFile(*row) for row in rows]


def next_file_id(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of the next file that is read for the first time."""
    return int(connection.execute("SELECT coalesce(max(file_id), 0) + 1 FROM log_files").fetchall()[0][0])


def add_states(connection: duckdb.DuckDBPyConnection, to_read: Sequence[FileToRead]) -> None:
    """Adds to files that were read before what is needed to go on."""
    known = {task.file_id: task for task in to_read if task.before is not None}
    if not known:
        return
    rows = connection.execute(
        """
        SELECT file_id, sequence, head, tail, state FROM operations.file_states
        WHERE file_id IN (SELECT unnest(?::BIGINT[]))
        """,
        [list(known)],
    ).fetchall()
    for file_id, sequence, head, tail, state in rows:
        known[file_id].state = FileState(sequence, head, tail, msgspec.json.decode(state))


def new_unreadable_places(connection: duckdb.DuckDBPyConnection, sweep: Sweep) -> list[tuple[str, str, Reject]]:
    """`(source, path, reject)` of places that cannot be listed now and were not known for it."""
    known = set(
        connection.execute(
            "SELECT path, reason FROM rejects WHERE line IS NULL AND position IS NULL AND resolved_at IS NULL"
        ).fetchall()
    )
    return [
        (source, place.path, Reject(place.reason))
        for source, place in sweep.unreadable
        if (place.path, place.reason) not in known
    ]


def store_whereabouts(connection: duckdb.DuckDBPyConnection, changes: Changes) -> None:
    """Stores which files moved, are gone, or are back."""
    for file, before in changes.moved:
        connection.execute(
            "UPDATE log_files SET path = ?, device = ?, status = 'read' WHERE file_id = ?",
            [file.path, file.device, before.file_id],
        )
    for status, files in (("gone", changes.gone), ("read", changes.returned)):
        connection.execute(
            "UPDATE log_files SET status = ? WHERE file_id IN (SELECT unnest(?::BIGINT[]))",
            [status, [file.file_id for file in files]],
        )


_FILE_COLUMNS = {
    "file_id": "BIGINT",
    "source": "VARCHAR",
    "account": "VARCHAR",
    "path": "VARCHAR",
    "mode": "VARCHAR",
    "device": "UBIGINT",
    "inode": "UBIGINT",
    "size": "BIGINT",
    "modified_ns": "BIGINT",
    "read_to": "BIGINT",
    "lines": "BIGINT",
    "pending": "BIGINT",
    "status": "VARCHAR",
}
_STATE_COLUMNS = {"file_id": "BIGINT", "sequence": "VARCHAR", "head": "BLOB", "tail": "BLOB", "state": "VARCHAR"}


def store_files(connection: duckdb.DuckDBPyConnection, reads: Sequence[ReadFile]) -> None:
    """Stores how far every file was read; a file that could not be read keeps its place and is tried again."""
    files, states = [], []
    for read in reads:
        task, reading, file, before = read.task, read.reading, read.task.file, read.task.before
        if read.status == "gone":
            continue
        read_to, lines, state = (
            reading.offset,
            reading.line,
            FileState(read.sequence, read.head, read.tail, reading.state),
        )
        if read.status == "unreadable":
            read_to, lines = (before.read_to, before.lines) if before else (0, 0)
            state = task.state or FileState(f"{task.file_id}.0")
        files.append(
            (
                task.file_id, file.source, file.account, file.path, file.mode, file.device, file.inode, file.size,
                # Of a file that is read in parts the time is known with the last one, so that none is forgotten.
                0 if reading.is_partial else file.modified_ns, read_to, lines, reading.pending, read.status,
            )
        )  # fmt: skip
        if (
            task.state is not None or file.mode != "document"
        ):  # of a document that never changed there is nothing to know
            said = msgspec.json.encode(state.state).decode()
            states.append((task.file_id, state.sequence, state.head, state.tail, said))
    if not files:
        return
    with handed_over(connection, "files_given", _FILE_COLUMNS, list(zip(*files, strict=True))):
        connection.execute("CREATE OR REPLACE TEMP TABLE files_now AS FROM files_given")
    connection.execute(
        """
        INSERT INTO log_files
        SELECT file_id, source, account, path, mode, device, inode, size, modified_ns, read_to, lines, pending,
            status, now(), now()
        FROM files_now
        ON CONFLICT (file_id) DO UPDATE SET
            path = excluded.path, device = excluded.device, inode = excluded.inode, size = excluded.size,
            modified_ns = excluded.modified_ns, read_to = excluded.read_to, lines = excluded.lines,
            pending = excluded.pending, status = excluded.status, last_read_at = excluded.last_read_at
        """
    )
    if states:
        with handed_over(connection, "states_given", _STATE_COLUMNS, list(zip(*states, strict=True))):
            connection.execute("INSERT OR REPLACE INTO operations.file_states FROM states_given")
    connection.execute(
        """
        UPDATE rejects SET resolved_at = now()
        WHERE resolved_at IS NULL AND line IS NULL AND position IS NULL
          AND path IN (SELECT path FROM files_now WHERE status = 'read')
        """
    )


_REJECT_COLUMNS = {
    "source": "VARCHAR",
    "path": "VARCHAR",
    "line": "BIGINT NULL",
    "position": "BIGINT NULL",
    "reason": "VARCHAR",
}


def store_rejects(connection: duckdb.DuckDBPyConnection, rejected: Sequence[tuple[str, str, Reject]]) -> int:
    """Stores rejects that are not known yet and returns how many there were."""
    if not rejected:
        return 0
    rows = [(source, path, item.line, item.position, item.reason) for source, path, item in rejected]
    before = _number_of_rejects(connection)
    with handed_over(connection, "rejects_given", _REJECT_COLUMNS, list(zip(*rows, strict=True))):
        connection.execute(
            """
            INSERT INTO rejects
            SELECT *, now(), NULL FROM (
                SELECT DISTINCT source, path, line, position, reason FROM rejects_given
                EXCEPT SELECT source, path, line, position, reason FROM rejects WHERE resolved_at IS NULL
            ) ORDER BY path, position
            """
        )
    return _number_of_rejects(connection) - before


def _number_of_rejects(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT count(*) FROM rejects").fetchall()[0][0])
