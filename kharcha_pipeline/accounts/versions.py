"""Writes versions: every value that an item ever had is appended, and the item points to the newest."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from kharcha_pipeline.accounts.items import ItemKind, VendorItem, instant_of
from kharcha_pipeline.accounts.readings import Reading
from kharcha_pipeline.accounts.revision import (
    FIRST_SEEN,
    MISSES,
    RECOUNTED,
    RETURNED,
    REVISED,
    VANISHED,
    Comparison,
    Match,
    Stored,
)


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What a reading changed.

    Attributes:
        inserted, changed, vanished, returned, unchanged: items.
        held: whether it waits for a person; nothing was changed then.
        superseded: whether newer readings say all that it could say; nothing was changed then.
    """

    inserted: int = 0
    changed: int = 0
    vanished: int = 0
    returned: int = 0
    unchanged: int = 0
    held: bool = False
    superseded: bool = False

    def __add__(self, other: Applied) -> Applied:
        """Both together."""
        return Applied(
            inserted=self.inserted + other.inserted,
            changed=self.changed + other.changed,
            vanished=self.vanished + other.vanished,
            returned=self.returned + other.returned,
            unchanged=self.unchanged + other.unchanged,
            held=self.held or other.held,
            superseded=self.superseded or other.superseded,
        )


class VersionWriter:
    """Collects what is to be written of one reading, and writes it at once.

    Attributes:
        reason: of all versions, where they have the same.
    """

    def __init__(self, connection: sqlite3.Connection, reading: Reading, kind: ItemKind) -> None:
        self.reason = ""
        self._kind = kind
        self._connection = connection
        self._reading = reading
        self._item_id = _next_id(connection, "items")
        self._version_id = _next_id(connection, "versions")
        self._items: list[tuple[object, ...]] = []
        self._versions: list[tuple[object, ...]] = []
        self._pointers: list[tuple[object, ...]] = []
        self._applied = Applied()

    def matches(self, matches: Sequence[Match]) -> None:
        """What the vendor shows and was stored."""
        changed = returned = 0
        for match in matches:
            stored = match.stored
            is_returned = not stored.is_shown
            if is_returned or match.is_changed:
                returned += is_returned
                changed += not is_returned
                reason = RETURNED if is_returned else REVISED
                version = self._version(stored.id, match.item, stored.group, stored.ordinal, reason)
                self._pointers.append(
                    (version, version, instant_of(match.item), 0, _joined(match.guarded), stored.id)
                )
            elif stored.missed or match.guarded != stored.guarded:
                self._pointers.append((None, None, None, 0, _joined(match.guarded), stored.id))
        self._applied += Applied(changed=changed, returned=returned, unchanged=len(matches) - changed - returned)

    def added(self, comparison: Comparison) -> None:
        """What is new."""
        scope = self._reading.scope
        for ordinal, item in comparison.added:
            item_id = self._item_id
            self._item_id += 1
            version = self._version(item_id, item, item.group, ordinal, FIRST_SEEN)
            self._items.append(
                (item_id, *scope, self._kind, group_key(item.group), ordinal, instant_of(item), version, version)
            )
        self._applied += Applied(inserted=len(comparison.added))

    def miss(self, missing: Sequence[Stored], times: int) -> None:
        """What was missing in a complete reading, which is believed when it happens often enough."""
        enough = MISSES[self._kind] or 0
        gone = [one for one in missing if one.missed + times >= enough]
        vanished = {one.id for one in gone}
        self._pointers += [
            (None, None, None, one.missed + times, _joined(one.guarded), one.id)
            for one in missing
            if one.id not in vanished
        ]
        self.vanish(gone)

    def vanish(self, gone: Iterable[Stored]) -> None:
        """What the vendor shows no longer."""
        vanished = 0
        for one in gone:
            version = self._version(one.id, one.item, one.group, one.ordinal, VANISHED, is_shown=False)
            self._pointers.append((version, None, None, one.missed + 1, _joined(one.guarded), one.id))
            vanished += 1
        self._applied += Applied(vanished=vanished)

    def _version(
        self,
        item_id: int,
        item: VendorItem,
        group: tuple[str, ...],
        ordinal: int,
        reason: str,
        *,
        is_shown: bool = True,
    ) -> int:
        scope = self._reading.scope
        version = self._version_id
        self._version_id += 1
        content = msgspec.json.encode(item).decode() if is_shown else None
        self._versions.append(
            (
                version,
                item_id,
                scope.account,
                scope.resource,
                self._kind,
                group_key(group),
                ordinal,
                instant_of(item),
                content,
                self._reading.fetched_ms,
                scope.connector,
                item_id,
                self.reason or reason,
                scope.account,
            )
        )
        return version

    def written(self) -> Applied:
        """Writes it all, and tells what it was."""
        applied = self._applied
        execute_many = self._connection.executemany
        execute_many(_INSERT_VERSION, self._versions)
        execute_many(_INSERT_ITEM, self._items)
        execute_many(_POINT, self._pointers)
        events = applied.inserted + applied.returned - applied.vanished
        if self._kind == "event" and events:
            self._connection.execute(_COUNT_EVENTS, (events, self._reading.scope.account))
        return applied


def recount(connection: sqlite3.Connection, account: str, connector: str, *, counted: bool) -> None:
    """Writes a version of every item that is shown, in which it counts, or counts no longer."""
    first = _next_id(connection, "versions")
    connection.execute(_RECOUNT, (counted, RECOUNTED, account, connector))
    connection.execute(_POINT_TO_RECOUNTED, (first,))


def _next_id(connection: sqlite3.Connection, table: str) -> int:
    """The id of the next row: there is one writer, so ids ascend in the order of commits."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return (found[0] if found else 0) + 1


def group_key(group: tuple[str, ...]) -> str:
    """What never changes about an item, as it is stored."""
    return json.dumps(group, ensure_ascii=False, separators=(",", ":"))


def _joined(fields: frozenset[str]) -> str:
    return " ".join(sorted(fields))


_INSERT_VERSION = """
INSERT INTO versions (id, item, account, resource, kind, group_key, ordinal, at_ms, content, seen_at, connector,
                      previous, reason, counted, source)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT version FROM items WHERE id = ?), ?, counted, source
FROM accounts WHERE name = ?
"""
_INSERT_ITEM = """
INSERT INTO items (id, account, connector, resource, kind, group_key, ordinal, at_ms, version, shown)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_POINT = """
UPDATE items SET version = coalesce(?, version), shown = coalesce(?, shown), at_ms = coalesce(?, at_ms), missed = ?,
                 guarded = ?
WHERE id = ?
"""
_COUNT_EVENTS = "UPDATE accounts SET events = events + ? WHERE name = ?"
_RECOUNT = """
INSERT INTO versions (item, account, resource, kind, group_key, ordinal, at_ms, content, seen_at, counted, source,
                      connector, previous, reason)
SELECT item, versions.account, versions.resource, versions.kind, versions.group_key, versions.ordinal,
       versions.at_ms, content, seen_at, ?, source, versions.connector, versions.id, ?
FROM items JOIN versions ON versions.id = items.version
WHERE items.account = ? AND items.connector = ? AND items.version = items.shown
ORDER BY versions.id
"""
_POINT_TO_RECOUNTED = """
UPDATE items SET version = versions.id, shown = versions.id FROM versions
WHERE versions.id >= ? AND items.id = versions.item
"""
