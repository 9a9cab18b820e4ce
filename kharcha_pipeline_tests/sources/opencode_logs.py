"""Writes what OpenCode writes: trees of message files, and databases of both generations with an open writer."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CREATED = 1_775_124_000_123
"""2026-04-02T10:00:00.123Z."""

V1_TABLES = """
CREATE TABLE project (id text PRIMARY KEY, worktree text NOT NULL, vcs text, name text);
CREATE TABLE session (id text PRIMARY KEY, project_id text, parent_id text, slug text, directory text, title text,
    version text, share_url text, time_created integer, time_updated integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text NOT NULL, time_created integer, time_updated integer,
    data text NOT NULL);
CREATE TABLE part (id text PRIMARY KEY, message_id text NOT NULL, session_id text, time_created integer,
    time_updated integer, data text NOT NULL);
CREATE INDEX part_message_idx ON part (message_id);
"""

V2_TABLES = """
CREATE TABLE session_v2 (id text PRIMARY KEY, project_id text, workspace_id text, parent_id text,
    fork_session_id text, fork_boundary text, slug text, directory text, path text, title text, version text,
    cost real DEFAULT 0, tokens_input integer DEFAULT 0, tokens_output integer DEFAULT 0,
    tokens_reasoning integer DEFAULT 0, tokens_cache_read integer DEFAULT 0, tokens_cache_write integer DEFAULT 0,
    agent text, model text, time_created integer, time_updated integer);
CREATE TABLE session_message (id text PRIMARY KEY, session_id text NOT NULL, type text NOT NULL, seq integer,
    time_created integer, time_updated integer, data text NOT NULL);
CREATE TABLE event (id text PRIMARY KEY, aggregate_id text, seq integer, created integer, type text, data text);
"""


def tokens(
    input: int = 1200, output: int = 180, reasoning: int = 0, read: int = 14000, write: int = 0, **total: Any
) -> dict[str, Any]:
    return {
        "input": input,
        "output": output,
        "reasoning": reasoning,
        "cache": {"read": read, "write": write},
        **total,
    }


def assistant(created: Any = CREATED, completed: Any = CREATED + 9333, **fields: Any) -> dict[str, Any]:
    """An assistant message as 1.x writes it; `completed=None` is one that is running."""
    time = {"created": created} | ({} if completed is None else {"completed": completed})
    return {
        "role": "assistant",
        "parentID": "msg_user",
        "providerID": "anthropic",
        "modelID": "claude-sonnet-4-5",
        "mode": "build",
        "agent": "build",
        "path": {"cwd": "/home/dev/site", "root": "/home/dev/site"},
        "cost": 0,
        "tokens": tokens(),
        "time": time,
        "finish": "stop",
        **fields,
    }


def answer(created: Any = CREATED, completed: Any = CREATED + 9333, **fields: Any) -> dict[str, Any]:
    """The data of an assistant row as 2.0 writes it."""
    time = {"created": created} | ({} if completed is None else {"completed": completed})
    return {
        "agent": "build",
        "model": {"id": "claude-sonnet-4-5", "providerID": "anthropic", "variant": "default"},
        "content": [{"type": "text", "text": "a secret answer"}],
        "cost": 0,
        "tokens": tokens(),
        "time": time,
        **fields,
    }


def step(cost: Any = 0, **counts: Any) -> dict[str, Any]:
    return {"type": "step-finish", "reason": "tool-calls", "cost": cost, "tokens": tokens(**counts)}


class Tree:
    """The message files of OpenCode up to 1.1 below one `storage` directory."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage

    def write(self, path: str, content: object) -> Path:
        file = self.storage / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        return file

    def message(self, message_id: str = "msg_1", session_id: str = "ses_1", **fields: Any) -> Path:
        body = {"id": message_id, "sessionID": session_id, **assistant(**fields)}
        return self.write(f"message/{session_id}/{message_id}.json", body)

    def session(self, session_id: str = "ses_1", created: Any = CREATED - 1000, **fields: Any) -> Path:
        body = {"id": session_id, "version": "1.1.3", "projectID": "p", "directory": "/home/dev/other", **fields}
        return self.write(f"session/p/{session_id}.json", body | {"time": {"created": created, "updated": created}})

    def part(self, part_id: str, body: dict[str, Any], message_id: str = "msg_1", session_id: str = "ses_1") -> Path:
        body = {"id": part_id, "messageID": message_id, "sessionID": session_id, **body}
        return self.write(f"part/{message_id}/{part_id}.json", body)


class Database:
    """An OpenCode database in WAL mode, with the agent's connection still open."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection

    def insert(self, table: str, **row: Any) -> None:
        values = [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
        marks = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(row)}) VALUES ({marks})", values)
        self.connection.commit()

    def update(self, table: str, id: str, **row: Any) -> None:
        values = [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
        names = ", ".join(f"{name} = ?" for name in row)
        self.connection.execute(f"UPDATE {table} SET {names} WHERE id = ?", [*values, id])
        self.connection.commit()

    def session(
        self, id: str = "ses_1", table: str = "session", time_created: int = CREATED - 1000, **row: Any
    ) -> None:
        row = {"directory": "/home/dev/other", "version": "1.4.0", **row}
        self.insert(table, id=id, time_created=time_created, time_updated=time_created, **row)

    def message(
        self, id: str = "msg_1", session_id: str = "ses_1", data: Any = None, updated: int = CREATED + 9400
    ) -> None:
        data = assistant() if data is None else data
        self.insert("message", id=id, session_id=session_id, time_created=CREATED, time_updated=updated, data=data)

    def part(self, id: str, data: dict[str, Any], message_id: str = "msg_1") -> None:
        self.insert(
            "part", id=id, message_id=message_id, session_id="ses_1", time_created=1, time_updated=1, data=data
        )

    def row(self, id: str = "msg_1", session_id: str = "ses_1", data: Any = None, **row: Any) -> None:
        """A row of 2.0's messages."""
        data = answer() if data is None else data
        defaults = {"type": "assistant", "seq": 1, "time_created": CREATED, "time_updated": CREATED + 9400}
        self.insert("session_message", id=id, session_id=session_id, data=data, **(defaults | row))

    def event(
        self, id: str, source: str, session_id: str = "ses_1", created: int | None = CREATED + 50, **data: Any
    ) -> None:
        body = {"sessionID": session_id, "source": source, "cost": 0, "tokens": tokens(300, 20, read=0), **data}
        self.insert(
            "event", id=id, aggregate_id=session_id, seq=9, created=created, type="session.usage.recorded", data=body
        )

    def checkpoint(self) -> None:
        """Moves everything from the write-ahead log into the database file, and empties the log."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def database(path: Path, tables: str = V1_TABLES) -> Iterator[Database]:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.executescript(tables)
        yield Database(path, connection)
    finally:
        connection.close()


def beside(path: Path) -> dict[str, tuple[int, int]]:
    """Every file in a database's directory with its size and modification time."""
    return {
        entry.name: (entry.stat().st_size, entry.stat().st_mtime_ns)
        for entry in os.scandir(path.parent)
        if entry.is_file()
    }
