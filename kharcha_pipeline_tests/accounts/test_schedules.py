"""When accounts are polled: by five cron fields in UTC, spread over a while by their names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS
from kharcha_pipeline.accounts.schedules import LONGEST_DELAY_MS, next_poll_ms, return_ms

FIFTEEN = [f"seat-{number:02}" for number in range(15)]


def at(text: str) -> int:
    """An instant in UTC, in milliseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
instants = st.integers(at("2024-01-01T00:00"), at("2028-01-01T00:00"))


@given(names, instants)
def test_an_hourly_account_is_polled_once_an_hour_within_ten_minutes_of_it(account: str, now_ms: int) -> None:
    first = next_poll_ms("0 * * * *", account, now_ms)
    assert now_ms < first <= now_ms + HOUR_MS
    assert first % HOUR_MS <= LONGEST_DELAY_MS
    assert next_poll_ms("0 * * * *", account, first) == first + HOUR_MS


@given(names, instants, st.sampled_from(["* * * * *", "*/5 * * * *", "7 3 * * *", "0 6 * * 1", "0 0 1 * *"]))
def test_no_tick_is_left_out_and_none_comes_twice(account: str, now_ms: int, schedule: str) -> None:
    due = [now_ms]
    for _ in range(4):
        due.append(next_poll_ms(schedule, account, due[-1]))
    assert due == sorted(set(due))
    between = (due[1] + due[2]) // 2
    assert next_poll_ms(schedule, account, between) == due[2]


def test_an_account_is_due_after_its_tick_although_the_tick_has_passed() -> None:
    account = max(FIFTEEN, key=lambda name: next_poll_ms("0 * * * *", name, at("2026-11-26T12:59")) % HOUR_MS)
    due = next_poll_ms("0 * * * *", account, at("2026-11-26T13:00"))
    assert at("2026-11-26T13:00") < due < at("2026-11-26T13:10")
    assert next_poll_ms("0 * * * *", account, due - 1) == due


def test_fifteen_accounts_of_one_schedule_are_not_due_at_once() -> None:
    due = {next_poll_ms("0 * * * *", account, at("2026-11-26T12:59:59")) for account in FIFTEEN}
    assert len(due) == 15
    assert max(due) - min(due) > 5 * MINUTE_MS


def test_the_delay_is_at_most_a_quarter_of_the_time_between_two_polls() -> None:
    for account in FIFTEEN:
        assert next_poll_ms("*/4 * * * *", account, at("2026-11-26T12:59:59")) <= at("2026-11-26T13:01")


@pytest.mark.parametrize(
    ("now", "tick"),
    [
        ("2026-03-29T00:30", "2026-03-29T06:00"),  # clocks go forward in Europe
        ("2026-10-25T00:30", "2026-10-25T06:00"),  # and back
        ("2026-12-31T23:59", "2027-01-01T06:00"),
        ("2028-02-28T07:00", "2028-02-29T06:00"),
    ],
)
def test_schedules_are_in_utc_whatever_clocks_do(now: str, tick: str) -> None:
    for account in FIFTEEN:
        assert 0 <= next_poll_ms("0 6 * * *", account, at(now)) - at(tick) <= LONGEST_DELAY_MS


def test_accounts_that_were_asked_to_wait_come_back_after_that_and_not_all_at_once() -> None:
    now_ms = at("2026-11-26T13:00")
    back = [return_ms(account, now_ms + HOUR_MS, now_ms) for account in FIFTEEN]
    assert min(back) >= now_ms + HOUR_MS
    assert max(back) <= now_ms + HOUR_MS + LONGEST_DELAY_MS
    assert len(set(back)) == 15
    assert return_ms("seat-01", now_ms - DAY_MS, now_ms) == now_ms - DAY_MS
