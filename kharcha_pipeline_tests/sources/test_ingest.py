"""The source ingest: the inbox is read by ids, each row once, and settles to what stands in it."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.ingest.contract import Sent, cost_text, understood
from kharcha_pipeline.ingest.inbox import Inbox
from kharcha_pipeline.records import LogFile, Reading, SettledAggregate
from kharcha_pipeline.sources.ingest import ingest
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline_tests.ingest.rows import SEED_ROW, body, row
from kharcha_pipeline_tests.machine import Machine


def settled(readings: list[Reading]) -> list[SettledAggregate]:
    """What all families settle to, with their records in the order of the readings, each one twice."""
    families: dict[str, list[Any]] = {}
    for reading in readings * 2:
        for record in reading.records:
            families.setdefault(record.family, []).append(record.said)
    found = [one for family, said in families.items() for one in ingest.settle(family, said, {})]
    assert all(isinstance(one, SettledAggregate) for one in found)
    return sorted(found, key=lambda one: one.identity)  # type: ignore[return-value]


def sent(one: SettledAggregate) -> Sent:
    """A settled row as it was sent."""
    return Sent(
        one.day,
        one.source,
        one.provider_raw,
        one.model_raw,
        one.machine,
        one.input_tokens,
        one.output_tokens - one.reasoning_tokens,
        one.cache_read_tokens,
        one.cache_write_5m_tokens,
        one.reasoning_tokens,
        one.reported_total_tokens,
        None if one.reported_cost_usd is None else cost_text(one.reported_cost_usd),
        one.responses,
    )


_ROWS = st.builds(
    row,
    model=st.sampled_from("ab"),
    inputTokens=st.integers(0, 3),
    reasoningTokens=st.integers(0, 2),
    costUsd=st.sampled_from([None, "0", "1.5"]),
    messages=st.integers(0, 1),
)
_BODIES = st.lists(
    st.tuples(st.lists(_ROWS, min_size=1, max_size=2, unique_by=lambda one: one["model"]), st.booleans()), max_size=10
)


@settings(max_examples=50)
@given(_BODIES, st.lists(st.booleans(), min_size=10, max_size=10), st.randoms())
def test_whatever_is_read_in_whatever_order_settles_to_what_stands_in_the_inbox(
    bodies: Any, reads: list[bool], order: Any
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        inbox = Inbox(Path(directory))
        readings, state = [], {}
        for (rows, correction), read_now in zip(bodies, reads, strict=False):
            inbox.take(understood(body(*rows, correction=correction)), "test")
            if read_now:
                readings.append(ingest.read(LogFile(str(inbox.path), state=state)))
                state = readings[-1].state
        readings.append(ingest.read(LogFile(str(inbox.path), state=state)))
        standing = [row for row in inbox.standing() if row.sum or row.messages or row.cost_usd not in (None, "0")]
        numbers = [record.position for reading in readings for record in reading.records]
        assert numbers == list(range(1, inbox.last_id() + 1))  # each one once
        for reading in readings:
            order.shuffle(reading.records)
        order.shuffle(readings)
        standing = [row._replace(messages=max(row.messages, 1)) for row in standing]
        assert [sent(one) for one in settled(readings)] == standing
        inbox.close()
        fresh = ingest.read(LogFile(str(inbox.path)))  # closed, without a `-wal`
        assert [sent(one) for one in settled([fresh])] == standing


def test_a_row_settles_to_an_aggregate_of_its_day(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.take(understood(body({**SEED_ROW, "reasoningTokens": 20}), "desk"), "laptop")
    (one,) = settled([ingest.read(LogFile(str(inbox.path)))])
    assert (one.source, one.machine, one.day, one.session_id) == ("claude-code", "desk", "2026-03-01", "")
    assert one.occurred_at == int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1000
    assert (one.output_tokens, one.reasoning_tokens, one.cache_write_5m_tokens) == (440, 20, 250)
    assert (one.reported_total_tokens, one.reported_cost_usd, one.responses) == (5870, Decimal("0.0345131"), 7)
    inbox.close()


def test_reading_changes_nothing_beside_the_inbox(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    inbox.take(understood(body(row())), "test")

    def seen() -> dict[str, tuple[int, int]]:
        return {
            path.name: (path.stat().st_size, path.stat().st_mtime_ns)
            for path in tmp_path.iterdir()
            if not path.name.endswith("-shm")
        }

    before = seen()
    assert len(ingest.read(LogFile(str(inbox.path))).records) == 1
    assert seen() == before
    inbox.close()
    before = seen()
    assert list(before) == ["ingest.sqlite"]
    assert len(ingest.read(LogFile(str(inbox.path))).records) == 1
    assert seen() == before


@pytest.mark.parametrize("content", [b"", b"no database" * 100, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_what_is_no_inbox_is_a_reject(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ingest.sqlite"
    path.write_bytes(content)
    assert [len(reading.records) + len(reading.rejects) for reading in [ingest.read(LogFile(str(path)))]] == [1]


def test_rows_of_an_inbox_that_was_made_anew_come_after_those_of_the_old_one(tmp_path: Path) -> None:
    readings = []
    for number, tokens in enumerate((100, 40)):
        inbox = Inbox(tmp_path / str(number))
        inbox._connection.execute("UPDATE about SET value = ? WHERE name = 'made_at'", (str(1_000 - number),))
        inbox.take(understood(body(row(inputTokens=tokens), correction=True)), "test")
        readings.append(ingest.read(LogFile(str(inbox.path))))
        inbox.close()
    assert [one.input_tokens for one in settled(readings)] == [100]  # made later, by its own account


def test_the_pipeline_reads_the_inbox_incrementally_and_a_withdrawn_row_goes(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    inbox = Inbox(machine.data)

    def usage() -> list[tuple[Any, ...]]:
        return machine.query(
            'SELECT date::VARCHAR, agent, machine, "totalTokens", "costUsd", messages FROM token_usage ORDER BY ALL'
        )

    def send(*rows: dict[str, Any], **fields: Any) -> None:
        inbox.take(understood(body(*rows, **fields), "desk"), "test")

    send(SEED_ROW, row(model="other", costUsd="0", messages=3))
    machine.sync()
    assert usage() == [
        ("2026-03-01", "claude-code", "desk", 100, Decimal(0), 3),
        ("2026-03-01", "claude-code", "desk", 4870, Decimal("0.0345131"), 7),
    ]
    contents = machine.contents()
    assert not machine.sync().landing.changed
    assert machine.contents() == contents
    send(row(model="other", inputTokens=0, messages=0, costUsd=None), correction=True)
    result = machine.sync()
    assert result.landing.records_by_source == {"ingest": 1}
    assert [row[3] for row in usage()] == [4870]
    reasons = machine.query("SELECT reason FROM event_changes")
    assert len(reasons) == 1
    for number in (5, 6, 5):
        send(row(date="2026-03-02", messages=number, inputTokens=number))
        machine.sync()
    assert [row[3] for row in usage()] == [4870, 6]
    machine.sync(full=True)
    assert [row[3] for row in usage()] == [4870, 6]
    inbox.close()


def test_an_inbox_with_nothing_but_withdrawn_rows_is_empty(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    inbox = Inbox(machine.data)
    inbox.take(understood(body(row(inputTokens=0, messages=0, costUsd="0"))), "test")
    inbox.close()
    machine.sync()
    assert machine.query("SELECT * FROM token_usage") == []


def test_it_is_a_source() -> None:
    source: Source = ingest
    assert source.name == "ingest"
