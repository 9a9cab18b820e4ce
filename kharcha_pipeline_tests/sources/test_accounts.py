"""The source accounts: what vendors say of single requests and of buckets becomes usage, each request once."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.items import ReportRow, VendorEvent, VendorItem
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.automation.checks import _COSTS_THAT_CANNOT_BE as COSTS_THAT_CANNOT_BE
from kharcha_pipeline.automation.checks import _NOT_CONSERVED as NOT_CONSERVED
from kharcha_pipeline.automation.checks import _PRICED_TWICE_OR_NEVER as PRICED_TWICE_OR_NEVER
from kharcha_pipeline.cli.doctor import _DAYS_THAT_DIFFER as DAYS_THAT_DIFFER
from kharcha_pipeline.ingest.push import _ROWS as ROWS_TO_SEND
from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.pricing.queries import UnpricedUse, unpriced_uses
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline.records import LogFile, Reading
from kharcha_pipeline.sources import accounts as reading
from kharcha_pipeline.sources.accounts import accounts
from kharcha_pipeline.sources.landing import land
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline.unchanged import unchanged_files
from kharcha_pipeline_tests.accounts.storing import (
    REPORTS,
    START,
    apply,
    configured,
    event,
)
from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine

NOW = START + 2 * DAY_MS
FIRST_DAY = date(2026, 9, 21)
"""The day that `START` begins."""


def cursor(name: str = "acme", **changes: Any) -> Any:
    return configured(name, **{"connector": "cursor-team", "vendor": "cursor", "source": "cursor"} | changes)


class Vendor:
    """Accounts of one machine, and what their vendors say of them at ever later times."""

    def __init__(self, machine: Machine, *given: Any) -> None:
        self.machine = machine
        self.store = AccountStore(machine.data)
        self.store.configure(given or [cursor()])
        self.instants = count(NOW, MINUTE_MS)

    def says(self, *items: VendorItem, account: str = "acme", resource: Any = None, **given: Any) -> None:
        """The whole of the first day, as the vendor tells it now."""
        chosen = {} if resource is None else {"resource": resource}
        apply(self.store, items, next(self.instants), account=account, **chosen, **given)

    def events(self, columns: str = "account, model, cost_usd") -> list[tuple[Any, ...]]:
        self.machine.sync()
        return self.machine.query(f"SELECT {columns} FROM priced_events ORDER BY ALL")

    def changes(self) -> list[tuple[Any, ...]]:
        return self.machine.query("SELECT subject, reason FROM event_changes ORDER BY change_id")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.below(tmp_path)


@pytest.fixture
def vendor(machine: Machine) -> Any:
    found = Vendor(machine)
    yield found
    found.store.close()


def of_cursor(at_ms: int = START + HOUR_MS, charged: str | None = "0.10", **fields: Any) -> VendorEvent:
    return event(
        at_ms, charged, **{"model_raw": "claude-4.5-sonnet", "input_tokens": 1_000, "cache_read_tokens": 0} | fields
    )


def test_a_request_is_one_event_of_its_account_and_of_no_machine(vendor: Vendor) -> None:
    vendor.says(
        of_cursor(conversation_id="talk", request_units=Decimal("1.4"), cache_write_tokens=7, user="a@b.example")
    )
    columns = """day, occurred_at, source, account, machine, session_id, provider, model, model_raw, route,
        input_tokens, output_tokens, cache_write_5m_tokens, premium_request_count, reported_cost_usd, cost_usd,
        pricing_status, evidence, responses, model_quality"""
    ((day, at, *rest),) = vendor.events(columns)
    assert (day, at.timestamp() * 1000) == (FIRST_DAY, START + HOUR_MS)
    assert rest == [
        *("cursor", "acme", "", "talk", "anthropic", "claude-sonnet-4-5", "claude-4.5-sonnet", "cursor"),
        *(1_000, 100, 7, Decimal("1.4"), Decimal("0.1"), Decimal("0.1"), "exact", "vendor", 1, "exact"),
    ]
    assert vendor.machine.query("SELECT machine, events, cost_usd FROM daily_usage") == [("", 1, Decimal("0.1"))]


def test_a_charge_of_zero_is_a_cost(vendor: Vendor) -> None:
    vendor.says(of_cursor(charged="0"))
    assert vendor.events("cost_usd, pricing_status") == [(Decimal(0), "exact")]


def test_a_charge_that_has_not_settled_is_estimated_from_the_tokens_until_it_has(vendor: Vendor) -> None:
    vendor.says(of_cursor(charged=None))
    ((cost, status, basis),) = vendor.events("cost_usd, pricing_status, price_basis")
    assert (cost, status, basis) == (Decimal("0.0045"), "estimated", "vendor_equivalent")  # 3 and 15 USD per million
    vendor.says(of_cursor(charged="0.11"))
    assert vendor.events("cost_usd, pricing_status") == [(Decimal("0.11"), "exact")]
    assert vendor.changes() == [("event", "the vendor revised it")]


@pytest.mark.parametrize("model", ["default", "auto", ""])
def test_a_model_that_the_vendor_chose_has_no_price_but_what_was_charged(vendor: Vendor, model: str) -> None:
    vendor.says(
        of_cursor(charged="0.10", model_raw=model), of_cursor(START + 2 * HOUR_MS, charged=None, model_raw=model)
    )
    assert vendor.events("provider, cost_usd, model_quality") == [
        ("cursor", Decimal("0.1"), "none"),
        ("cursor", None, "none"),
    ]


def test_tokens_that_are_not_told_are_unknown_and_never_priced(vendor: Vendor) -> None:
    no_tokens = {"output_tokens": None, "input_tokens": None, "cache_read_tokens": None}
    vendor.says(of_cursor(charged="0.04", **no_tokens), of_cursor(START + 2 * HOUR_MS, charged=None, **no_tokens))
    columns = "evidence, input_tokens, output_tokens, cache_read_tokens, reasoning_tokens, cost_usd, pricing_status"
    unknown = ("charge", None, None, None, None)
    assert vendor.events(columns) == [(*unknown, Decimal("0.04"), "exact"), (*unknown, None, "unpriced")]
    assert vendor.machine.query("SELECT input_tokens, evidence FROM usage_events") == [(None, "charge")] * 2
    sums = "sum(events), sum(input_tokens), sum(cost_usd), sum(unpriced_events)"
    for table in ("daily_usage", "session_usage", "hourly_usage"):
        assert vendor.machine.query(f"SELECT {sums} FROM {table}") == [(2, 0, Decimal("0.04"), 1)]
    assert vendor.machine.query('SELECT "totalTokens", messages FROM token_usage') == [(0, 2)]
    (use,) = unpriced(vendor.machine)
    assert (use.events, use.tokens, use.reason) == (1, 0, "the vendor has told neither a charge nor token counts")


def unpriced(machine: Machine) -> list[UnpricedUse]:
    with machine.warehouse.read() as connection:
        return unpriced_uses(connection)


def test_two_requests_in_one_millisecond_are_two_events_also_of_one_model(vendor: Vendor) -> None:
    vendor.says(of_cursor(), of_cursor(), of_cursor(model_raw="gpt-5"))
    assert len(vendor.events()) == 3
    before = vendor.machine.everything()
    vendor.says(of_cursor(model_raw="gpt-5"), of_cursor(), of_cursor())  # told in another order
    vendor.machine.sync()
    assert_same_usage(before, vendor.machine.everything())


def assert_same_usage(before: dict[str, Any], after: dict[str, Any]) -> None:
    for table in ("core.usage_events", "core.priced_events", "main.daily_usage", "main.event_changes"):
        assert after[table] == before[table]


def test_one_of_two_twins_that_changes_is_one_change(vendor: Vendor) -> None:
    vendor.says(of_cursor(), of_cursor())
    vendor.events()
    vendor.says(of_cursor(charged="0.30"), of_cursor())
    assert vendor.events("cost_usd") == [(Decimal("0.1"),), (Decimal("0.3"),)]
    assert vendor.changes() == [("event", "the vendor revised it")]


def test_a_value_that_comes_back_leaves_two_changes_and_the_first_value(vendor: Vendor) -> None:
    for charged in ("0.10", "0.20", "0.10"):
        vendor.says(of_cursor(charged=charged))
        vendor.events()
    assert vendor.events("cost_usd") == [(Decimal("0.1"),)]
    assert vendor.changes() == [("event", "the vendor revised it")] * 2


def test_a_request_that_vanished_leaves_the_totals_and_the_change_says_why(vendor: Vendor) -> None:
    other = of_cursor(START + 2 * HOUR_MS)
    vendor.says(of_cursor(charged="0.25"), other)
    vendor.events()
    for _ in range(3):
        vendor.says(other)
    assert vendor.events("cost_usd") == [(Decimal("0.1"),)]
    assert vendor.machine.query("SELECT events, cost_usd FROM daily_usage") == [(1, Decimal("0.1"))]
    query = "SELECT reason, before ->> 'reported_cost_usd', after FROM event_changes"
    assert vendor.machine.query(query) == [("no longer shown by the vendor", "0.250000000000", None)]
    vendor.says(of_cursor(charged="0.25"), other)  # it returns
    assert vendor.events("cost_usd") == [(Decimal("0.1"),), (Decimal("0.25"),)]


TEAM, OWN = cursor("team"), cursor("own", connector="cursor-dashboard")


def test_one_request_seen_through_a_team_and_a_personal_account_counts_once(machine: Machine) -> None:
    vendor = Vendor(machine, TEAM, OWN)
    seen = of_cursor(conversation_id="talk", owner_id="")
    vendor.says(of_cursor(conversation_id="talk", owner_id="user_1"), account="own")
    assert vendor.events() == [("own", "claude-sonnet-4-5", Decimal("0.1"))]
    vendor.says(seen, account="team")
    assert vendor.events() == [("team", "claude-sonnet-4-5", Decimal("0.1"))]  # the official interface goes first
    assert vendor.changes() == [("event", "the vendor revised it")]
    vendor.says(seen, seen, account="own")
    for _ in range(2):
        vendor.says(seen, seen, account="own")
    assert {account for account, *_ in vendor.events()} == {"own"}  # which shows more of them
    assert vendor.machine.query("SELECT sum(events), sum(cost_usd) FROM daily_usage") == [(2, Decimal("0.2"))]
    vendor.store.close()


def test_requests_without_a_conversation_are_each_account_s_own(machine: Machine) -> None:
    vendor = Vendor(machine, TEAM, OWN)
    vendor.says(of_cursor(), account="team")
    vendor.says(of_cursor(), account="own")
    assert [account for account, *_ in vendor.events()] == ["own", "team"]
    vendor.store.close()


def test_an_account_that_does_not_count_never_reaches_the_daily_tables(machine: Machine) -> None:
    vendor = Vendor(machine, cursor(counted=False))
    vendor.says(of_cursor())
    vendor.says(of_cursor(charged="0.20"))
    vendor.says(used(), resource=REPORTS)
    assert vendor.events() == []
    assert vendor.machine.query("SELECT count(*) FROM daily_usage") == [(0,)]
    vendor.store.close()


def test_an_account_may_begin_to_count_and_cease_to(vendor: Vendor) -> None:
    vendor.says(of_cursor())
    vendor.says(used(), resource=REPORTS)
    assert len(vendor.events()) == 1
    vendor.store.configure([cursor(counted=False)])
    assert vendor.events() == []
    assert vendor.machine.query("SELECT count(*) FROM daily_usage") == [(0,)]
    vendor.store.configure([cursor(counted=True)])
    assert vendor.events("cost_usd") == [(Decimal("0.1"),)]


# ------------------------------------------------------------------------------------------------- reports


def used(day: int = 0, model: str = "claude-sonnet-4-5", tokens: int | None = 1_000_000, **fields: Any) -> ReportRow:
    at_ms = START + day * DAY_MS
    given: dict[str, Any] = {"report": "messages", "dimensions": (("model", model),), "model_raw": model}
    return ReportRow(at_ms=at_ms, until_ms=at_ms + DAY_MS, input_tokens=tokens, **given | fields)


def test_a_usage_report_is_a_sum_of_its_utc_day_whatever_the_zone(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path, timezone="Pacific/Auckland")
    vendor = Vendor(machine, configured(connector="anthropic-admin", vendor="anthropic", source="anthropic"))
    vendor.says(used(responses=12, cache_write_1h_tokens=0), resource=REPORTS)
    columns = "day, source, account, machine, provider, model, route, evidence, responses, cost_usd, pricing_status"
    priced = ("anthropic", "acme", "", "anthropic", "claude-sonnet-4-5", "", "aggregate", 12, Decimal(3), "estimated")
    assert vendor.events(columns) == [(FIRST_DAY, *priced)]
    summed = "SELECT account, machine, responses, is_counted FROM aggregate_usage"
    assert machine.query(summed) == [("acme", "", 12, True)]
    assert machine.query("SELECT count(*) FROM hourly_usage") == [(0,)]
    vendor.store.close()


def test_a_reported_amount_stands_in_dollars_alone(vendor: Vendor) -> None:
    vendor.says(
        used(amount=Decimal("2.5")),
        used(model="claude-opus-4-5", amount=Decimal(0)),
        used(model="claude-haiku-4-5", amount=Decimal(7), currency="EUR"),
        resource=REPORTS,
    )
    assert vendor.events("model, cost_usd, reported_cost_usd, price_basis") == [
        ("claude-haiku-4-5", Decimal(1), None, "vendor_equivalent"),
        ("claude-opus-4-5", Decimal(0), Decimal(0), "reported"),
        ("claude-sonnet-4-5", Decimal("2.5"), Decimal("2.5"), "reported"),
    ]


def test_cost_reports_and_what_counts_no_tokens_are_no_usage(vendor: Vendor) -> None:
    vendor.says(
        used(report="costs", tokens=None, amount=Decimal(9)),
        used(report="credits", tokens=None, quantity=Decimal(3), unit="credits"),
        used(report="claude_code", grouping="customer_type", dimensions=(("customer_type", "api"),)),
        resource=REPORTS,
    )
    assert vendor.events() == []
    vendor.says(used(report="claude_code", dimensions=(("customer_type", "subscription"),)), resource=REPORTS)
    assert len(vendor.events()) == 1


def test_input_whose_parts_are_not_told_is_rejected_and_not_guessed(vendor: Vendor) -> None:
    vendor.says(used(tokens=None, output_tokens=5, quantity=Decimal(99), unit="input tokens"), resource=REPORTS)
    assert vendor.events() == []
    query = "SELECT source, reason FROM rejects"
    assert vendor.machine.query(query) == [("accounts", "which input tokens were cached is not told")]


def test_sums_of_an_account_are_left_out_where_its_single_requests_are_known(machine: Machine) -> None:
    vendor = Vendor(machine, cursor("acme"), cursor("other"))
    vendor.says(of_cursor())
    vendor.says(used(), used(day=1), resource=REPORTS, window=Window(START, START + 2 * DAY_MS))
    vendor.says(used(), resource=REPORTS, account="other")
    counted = "SELECT account, evidence, day, cost_usd FROM priced_events ORDER BY ALL"
    next_day = date(2026, 9, 22)
    machine.sync()
    assert machine.query(counted) == [
        ("acme", "aggregate", next_day, Decimal(3)),
        ("acme", "vendor", FIRST_DAY, Decimal("0.1")),
        ("other", "aggregate", FIRST_DAY, Decimal(3)),
    ]
    assert machine.query("SELECT is_counted FROM aggregate_usage ORDER BY account, day") == [
        (False,),
        (True,),
        (True,),
    ]
    vendor.store.close()


def test_a_bucket_that_is_shown_no_longer_goes_and_one_that_changed_is_one_change(vendor: Vendor) -> None:
    vendor.says(used(), used(model="claude-opus-4-5"), resource=REPORTS)
    vendor.events()
    vendor.says(used(tokens=2_000_000), resource=REPORTS)
    assert vendor.events("model, input_tokens") == [("claude-sonnet-4-5", 2_000_000)]
    reasons = sorted(reason for subject, reason in vendor.changes() if subject == "event")
    assert reasons == ["no longer shown by the vendor", "the vendor revised it"]


# ------------------------------------------------------------------------------------------------- reading


def tables(machine: Machine) -> dict[str, Any]:
    return machine.contents(("usage_events", "priced_events", "session_usage", "daily_usage"))


_AMOUNTS = st.sampled_from([None, "0", "0.10", "0.25"])
_EVENTS = st.builds(
    of_cursor,
    st.sampled_from([START + HOUR_MS, START + 2 * HOUR_MS]),
    _AMOUNTS,
    conversation_id=st.sampled_from(["", "talk"]),
    model_raw=st.sampled_from(["claude-4.5-sonnet", "default"]),
    input_tokens=st.sampled_from([None, 10]),
    output_tokens=st.sampled_from([None, 5]),
)
_POLLS = st.lists(
    st.tuples(st.sampled_from(["team", "own"]), st.lists(_EVENTS, max_size=4), st.booleans()), min_size=1, max_size=6
)


@settings(max_examples=4, deadline=None)
@given(_POLLS)
def test_the_same_versions_in_any_number_of_syncs_make_the_same_tables(
    polls: list[tuple[str, Sequence[VendorEvent], bool]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        often, once = Machine.below(Path(directory), "often"), Machine.below(Path(directory), "once")
        often_told, once_told = Vendor(often, TEAM, OWN), Vendor(once, TEAM, OWN)
        for account, items, is_synced in polls:
            often_told.says(*items, account=account)
            once_told.says(*items, account=account)
            if is_synced:
                often.sync()
        often.sync()
        once.sync()
        assert tables(often) == tables(once)
        assert_conserved(often)
        once.sync(full=True)
        often.sync(full=True)
        assert tables(often) == tables(once)
        for vendor in (often_told, once_told):
            vendor.store.close()


def assert_conserved(machine: Machine) -> None:
    """Every event is priced once, or left out for a reason, and every table adds up to the same."""
    assert machine.query(DAYS_THAT_DIFFER) == []
    every_day = {"first": date.min, "last": date.max, "days": None}
    with machine.warehouse.read() as connection:
        for query in (
            PRICED_TWICE_OR_NEVER,
            NOT_CONSERVED.format(table="daily_usage"),
            NOT_CONSERVED.format(table="session_usage"),
            COSTS_THAT_CANNOT_BE,
        ):
            assert connection.execute(query, every_day).fetchall() == []


def test_every_kind_of_evidence_is_conserved_side_by_side_also_in_another_zone(machine: Machine) -> None:
    write_corpus(machine.home, 12, 2, 3, LAST_DAY)
    vendor = Vendor(machine, cursor("acme"), cursor("other"), cursor("uncounted", counted=False))
    no_tokens = {"output_tokens": None, "input_tokens": None, "cache_read_tokens": None}
    vendor.says(of_cursor(charged="-0.02"), of_cursor(START + 10 * HOUR_MS, "0.04", **no_tokens))
    vendor.says(used(), used(day=1), resource=REPORTS, window=Window(START, START + 2 * DAY_MS))
    vendor.says(of_cursor(START + HOUR_MS, None, **no_tokens), account="other")
    vendor.says(used(), resource=REPORTS, account="other")
    vendor.says(of_cursor(), account="uncounted")
    machine.sync()
    assert_conserved(machine)
    totals = "SELECT sum(events), sum(cost_usd), sum(unpriced_events) FROM daily_usage"
    before = machine.query(totals)
    rebucket(machine.warehouse, "Asia/Kolkata", PriceSources.load(None))
    machine.warehouse.publish()
    assert machine.query(totals) == before
    assert_conserved(machine)
    vendor.store.close()


def test_versions_in_any_order_and_repeated_settle_to_the_same(vendor: Vendor) -> None:
    for charged in ("0.10", None, "0.30"):
        vendor.says(of_cursor(charged=charged), of_cursor(model_raw="gpt-5", charged=charged))
    records = accounts.read(log_file(vendor.machine)).records
    families: dict[str, list[Any]] = {}
    for record in records:
        families.setdefault(record.family, []).append(record.said)
    assert len(families) == 2
    for family, said in families.items():
        expected = accounts.settle(family, said, {})
        assert accounts.settle(family, [*reversed(said), *said], {}) == expected
        assert [one.reported_cost_usd for one in expected] == [Decimal("0.30")]


def log_file(machine: Machine, **values: Any) -> LogFile:
    return LogFile(str(machine.data / "accounts.sqlite"), **values)


def test_only_what_is_new_is_read(vendor: Vendor) -> None:
    vendor.says(of_cursor())
    first = accounts.read(log_file(vendor.machine))
    assert len(first.records) == 1
    assert accounts.read(log_file(vendor.machine, state=first.state)).records == []
    vendor.says(of_cursor(), of_cursor(START + 3 * HOUR_MS))
    second = accounts.read(log_file(vendor.machine, state=first.state))
    assert [record.position for record in second.records] == [2]


def test_a_long_history_is_read_in_parts_and_goes_on_where_it_was_killed(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for charged in ("0.10", "0.20"):
        vendor.says(*(of_cursor(START + hour * HOUR_MS, charged) for hour in range(7)))
    once = Machine.below(tmp_path, "once")
    once.warehouse.prepare()
    with closing(sqlite3.connect(once.data / "accounts.sqlite")) as copy:
        vendor.store._connection.backup(copy)
    once.sync()
    monkeypatch.setattr(reading, "VERSIONS_AT_ONCE", 4)
    killed_at = iter([False, False, True])

    class Killed(reading.Accounts):
        def read(self, file: LogFile) -> Reading:
            if not file.path.endswith("-wal") and next(killed_at):
                raise KeyboardInterrupt
            return super().read(file)

    with pytest.raises(KeyboardInterrupt):
        land(vendor.machine.warehouse, vendor.machine.settings, [Killed()])
    assert vendor.machine.raw("SELECT count(*) FROM core.usage_events") != [(0,)]
    vendor.machine.sync()
    assert tables(vendor.machine) == tables(once)
    vendor.machine.sync(full=True)
    assert tables(vendor.machine) == tables(once)
    assert unchanged_files(vendor.machine.environment) is not None


def test_a_store_that_was_made_anew_replaces_what_the_old_one_said_of_the_same(vendor: Vendor) -> None:
    vendor.says(of_cursor(charged="0.10"), of_cursor(charged="0.10"), of_cursor(START + 5 * HOUR_MS))
    assert len(vendor.events()) == 3
    vendor.store.close()
    for path in vendor.machine.data.glob("accounts.sqlite*"):
        path.unlink()
    vendor.store = AccountStore(vendor.machine.data)
    vendor.store.configure([cursor()])
    vendor.says(of_cursor(charged="0.40"))
    assert vendor.events("cost_usd") == [(Decimal("0.1"),), (Decimal("0.4"),)]  # of the later hour, the old one's


def test_a_backup_in_the_place_of_the_store_is_read_from_its_start(vendor: Vendor) -> None:
    vendor.says(of_cursor(charged="0.10"))
    backup = vendor.machine.data / "backup"
    with closing(sqlite3.connect(backup)) as copy:
        vendor.store._connection.backup(copy)
    vendor.says(of_cursor(charged="0.20"))
    vendor.says(of_cursor(charged="0.30"))
    assert vendor.events("cost_usd") == [(Decimal("0.3"),)]
    vendor.store.close()
    for path in vendor.machine.data.glob("accounts.sqlite-*"):
        path.unlink()
    (vendor.machine.data / "accounts.sqlite").write_bytes(backup.read_bytes())  # the same file, so the same inode
    vendor.store = AccountStore(vendor.machine.data)
    vendor.says(of_cursor(charged="0.50"))
    assert vendor.events("cost_usd") == [(Decimal("0.5"),)]


@pytest.mark.parametrize("content", [b"", b"no database" * 100, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_what_is_no_store_is_a_reject_and_nothing_else_stops(machine: Machine, content: bytes) -> None:
    machine.warehouse.prepare()
    (machine.data / "accounts.sqlite").write_bytes(content)
    machine.sync()
    ((source, reason),) = machine.query("SELECT source, reason FROM rejects")
    assert source == "accounts" and reason in ("not a store of accounts", "database is damaged")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"type":"event","input_tokens":-4}', "a version is not what is known"),
        ('{"type":"event","charged_usd":"1e30"}', "an amount is out of range"),
        ('{"type":"event","charged_usd":"NaN"}', "an amount is out of range"),
        ("nonsense", "a version is not what is known"),
    ],
)
def test_a_version_that_cannot_be_used_is_a_reject(vendor: Vendor, content: str, reason: str) -> None:
    vendor.says(of_cursor(), of_cursor(START + 2 * HOUR_MS))
    with closing(sqlite3.connect(vendor.store.path)) as connection, connection:
        connection.execute("UPDATE versions SET content = ? WHERE id = 1", (content,))
    assert len(vendor.events()) == 1
    assert vendor.machine.query("SELECT reason, position FROM rejects") == [(reason, 1)]


def test_a_store_of_a_newer_version_is_left_to_it(vendor: Vendor) -> None:
    vendor.says(of_cursor())
    with closing(sqlite3.connect(vendor.store.path)) as connection, connection:
        connection.execute("UPDATE about SET value = '2' WHERE name = 'version'")
    assert vendor.events() == []
    assert vendor.machine.query("SELECT reason FROM rejects") == [("database was made by a newer version",)]
    assert vendor.machine.query("SELECT count(*) FROM vendor_events") == [(0,)]


def test_push_sends_nothing_that_belongs_to_a_whole_account(vendor: Vendor) -> None:
    write_corpus(vendor.machine.home, 12, 1, 1, LAST_DAY)
    vendor.says(of_cursor())
    vendor.says(used(model="claude-opus-4-5"), resource=REPORTS, account="acme")
    machines = "SELECT DISTINCT machine FROM token_usage ORDER BY ALL"
    vendor.machine.sync()
    assert vendor.machine.query(machines) == [("",), ("test",)]
    assert {row[4] for row in vendor.machine.query(ROWS_TO_SEND)} == {"test"}


def test_the_module_fulfils_the_interface() -> None:
    source: Source = accounts
    assert source.name == "accounts"
