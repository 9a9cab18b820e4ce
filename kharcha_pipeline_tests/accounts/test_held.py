"""Mass revisions wait for a person: nothing is applied, the answers are kept, and one notice says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import Answer, Normalized, Window
from kharcha_pipeline.accounts.failures import AccountsUsageError, Drifted
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline.accounts.store import AccountStore, Applied
from kharcha_pipeline_tests.accounts.storing import (
    ACCOUNT,
    DAY,
    START,
    apply,
    connector,
    event,
    opened,
    rows,
    standing,
    versions,
)

FIRST, SECOND, THIRD, FOURTH = (START + DAY_MS + number * HOUR_MS for number in range(4))


def day(charged: str | None, day: int = 0) -> list[VendorEvent]:
    return [event(at_ms=START + day * DAY_MS + number, charged=charged) for number in range(10)]


def held(directory: Path) -> AccountStore:
    """A store with a day, and with a reading that sets it to zero."""
    store = opened(directory)
    assert apply(store, day("0.1"), FIRST) == Applied(inserted=10)
    assert apply(store, [*day("0"), event(at_ms=START + 99)], SECOND) == Applied(held=True)
    return store


def accepted(store: AccountStore, number: int = 1, **parts: object) -> Applied | None:
    return store.decide(number, accept=True, now_ms=FOURTH, connector=connector(**parts), settings=None)


def discarded(store: AccountStore, number: int = 1) -> None:
    assert store.decide(number, accept=False, now_ms=FOURTH, connector=connector(), settings=None) is None


def test_more_than_half_of_stored_amounts_turn_to_zero_in_one_poll(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        assert standing(store) == day("0.1")
        (waiting,) = store.held()
        assert (waiting.account, waiting.resource, waiting.window) == (ACCOUNT, "events", DAY)
        assert (waiting.fetched_ms, waiting.held_ms) == (SECOND, SECOND)
        assert "10 of 10 amounts would become zero or unknown" in waiting.sentence
        assert f"`kharcha accounts accept {waiting.id}`" in waiting.sentence
        (notice,) = store.pending_notices()
        assert (notice.subject, notice.sentence) == ("held", waiting.sentence)
        status = store.status(ACCOUNT)
        assert status is not None
        assert (status.held, status.state) == (1, "active")
        assert store.held("other") == []


def test_the_account_stays_usable_while_a_window_waits(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        following = Window(DAY.until_ms, DAY.until_ms + DAY_MS)
        assert apply(store, day("0", day=1), SECOND, window=following) == Applied(inserted=10)


def test_a_closed_window_that_changes_waits_and_one_that_settles_does_not(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, day(None), FIRST)
        assert apply(store, day("0.1"), SECOND, closed_before_ms=DAY.until_ms) == Applied(changed=10)
        assert apply(store, day("0.2"), THIRD, closed_before_ms=DAY.until_ms) == Applied(held=True)
        assert "10 of 10 rows would change or go" in store.held()[0].sentence
        assert apply(store, day("0.3"), FOURTH, closed_before_ms=DAY.until_ms - 1) == Applied(changed=10)


def test_a_month_that_waits_day_by_day_is_one_notice(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for charged, poll_ms in (("0.1", START + 99 * DAY_MS), ("0", START + 100 * DAY_MS)):
            for number in range(31):
                window = Window(START + number * DAY_MS, START + (number + 1) * DAY_MS)
                apply(store, day(charged, day=number), poll_ms, window=window)
        assert len(store.held()) == 31
        assert len(store.pending_notices()) == 1


def test_the_same_poll_again_asks_once(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        assert apply(store, [*day("0"), event(at_ms=START + 99)], THIRD) == Applied(held=True)
        assert len(store.held()) == 1
        assert len(store.pending_notices()) == 1
        assert store.held()[0].fetched_ms == THIRD


def test_a_newer_reading_of_a_window_that_waits_takes_its_place(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for hour in range(1, 5):  # windows that end now
            window = Window(START, START + hour * HOUR_MS)
            apply(store, day("0.1" if hour == 1 else "0"), START + hour * HOUR_MS, window=window)
        (waiting,) = store.held()
        assert waiting.window == Window(START, START + 4 * HOUR_MS)
        assert len(store.pending_notices()) == 1


def test_what_the_vendor_takes_back_waits_no_longer(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        assert apply(store, day("0.1"), THIRD) == Applied(unchanged=10)
        assert store.held() == []
        with pytest.raises(AccountsUsageError, match="No reading number 1 waits"):
            accepted(store)


def test_accepted_readings_are_applied_from_the_answers_that_were_kept(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        assert accepted(store) == Applied(changed=10, inserted=1)
        assert standing(store) == [*day("0"), event(at_ms=START + 99)]
        assert store.held() == []
        assert rows(store, "SELECT DISTINCT seen_at FROM versions WHERE id > 10") == [(SECOND,)]
        assert apply(store, [*day("0"), event(at_ms=START + 99)], FOURTH) == Applied(unchanged=11)
        with pytest.raises(AccountsUsageError):
            accepted(store)


def test_accepted_readings_do_not_undo_newer_ones(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        noon = START + 5
        assert apply(store, day("0.1")[5:], THIRD, window=Window(noon, DAY.until_ms)) == Applied(unchanged=5)
        assert accepted(store) == Applied(changed=5)
        assert standing(store) == [*day("0")[:5], *day("0.1")[5:]]


def test_amounts_that_become_unknown_ask_once_and_the_known_ones_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, day("0.1"), FIRST)
        assert apply(store, day(None), SECOND) == Applied(held=True)
        assert accepted(store) == Applied(unchanged=10)
        assert standing(store) == day("0.1")
        assert apply(store, day(None), FOURTH) == Applied(unchanged=10)


def test_rows_that_are_gone_vanish_when_somebody_says_so(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, day("0.1"), FIRST)
        assert apply(store, day("0.1")[:3], SECOND) == Applied(held=True)
        assert accepted(store) == Applied(unchanged=3, vanished=7)
        assert apply(store, day("0.1")[:3], FOURTH) == Applied(unchanged=3)


def test_discarded_readings_change_nothing_and_do_not_ask_again(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        discarded(store)
        assert store.held() == []
        assert standing(store) == day("0.1")
        assert apply(store, [*day("0"), event(at_ms=START + 99)], THIRD) == Applied(held=True)
        assert store.held() == []
        assert len(store.pending_notices()) == 1
        assert store.read_since(ACCOUNT, "events", THIRD) == [DAY]


def test_other_answers_after_a_discarded_reading_ask_again(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        discarded(store)
        apply(store, day("0"), THIRD)
        assert len(store.held()) == 1
        assert len(store.pending_notices()) == 2


def test_discarded_readings_may_be_accepted_after_all(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        discarded(store)
        with pytest.raises(AccountsUsageError):
            discarded(store)
        assert accepted(store) == Applied(changed=10, inserted=1)


def test_a_decision_about_nothing_is_a_mistake(tmp_path: Path) -> None:
    with held(tmp_path) as store, pytest.raises(AccountsUsageError, match="No reading number 7 waits"):
        accepted(store, 7)


def test_a_reading_that_is_not_understood_any_more_keeps_waiting(tmp_path: Path) -> None:
    def normalize(settings: object, resource: object, window: object, answers: Sequence[Answer]) -> Normalized:
        raise Drifted("The answer is not of the shape that is known.")

    with held(tmp_path) as store:
        before = versions(store)
        with pytest.raises(Drifted):
            accepted(store, normalize=normalize)
        assert len(store.held()) == 1
        assert versions(store) == before


def test_a_resource_that_is_no_longer_asked_for_cannot_be_accepted(tmp_path: Path) -> None:
    with held(tmp_path) as store:
        with pytest.raises(AccountsUsageError, match="has no resource events"):
            accepted(store, resources=lambda settings: ())
        assert len(store.held()) == 1


def test_waiting_windows_are_not_covered_but_were_read(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        first = Window(START, START + 10)
        apply(store, day("0.1"), FIRST, window=first)
        apply(store, [], SECOND)
        assert store.covered(ACCOUNT, "events") == [first]
        assert store.last_reading(ACCOUNT, "events") == SECOND
        accepted(store)
        assert store.covered(ACCOUNT, "events") == [DAY]
