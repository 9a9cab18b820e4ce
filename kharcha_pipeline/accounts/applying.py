"""What a reading does to the items that are stored: inside one transaction of the caller's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from kharcha_pipeline.accounts import readings
from kharcha_pipeline.accounts.connector import SNAPSHOT, Normalized, Resource, Window
from kharcha_pipeline.accounts.items import ItemKind, VendorItem, instant_of, kind_of
from kharcha_pipeline.accounts.readings import Reading, Scope
from kharcha_pipeline.accounts.revision import (
    MISSES,
    NORMALIZED_AGAIN,
    Comparison,
    Match,
    Stored,
    compare,
    mass_revision,
)
from kharcha_pipeline.accounts.versions import Applied, VersionWriter, group_key
from kharcha_pipeline.accounts.windows import without


class _Area(NamedTuple):
    """The part of a resource that a reading speaks about.

    Attributes:
        portions: of its window, what no newer reading covers; empty for a reading of the present.
        is_snapshot: whether it is one of the present.
    """

    kind: ItemKind
    portions: Sequence[Window]
    is_snapshot: bool

    @property
    def has_no_time(self) -> bool:
        """Whether its items are told apart by their ids alone."""
        return self.kind in ("invoice", "limit", "member")

    def holds(self, item: VendorItem) -> bool:
        """Whether the reading decides about an item: what is told apart by its id alone lies in no window."""
        if self.is_snapshot or self.has_no_time:
            return True
        at_ms = instant_of(item)
        return any(window.from_ms <= at_ms < window.until_ms for window in self.portions)


def apply(
    connection: sqlite3.Connection,
    reading: Reading,
    resource: Resource,
    normalized: Normalized,
    *,
    now_ms: int,
    closed_before_ms: int,
) -> Applied:
    """Stores a reading that was just made and what it says; see `AccountStore.apply`."""
    readings.note_last(connection, reading)
    known = readings.known(connection, reading)
    area = _area(connection, resource, reading, known.id if known else None)
    if area is None:
        readings.store(connection, reading, "superseded")
        return Applied(superseded=True)
    comparison = _comparison(connection, reading, area, normalized)
    is_closed = not area.is_snapshot and reading.window.until_ms <= closed_before_ms
    why = mass_revision(comparison, is_closed=is_closed)
    if why:
        if readings.was_discarded(connection, reading):
            readings.store(connection, reading, "discarded")
        else:
            _hold(connection, reading, why, now_ms)
        return Applied(held=True)
    is_repeated = known is not None and known.fetched_ms >= reading.fetched_ms
    return _settle(connection, reading, area, normalized, comparison, misses=int(not is_repeated), now_ms=now_ms)


def accept(
    connection: sqlite3.Connection,
    held_id: int,
    reading: Reading,
    resource: Resource,
    normalized: Normalized,
    *,
    now_ms: int,
) -> Applied:
    """Applies a reading that waited for a person, as far as no newer one says otherwise."""
    readings.close_held(connection, held_id, "accepted", now_ms)
    area = _area(connection, resource, reading, reading.id)
    if area is None:
        readings.set_status(connection, reading, "superseded")
        return Applied(superseded=True)
    comparison = _comparison(connection, reading, area, normalized)
    # Somebody looked: what is missing is gone, and not to be asked about again.
    return _settle(connection, reading, area, normalized, comparison, misses=MISSES[area.kind] or 0, now_ms=now_ms)


def discard(connection: sqlite3.Connection, held_id: int, now_ms: int) -> None:
    """Remembers that a reading is not to be believed."""
    readings.set_status(connection, readings.of_held(connection, held_id), "discarded")
    readings.close_held(connection, held_id, "discarded", now_ms)


def apply_again(
    connection: sqlite3.Connection, reading: Reading, resource: Resource, normalized: Normalized
) -> Applied:
    """Makes the items of a reading again that stands: what it no longer says was never there."""
    area = _area(connection, resource, reading, reading.id)
    if area is None:  # a newer one was applied meanwhile
        return Applied()
    comparison = _comparison(connection, reading, area, normalized, may_forget=True)
    writer = VersionWriter(connection, reading, area.kind)
    writer.reason = NORMALIZED_AGAIN
    writer.matches(comparison.matches)
    writer.added(comparison)
    if _is_complete(normalized):
        writer.vanish(one for one in comparison.missing if not one.missed)
    readings.note_rejects(connection, reading.scope, reading.window, normalized.rejects, reading.fetched_ms)
    return writer.written()


def note(
    connection: sqlite3.Connection,
    account: str,
    sentence: str,
    now_ms: int,
    subject: str,
    once_key: str,
    *,
    is_told: bool = False,
) -> bool:
    """Leaves a notice, or remembers that another one tells of it; tells whether it is new."""
    values = (account, subject, sentence, once_key, now_ms, now_ms if is_told else None)
    inserted = connection.execute(
        "INSERT OR IGNORE INTO notices (account, subject, sentence, once_key, at, told_at) VALUES (?, ?, ?, ?, ?, ?)",
        values,
    )
    return inserted.rowcount > 0


def _area(
    connection: sqlite3.Connection, resource: Resource, reading: Reading, reading_id: int | None
) -> _Area | None:
    """What a reading speaks about; `None` when newer ones say it all."""
    newer = readings.newer_windows(connection, reading, reading_id)
    if reading.window == SNAPSHOT:
        return None if newer else _Area(resource.kind, (), is_snapshot=True)
    portions = without([reading.window], newer)
    return _Area(resource.kind, portions, is_snapshot=False) if portions else None


def _comparison(
    connection: sqlite3.Connection,
    reading: Reading,
    area: _Area,
    normalized: Normalized,
    *,
    may_forget: bool = False,
) -> Comparison:
    """Compares a reading with what is stored of its area, and leaves out what it cannot decide about."""
    items = [item for item in normalized.items if area.holds(item)]
    if area.kind in _TOLD_ONCE:  # a list whose pages shifted while they were read
        items = list({item.group: item for item in items}.values())
    if any(kind_of(item) != area.kind for item in items):
        raise ValueError(f"An answer about {reading.scope.resource} was understood as something else.")
    stored = _stored(connection, reading.scope, area, items)
    newer = {one.id for one, seen_ms in stored if area.has_no_time and seen_ms > reading.fetched_ms}
    comparison = compare([one for one, _ in stored], items, may_forget=may_forget)
    matches = [match for match in comparison.matches if match.stored.id not in newer]
    can_vanish = MISSES[area.kind] is not None and _is_complete(normalized)
    if area.is_snapshot and area.kind == "event":
        can_vanish = False  # nobody says how far back such a list goes
    return Comparison(matches, comparison.added, comparison.missing if can_vanish else ())


def _is_complete(normalized: Normalized) -> bool:
    """Whether what is missing is not there: a row that could not be used may be the very one."""
    return not normalized.is_suspicious and not normalized.rejects


def _stored(
    connection: sqlite3.Connection, scope: Scope, area: _Area, items: Sequence[VendorItem]
) -> list[tuple[Stored, int]]:
    """The items of an area, and those of the groups that the vendor shows, with when their values were seen."""
    if area.kind in ("invoice", "member") or (area.is_snapshot and area.kind == "event"):
        keys = json.dumps([group_key(item.group) for item in items])
        found = connection.execute(
            f"{_STORED} AND items.group_key IN (SELECT value FROM json_each(?))", _of(scope, area, keys)
        )
        return [_as_stored(row) for row in found]
    if area.kind == "limit":
        return [_as_stored(row) for row in connection.execute(_STORED, _of(scope, area))]
    if area.is_snapshot:  # only the buckets that are in the answer are told completely
        instants = json.dumps(sorted({instant_of(item) for item in items}))
        query = f"{_STORED} AND items.at_ms IN (SELECT value FROM json_each(?))"
        return [_as_stored(row) for row in connection.execute(query, _of(scope, area, instants))]
    query = f"{_STORED} AND items.at_ms >= ? AND items.at_ms < ?"
    return [
        _as_stored(row) for window in area.portions for row in connection.execute(query, _of(scope, area, *window))
    ]


def _of(scope: Scope, area: _Area, *values: int | str) -> tuple[int | str, ...]:
    return (*scope, area.kind, *values)


def _as_stored(row: tuple[int, str, int, str, bool, int, str, int]) -> tuple[Stored, int]:
    item_id, key, ordinal, content, is_shown, missed, guarded, seen_ms = row
    item = _DECODER.decode(content)
    fields = frozenset(guarded.split()) if guarded else frozenset()
    return Stored(item_id, tuple(json.loads(key)), ordinal, item, bool(is_shown), missed, fields), seen_ms


def _settle(
    connection: sqlite3.Connection,
    reading: Reading,
    area: _Area,
    normalized: Normalized,
    comparison: Comparison,
    *,
    misses: int,
    now_ms: int,
) -> Applied:
    """Writes what changed, and that the reading was applied.

    Args:
        connection: in a transaction.
        reading: what was read.
        area: what it speaks about.
        normalized: what it says.
        comparison: what it changes.
        misses: how often what is missing counts as missing: once, but not in a reading that was stored before.
        now_ms: the instant.
    """
    is_empty = normalized.is_suspicious and not normalized.items
    reading = reading._replace(notes=_notes(reading, area, normalized, comparison.matches))
    if reading.id is None:
        reading_id = readings.store(connection, reading, "applied", is_empty=is_empty)
    else:
        reading_id = reading.id
        readings.set_status(connection, reading, "applied")
    if not is_empty:
        readings.supersede(connection, reading, reading_id, now_ms)
    readings.note_rejects(connection, reading.scope, reading.window, normalized.rejects, reading.fetched_ms)
    _tell_of_drift(connection, reading, now_ms)
    writer = VersionWriter(connection, reading, area.kind)
    writer.matches(comparison.matches)
    writer.added(comparison)
    if misses:
        writer.miss(comparison.missing, misses)
    return writer.written()


def _notes(reading: Reading, area: _Area, normalized: Normalized, matches: Iterable[Match]) -> dict[str, int]:
    """What the connector noticed, and what only a comparison shows."""
    total = dict(normalized.notes)
    whole = area._replace(portions=[reading.window])
    outside = sum(not whole.holds(item) for item in normalized.items)
    if outside:
        total[_OUTSIDE] = total.get(_OUTSIDE, 0) + outside
    for match in matches:
        for name in match.guarded:
            text = f'"{name}" is told no longer, and the value that was known stays'
            total[text] = total.get(text, 0) + 1
    return total


def _tell_of_drift(connection: sqlite3.Connection, reading: Reading, now_ms: int) -> None:
    """Leaves one notice of all that is new in the form of these answers; each of it is told once for ever."""
    scope = reading.scope
    seen = {f"drift {scope.resource}: {text}": text for text in reading.notes if text.startswith(_DRIFT)}
    if not seen:
        return
    known = "SELECT once_key FROM notices WHERE account = ? AND subject = 'drift'"
    fresh = sorted(seen.keys() - {key for (key,) in connection.execute(known, (scope.account,))})
    sentence = (
        f"What {scope.account} says of {scope.resource} is not quite of the form that is known: "
        f"{', '.join(seen[key] for key in fresh)}. Everything else was stored, and the answers are kept as they came."
    )
    for position, key in enumerate(fresh):
        note(connection, scope.account, sentence, now_ms, "drift", key, is_told=position > 0)


def _hold(connection: sqlite3.Connection, reading: Reading, why: str, now_ms: int) -> None:
    """Keeps a reading for a person, in place of the ones before it of the same time."""
    scope = reading.scope
    is_first = not readings.has_held(connection, scope)
    reading_id = readings.store(connection, reading, "held")
    held_id = readings.hold(connection, reading, reading_id, now_ms)
    if held_id is None:
        return
    sentence = (
        f"What {scope.account} says of {scope.resource} {_span(reading.window)} was not believed: {why}. "
        f"Compare it with the vendor's own page, then run `kharcha accounts accept {held_id}`, or `discard` instead."
    )
    readings.explain_held(connection, held_id, sentence)
    if is_first:
        note(connection, scope.account, sentence, now_ms, "held", f"held {held_id}")


def _span(window: Window) -> str:
    if window == SNAPSHOT:
        return "as of now"
    begin, end = (datetime.fromtimestamp(instant // 1000, UTC) for instant in window)
    return f"from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


_TOLD_ONCE: frozenset[ItemKind] = frozenset({"period", "invoice", "limit", "member"})
"""Kinds whose groups hold one item each: they have a number of their own."""

_DRIFT = ("new ", "unreadable ", "missing ", "unknown ", "kind that is not known")
"""How notes begin that people are told of: a vendor changed the form of its answers."""

_OUTSIDE = "outside the window"
"""The note of items that were not asked for. A vendor that answers too much is read again where they belong."""

_DECODER = msgspec.json.Decoder(VendorItem)
_STORED = """
SELECT items.id, items.group_key, items.ordinal, shown.content, items.version = items.shown, items.missed,
       items.guarded, newest.seen_at
FROM items
JOIN versions AS shown ON shown.id = items.shown
JOIN versions AS newest ON newest.id = items.version
WHERE items.account = ? AND items.connector = ? AND items.resource = ? AND items.kind = ?
"""
