"""States of accounts: what is recorded of a change, and what is told to people."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from kharcha_pipeline.accounts.failures import AccountsUsageError
from kharcha_pipeline.accounts.states import ALERTING, SILENT, STATES, State
from kharcha_pipeline_tests.accounts.storing import ACCOUNT, START, opened, rows


def test_all_states_are_listed() -> None:
    assert get_args(State) == STATES
    assert set(STATES) > ALERTING
    assert set(STATES) > SILENT


def test_a_change_of_state_is_one_transition(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.move(ACCOUNT, "rate_limited", "Rests until noon.", START, START + 1000)
        status = store.status(ACCOUNT)
        assert status is not None
        assert (status.state, status.state_since, status.until) == ("rate_limited", START, START + 1000)
        assert status.sentence == "Rests until noon."
        found = rows(store, "SELECT account, before, after, sentence, at, until FROM transitions")
        assert found == [(ACCOUNT, "active", "rate_limited", "Rests until noon.", START, START + 1000)]


def test_a_state_that_stays_is_no_transition_and_its_sentence_is_the_newest(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.move(ACCOUNT, "rate_limited", "Rests until noon.", START, START + 1000)
        assert not store.move(ACCOUNT, "rate_limited", "Rests until one.", START + 10, START + 2000)
        status = store.status(ACCOUNT)
        assert status is not None
        assert (status.state_since, status.until, status.sentence) == (START, START + 2000, "Rests until one.")
        assert rows(store, "SELECT count(*) FROM transitions") == [(1,)]


def test_two_expired_polls_are_one_alert(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.move(ACCOUNT, "session_expired", "The session ended.", START)
        store.move(ACCOUNT, "session_expired", "The session ended.", START + 1)
        assert [notice.sentence for notice in store.pending_notices()] == ["The session ended."]


def test_a_session_that_expires_again_is_another_alert(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(2):
            store.move(ACCOUNT, "session_expired", "The session ended.", START + number)
            store.move(ACCOUNT, "active", "", START + number)
        assert len(store.pending_notices()) == 2


@pytest.mark.parametrize("state", STATES)
def test_states_that_need_a_person_are_told(state: State, tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.move(ACCOUNT, "degraded" if state == "active" else "active", "Before.", START)
        store.move(ACCOUNT, state, "It is so.", START)
        told = [notice.sentence for notice in store.pending_notices()]
        assert told == (["It is so."] if state in ALERTING else [])


def test_a_notice_that_was_told_is_not_pending(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.move(ACCOUNT, "session_expired", "The session ended.", START)
        (notice,) = store.pending_notices()
        assert (notice.account, notice.subject, notice.at_ms) == (ACCOUNT, "state", START)
        store.told(notice.id, START + 5)
    with opened(tmp_path) as store:
        assert store.pending_notices() == []


def test_an_account_that_nobody_configured_has_no_state_to_change(tmp_path: Path) -> None:
    with opened(tmp_path) as store, pytest.raises(AccountsUsageError, match="There is no account other"):
        store.move("other", "active", "", START)
