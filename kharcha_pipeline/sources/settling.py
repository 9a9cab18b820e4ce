"""Settles identity groups inside the landing's transaction: what was billed, before and now, and on which days.

A family holds all records that must be compared to know what was billed. When one of its records is new, the family
is settled again from all of them, together with the families that look at it, and the difference to what was
settled before is stored, logged in `event_changes`, and wanted in the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from kharcha_pipeline.events.names import names
from kharcha_pipeline.records import SettledRecord
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.script import run_script
from kharcha_pipeline.warehouse.spill import spilled

_SETTLEMENT = resources.files("kharcha_pipeline.sources").joinpath("settlement.sql").read_text(encoding="utf-8")
_CHANGES = resources.files("kharcha_pipeline.sources").joinpath("changes.sql").read_text(encoding="utf-8")


class Destination(msgspec.Struct, frozen=True):
    """Where settled records go: the reporting zone, this machine's label, the data directory."""

    zone: str
    machine: str
    directory: Path


class Families:
    """The records of identity groups, by family and by content, as far as they are needed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
        self.connection = connection
        self.source = source
        self.said: dict[str, dict[bytes, Any]] = defaultdict(dict)
        self.related: dict[str, tuple[str, ...]] = {}

    def load(self, families: str, parameters: Sequence[Any] = ()) -> None:
        """Adds the landed records of the families that a query names."""
        decode = msgspec.json.Decoder(self.source.record_type).decode
        rows = self.connection.execute(
            f"""
            SELECT family, said FROM raw.usage_records WHERE source = '{self.source.name}'
            AND family_key IN (SELECT md5_number_lower(family) FROM ({families}) AS named(family))
            """,
            list(parameters),
        ).fetchall()
        for family, said in rows:
            text = said.encode()
            self.said[family][text] = decode(text)

    def add(self, family: str, text: bytes, said: Any) -> bool:
        """Adds one record; tells whether its content was new to the family."""
        known = self.said[family]
        if text in known:
            return False
        known[text] = said
        return True

    def dependents(self, families: str) -> set[str]:
        """Families whose settlement looks at one that a query names (the forks of a parent), loaded."""
        rows = self.connection.execute(
            f"""
            SELECT DISTINCT family FROM raw.related_families
            WHERE source = ? AND related IN (FROM ({families})) AND family <> related
            """,
            [self.source.name],
        ).fetchall()
        found = {family for (family,) in rows}
        self._load_missing(found)
        return found

    def relate(self, families: Iterable[str]) -> None:
        """Finds out which other families the given ones look at, remembers it for later, and loads them."""
        for family in families:
            self.related[family] = tuple(self.source.related(list(self.said[family].values())))
        pairs = [(family, other) for family, others in self.related.items() for other in others]
        if not pairs:
            return
        self.connection.execute(
            """
            INSERT INTO raw.related_families
            SELECT DISTINCT ?, family, related
            FROM (SELECT unnest(?::VARCHAR[]) AS family, unnest(?::VARCHAR[]) AS related)
            EXCEPT FROM raw.related_families
            """,
            [self.source.name, [family for family, _ in pairs], [other for _, other in pairs]],
        )
        self._load_missing({other for _, other in pairs})

    def _load_missing(self, families: set[str]) -> None:
        missing = [family for family in families if family not in self.said]
        if missing:
            self.load("SELECT unnest(?::VARCHAR[])", [missing])

    def settled(self, families: Mapping[str, str]) -> Iterator[_SettledRow]:
        """The settled records of the families, each with the reason given for its family."""
        settle, no_context = self.source.settle, dict[str, Sequence[Any]]()
        for family, reason in families.items():
            said = list(self.said[family].values())
            related = self.related.get(family)
            context = {name: list(self.said[name].values()) for name in related} if related else no_context
            empty = True
            for response in settle(family, said, context):
                empty = False
                yield _SettledRow(family, reason, response)
            if empty:
                yield _SettledRow(family, reason)


def settle(
    connection: duckdb.DuckDBPyConnection, families: Families, reasons: Mapping[str, str], destination: Destination
) -> list[date]:
    """Settles families again and stores what differs; returns the local days that changed, which are now wanted.

    Args:
        connection: inside the landing's transaction.
        families: loaded, with all their records.
        reasons: the families to settle, each with the reason for changes of events that were known before.
        destination: zone, machine and data directory.
    """
    families.relate(reasons)
    with spilled(destination.directory, families.settled(reasons), _SETTLED_COLUMNS) as rows:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE settled_now AS SELECT family, reason, unnest(settled) FROM {rows}"
        )
    run_script(
        connection,
        _SETTLEMENT,
        {"source": families.source.name, "zone": destination.zone, "machine": destination.machine},
    )
    _name_models(connection)
    connection.execute(_CHANGES)
    changed = connection.execute("SELECT day FROM settled_fresh UNION SELECT day FROM settled_stale").fetchall()
    days = [day for (day,) in changed]
    ledger.want(connection, days)
    return days


def _name_models(connection: duckdb.DuckDBPyConnection) -> None:
    """Stores the normalized names of raw names that were not met before."""
    unnamed = connection.execute(
        """
        SELECT DISTINCT source, provider_raw, model_raw FROM settled_fresh
        ANTI JOIN raw.model_names USING (source, provider_raw, model_raw)
        """
    ).fetchall()
    for source, provider_raw, model_raw in unnamed:
        named = names(source, provider_raw, model_raw)
        connection.execute(
            "INSERT INTO raw.model_names VALUES (?, ?, ?, ?, ?, ?, ?)",
            [source, provider_raw, model_raw, named.provider, named.model, named.route, named.service_tier_hint],
        )


class _SettledRow(msgspec.Struct):
    """A settled record with its family; a family that settled to nothing has one row without a record."""

    family: str
    reason: str
    settled: SettledRecord | None = None


_SETTLED_TYPES = {
    name: "BIGINT"
    if name.endswith(("_tokens", "_at", "_requests"))
    else "BOOLEAN"
    if name == "is_subagent"
    else "DECIMAL(38, 12)"
    if name == "reported_cost_usd"
    else "VARCHAR"
    for name in SettledRecord.__struct_fields__
}
_SETTLED_COLUMNS = {
    "family": "VARCHAR",
    "reason": "VARCHAR",
    "settled": f"STRUCT({', '.join(f'{name} {kind}' for name, kind in _SETTLED_TYPES.items())})",
}
