"""Reprice: dry by default, audited, appended, undone by the same means."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from kharcha_pipeline.pricing.repricing import RepriceError, reprice, undo_reprice
from kharcha_pipeline_tests.pricing.conftest import Ledger

FROM, TO = date(2026, 8, 21), date(2026, 8, 23)
CHEAPER = (
    '[[price]]\nprovider="openai"\nmodel="gpt-5.6-sol"\neffective_from=2026-08-21\neffective_to=2026-08-22\n'
    'input="1"\noutput="2"\n'
)


@pytest.fixture
def used(ledger: Ledger) -> Ledger:
    for day in (20, 21, 22, 23):
        for hour in (1, 23):
            ledger.add("gpt-5.6-sol", f"2026-08-{day}T{hour:02}:00", source="codex", input_tokens=100_000)
    ledger.add("gpt-5.6-sol", "2026-08-21T02:00", source="codex", input_tokens=5, reported_cost_usd=Decimal(9))
    ledger.price()
    return ledger


def state(ledger: Ledger) -> list[list[tuple[Any, ...]]]:
    tables = ("pricing_snapshots", "pricing_rates", "reprice_log", "priced_events", "event_changes")
    return [ledger.query(f"SELECT * FROM {table} ORDER BY ALL") for table in tables]


def test_a_dry_run_says_what_would_change_and_changes_nothing(used: Ledger, prices_file: Any) -> None:
    before = state(used)
    result = reprice(used.connection, "openai", "gpt-5.6-sol", FROM, TO, "", False, prices_file(CHEAPER))
    assert state(used) == before
    assert result.reprice_id is None
    assert (result.snapshots, result.unchanged, result.events) == (1, 1, 2)
    assert [tuple(one) for one in result.per_day] == [(date(2026, 8, 21), 2, Decimal("0.8"), Decimal("0.2"))]
    assert (result.old_total_usd, result.new_total_usd) == (Decimal("0.8"), Decimal("0.2"))
    assert result.difference_usd == Decimal("-0.6")


def test_applying_appends_a_revision_that_the_next_build_uses(used: Ledger, prices_file: Any) -> None:
    dry = reprice(used.connection, "openai", "gpt-5.6-sol", FROM, TO, "", False, prices_file(CHEAPER))
    result = reprice(
        used.connection, "openai", "gpt-5.6-sol", FROM, TO, "our contract", True, prices_file(CHEAPER), "me"
    )
    assert (result.reprice_id, result.days) == (1, (date(2026, 8, 21),))
    assert result.per_day == dry.per_day
    used.build(list(result.days))
    assert used.query(
        "SELECT day, sum(cost_usd) FROM priced_events WHERE price_basis <> 'reported' GROUP BY day ORDER BY day"
    ) == [
        (date(2026, 8, 20), Decimal(1)),
        (date(2026, 8, 21), Decimal("0.2")),
        (date(2026, 8, 22), Decimal("0.8")),
        (date(2026, 8, 23), Decimal("0.8")),
    ]
    assert used.query(
        "SELECT revision, basis, reprice_id FROM pricing_snapshots WHERE snapshot_day = '2026-08-21'"
    ) == [
        (1, "exact_day", None),
        (2, "override", 1),
    ]
    assert used.query(
        "SELECT repriced_by, reason, from_day, to_day, snapshots, events, old_total_usd, new_total_usd "
        "FROM reprice_log"
    ) == [("me", "our contract", FROM, TO, 1, 2, Decimal("0.8"), Decimal("0.2"))]
    assert used.query("SELECT reason, count(*) FROM event_changes GROUP BY ALL") == [("repriced", 2)]


def test_a_reprice_can_be_undone_and_that_too_is_kept(used: Ledger, prices_file: Any) -> None:
    before = used.query("SELECT event_id, cost_usd FROM priced_events ORDER BY ALL")
    applied = reprice(used.connection, "openai", "gpt-5.6-sol", FROM, TO, "mistake", True, prices_file(CHEAPER))
    used.build(list(applied.days))
    undone = undo_reprice(used.connection, 1, "me")
    assert (undone.reprice_id, undone.old_total_usd, undone.new_total_usd) == (2, Decimal("0.2"), Decimal("0.8"))
    used.build(list(undone.days))
    assert used.query("SELECT event_id, cost_usd FROM priced_events ORDER BY ALL") == before
    assert used.query("SELECT revision FROM pricing_snapshots WHERE snapshot_day = '2026-08-21' ORDER BY 1") == [
        (1,),
        (2,),
        (3,),
    ]
    assert used.query("SELECT reprice_id, reason, undoes FROM reprice_log ORDER BY 1") == [
        (1, "mistake", None),
        (2, "undo of reprice 1", 1),
    ]


def test_only_the_latest_reprice_of_a_day_can_be_undone(used: Ledger, prices_file: Any) -> None:
    reprice(used.connection, "openai", "gpt-5.6-sol", FROM, TO, "a", True, prices_file(CHEAPER))
    reprice(used.connection, "openai", "gpt-5.6-sol", FROM, TO, "b", True, prices_file(CHEAPER.replace('"1"', '"3"')))
    with pytest.raises(RepriceError, match="reprice 2 came after it"):
        undo_reprice(used.connection, 1)
    undo_reprice(used.connection, 2)
    with pytest.raises(RepriceError, match="There is no reprice number 9"):
        undo_reprice(used.connection, 9)


def test_days_whose_rates_agree_get_no_revision(used: Ledger) -> None:
    result = reprice(used.connection, "openai", "gpt-5.6-sol", FROM, TO, "nothing new", True, used.prices)
    assert (result.reprice_id, result.snapshots, result.unchanged, result.days) == (None, 0, 2, ())
    assert used.query("SELECT count(*) FROM reprice_log") == [(0,)]


def test_a_reprice_needs_a_reason_and_something_to_reprice(used: Ledger) -> None:
    with pytest.raises(RepriceError, match="give a reason"):
        reprice(used.connection, "openai", "gpt-5.6-sol", FROM, TO, " ", True, used.prices)
    with pytest.raises(RepriceError, match=r"no pricing snapshot of openai gpt-5\.6-luna"):
        reprice(used.connection, "openai", "gpt-5.6-luna", FROM, TO, "why", True, used.prices)


def test_a_reprice_can_give_rates_to_a_tier_that_had_none(ledger: Ledger, prices_file: Any) -> None:
    event = ledger.add("gpt-5.5", "2026-06-01T12:00", source="codex", service_tier="batch", input_tokens=1_000_000)
    ledger.price()
    assert ledger.cost(event) is None
    prices = prices_file(
        '[[price]]\nprovider="openai"\nmodel="gpt-5.5"\nvariant="batch"\neffective_from=2026-04-23\n'
        'input="2.5"\noutput="15"\n'
    )
    result = reprice(
        ledger.connection, "openai", "gpt-5.5", date(2026, 6, 1), date(2026, 6, 2), "batch rates", True, prices
    )
    assert (result.old_total_usd, result.new_total_usd) == (None, Decimal("2.5"))
    ledger.build(list(result.days))
    assert ledger.cost(event) == Decimal("2.5")


def test_local_days_beside_the_utc_days_are_touched(ledger: Ledger, prices_file: Any) -> None:
    ledger.add("gpt-5.6-sol", "2026-08-21T01:00", source="codex", day=date(2026, 8, 20), input_tokens=1)
    ledger.price()
    result = reprice(ledger.connection, "openai", "gpt-5.6-sol", FROM, TO, "why", True, prices_file(CHEAPER))
    assert result.days == (date(2026, 8, 20),)
