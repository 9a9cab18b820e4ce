"""Ingest: rows that other machines sent to `kharcha serve`, read from its inbox `ingest.sqlite`.

A row is an aggregate: what one agent on one machine used of one model on one day of the sender's calendar. The inbox
only appends, so that reading goes on after the last id. The rows of one key are a family; which of them stands is
decided here again from all of them, as the inbox decided it when they came.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from kharcha_pipeline import locations
from kharcha_pipeline.records import LogFile, Reading, Reject, SettledAggregate, SettledRecord, UsageRecord
from kharcha_pipeline.sources.source import Place, Reasons
from kharcha_pipeline.sources.sqlite import FAILURES, is_no_database, read_ours

NO_INBOX = "not an inbox"
DAMAGED = "database is damaged"

_NOON_MS = 12 * 3_600_000
_A_DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).date()

_ROWS = """
SELECT id, correction, timezone, date, agent, provider, model, machine, input_tokens, output_tokens,
    cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, cost_usd, messages
FROM rows WHERE id > ? ORDER BY id
"""


class IngestRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row as it was accepted. Counts are disjoint: `output_tokens` leaves `reasoning_tokens` out.

    `inbox` is when the inbox was made, in milliseconds, and `number` the id of the row in it: together they say which
    of two rows came later. `cost_usd` is a decimal, or `None` when it is not known.
    """

    inbox: int
    number: int
    date: str
    agent: str
    provider: str = ""
    model: str = ""
    machine: str = ""
    correction: bool = False
    timezone: str = "unknown"
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    cost_usd: Decimal | None = None
    messages: int = 0

    @property
    def family(self) -> str:
        """What a row replaces another one by. No name holds a control character, so a tab divides them."""
        return "\t".join((self.date, self.agent, self.provider, self.model, self.machine))

    @property
    def sum(self) -> int:
        """The total of the five disjoint counts."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.reasoning_tokens
        )

    @property
    def is_withdrawal(self) -> bool:
        """Whether the row says that there was nothing: how a sender takes a row back."""
        return not (self.sum or self.messages or self.cost_usd)


class Ingest:
    """The source `ingest`."""

    name = "ingest"
    title = "Other machines (ingest)"
    variables: tuple[str, ...] = ()
    locations = ("`ingest.sqlite` in the data directory, written by `kharcha serve`",)
    record_type = IngestRow
    reasons = Reasons(withdrawn="withdrawn by its sender")

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """The inbox, and its `-wal`, which grows with every row."""
        path = os.path.join(locations.data_directory(environment), "ingest.sqlite")
        wal = f"{path}-wal"
        return [Place(path, (".sqlite",), "database"), Place(wal, (), "database", watched=("-wal",))]

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """None: the inbox is in the data directory."""
        return []

    def read(self, file: LogFile) -> Reading:
        """The rows that came after those that were read."""
        if file.path.endswith("-wal"):
            return Reading()
        try:
            return read_ours(file.path, lambda connection: _new_rows(file, connection))
        except FAILURES as error:
            return Reading(rejects=[Reject(NO_INBOX if is_no_database(error) else DAMAGED)], state=file.state)

    def related(self, said: Sequence[IngestRow]) -> Iterable[str]:
        """None: the key is the family."""
        return ()

    def settle(
        self, family: str, said: Sequence[IngestRow], related: Mapping[str, Sequence[IngestRow]]
    ) -> list[SettledRecord]:
        """The row that stands, unless it was withdrawn."""
        row = standing(said)
        return [] if row.is_withdrawal else [_settled(family, row)]


ingest = Ingest()


def standing(said: Iterable[IngestRow]) -> IngestRow:
    """Of the rows since the last correction, that one included, the one with the greatest total; of several the last.

    Ids decide about earlier and later, so that it does not matter in which order, or how often, rows were read.
    """
    best: IngestRow | None = None
    for row in sorted(said, key=lambda row: (row.inbox, row.number)):
        if best is None or row.correction or row.sum >= best.sum:
            best = row
    if best is None:
        raise ValueError("A family has at least one row.")
    return best


def _settled(identity: str, row: IngestRow) -> SettledRecord:
    day = datetime.strptime(row.date, "%Y-%m-%d").replace(tzinfo=UTC).date()
    return SettledAggregate(
        identity,
        (day - _EPOCH).days * _A_DAY_MS + _NOON_MS,
        provider_raw=row.provider,
        model_raw=row.model,
        model_quality="exact" if row.model else "none",
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens + row.reasoning_tokens,
        cache_read_tokens=row.cache_read_tokens,
        cache_write_5m_tokens=row.cache_write_tokens,
        reasoning_tokens=row.reasoning_tokens,
        reported_cost_usd=row.cost_usd,
        source=row.agent,
        machine=row.machine,
        day=row.date,
        responses=max(row.messages, 1),  # else its unknown cost would be that of no response
        reported_total_tokens=row.total_tokens,
    )


def _new_rows(file: LogFile, connection: sqlite3.Connection) -> Reading:
    (made_at,) = connection.execute("SELECT value FROM about WHERE name = 'made_at'").fetchone()
    read_to = file.state.get("read_to", 0)
    records = []
    for (
        number,
        correction,
        *texts,
        given,
        output,
        read,
        written,
        reasoning,
        total,
        cost,
        messages,
    ) in connection.execute(_ROWS, (read_to,)):
        zone, date, agent, provider, model, machine = (text.decode() for text in texts)
        row = IngestRow(
            int(made_at),
            number,
            date,
            agent,
            provider,
            model,
            machine,
            bool(correction),
            zone,
            given,
            output,
            read,
            written,
            reasoning,
            total,
            None if cost is None else Decimal(cost.decode()),
            messages,
        )
        records.append(UsageRecord(row.family, row, number))
        read_to = number
    return Reading(records=records, state={"read_to": read_to})
