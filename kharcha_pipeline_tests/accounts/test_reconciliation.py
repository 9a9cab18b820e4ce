"""Reconciliation, with numbers added up by hand: what is billed, what explains it, and what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.items import BillingPeriod, Invoice, ReportRow, VendorItem
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.storing import (
    EVENTS,
    INVOICES,
    PERIODS,
    REPORTS,
    apply,
    configured,
    event,
    snapshot,
)
from kharcha_pipeline_tests.machine import Machine


def ms(text: str) -> int:
    """An instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


AUGUST, SEPTEMBER, OCTOBER, NOVEMBER = (ms(f"2026-{month:02}-01") for month in (8, 9, 10, 11))
ASKED = ms("2026-11-05")
"""When vendors were asked last: everything before has an end."""


class Books:
    """An account, and what its vendor says."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.store = AccountStore(machine.data)
        self.instants = count(ASKED, MINUTE_MS)
        self.account()

    def account(self, **changes: Any) -> None:
        self.store.configure([configured(**({"local_sources": ()} | changes))])

    def says(self, *items: VendorItem, asked: int = ASKED) -> None:
        """Everything the vendor says; then a poll succeeds."""
        of_kinds = {resource.kind: [] for resource in (EVENTS, REPORTS, PERIODS, INVOICES)}  # type: dict[str, list[Any]]
        for item in items:
            of_kinds[type(item).__struct_config__.tag].append(item)  # type: ignore[index]
        at_ms = next(self.instants)
        for resource in (EVENTS, REPORTS):
            for month in (AUGUST, SEPTEMBER, OCTOBER):
                window = Window(month, month + 31 * DAY_MS)
                inside = [item for item in of_kinds[resource.kind] if month <= item.at_ms < month + 31 * DAY_MS]
                apply(self.store, inside, at_ms, window=window, resource=resource)
        for resource in (PERIODS, INVOICES):
            snapshot(self.store, resource, of_kinds[resource.kind], at_ms)
        self.store.note_poll("acme", asked, None, succeeded=True)
        self.machine.sync()

    def rows(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        """Amount and status by first day of the period and measure."""
        rows = self.machine.query(
            "SELECT period_start, measure, amount_usd, status FROM reconciliation WHERE account = 'acme'"
        )
        return {
            (f"{start.astimezone(UTC):%m-%d}", measure): (amount, status) for start, measure, amount, status in rows
        }

    def left(self, start: str = "09-01") -> tuple[Any, ...]:
        return self.rows()[start, "unexplained"]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(Machine.below(tmp_path))
    yield books
    books.store.close()


def used(at: str, charged: str | None) -> VendorItem:
    return event(ms(at), charged, conversation_id=at)


def cost(day: str, amount: str, **fields: Any) -> ReportRow:
    at_ms = ms(day)
    return ReportRow(report="costs", at_ms=at_ms, until_ms=at_ms + DAY_MS, amount=Decimal(amount), **fields)


def invoice(amount: str | None, start: int = SEPTEMBER, end: int | None = OCTOBER, **fields: Any) -> Invoice:
    given: dict[str, Any] = {"invoice_id": f"in_{start}", "status": "paid"} | fields
    return Invoice(at_ms=start, until_ms=end, amount=None if amount is None else Decimal(amount), **given)


USED = (used("2026-09-01T00:00", "60.25"), used("2026-09-30T23:59", "39.75"))


def test_an_invoice_that_usage_explains_to_the_cent(books: Books) -> None:
    books.says(*USED, used("2026-10-01T00:00", "5"), invoice("100.00"))
    rows = books.rows()
    assert rows["09-01", "vendor_usage"] == (Decimal(100), "explained")
    assert rows["09-01", "invoice"] == (Decimal(100), "explained")
    assert rows["09-01", "unexplained"] == (Decimal(0), "explained")
    assert rows["09-01", "local_events"] == rows["09-01", "vendor_cost_report"] == (None, "unknown")
    assert rows["10-01", "vendor_usage"] == (Decimal(5), "unknown")


@pytest.mark.parametrize(
    ("amount", "left", "status"),
    [
        ("100.004", "0.004", "explained"),
        ("101.00", "1.00", "within_tolerance"),
        ("99.01", "-0.99", "within_tolerance"),
        ("101.02", "1.02", "unexplained"),
        ("150.00", "50.00", "unexplained"),
        ("0", "-100.00", "unexplained"),
    ],
)
def test_what_is_left_of_an_invoice_is_a_row_of_its_own(books: Books, amount: str, left: str, status: str) -> None:
    books.says(*USED, invoice(amount))
    assert books.left() == (Decimal(left), status)
    tolerance = books.machine.query("SELECT DISTINCT tolerance_usd FROM reconciliation WHERE amount_usd IS NOT NULL")
    assert tolerance == [(Decimal(amount) / 100,)]


def test_the_tolerance_is_the_account_s(books: Books) -> None:
    books.account(tolerance_percent=40)
    books.says(*USED, invoice("150.00"))
    assert books.left() == (Decimal(50), "within_tolerance")


def test_a_period_that_the_vendor_may_still_revise_is_open(books: Books) -> None:
    books.says(*USED, invoice("150.00"), asked=OCTOBER - HOUR_MS)
    assert books.left() == (Decimal(50), "open")


def test_one_amount_alone_explains_nothing(books: Books) -> None:
    books.says(*USED)
    assert books.left() == (None, "unknown")
    assert books.rows()["09-01", "vendor_usage"] == (Decimal(100), "unknown")


def test_another_currency_is_kept_apart(books: Books) -> None:
    books.says(
        *USED, invoice("90.00", currency="EUR"), cost("2026-09-02", "100"), cost("2026-09-03", "7", currency="EUR")
    )
    rows = books.rows()
    assert rows["09-01", "invoice"] == (None, "unknown")
    assert rows["09-01", "vendor_cost_report"] == (Decimal(100), "explained")
    ((sentence,),) = books.machine.query("SELECT sentence FROM reconciliation WHERE measure = 'invoice'")
    assert "another currency" in sentence


def test_without_invoices_and_summaries_periods_are_utc_months(books: Books) -> None:
    books.says(
        used("2026-08-31T23:59", "1"), used("2026-09-01T00:00", "2"), cost("2026-08-31", "1"), cost("2026-09-01", "2")
    )
    assert books.left("08-01") == books.left("09-01") == (Decimal(0), "explained")


def test_the_vendor_s_summaries_are_its_periods_each_until_the_next(books: Books) -> None:
    first = BillingPeriod(at_ms=ms("2026-08-15"), total_usd=Decimal(3))
    books.says(used("2026-09-14T23:00", "3"), first)
    second = BillingPeriod(at_ms=ms("2026-09-15"), total_usd=Decimal(4))
    books.says(used("2026-09-14T23:00", "3"), used("2026-09-15T00:00", "5"), second)  # the first is shown no longer
    assert books.left("08-15") == (Decimal(0), "explained")
    assert books.left("09-15") == (Decimal(-1), "unexplained")
    ((end,),) = books.machine.query("SELECT DISTINCT period_end FROM reconciliation WHERE amount_usd = 3")
    assert end.timestamp() * 1000 == ms("2026-09-15")


def test_an_invoice_of_a_plan_is_not_held_against_usage(books: Books) -> None:
    period = BillingPeriod(
        at_ms=SEPTEMBER, until_ms=OCTOBER, included_usd=Decimal(80), on_demand_usd=Decimal(20), total_usd=Decimal(100)
    )
    books.says(*USED, period, invoice("40.00", end=None))
    assert books.rows()["09-01", "invoice"] == (Decimal(40), "explained")
    assert books.left() == (Decimal(0), "explained")


def test_void_invoices_are_none_and_a_statement_is_no_invoice(books: Books) -> None:
    statement = invoice("100.00", invoice_id="period-9", is_preview=True, status="")
    books.says(*USED, statement)
    assert books.rows()["09-01", "invoice"] == (Decimal(100), "explained")
    books.says(
        *USED,
        statement,
        invoice("60.00"),
        invoice("40.00", invoice_id="in_2"),
        invoice("9", invoice_id="in_3", status="void"),
    )
    assert books.rows()["09-01", "invoice"] == (Decimal(100), "explained")


def test_a_charge_that_has_not_settled_is_said_and_not_taken_for_nothing(books: Books) -> None:
    books.says(*USED, used("2026-09-05T00:00", None), invoice("101.00"))
    assert books.left() == (Decimal(1), "within_tolerance")
    ((sentence,),) = books.machine.query("SELECT sentence FROM reconciliation WHERE measure = 'vendor_usage'")
    assert sentence == "Of one row of usage the vendor tells no cost yet."


def test_agents_logs_explain_what_a_vendor_bills(books: Books) -> None:
    log = books.machine.home / ".claude/projects/shop/session.jsonl"
    log.parent.mkdir(parents=True)
    usage = {"input_tokens": 100_000, "output_tokens": 0}
    lines = [
        {
            "type": "assistant", "sessionId": "s", "cwd": "/shop", "requestId": f"r{number}", "timestamp": at,
            "message": {"id": f"m{number}", "model": "claude-sonnet-4-5", "usage": usage, "stop_reason": "end_turn"},
        }
        for number, at in enumerate(("2026-09-01T00:00:00Z", "2026-09-30T23:59:59.999Z", "2026-10-01T00:00:00Z"))
    ]  # fmt: skip
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    books.account(local_sources=("provider:anthropic",), counted=False)
    books.says(cost("2026-09-02", "0.90"))
    rows = books.rows()
    assert rows["09-01", "local_events"] == (
        Decimal("0.6"),
        "unexplained",
    )  # two of 100,000 tokens at 3 USD a million
    assert rows["09-01", "unexplained"] == (Decimal("0.3"), "unexplained")
    assert not any(start == "10-01" for start, _ in rows)  # of which no vendor says anything
    books.account(local_sources=("claude-code",), local_account="another", counted=False)
    books.says(cost("2026-09-02", "0.90"))
    assert books.rows()["09-01", "local_events"] == (Decimal(0), "unexplained")


def test_which_evidence_counts_is_stated_with_the_reason(books: Books) -> None:
    books.says(*USED)
    query = "SELECT source, account, evidence, is_counted, events, cost_usd FROM counted_evidence"
    assert books.machine.query(query) == [("example", "acme", "vendor", True, 2, Decimal(100))]
    books.account(counted=False)
    books.machine.sync()
    assert books.machine.query(query) == [("example", "acme", "vendor", False, 2, Decimal(100))]
    ((reason,),) = books.machine.query("SELECT reason FROM counted_evidence")
    assert reason.startswith("The account does not count")
