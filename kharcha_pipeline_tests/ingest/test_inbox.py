"""The inbox: all or nothing, nothing twice, smaller only when it is said, one serial order, for its owner alone."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.ingest import store
from kharcha_pipeline.ingest.contract import LARGEST, RefusedError, Sent, understood
from kharcha_pipeline.ingest.errors import BusyError
from kharcha_pipeline.ingest.inbox import Inbox
from kharcha_pipeline_tests.ingest.rows import body, row


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    inbox = Inbox(tmp_path / "data")
    yield inbox
    inbox.close()


def take(inbox: Inbox, *rows: dict[str, Any], **fields: Any) -> tuple[int, int, int, int]:
    """Sends rows; how many stand, changed, were kept out, and are new."""
    taken = inbox.take(understood(body(*rows, **fields)), "test")
    return taken.upserted, taken.changed, taken.kept, taken.appended


def test_the_same_body_twice_changes_nothing(inbox: Inbox) -> None:
    rows = [row(model=str(number)) for number in range(5)]
    assert take(inbox, *rows) == (5, 5, 0, 5)
    before = inbox.path.stat().st_mtime_ns, inbox.last_id(), inbox.standing()
    assert take(inbox, *rows) == (5, 0, 0, 0)
    assert (inbox.path.stat().st_mtime_ns, inbox.last_id(), inbox.standing()) == before


def test_a_larger_total_replaces_and_a_smaller_one_is_kept_out_but_not_forgotten(inbox: Inbox) -> None:
    take(inbox, row(inputTokens=100))
    assert take(inbox, row(inputTokens=150)) == (1, 1, 0, 1)
    assert take(inbox, row(inputTokens=120)) == (0, 0, 1, 1)
    assert take(inbox, row(inputTokens=120)) == (0, 0, 1, 0)
    assert [sent.input_tokens for sent in inbox.standing()] == [150]


def test_a_correction_may_be_smaller_and_what_comes_after_it_counts_from_there(inbox: Inbox) -> None:
    take(inbox, row(inputTokens=150))
    assert take(inbox, row(inputTokens=40), correction=True) == (1, 1, 0, 1)
    assert take(inbox, row(inputTokens=40), correction=True) == (1, 0, 0, 0)
    assert take(inbox, row(inputTokens=60)) == (1, 1, 0, 1)
    assert [sent.input_tokens for sent in inbox.standing()] == [60]


def test_an_equal_total_with_a_better_cost_replaces(inbox: Inbox) -> None:
    take(inbox, row(costUsd=None))
    assert take(inbox, row(costUsd="1.50")) == (1, 1, 0, 1)
    assert take(inbox, row(costUsd="1.5")) == (1, 0, 0, 0)


def test_the_sum_decides_and_not_the_total_that_was_sent(inbox: Inbox) -> None:
    take(inbox, row(inputTokens=100, totalTokens=1))
    assert take(inbox, row(inputTokens=99, totalTokens=10**6)) == (0, 0, 1, 1)


def test_machines_do_not_replace_each_other(inbox: Inbox) -> None:
    take(inbox, row(machine="a"), row(machine="b", inputTokens=1))
    assert len(inbox.standing()) == 2


def test_all_that_stands_together_fits_into_a_bigint(inbox: Inbox) -> None:
    take(inbox, row(inputTokens=LARGEST - 10))
    with pytest.raises(RefusedError, match="mistakes"):
        take(inbox, row(model="small", inputTokens=1), row(model="other", inputTokens=10))
    assert len(inbox.standing()) == 1  # all or nothing
    assert take(inbox, row(model="other", inputTokens=10)) == (1, 1, 0, 1)
    take(inbox, row(inputTokens=5), correction=True)
    take(inbox, row(model="third", inputTokens=10**6))


def test_files_are_for_their_owner_alone_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        inbox = Inbox(tmp_path / "data")
        take(inbox, row())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
        inbox.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("ingest.sqlite", "ingest.sqlite-wal", "ingest.sqlite-shm"), 0o600)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_every_commit_is_on_the_disk(inbox: Inbox) -> None:
    settings = {
        name: inbox._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2}


def test_a_locked_inbox_is_told_and_unchanged(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.01)
    other = sqlite3.connect(inbox.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match=r"ingest\.sqlite could not be written"):
        take(inbox, row())
    other.execute("ROLLBACK")
    other.close()
    assert take(inbox, row()) == (1, 1, 0, 1)


def test_a_full_disk_is_told_and_nothing_is_kept_by_half(inbox: Inbox) -> None:
    rows = [row(model=str(number)) for number in range(2_000)]
    with inbox._writer() as connection:  # the one that is taken next
        connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(BusyError, match="the disk is full"):
        take(inbox, *rows)
    assert (inbox.standing(), inbox.last_id()) == ([], 0)
    with inbox._writer() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert take(inbox, *rows) == (2_000, 2_000, 0, 2_000)


def test_overlapping_bodies_of_many_threads_and_connections_end_in_one_serial_order(tmp_path: Path) -> None:
    inboxes = [Inbox(tmp_path), Inbox(tmp_path)]
    bodies = [
        understood(body(*[row(model=str(model), inputTokens=100 + sender, messages=sender) for model in range(40)]))
        for sender in range(8)
    ]
    threads = [
        threading.Thread(target=lambda number=number: inboxes[number % 2].take(bodies[number], f"sender {number}"))  # type: ignore[misc]
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    standing = inboxes[0].standing()
    assert {(sent.input_tokens, sent.messages) for sent in standing} == {(107, 7)}
    assert len(standing) == 40
    rows = inboxes[0]._connection.execute("SELECT id, sender FROM rows ORDER BY id").fetchall()
    assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
    senders = [sender for _, sender in rows]
    assert (
        len({*zip(senders[::40], senders[39::40], strict=True)}) == len(rows) // 40
    )  # no body is mixed with another
    for inbox in inboxes:
        inbox.close()


# ---- the rule, against the whole history

_ROWS = st.builds(
    row,
    model=st.sampled_from("ab"),
    inputTokens=st.integers(0, 3),
    costUsd=st.sampled_from([None, "0", "1.5"]),
    messages=st.integers(0, 1),
)
_BODIES = st.lists(
    st.tuples(st.lists(_ROWS, min_size=1, max_size=2, unique_by=lambda one: one["model"]), st.booleans()), max_size=12
)


def told(history: list[tuple[bool, Sent]]) -> Sent:
    """The rule in words: of the rows since the last correction, the greatest total, of several the latest."""
    last = max((number for number, (correction, _) in enumerate(history) if correction), default=0)
    since = [sent for _, sent in history[last:]]
    return max(reversed(since), key=lambda sent: sent.sum)


@settings(max_examples=25)
@given(_BODIES)
def test_what_stands_is_what_the_rule_says_of_everything_that_was_sent(bodies: Any) -> None:
    histories: dict[tuple[str, ...], list[tuple[bool, Sent]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        inbox = Inbox(Path(directory))
        for rows, correction in bodies:
            sending = understood(body(*rows, correction=correction))
            inbox.take(sending, "test")
            inbox.take(sending, "test")  # a repetition at once changes nothing
            for sent in sending.rows:
                histories.setdefault(sent.key, []).append((correction, sent))
        assert inbox.standing() == [told(histories[key]) for key in sorted(histories)]
        inbox.close()
