"""Takes over into the warehouse what `accounts.sqlite` holds besides usage: what vendors said, and how accounts are.

Only what is new is read: versions, rejects and transitions are appended there with ascending ids, and how far they
were read is stored in the transaction that stores them. Killed anywhere, the next run goes on. What is read a second
time, as after a backup was put in the place of the store, changes nothing.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from kharcha_pipeline.accounts.mirrored import TABLES, MirroredTable
from kharcha_pipeline.sources.accounts import FILE, NEWEST_VERSION
from kharcha_pipeline.sources.sqlite import FAILURES, read_ours
from kharcha_pipeline.warehouse.columns import handed_over
from kharcha_pipeline.warehouse.warehouse import Warehouse, fact, set_fact

FACT = "accounts_read"
"""How far `accounts.sqlite` was read: JSON."""

VERSIONS_AT_ONCE = 20_000
"""Of a long history, so many versions are one transaction."""

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999: no instant after it can be stored."""


class MirrorResult(NamedTuple):
    """What was taken over.

    Attributes:
        versions: values of items that are new.
        changes: how many of them changed an item that was known.
        is_busy: whether the store could not be read now, so that there may be more.
    """

    versions: int = 0
    changes: int = 0
    is_busy: bool = False


def mirror(warehouse: Warehouse, *, full: bool = False) -> MirrorResult:
    """Takes over what is new in `accounts.sqlite`; without such a file there is nothing to do.

    A file that cannot be read is left alone: the source `accounts` has told so already, as a reject.

    Args:
        warehouse: the warehouse, which exists.
        full: read everything again.

    Raises:
        WarehouseError, LockTimeoutError: when the warehouse cannot be used.
    """
    path = warehouse.directory / FILE
    seen = _signature(path)
    if seen is None:
        return MirrorResult()
    if not full:
        with warehouse.read() as connection:
            if _Known.of(fact(connection, FACT)).files == seen:
                return MirrorResult()
    with warehouse.landing():  # one process at a time, so that no change is logged twice
        return _mirror(warehouse, path, is_again=full)


def _mirror(warehouse: Warehouse, path: Path, *, is_again: bool) -> MirrorResult:
    seen = _signature(path)
    with warehouse.read() as connection:
        known = _Known.of(fact(connection, FACT))
        accounts = connection.execute(_ACCOUNTS_KNOWN).fetchall()
    total = MirrorResult()
    while True:
        try:
            told = _told(path, known, is_again=is_again)
        except OSError:
            return total._replace(is_busy=True)
        if told is None or seen is None:
            return total
        is_complete = len(told.versions) < VERSIONS_AT_ONCE
        fresh = told.known._replace(files=seen, logged_to=0) if is_complete else told.known._replace(files=[])
        is_news = bool(told.versions or told.rejects or told.transitions) or told.accounts != accounts
        if is_news or fresh != known:
            with warehouse.write(published=is_news) as connection:
                if told.accounts != accounts:
                    _store_accounts(connection, told.accounts)
                changes = _store_versions(connection, told.versions)
                _store_rejects(connection, told.rejects)
                _store_transitions(connection, told.transitions)
                set_fact(connection, FACT, json.dumps(fresh._asdict()))
            total = MirrorResult(total.versions + len(told.versions), total.changes + changes)
        if is_complete:
            return total
        known, accounts, is_again = fresh, told.accounts, False


class _Known(NamedTuple):
    """How far the store was read.

    Attributes:
        files: how its files looked; empty while there is more to read.
        made_at: which store it was.
        version, seen_at: the last version, and when it was seen.
        entered: the last invoice that was typed in.
        logged_to: changes seen by then are in `event_changes`, also when they are read again.
    """

    files: Sequence[Any] = ()
    made_at: int = 0
    version: int = 0
    seen_at: int = 0
    entered: int = 0
    reject: int = 0
    transition: int = 0
    logged_to: int = 0

    @classmethod
    def of(cls, text: str | None) -> _Known:
        return cls(**json.loads(text)) if text else cls()


class _Told(NamedTuple):
    """What is new."""

    known: _Known
    accounts: list[tuple[Any, ...]]
    versions: list[tuple[Any, ...]]
    rejects: list[tuple[Any, ...]]
    transitions: list[tuple[Any, ...]]


def _signature(path: Path) -> list[Any] | None:
    """How the store's files look; `None` when there is none."""
    found: list[list[int] | None] = []
    for name in (str(path), f"{path}-wal"):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            found.append(None)
            continue
        found.append([status.st_ino, status.st_size, status.st_mtime_ns])
    return found if found[0] is not None else None


# ---- reading


_ACCOUNTS = """
SELECT name, connector, vendor, source, label, owner, counted, local_sources, local_account, tolerance_percent,
    is_configured, is_enabled, state, state_since, until, sentence, credential_expires, last_attempt, last_success,
    next_poll, events
FROM accounts ORDER BY name
"""
_VERSIONS = """
SELECT now.id, now.kind, now.account, now.connector, now.source, now.resource, now.group_key, now.ordinal, now.at_ms,
    now.content, now.seen_at, now.counted, before.content, now.reason, now.previous IS NOT NULL AND now.seen_at > ?
FROM versions AS now LEFT JOIN versions AS before ON before.id = now.previous
WHERE now.id > ? ORDER BY now.id LIMIT ?
"""
_ENTERED = """
SELECT now.id, 'invoice', now.account, 'entered', coalesce(accounts.source, ''), 'entered', now.group_key, 0,
    now.at_ms, now.content, now.entered_at, 0, before.content, 'entered again',
    now.previous IS NOT NULL AND now.entered_at > ?
FROM entered_invoices AS now LEFT JOIN entered_invoices AS before ON before.id = now.previous
LEFT JOIN accounts ON accounts.name = now.account WHERE now.id > ? ORDER BY now.id
"""
_REJECTS = "SELECT id, account, resource, reason, first_seen_at FROM rejects WHERE id > ? ORDER BY id"
_TRANSITIONS = "SELECT id, account, before, after, sentence, at, until FROM transitions WHERE id > ? ORDER BY id"


def _told(path: Path, known: _Known, *, is_again: bool) -> _Told | None:
    """What the store holds beyond what is known; `None` when it is none, or of a newer version.

    Raises:
        OSError: when it cannot be read now.
    """
    try:
        return read_ours(str(path), lambda connection: _read(connection, known, is_again=is_again))
    except FAILURES:
        return None


def _read(connection: sqlite3.Connection, known: _Known, *, is_again: bool) -> _Told | None:
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    about = dict(connection.execute("SELECT name, value FROM about"))
    if "made_at" not in about or int(about.get("version", 0)) > NEWEST_VERSION:
        return None
    made_at = int(about["made_at"])
    if made_at != known.made_at:
        known = _Known(made_at=made_at)
    elif is_again or not _is_in_place(connection, known):
        known = _Known(made_at=made_at, logged_to=max(known.logged_to, known.seen_at))
    asked = (known.logged_to, known.version, VERSIONS_AT_ONCE)
    versions = connection.execute(_VERSIONS, asked).fetchall()
    last = (versions[-1][0], versions[-1][10]) if versions else (known.version, known.seen_at)
    entered: list[tuple[Any, ...]] = []
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'entered_invoices'").fetchone():
        entered = connection.execute(_ENTERED, (known.logged_to, known.entered)).fetchall()
    rejects = connection.execute(_REJECTS, (known.reject,)).fetchall()
    transitions = connection.execute(_TRANSITIONS, (known.transition,)).fetchall()
    known = known._replace(
        version=last[0],
        seen_at=last[1],
        entered=entered[-1][0] if entered else known.entered,
        reject=rejects[-1][0] if rejects else known.reject,
        transition=transitions[-1][0] if transitions else known.transition,
    )
    accounts = [
        (*row[:7], json.dumps(json.loads(row[7]), ensure_ascii=False, separators=(",", ":")), *row[8:])
        for row in connection.execute(_ACCOUNTS)
    ]
    return _Told(known, accounts, versions + entered, rejects, transitions)


def _is_in_place(connection: sqlite3.Connection, known: _Known) -> bool:
    """Whether the last version that was read is still the same one."""
    row = connection.execute("SELECT seen_at FROM versions WHERE id = ?", (known.version,)).fetchone()
    return known.version == 0 or (row is not None and row[0] == known.seen_at)


# ---- storing

_ACCOUNT_COLUMNS = {
    "account": "VARCHAR",
    "connector": "VARCHAR",
    "vendor": "VARCHAR",
    "source": "VARCHAR",
    "label": "VARCHAR",
    "owner": "VARCHAR",
    "counted": "BIGINT",
    "local_sources": "VARCHAR",
    "local_account": "VARCHAR NULL",
    "tolerance_percent": "BIGINT",
    "configured": "BIGINT",
    "enabled": "BIGINT",
    "state": "VARCHAR",
    "state_since": "BIGINT NULL",
    "until": "BIGINT NULL",
    "sentence": "VARCHAR",
    "credential_expires": "BIGINT NULL",
    "last_attempt": "BIGINT NULL",
    "last_success": "BIGINT NULL",
    "next_poll": "BIGINT NULL",
    "events": "BIGINT",
}
_ACCOUNTS_KNOWN = """
SELECT account, connector, vendor, source, label, owner, is_counted::INTEGER, to_json(local_sources)::VARCHAR,
    local_account, tolerance_percent, is_configured::INTEGER, is_enabled::INTEGER, state, epoch_ms(state_since),
    epoch_ms(until), sentence, epoch_ms(credential_expires_at), epoch_ms(last_attempt_at), epoch_ms(last_success_at),
    epoch_ms(next_poll_at), events
FROM accounts ORDER BY account
"""
_STORE_ACCOUNTS = """
DELETE FROM accounts;
INSERT INTO accounts
SELECT account, connector, vendor, source, label, owner, counted > 0, from_json(local_sources, '["VARCHAR"]'),
    local_account, tolerance_percent, configured > 0, enabled > 0, state, make_timestamptz(state_since * 1000),
    make_timestamptz(until * 1000), sentence, make_timestamptz(credential_expires * 1000),
    make_timestamptz(last_attempt * 1000), make_timestamptz(last_success * 1000), make_timestamptz(next_poll * 1000),
    events
FROM accounts_given ORDER BY account
"""


def _store_accounts(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * len(_ACCOUNT_COLUMNS)
    with handed_over(connection, "accounts_given", _ACCOUNT_COLUMNS, columns):
        connection.execute(_STORE_ACCOUNTS)


_VERSION_COLUMNS = {
    "number": "BIGINT",
    "kind": "VARCHAR",
    "account": "VARCHAR",
    "connector": "VARCHAR",
    "source": "VARCHAR",
    "resource": "VARCHAR",
    "group_key": "VARCHAR",
    "ordinal": "BIGINT",
    "at_ms": "BIGINT",
    "content": "VARCHAR NULL",
    "seen_ms": "BIGINT",
    "counted": "BIGINT",
    "before": "VARCHAR NULL",
    "reason": "VARCHAR",
    "logged": "BIGINT",
}
_VERSIONS_NOW = f"""
CREATE OR REPLACE TEMP TABLE versions_now AS
SELECT md5(concat_ws(chr(31), kind, account, connector, resource, group_key, ordinal))::UUID AS item_id,
    * EXCLUDE (content, before), content::JSON AS content, before::JSON AS before
FROM versions_given
WHERE at_ms BETWEEN 0 AND {LATEST_MS}
    AND json_valid(coalesce(content, '{{}}')) AND json_valid(coalesce(before, '{{}}'))
"""
_ITEMS_NOW = """
CREATE OR REPLACE TEMP TABLE items_now AS
SELECT item_id, any_value(account) AS account, any_value(connector) AS connector, any_value(ordinal) AS ordinal,
    any_value(at_ms) AS at_ms, arg_max(source, number) AS source, arg_max(counted, number) > 0 AS is_counted,
    arg_max(content, number) AS content,  -- of those that have one
    arg_max(content IS NOT NULL, number) AS is_shown,
    make_timestamptz(min(seen_ms) * 1000) AS first_seen_at,
    make_timestamptz(coalesce(max(seen_ms) FILTER (WHERE content IS NOT NULL), 0) * 1000) AS seen_at
FROM versions_now WHERE kind = ? GROUP BY item_id
"""
_LOG_CHANGES = """
INSERT INTO event_changes (event_id, changed_at, subject, reason, before, after)
SELECT item_id, now(), CASE kind WHEN 'event' THEN 'vendor_event' ELSE kind END, reason, before, content
FROM versions_now
WHERE logged > 0 AND before IS DISTINCT FROM content AND NOT (kind = 'event' AND counted > 0)  -- that one is usage
ORDER BY number
"""


def _store_versions(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Brings the tables of the items up to date; returns how many changes of known ones were logged."""
    if not rows:
        return 0
    with handed_over(connection, "versions_given", _VERSION_COLUMNS, list(zip(*rows, strict=True))):
        connection.execute(_VERSIONS_NOW)
    before = _number_of_changes(connection)
    connection.execute(_LOG_CHANGES)
    kinds = [kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM versions_now").fetchall()]
    for kind in sorted(set(kinds) & TABLES.keys()):
        connection.execute(_ITEMS_NOW, [kind])
        _store_items(connection, TABLES[kind])
    connection.execute("DROP TABLE versions_now; DROP TABLE IF EXISTS items_now")
    return _number_of_changes(connection) - before


def _store_items(connection: duckdb.DuckDBPyConnection, table: MirroredTable) -> None:
    """Replaces the rows of the items that have a new version. What is shown no longer keeps its last values."""
    near = ""
    if table.instant:  # so that DuckDB skips the rest of a long history
        near = (
            f"{table.instant} BETWEEN (SELECT make_timestamptz(min(at_ms) * 1000) FROM items_now) "
            "AND (SELECT make_timestamptz(max(at_ms) * 1000) FROM items_now) AND"
        )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE items_before AS
        FROM {table.name} WHERE {near} item_id IN (SELECT item_id FROM items_now);
        DELETE FROM {table.name} WHERE {near} item_id IN (SELECT item_id FROM items_now);
        INSERT INTO {table.name} BY NAME
        SELECT now.item_id, now.account, now.connector, now.source, {table.selected},
            now.is_shown, least(now.first_seen_at, known.first_seen_at) AS first_seen_at, now.seen_at
        FROM items_now AS now LEFT JOIN items_before AS known USING (item_id) WHERE now.content IS NOT NULL
        UNION ALL BY NAME
        SELECT known.* REPLACE (false AS is_shown)
        FROM items_before AS known JOIN items_now AS now USING (item_id) WHERE now.content IS NULL
        ORDER BY {table.order};
        DROP TABLE items_before;
        """
    )


def _number_of_changes(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT count(*) FROM event_changes").fetchall()[0][0])


def _store_rejects(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    types = {
        "number": "BIGINT",
        "account": "VARCHAR",
        "resource": "VARCHAR",
        "reason": "VARCHAR",
        "seen_ms": "BIGINT",
    }
    with handed_over(connection, "rejects_given", types, list(zip(*rows, strict=True))):
        connection.execute(
            """
            INSERT INTO rejects
            SELECT 'accounts', path, NULL, number, reason, make_timestamptz(seen_ms * 1000), NULL
            FROM (SELECT *, account || ': ' || resource AS path FROM rejects_given) AS given
            WHERE NOT EXISTS (
                FROM rejects AS known WHERE known.source = 'accounts' AND known.path = given.path
                    AND known.position = given.number AND known.reason = given.reason
            )
            ORDER BY number
            """
        )


def _store_transitions(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    types = {
        "number": "BIGINT",
        "account": "VARCHAR",
        "state_before": "VARCHAR",
        "state_after": "VARCHAR",
        "sentence": "VARCHAR",
        "at_ms": "BIGINT",
        "until_ms": "BIGINT NULL",
    }
    with handed_over(connection, "transitions_given", types, list(zip(*rows, strict=True))):
        connection.execute(
            """
            INSERT INTO account_transitions
            SELECT
                (SELECT coalesce(max(transition_id), 0) FROM account_transitions)
                    + row_number() OVER (ORDER BY number),
                account, state_before, state_after, sentence, make_timestamptz(at_ms * 1000),
                make_timestamptz(until_ms * 1000)
            FROM transitions_given AS given
            WHERE NOT EXISTS (
                FROM account_transitions AS known
                WHERE known.account = given.account AND known.state_before = given.state_before
                    AND known.state_after = given.state_after
                    AND known.happened_at = make_timestamptz(given.at_ms * 1000)
            )
            """
        )
