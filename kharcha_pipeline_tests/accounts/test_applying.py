"""What readings do to what is stored: the cases of revision and identity, at the store."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Window
from kharcha_pipeline.accounts.items import BillingPeriod, Invoice, Limit, Member, ReportRow, VendorEvent
from kharcha_pipeline.accounts.store import Applied
from kharcha_pipeline_tests.accounts.storing import (
    ACCOUNT,
    DAY,
    INVOICES,
    LIMITS,
    MEMBERS,
    PERIODS,
    REPORTS,
    START,
    apply,
    event,
    opened,
    rows,
    snapshot,
    standing,
    versions,
)

FIRST, SECOND, THIRD, FOURTH, FIFTH = (START + DAY_MS + number * HOUR_MS for number in range(5))
"""Instants of polls."""


def usage(model: str, tokens: int, at_ms: int = START) -> ReportRow:
    return ReportRow(
        report="messages",
        grouping="model",
        at_ms=at_ms,
        until_ms=at_ms + DAY_MS,
        dimensions=(("model", model),),
        output_tokens=tokens,
    )


# Revision


def test_same_answer_twice(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        items = [event(), event(at_ms=START + 5, tokens=3)]
        assert apply(store, items, FIRST) == Applied(inserted=2)
        before = versions(store)
        assert apply(store, items, SECOND) == Applied(unchanged=2)
        assert versions(store) == before


@pytest.mark.parametrize("before", [None, "0"])
def test_cost_settles_from_missing_or_0_to_a_value(before: str | None, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(charged=before)], FIRST)
        assert apply(store, [event(charged="0.12")], SECOND) == Applied(changed=1)
        assert versions(store) == [(1, event(charged=before), "first seen"), (1, event(charged="0.12"), "revised")]
        assert rows(store, "SELECT id, previous, seen_at FROM versions") == [(1, None, FIRST), (2, 1, SECOND)]


def test_tokens_or_kind_change(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(kind="included")], FIRST)
        assert apply(store, [event(kind="included", tokens=101)], SECOND) == Applied(changed=1)
        assert apply(store, [event(kind="usage-based", tokens=101)], THIRD) == Applied(changed=1)
        assert standing(store) == [event(kind="usage-based", tokens=101)]
        assert len(versions(store)) == 3


def test_event_appears_late_inside_the_lookback(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        assert apply(store, [event(at_ms=START + 1), event()], SECOND) == Applied(inserted=1, unchanged=1)


def test_event_appears_late_outside_the_lookback(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        later = FIRST + 20 * DAY_MS
        month = Window(DAY.from_ms, DAY.from_ms + 31 * DAY_MS)
        applied = apply(store, [event(at_ms=START + 1), event()], later, window=month)
        assert applied == Applied(inserted=1, unchanged=1)
        assert store.last_reading(ACCOUNT, "events") == later


def test_revision_outside_the_lookback(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        applied = apply(store, [event(charged="0.2")], FIRST + 20 * DAY_MS, closed_before_ms=FIRST)
        assert applied == Applied(changed=1)


def test_event_disappears_from_a_complete_window(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        kept, lost = event(), event(at_ms=START + 1)
        apply(store, [kept, lost], FIRST)
        assert apply(store, [kept], SECOND) == Applied(unchanged=1)
        assert apply(store, [kept], THIRD) == Applied(unchanged=1)
        assert len(standing(store)) == 2
        assert apply(store, [kept], FOURTH) == Applied(unchanged=1, vanished=1)
        assert standing(store) == [kept]
        assert versions(store)[-1] == (2, None, "vanished")
        assert apply(store, [kept], FIFTH) == Applied(unchanged=1)
        assert apply(store, [kept, lost], FIFTH + 1) == Applied(unchanged=1, returned=1)
        assert standing(store) == [lost, kept]
        assert versions(store)[-1] == (2, lost, "returned")


def test_event_that_is_shown_again_in_between_does_not_vanish(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        for number in range(6):
            apply(store, [event()] if number % 3 == 2 else [], SECOND + number)
        assert standing(store) == [event()]
        assert len(versions(store)) == 1


def test_event_disappears_because_the_read_was_partial(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        early, late = event(at_ms=START), event(at_ms=START + 5 * HOUR_MS)
        apply(store, [early, late], FIRST)
        for number in range(4):  # only what was fetched is replaced
            apply(store, [early], SECOND + number, window=Window(START, START + HOUR_MS))
        assert len(standing(store)) == 2
        assert rows(store, "SELECT max(missed) FROM items") == [(0,)]


def test_empty_object_for_an_empty_window_proves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(at_ms=START + number) for number in range(9)], FIRST)
        for number in range(4):
            applied = apply(store, [], SECOND + number, is_suspicious=True, notes={"an empty answer": 1})
            assert applied == Applied()
        assert len(standing(store)) == 9
        assert rows(store, "SELECT max(missed) FROM items") == [(0,)]
        assert store.covered(ACCOUNT, "events") == [DAY]


def test_a_row_that_could_not_be_used_may_be_the_missing_one(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        window = Window(START, START + DAY_MS)
        apply(store, [usage("a", 1), usage("b", 2)], FIRST, window=window, resource=REPORTS)
        apply(store, [usage("a", 1)], SECOND, window=window, resource=REPORTS, rejects=["a count that is none"])
        assert len(standing(store, "report")) == 2
        assert apply(store, [usage("a", 1)], THIRD, window=window, resource=REPORTS).vanished == 1


def test_a_value_that_is_told_no_longer_stays_and_is_noted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(charged="0.1")], FIRST)
        for poll_ms in (SECOND, THIRD):
            assert apply(store, [event(charged=None)], poll_ms) == Applied(unchanged=1)
            status = store.status(ACCOUNT)
            assert status is not None
            assert status.notes == {'"charged_usd" is told no longer, and the value that was known stays': 1}
        assert standing(store) == [event(charged="0.1")]
        assert apply(store, [event(charged=None, tokens=7)], FOURTH) == Applied(changed=1)
        assert standing(store) == [event(charged="0.1", tokens=7)]
        assert apply(store, [event(charged="0.3", tokens=7)], FIFTH) == Applied(changed=1)
        status = store.status(ACCOUNT)
        assert status is not None
        assert status.notes == {}


def test_twins_of_which_values_are_told_no_longer_are_still_told_apart(tmp_path: Path) -> None:
    def twins(one: int | None, other: int | None) -> list[VendorEvent]:
        return [event(charged="0.2", output_tokens=one), event(charged="0.1", output_tokens=other)]

    with opened(tmp_path) as store:
        apply(store, twins(1, 2), FIRST)
        for poll_ms, told in ((SECOND, twins(None, 2)), (THIRD, twins(None, None)), (FOURTH, twins(None, None))):
            assert apply(store, told, poll_ms) == Applied(unchanged=2)
        assert standing(store) == twins(1, 2)


def test_value_goes_a_b_a(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for poll_ms, charged in ((FIRST, "0.1"), (SECOND, "0.2"), (THIRD, "0.1")):
            apply(store, [event(charged=charged)], poll_ms)
        assert [reason for _, _, reason in versions(store)] == ["first seen", "revised", "revised"]
        assert standing(store) == [event(charged="0.1")]
        assert rows(store, "SELECT previous FROM versions") == [(None,), (1,), (2,)]


def test_older_response_arrives_after_a_newer_one(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(charged="0.2")], SECOND)
        assert apply(store, [event(charged="0.1"), event(tokens=3)], FIRST) == Applied(superseded=True)
        assert versions(store) == [(1, event(charged="0.2"), "first seen")]
        assert store.covered(ACCOUNT, "events") == [DAY]
        kept = "SELECT readings.status, count(*) FROM readings JOIN answers ON reading = readings.id GROUP BY 1"
        assert rows(store, kept) == [("applied", 1), ("superseded", 1)]


def test_older_response_decides_only_where_the_newer_one_says_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        noon = START + 12 * HOUR_MS
        early, late = event(at_ms=START), event(at_ms=noon)
        apply(store, [late], SECOND, window=Window(noon, DAY.until_ms))
        old = [event(at_ms=START), event(at_ms=noon, charged="0.9"), event(at_ms=noon + 1)]
        assert apply(store, old, FIRST) == Applied(inserted=1)
        assert standing(store) == [early, late]


def test_an_older_snapshot_never_wins(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot(store, LIMITS, [Limit(name="hard limit", limit_usd=Decimal(2))], SECOND)
        older = snapshot(store, LIMITS, [Limit(name="hard limit", limit_usd=Decimal(1))], FIRST)
        assert older == Applied(superseded=True)
        assert standing(store, "limit") == [Limit(name="hard limit", limit_usd=Decimal(2))]


def test_invoice_open_to_paid_and_its_end_moves_each_poll(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for poll_ms, status in ((FIRST, "open"), (SECOND, "open"), (THIRD, "paid")):
            invoice = Invoice(invoice_id="in_1", at_ms=START, until_ms=poll_ms, amount=Decimal("9.99"), status=status)
            snapshot(store, INVOICES, [invoice], poll_ms)
        assert standing(store, "invoice") == [invoice]
        assert rows(store, "SELECT count(*) FROM items") == [(1,)]
        assert len(versions(store, "invoice")) == 3


def test_a_period_is_one_row_while_its_end_moves(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for poll_ms in (FIRST, SECOND, THIRD):
            period = BillingPeriod(at_ms=START, until_ms=poll_ms, total_usd=Decimal(poll_ms - START))
            snapshot(store, PERIODS, [period], poll_ms)
        assert standing(store, "period") == [period]
        assert rows(store, "SELECT count(*) FROM items") == [(1,)]


def test_the_periods_before_stay_when_only_the_present_one_is_told(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        before = [BillingPeriod(at_ms=START, subject=name, total_usd=Decimal(1)) for name in "ab"]
        now = [BillingPeriod(at_ms=START + DAY_MS, subject=name, total_usd=Decimal(1)) for name in "ab"]
        snapshot(store, PERIODS, before, FIRST)
        assert snapshot(store, PERIODS, now, SECOND) == Applied(inserted=2)
        assert snapshot(store, PERIODS, now[:1], THIRD) == Applied(unchanged=1, vanished=1)
        assert standing(store, "period") == [*before, now[0]]


def test_bucketed_report_a_row_vanishes_after_regrouping(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        other = usage("c", 5, at_ms=START + DAY_MS)
        month = Window(START, START + 31 * DAY_MS)
        apply(store, [usage("a", 1), usage("b", 2), other], FIRST, window=month, resource=REPORTS)
        applied = apply(store, [usage("a", 3), other], SECOND, window=month, resource=REPORTS)
        assert applied == Applied(changed=1, vanished=1, unchanged=1)
        assert standing(store, "report") == [usage("a", 3), other]


def test_one_reading_that_is_stored_again_and_again_is_one_miss(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], FIRST)
        for _ in range(5):  # killed after it was stored, and repeated from the same answers
            apply(store, [], SECOND)
        assert rows(store, "SELECT missed FROM items") == [(1,)]
        assert standing(store) == [event()]


def test_an_older_list_does_not_take_an_invoice_back(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        paid = Invoice(invoice_id="in_1", at_ms=START, status="paid")
        later = Window(DAY.until_ms, DAY.until_ms + DAY_MS)
        apply(store, [paid], SECOND, resource=INVOICES, window=later)
        older = [Invoice(invoice_id="in_1", at_ms=START, status="open"), Invoice(invoice_id="in_0", at_ms=START)]
        assert apply(store, older, FIRST, resource=INVOICES) == Applied(inserted=1)
        assert standing(store, "invoice") == [older[1], paid]


def test_the_present_is_never_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for poll_ms, amount in ((FIRST, 1), (SECOND, 2)):
            periods = [
                BillingPeriod(at_ms=START, subject=str(number), total_usd=Decimal(amount)) for number in range(9)
            ]
            applied = apply(
                store, periods, poll_ms, resource=PERIODS, window=SNAPSHOT, closed_before_ms=START + 90 * DAY_MS
            )
        assert applied == Applied(changed=9)


def test_events_of_a_list_without_bounds_never_vanish(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        twins = [event(), event(), event(at_ms=START)]
        apply(store, twins, FIRST, window=SNAPSHOT)
        for number in range(5):
            assert apply(store, twins[:1], SECOND + number, window=SNAPSHOT) == Applied(unchanged=1)
        assert len(standing(store)) == 3


def test_a_limit_that_is_no_longer_told_is_gone_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        limits = [Limit(name="hard limit"), Limit(name="hard limit per user")]
        snapshot(store, LIMITS, limits, FIRST)
        assert snapshot(store, LIMITS, limits[:1], SECOND).vanished == 1
        assert snapshot(store, LIMITS, limits, THIRD).returned == 1


def test_members_and_invoices_never_vanish(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot(store, MEMBERS, [Member(member_id="1"), Member(member_id="2")], FIRST)
        apply(store, [Invoice(invoice_id="in_1", at_ms=START)], FIRST, resource=INVOICES)
        for number in range(5):
            snapshot(store, MEMBERS, [Member(member_id="1")], SECOND + number)
            apply(store, [], SECOND + number, resource=INVOICES)
        assert len(standing(store, "member")) == 2
        assert len(standing(store, "invoice")) == 1


def test_an_invoice_that_two_pages_show_is_one(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        invoice = Invoice(invoice_id="in_1", at_ms=START, amount=Decimal(5))
        assert snapshot(store, INVOICES, [invoice, invoice], FIRST) == Applied(inserted=1)
        assert snapshot(store, INVOICES, [invoice], SECOND) == Applied(unchanged=1)


# Identity


def test_same_ms_and_model_in_different_conversations(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        two = [event(conversation_id="one"), event(conversation_id="two")]
        assert apply(store, two, FIRST).inserted == 2
        assert apply(store, two, SECOND) == Applied(unchanged=2)
        assert rows(store, "SELECT ordinal FROM items") == [(0,), (0,)]


def test_two_models_in_one_ms(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert apply(store, [event(model_raw="a"), event(model_raw="b")], FIRST).inserted == 2


def test_identical_twins(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert apply(store, [event(), event()], FIRST).inserted == 2
        for poll_ms in (SECOND, THIRD):
            assert apply(store, [event(), event()], poll_ms) == Applied(unchanged=2)
        assert rows(store, "SELECT ordinal FROM items ORDER BY id") == [(0,), (1,)]


def test_twins_delivered_in_other_order(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        twins = [event(charged="0.1"), event(charged="0.2")]
        apply(store, twins, FIRST)
        assert apply(store, twins[::-1], SECOND) == Applied(unchanged=2)
        assert len(versions(store)) == 2


def test_one_of_two_twins_changes_its_cost(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(), event()], FIRST)
        assert apply(store, [event(charged="0.9"), event()], SECOND) == Applied(changed=1, unchanged=1)
        assert standing(store) == [event(), event(charged="0.9")]
        assert len(versions(store)) == 3


def test_a_third_twin_arrives_later(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(), event()], FIRST)
        assert apply(store, [event()] * 3, SECOND) == Applied(inserted=1, unchanged=2)
        assert rows(store, "SELECT ordinal FROM items ORDER BY id") == [(0,), (1,), (2,)]


def test_one_of_two_twins_goes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(), event()], FIRST)
        for poll_ms in (SECOND, THIRD, FOURTH):
            applied = apply(store, [event()], poll_ms)
        assert applied == Applied(vanished=1, unchanged=1)
        assert standing(store) == [event()]


def test_same_event_on_two_accounts(tmp_path: Path) -> None:
    with opened(tmp_path, "own", "team") as store:
        assert apply(store, [event()], FIRST, account="own").inserted == 1
        assert apply(store, [event()], FIRST, account="team").inserted == 1
        assert apply(store, [event(charged="0.2")], SECOND, account="team") == Applied(changed=1)
        assert rows(store, "SELECT account, count(*) FROM versions GROUP BY 1") == [("own", 1), ("team", 2)]


def test_email_becomes_null_on_old_events(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(user="a@example.com", owner_id="7")], FIRST)
        assert apply(store, [event(owner_id="7")], SECOND) == Applied(changed=1)
        assert rows(store, "SELECT count(*) FROM items") == [(1,)]


def test_event_exactly_on_the_boundary_is_stored_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        edge = event(at_ms=DAY.until_ms)
        following = Window(DAY.until_ms, DAY.until_ms + DAY_MS)
        for poll_ms in (FIRST, SECOND):  # a vendor to whom both bounds belong shows it twice
            apply(store, [event(), edge], poll_ms)
            apply(store, [edge], poll_ms, window=following)
        assert standing(store) == [event(), edge]
        assert rows(store, "SELECT max(missed) FROM items") == [(0,)]
