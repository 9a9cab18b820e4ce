"""The mirror: what vendors said is in the published tables, once, whenever and however often it is taken over."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.accounts import mirror as mirroring
from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.items import BillingPeriod, Invoice, Limit, Member, ReportRow
from kharcha_pipeline.accounts.mirror import MirrorResult, mirror
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.sources.landing import land
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.sources.sqlite import read_ours
from kharcha_pipeline.unchanged import unchanged_files
from kharcha_pipeline_tests.accounts.storing import (
    INVOICES,
    LIMITS,
    MEMBERS,
    PERIODS,
    REPORTS,
    START,
    apply,
    configured,
    event,
    snapshot,
)
from kharcha_pipeline_tests.machine import Machine

NOW = START + 2 * DAY_MS
TABLES = (
    "accounts",
    "vendor_events",
    "vendor_reports",
    "billing_periods",
    "invoices",
    "account_limits",
    "account_members",
    "account_transitions",
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.below(tmp_path)


@pytest.fixture
def store(machine: Machine) -> Iterator[AccountStore]:
    with AccountStore(machine.data) as store:
        store.configure([configured(counted=False)])
        yield store


@pytest.fixture
def later() -> Iterator[int]:
    return iter(count(NOW, MINUTE_MS))


PERIOD = BillingPeriod(at_ms=START, total_usd=Decimal("12.5"), plan="team", included_usd=Decimal(0))
INVOICE = Invoice(
    invoice_id="in_1", at_ms=START, until_ms=START + 31 * DAY_MS, amount=Decimal("12.34"), status="open"
)
ROW = ReportRow(report="costs", at_ms=START, until_ms=START + DAY_MS, amount=Decimal("0.0712345678"))
LIMIT = Limit(name="hard limit", limit_usd=Decimal(50))
MEMBER = Member(member_id="7", user="asha@example.com", role="owner")


def say_everything(store: AccountStore, at_ms: int, charged: str = "0.10", **changes: Any) -> None:
    apply(store, [event(charged=charged, user="asha@example.com", kind="Usage-based")], at_ms)
    apply(store, [changes.get("row", ROW)], at_ms, resource=REPORTS)
    snapshot(store, PERIODS, [changes.get("period", PERIOD)], at_ms)
    snapshot(store, INVOICES, [changes.get("invoice", INVOICE)], at_ms)
    snapshot(store, LIMITS, [changes.get("limit", LIMIT)], at_ms)
    snapshot(store, MEMBERS, [MEMBER], at_ms)


def test_everything_that_a_vendor_says_is_in_a_table(machine: Machine, store: AccountStore) -> None:
    say_everything(store, NOW)
    store.move("acme", "rate_limited", "The vendor asks to wait.", NOW, NOW + HOUR_MS)
    store.note_poll("acme", NOW, NOW + HOUR_MS, succeeded=True)
    machine.sync()
    expected: dict[str, tuple[Any, ...]] = {
        "vendor_events": ("user_name, kind, output_tokens, input_tokens, charged_usd, is_counted, is_shown",
            "asha@example.com", "Usage-based", 100, None, Decimal("0.1"), False, True),
        "vendor_reports": ("report, amount, currency, input_tokens", "costs", Decimal("0.0712345678"), "USD", None),
        "billing_periods": ("plan, total_usd, on_demand_usd, ends_at", "team", Decimal("12.5"), None, None),
        "invoices": ("invoice_id, amount, status, is_preview, lines", "in_1", Decimal("12.34"), "open", False, "[]"),
        "account_limits": ("name, limit_usd, used_usd", "hard limit", Decimal(50), None),
        "account_members": ("member_id, user_name, role, is_removed", "7", "asha@example.com", "owner", False),
        "account_transitions": ("state_before, state_after, sentence", "active", "rate_limited",
            "The vendor asks to wait."),
        "accounts": ("account, state, events, is_counted, local_sources", "acme", "rate_limited", 1, False,
            ["claude-code"]),
    }  # fmt: skip
    for table, (columns, *values) in expected.items():
        assert machine.query(f"SELECT {columns} FROM {table}") == [tuple(values)], table
    instants = "SELECT epoch_ms(until), epoch_ms(last_success_at), epoch_ms(next_poll_at) FROM accounts"
    assert machine.query(instants) == [(NOW + HOUR_MS, NOW, NOW + HOUR_MS)]
    seen = "SELECT epoch_ms(first_seen_at), epoch_ms(seen_at) FROM invoices"
    assert machine.query(seen) == [(NOW, NOW)]


def test_every_change_of_what_was_known_is_logged_with_before_and_after(
    machine: Machine, store: AccountStore, later: Iterator[int]
) -> None:
    say_everything(store, next(later))
    machine.sync()
    say_everything(
        store,
        next(later),
        charged="0.20",
        row=ReportRow(report="costs", at_ms=START, until_ms=START + DAY_MS, amount=Decimal("0.08")),
        period=BillingPeriod(at_ms=START, total_usd=Decimal(13), plan="team", included_usd=Decimal(0)),
        invoice=Invoice(invoice_id="in_1", at_ms=START, amount=Decimal("12.34"), status="paid"),
        limit=Limit(name="hard limit", limit_usd=Decimal(60)),
    )
    machine.sync()
    changes = machine.query("SELECT subject, before::VARCHAR, after::VARCHAR FROM event_changes ORDER BY ALL")
    assert [subject for subject, *_ in changes] == ["invoice", "limit", "period", "report", "vendor_event"]
    invoice = changes[0]
    assert (json.loads(invoice[1])["status"], json.loads(invoice[2])["status"]) == ("open", "paid")
    found = machine.query("SELECT count(*) FROM event_changes WHERE event_id IN (SELECT item_id FROM invoices)")
    assert found == [(1,)]
    assert machine.query("SELECT status FROM invoices") == [("paid",)]
    assert machine.query("SELECT limit_usd FROM account_limits") == [(Decimal(60),)]


def test_a_value_that_comes_back_between_two_syncs_leaves_two_changes(
    machine: Machine, store: AccountStore, later: Iterator[int]
) -> None:
    for charged in ("0.10", "0.20", "0.10"):
        apply(store, [event(charged=charged)], next(later))
    machine.sync()
    assert machine.query("SELECT subject FROM event_changes") == [("vendor_event",)] * 2
    assert machine.query("SELECT charged_usd FROM vendor_events") == [(Decimal("0.1"),)]


def test_a_change_of_what_counts_is_logged_once_as_usage(
    machine: Machine, store: AccountStore, later: Iterator[int]
) -> None:
    store.configure([configured(counted=True)])
    for charged in ("0.10", "0.20"):
        apply(store, [event(charged=charged)], next(later))
        machine.sync()
    assert machine.query("SELECT subject FROM event_changes") == [("event",)]


def test_what_is_shown_no_longer_stays_with_its_last_values(
    machine: Machine, store: AccountStore, later: Iterator[int]
) -> None:
    snapshot(store, LIMITS, [LIMIT, Limit(name="credits", used_usd=Decimal(1))], next(later))
    machine.sync()
    snapshot(store, LIMITS, [LIMIT], next(later))
    machine.sync()
    query = "SELECT name, used_usd, is_shown FROM account_limits ORDER BY name"
    assert machine.query(query) == [("credits", Decimal(1), False), ("hard limit", None, True)]


def test_rejects_are_with_the_others(machine: Machine, store: AccountStore) -> None:
    apply(store, [event()], NOW, rejects=["a row without an instant"])
    machine.sync()
    query = "SELECT source, path, reason FROM rejects"
    assert machine.query(query) == [("accounts", "acme: events", "a row without an instant")]


def test_a_second_sync_changes_nothing_and_reads_nothing(machine: Machine, store: AccountStore) -> None:
    say_everything(store, NOW)
    store.move("acme", "blocked", "A checkpoint.", NOW)
    machine.sync()
    before, published = machine.everything(), machine.warehouse.published_changes()
    assert mirror(machine.warehouse) == MirrorResult()
    machine.sync()
    assert machine.everything() == before
    assert machine.warehouse.published_changes() == published
    machine.sync(full=True)
    after = machine.everything()
    for table in (*(f"main.{name}" for name in TABLES), "main.event_changes", "main.rejects"):
        assert after[table] == before[table]


def test_a_poll_that_found_nothing_new_changes_nothing_that_is_published_but_the_status(
    machine: Machine, store: AccountStore, later: Iterator[int]
) -> None:
    say_everything(store, next(later))
    machine.sync()
    before = machine.everything()
    say_everything(store, next(later))
    machine.sync()
    after = machine.everything()
    assert {name for name in before if before[name] != after[name]} <= {"operations.facts", "main.log_files"}


def test_an_unchanged_sync_is_known_as_such_and_a_poll_is_noticed(machine: Machine, store: AccountStore) -> None:
    say_everything(store, NOW)
    machine.sync()
    assert unchanged_files(machine.environment) is not None
    apply(store, [event(charged="0.30")], NOW + HOUR_MS)
    assert unchanged_files(machine.environment) is None  # while the change is in the `-wal` alone
    machine.sync()
    assert unchanged_files(machine.environment) is not None
    assert machine.query("SELECT charged_usd FROM vendor_events") == [(Decimal("0.3"),)]


def test_killed_between_landing_and_mirror_the_next_sync_goes_on(machine: Machine, store: AccountStore) -> None:
    say_everything(store, NOW)
    land(machine.warehouse, machine.settings, SOURCES)
    with machine.warehouse.read() as connection:
        assert connection.execute("SELECT count(*) FROM invoices").fetchall() == [(0,)]
    machine.sync()
    assert machine.query("SELECT count(*) FROM invoices") == [(1,)]


def test_without_accounts_nothing_is_asked(machine: Machine) -> None:
    machine.sync()
    with machine.warehouse.read() as connection:
        assert connection.execute(
            "SELECT count(*) FROM operations.facts WHERE name = ?", [mirroring.FACT]
        ).fetchall() == [(0,)]
    assert not (machine.data / "accounts.sqlite").exists()


@pytest.mark.parametrize("content", [b"", b"no database" * 100, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_what_is_no_store_is_left_alone(machine: Machine, content: bytes) -> None:
    machine.warehouse.prepare()
    (machine.data / "accounts.sqlite").write_bytes(content)
    machine.sync()
    assert machine.query("SELECT count(*) FROM accounts") == [(0,)]


def test_a_store_that_is_busy_is_read_by_the_next_sync(
    machine: Machine, store: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_everything(store, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(mirroring, "read_ours", busy)
        machine.sync()
    assert unchanged_files(machine.environment) is None
    machine.sync()
    assert machine.query("SELECT count(*) FROM invoices") == [(1,)]


def busy(path: str, read: Any) -> Any:
    return read_ours(path, locked)


def locked(connection: sqlite3.Connection) -> None:
    """What SQLite says when somebody else has locked the database."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    raise error


def test_two_at_a_time_log_every_change_once(machine: Machine, store: AccountStore, later: Iterator[int]) -> None:
    say_everything(store, next(later))
    machine.sync()
    say_everything(store, next(later), charged="0.20")
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(mirror, [machine.warehouse] * 2))
    assert sorted(result.changes for result in results) == [0, 1]
    assert len(machine.raw("FROM event_changes")) == 1


def test_a_long_history_is_taken_over_in_parts(
    machine: Machine, store: AccountStore, monkeypatch: pytest.MonkeyPatch, later: Iterator[int]
) -> None:
    for charged in ("0.10", "0.20", "0.30"):
        apply(store, [event(START + hour * HOUR_MS, charged) for hour in range(4)], next(later))
    once = Machine.below(machine.data.parent, "once")
    once.warehouse.prepare()
    with closing(sqlite3.connect(once.data / "accounts.sqlite")) as copy:
        store._connection.backup(copy)
    once.sync()
    monkeypatch.setattr(mirroring, "VERSIONS_AT_ONCE", 3)
    machine.sync()
    for table in TABLES:
        assert rows(machine, table) == rows(once, table)
    assert machine.query("SELECT count(*) FROM event_changes") == once.query("SELECT count(*) FROM event_changes")


def rows(machine: Machine, table: str) -> list[tuple[Any, ...]]:
    return sorted(machine.query(f"FROM {table}"), key=repr)


def test_a_store_that_was_made_anew_goes_on_with_the_same_items(machine: Machine, store: AccountStore) -> None:
    say_everything(store, NOW)
    machine.sync()
    store.close()
    for path in machine.data.glob("accounts.sqlite*"):
        path.unlink()
    with AccountStore(machine.data) as anew:
        anew.configure([configured(counted=False)])
        say_everything(anew, NOW + HOUR_MS, charged="0.40")
        machine.sync()
    assert machine.query("SELECT charged_usd, epoch_ms(first_seen_at) FROM vendor_events") == [(Decimal("0.4"), NOW)]
    assert machine.query("SELECT count(*) FROM invoices") == [(1,)]


def test_no_credential_and_nothing_of_answers_is_published(machine: Machine, store: AccountStore) -> None:
    store.set_credential("acme", store.fingerprint("canary-secret"), None)
    fingerprint = store.fingerprint("canary-secret")
    say_everything(store, NOW)
    machine.sync()
    os.sync()
    salt = dict(store._connection.execute("SELECT name, value FROM about"))["salt"]
    texts = "".join(str(machine.query(f"FROM {table}")) for table in (*TABLES, "about", "event_changes", "rejects"))
    for secret in ("canary-secret", fingerprint, salt, "/items", "https://"):
        assert secret not in texts


_POLLS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["0.10", "0.20", None]), max_size=3), st.sampled_from([40, 50]), st.booleans()
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=4, deadline=None)
@given(_POLLS)
def test_the_same_versions_in_any_number_of_syncs_make_the_same_tables(
    tmp_path_factory: pytest.TempPathFactory, polls: Any
) -> None:
    directory = tmp_path_factory.mktemp("mirror")
    often, once = Machine.below(directory, "often"), Machine.below(directory, "once")
    with AccountStore(often.data) as often_told, AccountStore(once.data) as once_told:
        for store in (often_told, once_told):
            store.configure([configured(counted=False)])
        for number, (charges, limit, is_synced) in enumerate(polls):
            at_ms = NOW + number * MINUTE_MS
            for store in (often_told, once_told):
                apply(store, [event(START + n * HOUR_MS, charge) for n, charge in enumerate(charges)], at_ms)
                snapshot(store, LIMITS, [Limit(name="hard limit", limit_usd=Decimal(limit))], at_ms)
            if is_synced:
                often.sync()
        often.sync()
        once.sync()
    for table in TABLES:
        assert rows(often, table) == rows(once, table)
    logged = "SELECT event_id, subject, reason, before, after FROM event_changes ORDER BY change_id"
    assert often.query(logged) == once.query(logged)
