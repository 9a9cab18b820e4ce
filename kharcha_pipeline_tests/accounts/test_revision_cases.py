"""Cursor revises what it said: the named cases, polled over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, SECOND_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.items import Invoice
from kharcha_pipeline_tests.accounts.cursor_team import YESTERDAY, Team, charges, only
from kharcha_pipeline_tests.accounts.cursor_vendor import LEFT_OUT
from kharcha_pipeline_tests.accounts.storing import standing
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Behaviour, Fault, Reply

EVENTS_PATH = "/teams/filtered-usage-events"


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with Team(tmp_path) as team:
        yield team


def in_hours(hours: float) -> int:
    """An instant after that of the first polls."""
    return NOON_MS + int(hours * HOUR_MS)


def test_same_answer_twice(team: Team) -> None:
    for number in range(5):
        team.happened(YESTERDAY + number)
    assert only(team.events(), inserted=5)
    before = team.everything()
    polled = team.poll()
    assert polled.outcome == "polled"
    assert all(only(applied) for applied in polled.applied.values())
    assert team.everything() == before


@pytest.mark.parametrize(
    ("first", "stored"), [(LEFT_OUT, None), (None, None), (0, "0.00")], ids=["left out", "null", "zero"]
)
def test_cost_settles_from_missing_or_0_to_a_value(team: Team, first: object, stored: str | None) -> None:
    usage = team.happened(chargedCents=first)
    usage.revisions.append((in_hours(1.5), "chargedCents", Decimal("6.625")))
    assert only(team.events(), inserted=1)
    assert charges(team.standing()) == [stored]
    assert only(team.events(), changed=1)
    assert charges(team.standing()) == ["0.06625"]
    (old, new) = team.rows("SELECT content, seen_at, previous FROM versions WHERE kind = 'event' ORDER BY id")
    assert '"charged_usd":"0.06625"' in new[0]
    assert '"charged_usd":"0.06625"' not in old[0]
    assert in_hours(1) <= old[1] < in_hours(2) <= new[1]
    assert (old[2], new[2] is not None) == (None, True)


def test_tokens_or_kind_change(team: Team) -> None:
    usage = team.happened()
    usage.revisions.append((in_hours(1.5), "tokenUsage.outputTokens", 900))
    usage.revisions.append((in_hours(2.5), "kind", "Included in Business"))
    assert only(team.events(), inserted=1)
    assert only(team.events(), changed=1)
    assert only(team.events(), changed=1)
    (event,) = team.standing()
    assert (event.output_tokens, event.kind) == (900, "Included in Business")
    assert team.reasons() == ["first seen", "revised", "revised"]


def test_event_appears_late_inside_the_lookback(team: Team) -> None:
    team.happened(YESTERDAY)
    team.happened(YESTERDAY - HOUR_MS, visible_from=in_hours(1.5))
    assert only(team.events(), inserted=1)
    assert only(team.events(), inserted=1)


def test_event_appears_late_outside_the_lookback(team: Team) -> None:
    team.happened(NOON_MS - 20 * DAY_MS, visible_from=in_hours(2))
    assert only(team.events())
    assert only(team.events(after_hours=3))  # not in the look-back, and the daily pass is not due
    assert only(team.events(after_hours=24), inserted=1)


def test_revision_outside_the_lookback(team: Team) -> None:
    usage = team.happened(NOON_MS - 20 * DAY_MS)
    usage.revisions.append((in_hours(2), "chargedCents", 7))
    assert only(team.events(), inserted=1)
    assert only(team.events(after_hours=3))
    assert only(team.events(after_hours=24), changed=1)
    assert charges(team.standing()) == ["0.07"]


def test_event_disappears_from_a_complete_window(team: Team) -> None:
    team.happened(YESTERDAY)
    lost = team.happened(YESTERDAY + 1)
    assert only(team.events(), inserted=2)
    lost.hidden_from = in_hours(1.5)
    assert only(team.events())
    assert only(team.events())
    assert len(team.standing()) == 2
    assert only(team.events(), vanished=1)
    assert len(team.standing()) == 1
    assert team.status().events == 1
    assert team.rows("SELECT count(*) FROM items WHERE kind = 'event'") == [(2,)]  # marked, not deleted
    assert only(team.events())
    lost.hidden_from = None
    assert only(team.events(), returned=1)
    assert len(team.standing()) == 2
    assert team.reasons() == ["first seen", "first seen", "vanished", "returned"]


@pytest.mark.parametrize(
    "fault",
    [Reply(500, {"error": "Internal Server Error"}), Behaviour("cut_json"), Behaviour("reset")],
    ids=["500", "cut json", "reset"],
)
def test_event_disappears_because_the_read_was_partial(team: Team, fault: Reply | Behaviour) -> None:
    for number in range(5):
        team.happened(YESTERDAY + number)
    team.vendor.largest_page = 2
    assert only(team.events(), inserted=5)
    before = team.everything()
    for _ in range(4):
        team.server.faults.append(
            Fault(lambda received: received.path == EVENTS_PATH and received.json["page"] == 2, fault, sticky=True)
        )
        assert team.poll().outcome != "polled"
        team.server.faults.clear()
    assert team.everything() == before
    assert team.rows("SELECT max(missed) FROM items") == [(0,)]
    assert only(team.events())


def test_more_than_half_of_stored_amounts_turn_to_zero_in_one_poll(team: Team) -> None:
    usages = [team.happened(YESTERDAY + number) for number in range(8)]
    for usage in usages[:6]:
        usage.revisions.append((in_hours(1.5), "chargedCents", 0))
    usages[7].revisions.append((in_hours(3.5), "chargedCents", 9))
    assert only(team.events(), inserted=8)
    before = team.everything()
    polled = team.poll()
    assert polled.applied["events"].held
    assert team.everything() == before  # nothing was applied
    (held,) = team.store.held("team")
    assert "6 of 8 amounts would become zero or unknown" in held.sentence
    assert [notice.subject for notice in team.store.pending_notices()] == ["held"]
    assert team.status().state == "active"  # the account stays usable
    team.happened(team.clock.now_ms())
    assert team.events(after_hours=2).inserted == 1
    assert len(team.store.held("team")) == 1
    assert len(team.store.pending_notices()) == 1


def test_what_the_vendor_takes_back_needs_nobody(team: Team) -> None:
    for number in range(8):
        usage = team.happened(YESTERDAY + number)
        usage.revisions += [(in_hours(1.5), "chargedCents", 0), (in_hours(2.5), "chargedCents", Decimal("6.625"))]
    assert only(team.events(), inserted=8)
    assert team.events().held
    assert not team.events().held
    assert team.store.held() == []
    assert team.reasons() == ["first seen"] * 8


def test_value_goes_a_b_a(team: Team) -> None:
    usage = team.happened()
    usage.revisions += [(in_hours(1.5), "chargedCents", 9), (in_hours(2.5), "chargedCents", Decimal("6.625"))]
    assert only(team.events(), inserted=1)
    assert only(team.events(), changed=1)
    assert only(team.events(), changed=1)
    assert team.reasons() == ["first seen", "revised", "revised"]
    assert charges(team.standing()) == ["0.06625"]


def test_older_response_arrives_after_a_newer_one(team: Team) -> None:
    team.happened().revisions.append((in_hours(1.5), "chargedCents", 9))
    day = Window(YESTERDAY - HOUR_MS, YESTERDAY + HOUR_MS)
    older = team.read_events(day)
    assert only(team.events(after_hours=2), inserted=1)
    assert team.apply_events(day, older).superseded
    assert charges(team.standing()) == ["0.09"]
    assert team.reasons() == ["first seen"]


def test_invoice_open_to_paid_and_its_end_moves_each_poll(team: Team) -> None:
    team.add_dashboard("own")
    team.vendor.invoices[0]["status"] = "open"
    assert team.poll("own").applied["invoices"].inserted > 0
    known = team.rows("SELECT group_key FROM items WHERE kind = 'invoice' ORDER BY 1")
    team.vendor.invoices[0]["status"] = "paid"
    applied = team.poll("own", after_hours=13).applied["invoices"]
    assert (applied.inserted, applied.vanished) == (0, 0)
    assert team.rows("SELECT group_key FROM items WHERE kind = 'invoice' ORDER BY 1") == known
    invoices = [item for item in standing(team.store, "invoice") if isinstance(item, Invoice)]
    (paid,) = [one for one in invoices if one.invoice_id == "in_EXAMPLE01"]
    assert paid.status == "paid"
    open_month = max((one for one in invoices if one.is_preview), key=lambda one: one.at_ms)
    assert open_month.until_ms == team.clock.now_ms()  # its statement ends when it is asked for
    assert applied.changed == 2


def test_a_bucket_whose_row_vanishes_is_replaced_as_a_whole(team: Team) -> None:
    """What the open cycle sums up to, member by member: who is told no longer is counted no longer."""
    assert team.poll().applied["periods"].inserted == 3
    gone = team.vendor.spend.pop()
    applied = team.poll().applied["periods"]
    assert (applied.vanished, applied.changed, applied.unchanged) == (1, 1, 1)  # the member, the sum, the other one
    team.vendor.spend.append(gone)
    applied = team.poll().applied["periods"]
    assert (applied.returned, applied.changed, applied.inserted) == (1, 1, 0)


def test_the_next_cycle_leaves_the_one_before_as_it_was(team: Team) -> None:
    team.vendor.cycle_ms -= 30 * DAY_MS
    team.poll()
    before = team.rows("SELECT id FROM versions WHERE kind = 'period'")
    team.vendor.cycle_ms += 30 * DAY_MS
    applied = team.poll().applied["periods"]
    assert (applied.inserted, applied.changed, applied.vanished) == (3, 0, 0)
    standing = team.rows("SELECT version FROM items WHERE kind = 'period' AND version = shown ORDER BY 1")
    assert standing[:3] == before


def test_a_poll_that_ends_early_is_made_up_for(team: Team) -> None:
    team.happened(YESTERDAY)
    team.server.faults.append(
        Fault(EVENTS_PATH, Reply(429, {"error": "Too Many Requests"}, {"Retry-After": "7200"}), nth=2)
    )
    assert team.poll().outcome == "failed"
    assert team.status().state == "rate_limited"
    until = team.status().until
    assert until is not None
    assert until >= team.clock.now_ms() + 7_000 * SECOND_MS
    team.events(after_hours=3)
    assert len(team.standing()) == 1
    assert len(team.store.covered("team", "events")) == 1
