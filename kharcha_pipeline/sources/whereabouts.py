"""What the warehouse knows about log files: where they are, how far they were read, what in them was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import msgspec

from kharcha_pipeline.records import Reading, Reject
from kharcha_pipeline.sources.scanner import Changes, FileState, FileToRead, KnownFile, Sweep
from kharcha_pipeline.warehouse.spill import spilled


class ReadFile(msgspec.Struct):
    """One file that was read, or could not be. `said` holds what each of the reading's records said, as JSON."""

    task: FileToRead
    reading: Reading
    said: list[bytes] = []
    sequence: str = ""
    head: bytes = b""
    tail: bytes = b""
    status: str = "read"


def known_files(connection: duckdb.DuckDBPyConnection) -> list[KnownFile]:
    """Every file that was ever read, as the last landing left it."""
    rows = connection.execute(
        "SELECT file_id, source, account, path, inode, size, modified_ns, read_to, lines, status FROM log_files"
    ).fetchall()
    return [KnownFile(*row) for row in rows]


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


class _FileRow(msgspec.Struct):
    file_id: int
    source: str
    account: str
    path: str
    mode: str
    device: int
    inode: int
    size: int
    modified_ns: int
    read_to: int
    lines: int
    pending: int
    status: str
    sequence: str
    head: str
    tail: str
    state: msgspec.Raw


_FILE_COLUMNS = {
    name: "VARCHAR"
    if kind is str
    else "JSON"
    if kind is msgspec.Raw
    else "UBIGINT"
    if name in ("device", "inode")
    else "BIGINT"
    for name, kind in ((field.name, field.type) for field in msgspec.structs.fields(_FileRow))
}


def store_files(connection: duckdb.DuckDBPyConnection, reads: Sequence[ReadFile], directory: Path) -> None:
    """Stores how far every file was read; a file that could not be read keeps its place and is tried again."""
    rows = []
    for read in reads:
        task, reading, file, before = read.task, read.reading, read.task.file, read.task.before
        if read.status == "gone":
            continue
        failed = read.status == "unreadable"
        kept = task.state or FileState(f"{task.file_id}.0")
        rows.append(
            _FileRow(
                file_id=task.file_id,
                source=file.source,
                account=file.account,
                path=file.path,
                mode=file.mode,
                device=file.device,
                inode=file.inode,
                size=file.size,
                modified_ns=file.modified_ns,
                read_to=(before.read_to if before else 0) if failed else reading.offset,
                lines=(before.lines if before else 0) if failed else reading.line,
                pending=reading.pending,
                status=read.status,
                sequence=kept.sequence if failed else read.sequence,
                head=(kept.head if failed else read.head).hex(),
                tail=(kept.tail if failed else read.tail).hex(),
                state=msgspec.Raw(msgspec.json.encode(kept.state if failed else reading.state)),
            )
        )
    with spilled(directory, rows, _FILE_COLUMNS) as staged:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE files_now AS FROM {staged}")
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
    connection.execute(
        """
        INSERT OR REPLACE INTO operations.file_states
        SELECT file_id, sequence, unhex(head), unhex(tail), state FROM files_now
        """
    )
    connection.execute(
        """
        UPDATE rejects SET resolved_at = now()
        WHERE resolved_at IS NULL AND line IS NULL AND position IS NULL
          AND path IN (SELECT path FROM files_now WHERE status = 'read')
        """
    )


class _RejectRow(msgspec.Struct):
    source: str
    path: str
    line: int | None
    position: int | None
    reason: str


_REJECT_COLUMNS = {
    "source": "VARCHAR",
    "path": "VARCHAR",
    "line": "BIGINT",
    "position": "BIGINT",
    "reason": "VARCHAR",
}


def store_rejects(
    connection: duckdb.DuckDBPyConnection, rejected: Sequence[tuple[str, str, Reject]], directory: Path
) -> int:
    """Stores rejects that are not known yet and returns how many there were."""
    if not rejected:
        return 0
    rows = [_RejectRow(source, path, item.line, item.position, item.reason) for source, path, item in rejected]
    before = _number_of_rejects(connection)
    with spilled(directory, rows, _REJECT_COLUMNS) as staged:
        connection.execute(
            f"""
            INSERT INTO rejects
            SELECT *, now(), NULL FROM (
                SELECT DISTINCT source, path, line, position, reason FROM {staged}
                EXCEPT SELECT source, path, line, position, reason FROM rejects WHERE resolved_at IS NULL
            ) ORDER BY path, position
            """
        )
    return _number_of_rejects(connection) - before


def _number_of_rejects(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT count(*) FROM rejects").fetchall()[0][0])
