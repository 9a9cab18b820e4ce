"""Recorder: calls that a proxy or gateway recorded with `kharcha_pipeline.recorder`, from its SQLite database.

The database is ours, so it is opened like any participant opens it, and not copied: its rows are never changed, and
their ids ascend in the order of commits. What is known here of the recorder is its tables.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from kharcha_pipeline import locations
from kharcha_pipeline.records import LogFile, Reading, Reject, SettledCall, UsageRecord
from kharcha_pipeline.sources.source import Place, Reasons
from kharcha_pipeline.sources.sqlite import FAILURES, read_live, read_snapshot

FILE = "recorder.sqlite"
SPILL = "recorder.spill"
NEWEST_SCHEMA = 1

DAMAGED = "database is damaged"
TOO_NEW = "database was made by a newer version"
NO_TIME = "time is missing or out of range"

_TRANSIENT = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)


class RecordedCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of the recorder's `usage_events`, without prices: the pipeline freezes its own."""

    event_id: str
    occurred_at: int
    account: str
    model: str
    endpoint: str
    upstream_format: str
    status: Literal["ok", "error", "aborted"] = "ok"
    is_streaming: bool = False
    duration_ms: int | None = None
    request_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    web_search_requests: int = 0
    premium_request_count: Decimal = Decimal(0)


_CALLS = """
    SELECT id, event_id, occurred_at, account_name, model_id, endpoint, upstream_format, status, is_streaming,
        duration_ms, request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
        cache_write_1h_tokens, reasoning_tokens, web_search_requests, premium_request_count
    FROM usage_events WHERE id > ? ORDER BY id
"""
_REJECTS = "SELECT id, event_id, reason FROM rejects WHERE id > ? ORDER BY id"


class Recorder:
    """The source `recorder`."""

    name = "recorder"
    title = "Recorder"
    variables = ()
    locations = ("`recorder.sqlite` in the data directory, written by `kharcha_pipeline.recorder`",)
    record_type = RecordedCall
    reasons = Reasons()

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """The database of the data directory; a root is another such database, or the directory it is in."""
        found = {os.path.join(locations.data_directory(environment), FILE): ""}
        for root, account in roots:
            path = locations.expanded(root, environment)
            found[path if path.endswith(".sqlite") else os.path.join(path, FILE)] = account
        places = []
        for path, account in found.items():
            places.append(Place(path, (), "database", account))
            # A place of its own, since only directories are searched for what lies beside a file.
            places.append(Place(f"{path}-wal", (), "database", account, watched=("-wal",)))
        return places

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """The directory of spilled calls: a sync has to drain it, also when the database did not change."""
        return [os.path.join(locations.data_directory(environment), SPILL)]

    def read(self, file: LogFile) -> Reading:
        """The calls and rejects that are new since the last reading."""
        if file.path.endswith("-wal"):
            return Reading()
        try:
            if os.access(os.path.dirname(file.path), os.W_OK):
                return read_live(file.path, "rw", lambda connection: _read(connection, file))
            return read_snapshot(file.path, lambda connection: _read(connection, file))
        except FAILURES as error:
            if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _TRANSIENT:
                raise OSError(f"SQLite says: {error}") from error
            return Reading(rejects=[Reject(DAMAGED)], state=file.state)

    def related(self, said: Sequence[RecordedCall]) -> Iterable[str]:
        """None: every call has an id of its own."""
        return ()

    def settle(
        self, family: str, said: Sequence[RecordedCall], related: Mapping[str, Sequence[RecordedCall]]
    ) -> list[SettledCall]:
        """The call. Of several that claim one id, which only a hand can make, the largest text decides."""
        call = said[0] if len(said) == 1 else max(said, key=msgspec.json.encode)
        return [
            SettledCall(
                call.event_id,
                call.occurred_at,
                account=call.account,
                model_raw=call.model,
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                cache_read_tokens=call.cache_read_tokens,
                cache_write_5m_tokens=call.cache_write_5m_tokens,
                cache_write_1h_tokens=call.cache_write_1h_tokens,
                reasoning_tokens=call.reasoning_tokens,
                web_search_requests=call.web_search_requests,
                endpoint=call.endpoint,
                status=call.status,
                premium_request_count=call.premium_request_count,
            )
        ]


recorder = Recorder()


def _read(connection: sqlite3.Connection, file: LogFile) -> Reading:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:  # it is just being made
        return Reading(state=file.state)
    if version > NEWEST_SCHEMA:
        return Reading(rejects=[Reject(TOO_NEW)], state=file.state)
    reading = Reading(state=dict(file.state))
    for position, *fields in connection.execute(_CALLS, (_read_to(connection, "usage_events", file),)):
        call = _call(fields)
        if call is None:
            reading.rejects.append(Reject(DAMAGED, position=position))
        elif call.occurred_at < file.earliest_ms:
            reading.rejects.append(Reject(NO_TIME, position=position))
        else:
            labelled = (
                call if call.account or not file.account else msgspec.structs.replace(call, account=file.account)
            )
            reading.records.append(UsageRecord(call.event_id, labelled, position))
        reading.state["usage_events"] = [position, str(_text(fields[0]))]
    for position, event_id, reason in connection.execute(_REJECTS, (_read_to(connection, "rejects", file),)):
        reading.rejects.append(Reject(_text(reason), position=position))
        reading.state["rejects"] = [position, str(_text(event_id))]
    return reading


def _read_to(connection: sqlite3.Connection, table: str, file: LogFile) -> int:
    """Behind which id to go on: from the start when the last row that was read is no longer the same one.

    That happens when a backup was put in the place of the database; what is read again counts once.
    """
    position, event_id = file.state.get(table, (0, ""))
    row = connection.execute(f"SELECT event_id FROM {table} WHERE id = ?", (position,)).fetchone()
    return int(position) if row is not None and str(_text(row[0])) == event_id else 0


def _call(fields: list[Any]) -> RecordedCall | None:
    """A row, checked; `None` when it is none that the recorder writes."""
    try:
        return msgspec.convert(
            dict(zip(RecordedCall.__struct_fields__, map(_text, fields), strict=True)), RecordedCall, strict=False
        )
    except msgspec.ValidationError:
        return None


def _text(value: Any) -> Any:
    """Text, which comes as bytes."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
