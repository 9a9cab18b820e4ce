"""Vendor accounts: what vendors say of usage, in every version that was ever seen, from `accounts.sqlite`.

Polls append versions there and change none, so that reading goes on after the last id. Two kinds of items are usage:
single requests (`vendor_events`) and buckets of usage reports (`vendor_reports`). A family holds what has to be
compared, and is settled again from all its versions. What is known here of polling is the tables.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from kharcha_pipeline import locations
from kharcha_pipeline.records import LogFile, Reading, Reject, SettledVendorUsage, UsageRecord
from kharcha_pipeline.sources import vendor_events, vendor_reports
from kharcha_pipeline.sources.source import Place, Reasons
from kharcha_pipeline.sources.sqlite import FAILURES, is_no_database, read_ours
from kharcha_pipeline.sources.vendor_versions import VendorBucket, VendorRequest, VendorVersion

FILE = "accounts.sqlite"

NO_STORE = "not a store of accounts"
DAMAGED = "database is damaged"
TOO_NEW = "database was made by a newer version"
NO_TIME = "time is missing or out of range"
UNKNOWN_SHAPE = "a version is not what is known"
NO_AMOUNT = "an amount is out of range"
NO_PARTS = "which input tokens were cached is not told"

NEWEST_VERSION = 1

VERSIONS_AT_ONCE = 20_000
"""Of a long history, so many are read before they are stored."""

_LARGEST = Decimal(10) ** 15
"""No amount or number of requests reaches it; a column of DECIMAL(38, 12) holds it a billion times."""

_VERSIONS = """
SELECT id, seen_at, kind, account, connector, resource, source, counted, group_key, ordinal, at_ms, content, previous
FROM versions WHERE id > ? AND kind IN ('event', 'report') AND (counted = 1 OR previous IS NOT NULL)
ORDER BY id LIMIT ?
"""
"""What never counted is left where it is. What counts no longer is read: it has to be taken back."""

_contents = msgspec.json.Decoder(VendorRequest | VendorBucket)
_groups = msgspec.json.Decoder(tuple[str, ...])


class Accounts:
    """The source `accounts`."""

    name = "accounts"
    title = "Vendor accounts"
    variables: tuple[str, ...] = ()
    locations = ("`accounts.sqlite` in the data directory, written by `kharcha accounts poll`",)
    record_type = VendorVersion
    reasons = Reasons("the vendor revised it", "no longer shown by the vendor")

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """The store, and its `-wal`, which grows with every poll."""
        path = os.path.join(locations.data_directory(environment), FILE)
        wal = f"{path}-wal"
        return [Place(path, (".sqlite",), "database"), Place(wal, (), "database", watched=("-wal",))]

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """None: the store is in the data directory."""
        return []

    def read(self, file: LogFile) -> Reading:
        """The versions that came after those that were read."""
        if file.path.endswith("-wal"):
            return Reading()
        try:
            return read_ours(file.path, lambda connection: _new_versions(file, connection))
        except FAILURES as error:
            return Reading(rejects=[Reject(NO_STORE if is_no_database(error) else DAMAGED)], state=file.state)

    def related(self, said: Sequence[VendorVersion]) -> Iterable[str]:
        """None: all that is compared is in the family."""
        return ()

    def settle(
        self, family: str, said: Sequence[VendorVersion], related: Mapping[str, Sequence[VendorVersion]]
    ) -> list[SettledVendorUsage]:
        """What stands of the family and counts."""
        settled = vendor_events.settled if said[0].kind == "event" else vendor_reports.settled
        return settled(family, said)


accounts = Accounts()


def _new_versions(file: LogFile, connection: sqlite3.Connection) -> Reading:
    about = {name.decode(): value.decode() for name, value in connection.execute("SELECT name, value FROM about")}
    if "version" not in about or "made_at" not in about:  # it is just being made
        return Reading(state=file.state)
    if int(about["version"]) > NEWEST_VERSION:
        return Reading(rejects=[Reject(TOO_NEW)], state=file.state)
    made_at = int(about["made_at"])
    reading = Reading()
    last = connection.execute("SELECT id, seen_at FROM versions ORDER BY id DESC LIMIT 1").fetchone() or (0, 0)
    reading.state = {"made_at": made_at, "read_to": last[0], "read_at": last[1]}
    rows = connection.execute(_VERSIONS, (_read_to(connection, file, made_at), VERSIONS_AT_ONCE)).fetchall()
    if len(rows) == VERSIONS_AT_ONCE:
        reading.is_partial = True
        reading.state |= {"read_to": rows[-1][0], "read_at": rows[-1][1]}
    for number, seen_at, kind, *texts, counted, group, ordinal, at_ms, content, previous in rows:
        account, connector, resource, source = (text.decode() for text in texts)
        try:
            said = None if content is None else _contents.decode(content)
            version = VendorVersion(
                made_at=made_at,
                number=number,
                seen_at=seen_at,
                kind=kind.decode(),
                account=account,
                connector=connector,
                resource=resource,
                source=source,
                group=_groups.decode(group),
                ordinal=ordinal,
                at_ms=at_ms,
                is_counted=bool(counted),
                content=said,
            )
        except msgspec.MsgspecError:
            reading.rejects.append(Reject(UNKNOWN_SHAPE, position=number))
            continue
        if previous is None and version.kind == "report" and not vendor_reports.is_usage(version):
            if isinstance(said, VendorBucket) and said.unit == vendor_reports.INPUT_IN_ONE:
                reading.rejects.append(Reject(NO_PARTS, position=number))
            continue
        reason = _unusable(version, file.earliest_ms)
        if reason:
            reading.rejects.append(Reject(reason, position=number))
        else:
            family = vendor_events.family if version.kind == "event" else vendor_reports.family
            reading.records.append(UsageRecord(family(version), version, number))
    return reading


def _read_to(connection: sqlite3.Connection, file: LogFile, made_at: int) -> int:
    """Behind which version to go on: from the start, when the last one that was read is not there any more.

    That happens when a backup was put in the place of the store; what is read again counts once.
    """
    read_to = int(file.state.get("read_to", 0))
    if file.state.get("made_at") != made_at:
        return 0
    row = connection.execute("SELECT seen_at FROM versions WHERE id = ?", (read_to,)).fetchone()
    return read_to if row is not None and row[0] == file.state.get("read_at") else 0


def _unusable(version: VendorVersion, earliest_ms: int) -> str:
    """Why a version cannot be used; empty when it can."""
    if version.at_ms < earliest_ms:
        return NO_TIME
    content = version.content
    amounts: list[Decimal | None] = []
    if isinstance(content, VendorRequest):
        amounts = [content.charged_usd, content.request_units]
    elif isinstance(content, VendorBucket):
        amounts = [content.amount]
    if any(amount is not None and not (amount.is_finite() and abs(amount) < _LARGEST) for amount in amounts):
        return NO_AMOUNT
    return ""
