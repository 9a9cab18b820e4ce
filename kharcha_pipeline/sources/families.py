"""The raw layer: usage records as the sources said them, in compressed batches, found again by their family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import duckdb
import msgspec
import zstandard

from kharcha_pipeline.records import SettledRecord, UsageRecord
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline.warehouse.columns import handed_over

RECORDS_OF_A_BATCH = 500
"""So few that reading one of them again costs a millisecond, so many that what they repeat compresses well."""

COMPRESSION = 1
"""zstd's level: a tenth larger than its default, in half the time."""


class FoundRecord(NamedTuple):
    """A usage record and the number of the file it was found in."""

    file_id: int
    record: UsageRecord


_Stored = tuple[int, int, int | None, str, Any]
"""What a batch holds of a record: the number of its file, position, line, family, and what it said."""


def _stored(found: Sequence[FoundRecord]) -> list[_Stored]:
    return [(file_id, record.position, record.line, record.family, record.said) for file_id, record in found]


class Families:
    """The records of identity groups of one source, by family, each different content once.

    The families it has met are numbered; the temporary table `numbered_families` holds the key of each number.

    Attributes:
        connection: inside a transaction.
        source: the agent.
        numbers: the number of every family that was met.
        said: what the records of each loaded family said.
        known: families that have landed records. No other one can have been settled before.
        related: of each family that looks at others, their names.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, source: Source) -> None:
        self.connection = connection
        self.source = source
        self.numbers: dict[str, int] = {}
        self.said: dict[str, list[Any]] = {}
        self._several: dict[str, set[Any]] = {}
        self.known: set[str] = set()
        self.related: dict[str, tuple[str, ...]] = {}
        connection.execute("CREATE OR REPLACE TEMP TABLE numbered_families (number BIGINT, family_key UBIGINT)")

    def add(self, found: Sequence[FoundRecord]) -> list[FoundRecord]:
        """Adds records to their families; returns those whose content was new."""
        self.load({record.family: None for _, record in found})
        add = self._add
        return [one for one in found if add(one.record.family, one.record.said)]

    def _add(self, family: str, said: Any) -> bool:
        """Adds what a record said to its family; tells whether it was new. Nearly every family has one record."""
        known = self.said.get(family)
        if known is None:
            self.said[family] = [said]
            return True
        several = self._several.get(family)
        if several is None:
            several = self._several[family] = set(known)
        if said in several:
            return False
        several.add(said)
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
            SELECT batch_id, list(number) FROM raw.family_batches JOIN numbered_families USING (family_key)
            WHERE number >= ? GROUP BY batch_id ORDER BY batch_id
            """,
            [first],
        ).fetchall()
        self._load_batches({batch_id: {unmet[number - first] for number in held} for batch_id, held in rows})

    def load_all(self) -> None:
        """Adds every record the source ever landed."""
        rows = self.connection.execute(
            "SELECT batch_id, said FROM raw.usage_records WHERE source = ? ORDER BY batch_id", [self.source.name]
        )
        unpacked = self._unpacked(rows)
        self.load({family: None for _, records in unpacked for _, _, _, family, _ in records})

    def _load_batches(self, batches: Mapping[int, set[str]]) -> None:
        rows = self.connection.execute(
            "SELECT batch_id, said FROM raw.usage_records WHERE batch_id IN (SELECT unnest(?::BIGINT[]))",
            [list(batches)],
        )
        for batch_id, records in self._unpacked(rows):
            wanted = batches[batch_id]
            for _, _, _, family, said in records:
                if family in wanted:
                    self._add(family, said)
                    self.known.add(family)

    def _unpacked(self, rows: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, list[_Stored]]]:
        """The batches that a query named, each with its number."""
        record_type: Any = self.source.record_type
        decode = msgspec.json.Decoder(list[tuple[int, int, int | None, str, record_type]]).decode
        while some := rows.fetchmany(100):
            for batch_id, packed in some:
                yield batch_id, decode(zstandard.decompress(packed))

    def store(self, new: Sequence[FoundRecord]) -> None:
        """Stores records that are new by content, in batches."""
        starts = range(0, len(new), RECORDS_OF_A_BATCH)
        batches = [_stored(new[start : start + RECORDS_OF_A_BATCH]) for start in starts]
        first = self.connection.execute(
            "SELECT min(number) FROM (SELECT nextval('raw.batch_ids') AS number FROM range(?))", [len(batches)]
        ).fetchall()[0][0]
        pack, encode = zstandard.ZstdCompressor(level=COMPRESSION).compress, msgspec.json.encode
        with handed_over(
            self.connection,
            "batches_given",
            {"batch_id": "BIGINT", "records": "BIGINT", "said": "BLOB"},
            [
                range(first, first + len(batches)),
                list(map(len, batches)),
                [pack(encode(batch)) for batch in batches],
            ],
        ):
            self.connection.execute(
                "INSERT INTO raw.usage_records SELECT batch_id, ?, now(), records, said FROM batches_given",
                [self.source.name],
            )
        held = [
            (self.numbers[family], batch_id)
            for batch_id, batch in enumerate(batches, first)
            for family in {record[3]: None for record in batch}
        ]
        with handed_over(
            self.connection,
            "held_given",
            {"number": "BIGINT", "batch_id": "BIGINT"},
            list(zip(*held, strict=True)),
        ):
            self.connection.execute(
                "INSERT INTO raw.family_batches "
                "SELECT family_key, batch_id FROM held_given JOIN numbered_families USING (number) ORDER BY batch_id"
            )

    def dependents(self, families: Iterable[str]) -> set[str]:
        """Families whose settlement looks at one of the given ones (the forks of a parent), loaded."""
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

    def settled(self, families: Iterable[str]) -> tuple[list[int], list[SettledRecord]]:
        """The settled records of the families, each with the number of its family."""
        numbers: list[int] = []
        settled: list[SettledRecord] = []
        settle, said, nothing = self.source.settle, self.said, dict[str, Sequence[Any]]()
        for family in families:
            responses = settle(family, said[family], self._context(family) if family in self.related else nothing)
            before = len(settled)
            settled.extend(responses)
            numbers.extend([self.numbers[family]] * (len(settled) - before))
        return numbers, settled

    def _context(self, family: str) -> dict[str, Sequence[Any]]:
        return {name: self.said.get(name, ()) for name in self.related[family]}
