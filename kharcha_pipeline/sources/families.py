"""The raw layer: usage records as the sources said them, in batches in the archive, found again by their family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

import duckdb
import msgspec

from kharcha_pipeline.records import SettledRecord, UsageRecord
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline.warehouse.archive import Archive, Span
from kharcha_pipeline.warehouse.columns import handed_over

RECORDS_OF_A_BATCH = 500
"""So few that reading one of them again costs a millisecond, so many that what they repeat compresses well."""

SETTLED_AT_ONCE = 1_000
"""So few that the processor's cache holds them until they are columns."""

FoundRecord = tuple[int, int, int | None, str, Any]
"""A usage record as a batch holds it: the number of its file, position, line, family, and what it said.

A plain tuple from the start, since there are very many: one with names takes several times as long to make.
"""

family_of = itemgetter(3)
"""The family of a found record."""


def found_in(file_id: int, records: Iterable[UsageRecord]) -> list[FoundRecord]:
    """The usage records of one file, with its number."""
    return [(file_id, record.position, record.line, record.family, record.said) for record in records]


class Families:
    """The records of identity groups of one source, by family, each different content once.

    The families it has met are numbered; the temporary table `numbered_families` holds the key of each number.

    Attributes:
        connection: inside a transaction.
        archive: where the records are.
        source: the agent.
        numbers: the number of every family that was met.
        said: what the records of each loaded family said.
        known: families that have landed records. No other one can have been settled before.
        related: of each family that looks at others, their names.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, archive: Archive, source: Source) -> None:
        self.connection = connection
        self.archive = archive
        self.source = source
        self.numbers: dict[str, int] = {}
        self.said: dict[str, list[Any]] = {}
        self._several: dict[str, set[Any]] = {}
        self.known: set[str] = set()
        self.related: dict[str, tuple[str, ...]] = {}
        connection.execute("CREATE OR REPLACE TEMP TABLE numbered_families (number BIGINT, family_key UBIGINT)")

    def add(self, found: Sequence[FoundRecord]) -> list[FoundRecord]:
        """Adds records to their families; returns those whose content was new."""
        self.load(dict.fromkeys(map(family_of, found)))
        loaded, new = self.said, []
        for record in found:
            _, _, _, family, said = record
            if family not in loaded:  # nearly always
                loaded[family] = [said]
                new.append(record)
            elif self._add(family, said):
                new.append(record)
        return new

    def _add(self, family: str, said: Any) -> bool:
        """Adds what a record said to its family; tells whether it was new."""
        known = self.said.get(family)
        if known is None:
            self.said[family] = [said]
            return True
        several = self._several.get(family)
        if several is None:
            several = self._several[family] = set(known)
        before = len(several)
        several.add(said)  # and not looked up first: to hash a record takes longer than all the rest here
        if len(several) == before:
            return False
        known.append(said)
        return True

    def load(self, families: Iterable[str]) -> None:
        """Adds the landed records of the families that were not met yet."""
        numbers = self.numbers
        first = len(numbers)
        unmet = [family for family in families if family not in numbers]
        numbers.update(zip(unmet, range(first, first + len(unmet)), strict=True))
        with handed_over(
            self.connection,
            "families_given",
            {"number": "BIGINT", "family": "VARCHAR"},
            [range(first, first + len(unmet)), unmet],
        ):
            self.connection.execute(
                "INSERT INTO numbered_families "
                "SELECT number, md5_number_lower(? || ':' || family) FROM families_given",
                [self.source.name],
            )
        rows = self.connection.execute(
            """
            SELECT position, size, list(number) FROM raw.family_batches
            JOIN numbered_families USING (family_key) JOIN raw.usage_records USING (position)
            WHERE number >= ? GROUP BY position, size ORDER BY position
            """,
            [first],
        ).fetchall()
        batches = self._read([Span(position, size) for position, size, _ in rows])
        for records, (_, _, held) in zip(batches, rows, strict=True):
            wanted = {unmet[number - first] for number in held}
            for _, _, _, family, said in records:
                if family in wanted:
                    self._add(family, said)
                    self.known.add(family)

    def load_all(self) -> None:
        """Adds every record the source ever landed."""
        rows = self.connection.execute(
            "SELECT position, size FROM raw.usage_records WHERE source = ? ORDER BY position", [self.source.name]
        ).fetchall()
        batches = self._read([Span(*row) for row in rows])
        self.load({family: None for records in batches for _, _, _, family, _ in records})

    def _read(self, spans: Iterable[Span]) -> Iterator[list[FoundRecord]]:
        record_type: Any = self.source.record_type
        decode = msgspec.json.Decoder(list[tuple[int, int, int | None, str, record_type]]).decode
        return map(decode, self.archive.read(spans))

    def store(self, new: Sequence[FoundRecord]) -> None:
        """Stores records that are new by content, in batches."""
        starts = range(0, len(new), RECORDS_OF_A_BATCH)
        batches = [new[start : start + RECORDS_OF_A_BATCH] for start in starts]
        known = self.connection.execute("SELECT coalesce(max(position + size), 0) FROM raw.usage_records").fetchall()
        spans = self.archive.append(map(msgspec.json.encode, batches), known[0][0])
        places = [span.position for span in spans]
        with handed_over(
            self.connection,
            "batches_given",
            {"position": "BIGINT", "size": "BIGINT", "records": "BIGINT"},
            [places, [span.size for span in spans], list(map(len, batches))],
        ):
            self.connection.execute(
                "INSERT INTO raw.usage_records SELECT position, size, ?, now(), records FROM batches_given",
                [self.source.name],
            )
        numbers: list[int] = []
        positions: list[int] = []
        for position, batch in zip(places, batches, strict=True):
            numbers.extend(map(self.numbers.__getitem__, dict.fromkeys(map(family_of, batch))))
            positions.extend(repeat(position, len(numbers) - len(positions)))
        with handed_over(
            self.connection, "held_given", {"number": "BIGINT", "position": "BIGINT"}, [numbers, positions]
        ):
            self.connection.execute(
                "INSERT INTO raw.family_batches "
                "SELECT family_key, position FROM held_given JOIN numbered_families USING (number) ORDER BY position"
            )

    def dependents(self, families: Iterable[str]) -> set[str]:
        """Families whose settlement looks at one of the given ones (the forks of a parent), loaded."""
        any_related = "SELECT 1 FROM raw.related_families WHERE source = ? LIMIT 1"
        if not self.connection.execute(any_related, [self.source.name]).fetchall():  # most sources have none at all
            return set()
        with handed_over(self.connection, "families_given", {"family": "VARCHAR"}, [list(families)]):
            rows = self.connection.execute(
                """
                SELECT DISTINCT family FROM raw.related_families
                WHERE source = ? AND related IN (SELECT family FROM families_given) AND family <> related
                """,
                [self.source.name],
            ).fetchall()
        found = {family for (family,) in rows}
        self.load(found)
        return found

    def relate(self, families: Iterable[str]) -> None:
        """Finds out which other families the given ones look at, remembers it for later, and loads them."""
        related = self.source.related
        for family in families:
            if others := tuple(related(self.said[family])):
                self.related[family] = others
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
        self.load(other for _, other in dict.fromkeys(pairs))

    def settled(self, families: Iterable[str]) -> Iterator[tuple[list[int], list[SettledRecord]]]:
        """The settled records of the families, about `SETTLED_AT_ONCE` at a time, each with its family's number."""
        numbers: list[int] = []
        settled: list[SettledRecord] = []
        settle, said, nothing = self.source.settle, self.said, dict[str, Sequence[Any]]()
        for family in families:
            settled += settle(family, said[family], self._context(family) if family in self.related else nothing)
            numbers += repeat(self.numbers[family], len(settled) - len(numbers))
            if len(settled) >= SETTLED_AT_ONCE:
                yield numbers, settled
                numbers, settled = [], []
        yield numbers, settled

    def _context(self, family: str) -> dict[str, Sequence[Any]]:
        return {name: self.said.get(name, ()) for name in self.related[family]}
