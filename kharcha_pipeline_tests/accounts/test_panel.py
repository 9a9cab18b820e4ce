"""The status panel: what an account has spent, as far as its vendor says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Normalized, Resource, Window
from kharcha_pipeline.accounts.items import BillingPeriod, ReportRow, VendorEvent, VendorItem
from kharcha_pipeline.accounts.panel import Spend, panel
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.storing import ACCOUNT, EVENTS, PERIODS, REPORTS, opened
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS

MONTH_MS = 1_793_491_200_000
"""2026-11-01 00:00 UTC: the month of the clock's noon."""
TO_NOW = Window(MONTH_MS - 5 * DAY_MS, NOON_MS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AccountStore]:
    with opened(tmp_path / "data") as store:
        yield store


def tell(store: AccountStore, resource: Resource, *items: VendorItem) -> None:
    """Stores what a vendor says."""
    window = TO_NOW if resource.span else SNAPSHOT
    store.apply(ACCOUNT, resource, window, (), Normalized(items), now_ms=NOON_MS, closed_before_ms=0)


def spend(store: AccountStore) -> Spend:
    (row,) = panel(store, NOON_MS)
    return row.spend


def cost(amount: str, name: str = "costs", **fields: object) -> ReportRow:
    at_ms = MONTH_MS + 3 * DAY_MS
    return ReportRow(report=name, at_ms=at_ms, until_ms=at_ms + DAY_MS, amount=Decimal(amount), **fields)  # type: ignore[arg-type]


def event(at_ms: int, charged: str | None) -> VendorEvent:
    return VendorEvent(at_ms=at_ms, charged_usd=None if charged is None else Decimal(charged))


def test_without_a_word_of_the_vendor_spend_is_unknown_and_not_zero(store: AccountStore) -> None:
    assert spend(store) == Spend(None, MONTH_MS)
    tell(store, EVENTS, event(NOON_MS - HOUR_MS, None))
    assert spend(store) == Spend(None, MONTH_MS)


def test_charges_of_events_are_summed_from_the_begin_of_the_month(store: AccountStore) -> None:
    tell(store, EVENTS, event(MONTH_MS - 1, "9"), event(MONTH_MS, "0.1"), event(NOON_MS - 1, "0.2"))
    assert spend(store) == Spend(Decimal("0.3"), MONTH_MS)


def test_the_vendor_s_own_sum_of_the_open_period_comes_first(store: AccountStore) -> None:
    begin = NOON_MS - 10 * DAY_MS
    old = BillingPeriod(at_ms=begin - 30 * DAY_MS, until_ms=begin, total_usd=Decimal("99"))
    member = BillingPeriod(at_ms=begin, subject="somebody", total_usd=Decimal("3"))
    whole = BillingPeriod(at_ms=begin, total_usd=Decimal("41.125"))
    tell(store, EVENTS, event(NOON_MS - 1, "0.2"))
    tell(store, PERIODS, old, member, whole)
    assert spend(store) == Spend(Decimal("41.125"), begin)


def test_a_period_without_a_sum_says_at_least_where_to_begin(store: AccountStore) -> None:
    begin = NOON_MS - 2 * DAY_MS
    tell(store, PERIODS, BillingPeriod(at_ms=begin, until_ms=begin + 30 * DAY_MS))
    tell(store, EVENTS, event(begin - 1, "5"), event(begin, "0.25"))
    assert spend(store) == Spend(Decimal("0.25"), begin)
    parts = BillingPeriod(at_ms=begin, included_usd=Decimal("20"), on_demand_usd=Decimal("1.5"))
    tell(store, PERIODS, parts)
    assert spend(store) == Spend(Decimal("21.5"), begin)


@pytest.mark.parametrize(
    ("rows", "amount"),
    [
        ([cost("2.5"), cost("7", "activity", input_tokens=1, output_tokens=1)], "2.5"),
        ([cost("7", "activity", input_tokens=1, output_tokens=1)], "7"),
        ([cost("2.5"), cost("1", "claude_code")], "2.5"),
        ([cost("2.5"), cost("100", currency="EUR", dimensions=(("line", "other"),))], "2.5"),
        ([cost("1", "claude_code")], None),
        ([cost("1e-20"), cost("123456789012", dimensions=(("line", "b"),))], "123456789012.00000000000000000001"),
    ],
)
def test_a_cost_report_is_not_added_to_what_stands_beside_usage(
    store: AccountStore, rows: Sequence[ReportRow], amount: str | None
) -> None:
    tell(store, REPORTS, *rows)
    assert spend(store).amount_usd == (None if amount is None else Decimal(amount))


def test_what_the_vendor_shows_no_longer_is_not_spent(store: AccountStore) -> None:
    tell(store, REPORTS, cost("2.5"), cost("1", dimensions=(("line", "b"),)))
    again = Normalized([cost("2.5")])
    store.apply(ACCOUNT, REPORTS, TO_NOW, (), again, now_ms=NOON_MS + 1, closed_before_ms=0)
    assert spend(store).amount_usd == Decimal("2.5")
