"""One poll, over real HTTP: everything comes once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.failures import AccountsError, AccountsUsageError
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.little_vendor import EVENTS, House, Usage, some_usage
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Behaviour, Fault, Reply


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def test_a_new_account_s_whole_history_is_read(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 15))
    polled = house.poll("seat")
    assert (polled.outcome, polled.sentence) == ("polled", "")
    assert polled.applied["events"].inserted == 60
    assert house.known("seat") == house.told("seat")
    status = house.status("seat")
    assert (status.state, status.last_success, status.events) == ("active", NOON_MS, 60)
    assert polled.next_poll_ms == status.next_poll
    assert status.next_poll is not None
    assert NOON_MS < status.next_poll <= NOON_MS + HOUR_MS + 10 * MINUTE_MS


def test_poll_everything_twice_no_row_differs(house: House) -> None:
    for number in range(3):
        house.add(f"seat-{number}", some_usage(NOON_MS, 10))
    house.poll_all()
    before = house.rows("SELECT * FROM versions ORDER BY id")
    again = house.poll_all(is_forced=True)
    assert house.rows("SELECT * FROM versions ORDER BY id") == before
    assert {polled.outcome for polled in again.values()} == {"polled"}
    for polled in again.values():
        events = polled.applied["events"]
        assert (events.inserted, events.changed, events.vanished) == (0, 0, 0)
        assert events.unchanged > 0


def test_what_is_not_due_is_not_asked_for(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    house.poll("seat")
    asked = len(house.server.log)
    assert house.poll("seat").outcome == "early"
    assert len(house.server.log) == asked
    house.clock.advance(HOUR_MS / 1000)
    assert house.poll("seat").outcome == "polled"


def test_an_event_late_inside_the_lookback_and_one_late_outside_are_both_found(house: House) -> None:
    soon, late = NOON_MS + 2 * HOUR_MS, NOON_MS + 3 * HOUR_MS
    inside = Usage(NOON_MS - DAY_MS, visible_from=soon)
    outside = Usage(NOON_MS - 8 * DAY_MS, visible_from=late)
    house.add("seat", [*some_usage(NOON_MS, 10), inside, outside])
    house.poll("seat")
    house.clock.advance(4 * HOUR_MS / 1000)
    assert house.poll("seat").applied["events"].inserted == 1
    house.clock.advance(24 * HOUR_MS / 1000)
    assert house.poll("seat").applied["events"].inserted == 1
    assert house.known("seat") == house.told("seat")


def test_a_cost_that_settles_is_one_change(house: House) -> None:
    usage = Usage(NOON_MS - HOUR_MS, charged=None)
    house.add("seat", [usage])
    house.poll("seat")
    usage.charged = "0.75"
    polled = house.poll("seat", is_forced=True)
    assert (polled.applied["events"].inserted, polled.applied["events"].changed) == (0, 1)
    assert house.known("seat") == house.told("seat")


def test_a_disabled_account_makes_zero_requests_and_keeps_its_history(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    house.poll("seat")
    house.settle("seat", is_enabled=False)
    asked = len(house.server.log)
    assert house.poll("seat", is_forced=True).outcome == "disabled"
    assert len(house.server.log) == asked
    assert house.known("seat") == house.told("seat")


def test_a_paused_account_makes_zero_requests_until_it_is_resumed(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    house.store.move("seat", "paused", "Somebody paused it.", NOON_MS)
    assert house.poll("seat", is_forced=True).outcome == "paused"
    assert house.server.log == []
    house.store.move("seat", "active", "", NOON_MS)
    assert house.poll("seat").outcome == "polled"


def test_account_removed_from_the_settings_keeps_its_history(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    house.add("other")
    house.poll("seat")
    del house.accounts["seat"]
    house.configure()
    assert not house.status("seat").is_configured
    assert sum(house.known("seat").values()) == 12


def test_two_runs_of_one_account_at_a_time(house: House) -> None:
    house.add("seat")
    with AccountStore(house.directory) as other, other.polling("seat"), pytest.raises(AccountsError, match="another"):
        house.poll("seat")
    assert house.server.log == []
    assert house.poll("seat").outcome == "polled"


def test_an_account_that_nobody_configured_is_a_mistake_of_the_caller(house: House) -> None:
    account = house.add("seat")
    stranger = account._replace(name="stranger")
    house.accounts["stranger"] = stranger
    with pytest.raises(AccountsUsageError, match="stranger"):
        house.poll("stranger")


def test_a_missing_credential_needs_attention_and_says_where_it_was_looked_for(house: House) -> None:
    house.add("seat")
    del house.environment["KEY_SEAT"]
    polled = house.poll("seat")
    assert polled.outcome == "failed"
    assert "KEY_SEAT" in polled.sentence
    assert house.status("seat").state == "needs_attention"
    house.environment["KEY_SEAT"] = "key-of-seat"
    assert house.poll("seat").outcome == "polled"
    assert house.transitions("seat") == ["needs_attention", "active"]


def test_an_endpoint_that_is_not_for_the_account_is_left_out_and_the_others_go_on(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    house.vendor.answers["/members"] = Reply(403, {"error": "enterprise only"})
    assert house.poll("seat").outcome == "polled"  # members are optional
    assert set(house.status("seat").unavailable) == {"members"}
    asked = len(house.server.requests("/members"))
    house.poll("seat", is_forced=True)
    assert len(house.server.requests("/members")) == asked
    house.vendor.answers["/limits"] = Reply(403, {"error": "enterprise only"})
    polled = house.poll("seat", is_forced=True)
    assert (polled.outcome, house.status("seat").state) == ("partly", "needs_attention")
    assert house.known("seat") == house.told("seat")
    house.vendor.answers.clear()
    house.store.clear_unavailable("seat")
    assert house.poll("seat", is_forced=True).outcome == "polled"
    assert house.transitions("seat") == ["needs_attention", "active"]


def test_a_shape_that_is_not_known_stops_its_resource_only(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    house.vendor.answers["/limits"] = Reply(200, {"rows": [{"ceiling": "100"}]})
    polled = house.poll("seat")
    assert polled.outcome == "partly"
    assert "limits" in polled.sentence
    assert house.known("seat") == house.told("seat")
    assert house.rows("SELECT count(*) FROM versions WHERE kind = 'limit'") == [(0,)]
    house.poll("seat", is_forced=True)
    ((reason,),) = house.rows("SELECT reason FROM rejects WHERE resource = 'limits'")
    assert reason == "The rows of limits have not the shape that is known. It had: ceiling: str"
    house.vendor.answers.clear()
    house.poll("seat", is_forced=True)
    assert house.transitions("seat") == ["needs_attention", "active"]


def test_a_window_that_cannot_be_read_keeps_no_other_from_being_read(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 10))
    first = NOON_MS - 5 * DAY_MS
    broken = Fault(
        lambda received: received.path == "/events" and int(received.parameters["from"]) // DAY_MS == first // DAY_MS,
        Reply(200, {"rows": [{"when": 1}], "more": False}),
        sticky=True,
    )
    house.server.faults.append(broken)
    polled = house.poll("seat")
    assert polled.outcome == "partly"
    expected = {key: count for key, count in house.told("seat").items() if key[0] // DAY_MS != first // DAY_MS}
    assert dict(house.known("seat")) == expected
    house.server.faults.clear()
    house.poll("seat", is_forced=True)
    assert house.known("seat") == house.told("seat")


def test_a_rest_that_the_vendor_asks_for_is_kept_whoever_asks(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 10))
    house.server.faults.append(Fault("/events", Reply(429, b"", {"Retry-After": "3600"}), nth=6))
    polled = house.poll("seat")
    status = house.status("seat")
    assert (polled.outcome, status.state) == ("failed", "rate_limited")
    assert status.until is not None
    assert status.until >= house.clock.now_ms() + 3590 * 1000
    assert polled.next_poll_ms is not None
    assert polled.next_poll_ms >= status.until
    stored = house.known("seat")
    assert stored  # what was read before it stays
    assert max(house.clock.slept, default=0) <= 60
    asked = len(house.server.log)
    assert house.poll("seat", is_forced=True).outcome == "resting"
    assert house.poll("seat", backfill=Window(0, NOON_MS)).outcome == "resting"
    assert len(house.server.log) == asked
    house.clock.advance(3601)
    assert house.poll("seat", is_forced=True).outcome == "polled"
    assert house.known("seat") == house.told("seat")
    assert house.transitions("seat") == ["rate_limited", "active"]


def test_5xx_for_ever_degrades_the_account_and_the_next_cycle_tries_again(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    house.vendor.answers["/events"] = Reply(503, {"error": "down"})
    polled = house.poll("seat")
    assert (polled.outcome, house.status("seat").state) == ("failed", "degraded")
    assert len(house.server.requests("/events")) < 10
    del house.vendor.answers["/events"]
    house.clock.advance(HOUR_MS / 1000)
    assert house.poll("seat").outcome == "polled"
    assert house.known("seat") == house.told("seat")


def test_an_account_out_of_reach_is_told_of_once_and_not_at_once(house: House) -> None:
    house.add("seat")
    house.vendor.answers["/me"] = Reply(503, {"error": "down"})
    for _ in range(30):
        house.poll("seat", is_forced=True)
        house.clock.advance(HOUR_MS / 1000)
    (notice,) = house.store.pending_notices()
    assert "6 hours" in notice.sentence
    assert house.transitions("seat") == ["degraded"]


def test_a_bot_checkpoint_is_not_an_expired_session_and_is_asked_more_rarely(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3))
    page = b"<html><title>Just a moment...</title></html>"
    house.vendor.answers["/events"] = Reply(429, page, {"Content-Type": "text/html"})
    waits = []
    for _ in range(2):
        polled = house.poll("seat", is_forced=True)
        assert (polled.outcome, house.status("seat").state) == ("failed", "blocked")
        assert polled.next_poll_ms is not None
        waits.append(polled.next_poll_ms - house.clock.now_ms())
        house.clock.turn_to(polled.next_poll_ms)
    assert waits[0] >= HOUR_MS
    assert waits[1] >= 4 * HOUR_MS
    house.vendor.answers.clear()
    assert house.poll("seat").outcome == "polled"
    assert house.transitions("seat") == ["blocked", "active"]


def test_a_history_longer_than_a_cycle_may_take_is_read_over_several(house: House) -> None:
    slow = house.add("seat", some_usage(NOON_MS, 18), deadline_seconds=60)
    (rate,) = slow.connector.rates.values()
    connector = type(slow.connector)(rates={"default": rate._replace(requests=10, seconds=40)})
    house.accounts["seat"] = slow._replace(connector=connector)
    outcomes = []
    while not outcomes or outcomes[-1] == "unfinished":
        outcomes.append(house.poll("seat", is_forced=True).outcome)
        assert house.status("seat").state == "active"
        house.clock.advance(60)
    assert outcomes.count("unfinished") >= 1
    assert house.known("seat") == house.told("seat")


def test_a_body_that_drips_ends_with_the_cycle_and_degrades_the_account(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 3), deadline_seconds=1)
    house.server.faults.append(Fault("/events", Behaviour("drip", 0.2), sticky=True))
    polled = house.poll("seat")
    assert (polled.outcome, house.status("seat").state) == ("failed", "degraded")
    assert house.known("seat") == {}


def test_a_backfill_reads_what_was_asked_for_and_nothing_else(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 60), history_days=5)
    house.poll("seat")
    asked = len(house.server.log)
    span = Window(NOON_MS - 50 * DAY_MS, NOON_MS - 40 * DAY_MS)
    before_it = house.status("seat")
    house.clock.advance(60)
    polled = house.poll("seat", backfill=span)
    assert polled.outcome == "polled"
    status = house.status("seat")  # the poll that is due stays due
    assert (status.next_poll, status.last_success) == (before_it.next_poll, before_it.last_success)
    assert {one.path for one in house.server.log[asked:]} == {"/events"}
    before = len(house.server.log)
    house.poll("seat", backfill=span)
    assert len(house.server.log) == before
    house.poll("seat", backfill=span, reads_again=True)
    assert len(house.server.log) > before
    house.poll("seat", is_forced=True)  # what lies between is read by the next poll
    first = (span.from_ms // DAY_MS) * DAY_MS
    assert house.known("seat") == {key: count for key, count in house.told("seat").items() if key[0] >= first}


def test_a_mass_revision_is_held_back_and_the_account_is_polled_on(house: House) -> None:
    usage = some_usage(NOON_MS, 2, each_day=8)
    house.add("seat", usage)
    house.poll("seat")
    before = house.known("seat")
    for one in usage:
        one.charged = "0"
    new = Usage(house.clock.now_ms() - MINUTE_MS, charged="0.5", model="acorn-2")
    polled = house.poll("seat", is_forced=True)
    assert polled.applied["events"].held
    assert house.known("seat") == before
    assert house.status("seat").state == "active"
    assert house.status("seat").held >= 1
    house.vendor.usage["key-of-seat"].append(new)
    assert {notice.subject for notice in house.store.pending_notices()} == {"held"}


def test_a_mistake_in_a_connector_is_told_without_what_it_quotes(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 1))
    house.vendor.answers["/me"] = Reply(200, ["a list, with key-of-seat in it"])
    polled = house.poll("seat")
    assert (polled.outcome, house.status("seat").state) == ("failed", "degraded")
    assert "TypeError in little_vendor.py" in polled.sentence
    assert "key-of-seat" not in polled.sentence
    assert house.status("seat").next_poll is not None


POLL = """
import json, sys
from pathlib import Path
from kharcha_pipeline.accounts.configuration import Account
from kharcha_pipeline.accounts.cycle import poll
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.little_vendor import Little, LittleSettings
from kharcha_pipeline_tests.accounts.vendor_server import TurnedClock
directory, url, now_ms = sys.argv[1:]
account = Account("seat", Little(), LittleSettings(secret="env:KEY_SEAT", base_url=url))
print("ready", flush=True)
sys.stdin.readline()
with AccountStore(Path(directory)) as store:
    poll(account, store, TurnedClock(int(now_ms)), {"KEY_SEAT": "key-of-seat"}, is_forced=True)
"""


def test_kill_a_poll_anywhere_no_gap_no_double(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 19))
    chance = random.Random(20261120)
    killed = 0
    for _ in range(8):
        arguments = [sys.executable, "-c", POLL, str(house.directory), house.server.url, str(house.clock.now_ms())]
        pipe = subprocess.PIPE
        process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        begun = len(house.server.log)
        process.stdin.write("\n")
        process.stdin.flush()
        wanted = chance.randint(1, 25)
        while process.poll() is None and len(house.server.log) < begun + wanted:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdin.close()
        process.stdout.close()
        assert house.known("seat") <= house.told("seat")
        house.clock.advance(60)
    assert killed >= 4
    assert house.poll("seat", is_forced=True).outcome == "polled"
    assert house.known("seat") == house.told("seat")
    (covered,) = house.store.covered("seat", "events")
    assert covered.until_ms >= NOON_MS
    assert covered.from_ms <= NOON_MS - EVENTS.history.days * DAY_MS
    versions = house.rows("SELECT count(*), count(DISTINCT item) FROM versions WHERE kind = 'event'")
    assert versions == [(76, 76)]


@pytest.mark.parametrize(
    "moment",
    [
        1_774_745_940_000,  # 2026-03-29 00:59 UTC: clocks go forward in Europe
        1_793_494_740_000,  # 2026-11-01 00:59 in New York goes back an hour later
        1_796_083_140_000,  # 2026-11-30 23:59 UTC: the end of a month
        1_767_225_540_000,  # 2025-12-31 23:59 UTC
    ],
)
def test_clock_moves_over_a_dst_change_month_and_billing_cycle_end(tmp_path: Path, moment: int) -> None:
    with House(tmp_path, moment) as house:
        usage = [Usage(moment + (20 * offset - 1) * MINUTE_MS) for offset in range(-30, 30)]
        for one in usage:
            one.visible_from = one.at
        house.add("seat", usage)
        for _ in range(12):
            polled = house.poll("seat", is_forced=True)
            assert polled.outcome == "polled"
            assert house.known("seat") == house.told("seat")
            house.clock.advance(HOUR_MS / 1000)
        asked = {
            tuple(int(one.parameters[name]) for name in ("from", "until")) for one in house.server.requests("/events")
        }
        assert all(start % DAY_MS == 0 for start, _ in asked)
        assert all(end % DAY_MS == 0 or end >= moment for _, end in asked)
        rows = house.rows("SELECT content FROM versions WHERE kind = 'event'")
        assert len({json.loads(content)["at_ms"] for (content,) in rows}) == len(rows)
