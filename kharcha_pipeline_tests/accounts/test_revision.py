"""The comparison of what is stored with what a vendor says, without a database."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as some

from kharcha_pipeline.accounts.items import BillingPeriod, Invoice, Limit, ReportRow, VendorEvent, VendorItem
from kharcha_pipeline.accounts.revision import Comparison, Stored, compare, mass_revision
from kharcha_pipeline_tests.accounts.storing import event

CENTS = some.none() | some.integers(0, 3).map(lambda cents: Decimal(cents) / 100)
COUNTS = some.none() | some.integers(0, 3)
EVENTS = some.lists(
    some.builds(
        VendorEvent,
        at_ms=some.integers(1, 2),
        model_raw=some.sampled_from(["a", "b"]),
        user=some.sampled_from(["", "x"]),
        output_tokens=COUNTS,
        charged_usd=CENTS,
    ),
    max_size=7,
)
"""Few values, so that equal items are common."""


def stored(items: Sequence[VendorItem], **fields: Any) -> list[Stored]:
    """Items as they are stored when they came in this order."""
    numbers: Counter[tuple[str, ...]] = Counter()
    result = []
    for position, item in enumerate(items):
        result.append(Stored(position + 1, item.group, numbers[item.group], item, **fields))
        numbers[item.group] += 1
    return result


def after(before: Sequence[Stored], comparison: Comparison) -> list[Stored]:
    """What is stored when a comparison was applied, and what is missing is gone at once."""
    gone = {one.id for one in comparison.missing}
    matched = {match.stored.id: match for match in comparison.matches}
    kept = [
        one._replace(item=matched[one.id].item, guarded=matched[one.id].guarded, is_shown=True)
        if one.id in matched
        else one._replace(is_shown=False)
        for one in before
    ]
    assert gone | matched.keys() >= {one.id for one in before if one.is_shown}
    last = max((one.id for one in before), default=0)
    fresh = [
        Stored(last + number, added.item.group, added.ordinal, added.item)
        for number, added in enumerate(comparison.added, 1)
    ]
    return kept + fresh


def shown(items: Sequence[Stored]) -> Counter[bytes]:
    return Counter(msgspec.json.encode(one.item) for one in items if one.is_shown)


@given(EVENTS, EVENTS)
def test_what_stands_is_what_the_vendor_says_but_for_known_values(
    before: list[VendorItem], now: list[VendorItem]
) -> None:
    known = stored(before)
    result = after(known, compare(known, now, may_forget=True))
    assert shown(result) == Counter(msgspec.json.encode(item) for item in now)
    assert len({(one.group, one.ordinal) for one in result}) == len(result)


@given(EVENTS, EVENTS, some.randoms(use_true_random=False))
def test_the_order_of_an_answer_does_not_matter(
    before: list[VendorItem], now: list[VendorItem], shuffling: random.Random
) -> None:
    known = stored(before)
    one = compare(known, now)
    shuffled, known_shuffled = list(now), list(known)
    shuffling.shuffle(shuffled)
    shuffling.shuffle(known_shuffled)
    other = compare(known_shuffled, shuffled)
    assert {(match.stored.id, msgspec.json.encode(match.item)) for match in one.matches} == {
        (match.stored.id, msgspec.json.encode(match.item)) for match in other.matches
    }
    assert sorted((added.ordinal, msgspec.json.encode(added.item)) for added in one.added) == sorted(
        (added.ordinal, msgspec.json.encode(added.item)) for added in other.added
    )
    assert {lost.id for lost in one.missing} == {lost.id for lost in other.missing}


@given(EVENTS, EVENTS)
def test_the_second_time_nothing_changes(before: list[VendorItem], now: list[VendorItem]) -> None:
    known = stored(before)
    result = after(known, compare(known, now))
    again = compare(result, now)
    assert not again.added
    assert not again.missing
    assert not any(match.is_changed for match in again.matches)


@given(EVENTS, EVENTS)
def test_no_more_rows_change_than_differ(before: list[VendorItem], now: list[VendorItem]) -> None:
    known = stored(before)
    comparison = compare(known, now, may_forget=True)
    equal = Counter(map(msgspec.json.encode, before)) & Counter(map(msgspec.json.encode, now))
    assert sum(not match.is_changed for match in comparison.matches) == equal.total()


def test_twins_are_told_apart_by_their_counts_when_their_costs_settle() -> None:
    before = stored([event(tokens=1, charged=None), event(tokens=2, charged=None)])
    comparison = compare(before, [event(tokens=2, charged="0.2"), event(tokens=1, charged="0.1")])
    costs = {
        match.stored.id: match.item.charged_usd for match in comparison.matches if isinstance(match.item, VendorEvent)
    }
    assert costs == {1: Decimal("0.1"), 2: Decimal("0.2")}


def test_an_item_that_came_back_changed_takes_its_old_number() -> None:
    before = stored([event(tokens=1), event(tokens=2)])
    before[1] = before[1]._replace(is_shown=False)
    comparison = compare(before, [event(tokens=1), event(tokens=3)])
    assert not comparison.added
    assert {match.stored.id for match in comparison.matches} == {1, 2}


def test_a_known_value_is_not_forgotten() -> None:
    (match,) = compare(stored([event(charged="0.1")]), [event(charged=None, user="somebody")]).matches
    assert match.item == event(charged="0.1", user="somebody")
    assert match.guarded == {"charged_usd"}


def test_zero_is_a_value_and_replaces_another_one() -> None:
    (match,) = compare(stored([event(charged="0.1")]), [event(charged="0")]).matches
    assert match.item == event(charged="0")


def test_a_limit_that_is_gone_is_gone() -> None:
    before = Limit(name="hard limit", limit_usd=Decimal(50))
    (match,) = compare(stored([before]), [Limit(name="hard limit")]).matches
    assert match.is_changed
    assert match.item == Limit(name="hard limit")


def test_trailing_zeros_are_no_change() -> None:
    (match,) = compare(stored([event(charged="0.10")]), [event(charged="0.1")]).matches
    assert not match.is_changed


def report(at_ms: int, amount: str | None, model: str = "example-large") -> ReportRow:
    cost = None if amount is None else Decimal(amount)
    return ReportRow(report="costs", at_ms=at_ms, until_ms=at_ms + 1, dimensions=(("model", model),), amount=cost)


def events(charged: Sequence[str | None], **fields: Any) -> list[VendorItem]:
    return [event(at_ms=1000 + number, charged=amount, **fields) for number, amount in enumerate(charged)]


def test_more_than_half_of_the_amounts_to_zero_is_a_mass_revision() -> None:
    before = stored(events(["0.1"] * 9))
    assert mass_revision(compare(before, events(["0"] * 5 + ["0.1"] * 4)), is_closed=False)
    assert not mass_revision(compare(before, events(["0"] * 4 + ["0.1"] * 5)), is_closed=False)


def test_half_of_the_amounts_is_no_mass_revision() -> None:
    comparison = compare(stored(events(["0.1"] * 10)), events(["0"] * 5 + ["0.1"] * 5))
    assert not mass_revision(comparison, is_closed=False)


def test_fewer_than_five_rows_are_never_a_mass_revision() -> None:
    assert not mass_revision(compare(stored(events(["0.1"] * 4)), []), is_closed=True)


def test_amounts_that_become_unknown_or_go_are_a_mass_revision() -> None:
    before = stored(events(["0.1"] * 5))
    assert mass_revision(compare(before, events([None] * 5)), is_closed=False)
    assert mass_revision(compare(before, []), is_closed=False)


def test_amounts_that_settle_are_no_mass_revision() -> None:
    comparison = compare(stored(events([None] * 10)), events(["0.1"] * 10))
    assert not mass_revision(comparison, is_closed=True)


def test_a_closed_window_that_changes_is_a_mass_revision_and_an_open_one_is_not() -> None:
    comparison = compare(stored(events(["0.1"] * 8)), events(["0.2"] * 5 + ["0.1"] * 3))
    assert mass_revision(comparison, is_closed=True)
    assert not mass_revision(comparison, is_closed=False)


def test_somebody_who_leaves_is_no_mass_revision() -> None:
    comparison = compare(stored(events(["0.1"] * 8, user="a@example.com")), events(["0.1"] * 8))
    assert not mass_revision(comparison, is_closed=True)


def test_reports_periods_and_invoices_have_amounts_too() -> None:
    for before, now in (
        ([report(number, "1") for number in range(5)], [report(number, "0") for number in range(5)]),
        (
            [BillingPeriod(at_ms=1, subject=str(number), total_usd=Decimal(1)) for number in range(5)],
            [BillingPeriod(at_ms=1, subject=str(number), total_usd=Decimal(0)) for number in range(5)],
        ),
        (
            [Invoice(invoice_id=str(number), at_ms=1, amount=Decimal(1)) for number in range(5)],
            [Invoice(invoice_id=str(number), at_ms=1, amount=Decimal(0)) for number in range(5)],
        ),
    ):
        assert mass_revision(compare(stored(before), now), is_closed=False)
