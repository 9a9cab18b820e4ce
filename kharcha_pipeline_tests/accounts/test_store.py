"""The store beside its readings: accounts, credentials, rates, proxies, notices, and who may poll."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, Answer, Normalized, Request, Window
from kharcha_pipeline.accounts.failures import AccountsError, AccountsUsageError
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline_tests.accounts.storing import (
    ACCOUNT,
    DAY,
    EVENTS,
    LIMITS,
    REPORTS,
    START,
    apply,
    configured,
    event,
    opened,
    rows,
    snapshot,
    standing,
    versions,
)


def test_an_account_that_was_never_configured_has_no_status(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.status("other") is None
        with pytest.raises(AccountsUsageError, match="There is no account other"):
            store.note_poll("other", START, None, succeeded=True)


def test_a_new_account_is_active_and_everything_else_is_unknown(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        status = store.status(ACCOUNT)
        assert status is not None
        assert (status.state, status.events, status.held) == ("active", 0, 0)
        assert (status.last_attempt, status.last_success, status.next_poll, status.credential_expires) == (None,) * 4
        assert status.local_sources == ("claude-code",)
        assert status.is_configured
        assert status.is_enabled


def test_an_account_that_is_no_longer_configured_keeps_its_history(tmp_path: Path) -> None:
    with opened(tmp_path, "one", "two") as store:
        apply(store, [event()], START + DAY_MS, account="two")
        store.configure([configured("one", label="First")])
        statuses = {status.name: status for status in store.statuses()}
        assert statuses["one"].label == "First"
        assert not statuses["two"].is_configured
        assert statuses["two"].events == 1
        assert len(standing(store)) == 1
        store.configure([configured("one"), configured("two")])
        assert all(status.is_configured for status in store.statuses())


def test_configuring_the_same_again_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.move(ACCOUNT, "paused", "Somebody said so.", START)
        store.set_credential(ACCOUNT, "abc", None)
        apply(store, [event()], START + DAY_MS)
        before = store.statuses(), versions(store)
        store.configure([configured()])
        assert (store.statuses(), versions(store)) == before


def test_what_counts_differently_gets_versions_that_say_so(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event(), event(tokens=7)], START + DAY_MS)
        store.configure([configured(counted=False)])
        assert rows(store, "SELECT item, counted, previous, reason FROM versions ORDER BY id") == [
            (1, 1, None, "first seen"),
            (2, 1, None, "first seen"),
            (1, 0, 1, "counted differently"),
            (2, 0, 2, "counted differently"),
        ]
        assert standing(store) == [event(tokens=7), event()]
        assert apply(store, [event(), event(tokens=7)], START + DAY_MS + 1).unchanged == 2
        assert apply(store, [event(), event(tokens=7, charged="0.3")], START + DAY_MS + 2).changed == 1
        assert rows(store, "SELECT counted, previous FROM versions ORDER BY id DESC LIMIT 1") == [(0, 3)]


def test_another_connector_under_the_same_name_begins_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], START + DAY_MS)
        store.configure([configured(connector="other", source="elsewhere")])
        assert store.covered(ACCOUNT, "events") == []
        assert store.last_reading(ACCOUNT, "events") is None
        apply(store, [event()], START + DAY_MS)
        apply(store, [], START + DAY_MS + 1)
        assert rows(
            store, "SELECT items.connector, source, missed FROM items JOIN versions ON version = versions.id"
        ) == [
            ("example", "example", 0),
            ("other", "elsewhere", 1),
        ]


def test_a_credential_is_stored_as_a_fingerprint_alone(tmp_path: Path) -> None:
    secret = "crsr_0123456789abcdef"
    with opened(tmp_path) as store:
        fingerprint = store.fingerprint(secret)
        assert store.set_credential(ACCOUNT, fingerprint, START)
        assert not store.set_credential(ACCOUNT, store.fingerprint(secret), START)
        assert store.set_credential(ACCOUNT, store.fingerprint(secret + "0"), None)
        assert store.fingerprint(secret) == fingerprint
    with AccountStore(tmp_path) as store:
        assert store.fingerprint(secret) == fingerprint
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_fingerprint_is_of_no_use_in_another_database(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        assert one.fingerprint("secret") != two.fingerprint("secret")


def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], START)
        with store.polling(ACCOUNT):
            found = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert len(found) >= 3
            assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in found)


def test_two_incarnations_of_the_database_can_be_told_apart(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        about = dict(rows(store, "SELECT name, value FROM about"))
        assert about["version"] == "1"
        assert int(about["made_at"]) > START
        assert len(about["salt"]) == 64
    with opened(tmp_path) as store:
        assert dict(rows(store, "SELECT name, value FROM about")) == about


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store, closing(sqlite3.connect(store.path)) as connection:
        connection.execute("UPDATE about SET value = '2' WHERE name = 'version'")
        connection.commit()
    with pytest.raises(AccountsError, match="has version 2"):
        AccountStore(tmp_path)


def test_polls_are_remembered(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.note_poll(ACCOUNT, START, START + HOUR_MS, succeeded=True)
        store.note_poll(ACCOUNT, START + HOUR_MS, START + 2 * HOUR_MS, succeeded=False)
        status = store.status(ACCOUNT)
        assert status is not None
        assert (status.last_attempt, status.last_success) == (START + HOUR_MS, START)
        assert status.next_poll == START + 2 * HOUR_MS


def test_requests_are_remembered_by_account_and_budget(tmp_path: Path) -> None:
    with opened(tmp_path, "one", "two") as store:
        for at_ms in (3, 1, 2):
            store.note_request("one", "default", START + at_ms)
        store.note_request("one", "events", START + 2)
        store.note_request("two", "default", START + 2)
        assert store.requests_since("one", "default", START + 2) == [START + 2, START + 3]


def test_requests_are_forgotten_when_no_limit_looks_back_that_far(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.note_request(ACCOUNT, "default", START)
        store.note_request(ACCOUNT, "default", START + DAY_MS)
        assert len(store.requests_since(ACCOUNT, "default", 0)) == 2
        store.note_request(ACCOUNT, "default", START + 30 * DAY_MS)
        assert store.requests_since(ACCOUNT, "default", 0) == [START + 30 * DAY_MS]


def test_proxies_rest_by_account(tmp_path: Path) -> None:
    with opened(tmp_path, "one", "two") as store:
        store.rest_proxy("one", "http://127.0.0.1:1", START)
        store.rest_proxy("one", "http://127.0.0.1:1", START + 5)
        assert store.resting_proxies("one") == {"http://127.0.0.1:1": START + 5}
        assert store.resting_proxies("two") == {}


def test_resources_that_are_not_for_an_account_are_in_its_status(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.set_unavailable(ACCOUNT, "usage", "Not with this plan.", START)
        store.set_unavailable(ACCOUNT, "usage", "Not with this key.", START + 1)
        status = store.status(ACCOUNT)
        assert status is not None
        assert status.unavailable == {"usage": "Not with this key."}
        store.clear_unavailable(ACCOUNT)
        status = store.status(ACCOUNT)
        assert status is not None
        assert status.unavailable == {}


def test_a_notice_is_left_once_for_each_key(tmp_path: Path) -> None:
    with opened(tmp_path, "one", "two") as store:
        assert store.note("one", "A new field.", START, "drift", once_key="x")
        assert not store.note("one", "A new field again.", START + DAY_MS, "drift", once_key="x")
        assert store.note("two", "A new field.", START, "drift", once_key="x")
        assert store.note("one", "Expires soon.", START, "expiry", once_key="y")
        told = [(notice.account, notice.subject) for notice in store.pending_notices()]
        assert told == [("one", "drift"), ("two", "drift"), ("one", "expiry")]
        store.told(1, START)
        assert not store.note("one", "A new field.", START, "drift", once_key="x")
        assert len(store.pending_notices()) == 2


def test_a_removed_account_keeps_what_the_vendor_said(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], START + DAY_MS)
        store.set_credential(ACCOUNT, "abc", START)
        store.note_poll(ACCOUNT, START, START + 1, succeeded=True)
        store.move(ACCOUNT, "session_expired", "The session ended.", START, None)
        store.note_request(ACCOUNT, "default", START)
        store.rest_proxy(ACCOUNT, "http://127.0.0.1:1", START)
        store.set_unavailable(ACCOUNT, "usage", "Not with this plan.", START)
        store.remove(ACCOUNT)
        status = store.status(ACCOUNT)
        assert status is not None
        assert (status.is_configured, status.state, status.fingerprint) == (False, "active", "")
        assert (status.credential_expires, status.next_poll, status.unavailable) == (None, None, {})
        assert store.requests_since(ACCOUNT, "default", 0) == []
        assert store.resting_proxies(ACCOUNT) == {}
        assert store.pending_notices() == []
        assert standing(store) == [event()]


def test_one_account_is_polled_by_one_process_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path, "one", "two") as store, AccountStore(tmp_path) as other, store.polling("one"):
        with pytest.raises(AccountsError, match="is being polled by another process"), other.polling("one"):
            pass
        with other.polling("two"):
            pass
    with AccountStore(tmp_path) as store, store.polling("one"):
        pass


def _polls(directory: Path, begun: multiprocessing.synchronize.Event) -> None:
    with AccountStore(directory) as store, store.polling(ACCOUNT):
        begun.set()
        multiprocessing.Event().wait()


def test_a_poller_that_is_killed_frees_the_account(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with opened(tmp_path) as store:
        begun = context.Event()
        process = context.Process(target=_polls, args=(tmp_path, begun))
        process.start()
        assert begun.wait(60)
        with pytest.raises(AccountsError), store.polling(ACCOUNT):
            pass
        process.kill()
        process.join()
        with store.polling(ACCOUNT):
            pass


def test_what_was_covered_is_merged(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for from_day, until_day in ((4, 5), (0, 1), (1, 2), (0.5, 1.5)):
            window = Window(START + int(from_day * DAY_MS), START + int(until_day * DAY_MS))
            apply(store, [], START + 9 * DAY_MS, window=window)
        assert store.covered(ACCOUNT, "events") == [
            Window(START, START + 2 * DAY_MS),
            Window(START + 4 * DAY_MS, START + 5 * DAY_MS),
        ]
        assert store.covered(ACCOUNT, "usage") == []


def test_an_empty_window_is_a_success(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [], START + DAY_MS)
        assert store.covered(ACCOUNT, "events") == [DAY]
        assert store.last_reading(ACCOUNT, "events") == START + DAY_MS


def test_a_snapshot_covers_no_time_but_was_read(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        snapshot(store, LIMITS, [], START)
        assert store.covered(ACCOUNT, "limits") == []
        assert store.last_reading(ACCOUNT, "limits") == START


def test_what_was_read_lately_is_known_whether_it_changed_or_not(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], START + DAY_MS)
        apply(store, [], START + DAY_MS, window=Window(DAY.until_ms, DAY.until_ms + 1))
        assert store.read_since(ACCOUNT, "events", START + 2 * DAY_MS) == []
        apply(store, [event()], START + 2 * DAY_MS)
        assert store.read_since(ACCOUNT, "events", START + 2 * DAY_MS) == [DAY]
        assert store.read_since(ACCOUNT, "events", 0) == [Window(DAY.from_ms, DAY.until_ms + 1)]


def test_answers_are_kept_as_they_came_without_headers_that_may_be_secret(tmp_path: Path) -> None:
    body = b'{"events": ["' + b"x" * 10_000 + b'"]}'
    headers = {
        "content-type": "application/json",
        "x-ratelimit-remaining": "3",
        "x-request-id": "r1",
        "set-cookie": "session=canary",
        "authorization": "Bearer canary",
        "x-session": "canary",
    }
    request = Request(method="POST", path="/events", query=(("page", "1"),), body={"from": 1})
    answer = Answer(request=request, status=200, headers=headers, body=body, fetched_ms=START)
    with opened(tmp_path) as store:
        store.apply(ACCOUNT, EVENTS, DAY, [answer], Normalized([]), now_ms=START + 1, closed_before_ms=0)
        ((reading, position, asked, status, kept, fetched_at, size),) = rows(
            store,
            "SELECT reading, position, request, status, headers, fetched_at, length(content) "
            "FROM answers JOIN bodies USING (sha256)",
        )
        assert (reading, position, status, fetched_at) == (1, 0, 200, START)
        assert '"path":"/events"' in asked
        assert kept == '{"content-type": "application/json", "x-ratelimit-remaining": "3", "x-request-id": "r1"}'
        assert size < len(body) / 10
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_equal_bodies_are_kept_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for hour in range(1, 9):
            apply(store, [event()], START + hour * HOUR_MS, window=Window(START, START + hour * HOUR_MS + 1))
        assert rows(store, "SELECT count(*) FROM bodies") == [(1,)]
        assert rows(store, "SELECT count(*) FROM readings WHERE status = 'applied'") == [(1,)]


def test_the_same_answer_to_the_same_question_is_one_reading(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for hour in range(24, 48):
            apply(store, [event()], START + hour * HOUR_MS)
        assert rows(store, "SELECT count(*), max(fetched_at) FROM readings") == [(1, START + 47 * HOUR_MS)]
        assert rows(store, "SELECT count(*) FROM answers") == [(1,)]


def test_notes_are_those_of_the_answers_that_stand(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        apply(store, [event()], START + DAY_MS, notes={'new field "x"': 2})
        apply(store, [event(tokens=1)], START + 2 * DAY_MS, notes={'new field "x"': 3})
        following = Window(DAY.until_ms, DAY.until_ms + DAY_MS)
        apply(store, [], START + 2 * DAY_MS, window=following, notes={'new field "x"': 1, 'new field "y"': 1})
        status = store.status(ACCOUNT)
        assert status is not None
        assert status.notes == {'new field "x"': 4, 'new field "y"': 1}


def test_new_fields_are_told_once_each_and_in_one_notice(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        new = {'new field "x"': 3, 'new field "y"': 1, "charge that is not known yet": 7}
        for number in range(3):
            apply(store, [event()], START + DAY_MS + number, notes=new)
        (notice,) = store.pending_notices()
        assert notice.subject == "drift"
        assert 'of events is not quite of the form that is known: new field "x", new field "y".' in notice.sentence
        store.told(notice.id, START + DAY_MS)
        assert store.pending_notices() == []
        apply(store, [event()], START + 2 * DAY_MS, notes={**new, 'new field "z"': 1})
        (notice,) = store.pending_notices()
        assert 'known: new field "z".' in notice.sentence


def test_a_row_that_could_not_be_used_is_listed_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for hour in range(1, 4):
            window = Window(START, START + hour * HOUR_MS)
            apply(store, [], START + hour * HOUR_MS, window=window, rejects=["no time", "no time", "no model"])
        found = rows(store, "SELECT account, resource, reason, first_seen_at FROM rejects ORDER BY reason")
        assert found == [(ACCOUNT, "events", reason, START + HOUR_MS) for reason in ("no model", "no time")]


def test_an_answer_about_something_else_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with pytest.raises(ValueError, match="understood as something else"):
            apply(store, [event()], START, resource=REPORTS)
        assert rows(store, "SELECT count(*) FROM readings") == [(0,)]


def test_items_outside_the_window_are_left_out_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        applied = apply(store, [event(), event(at_ms=DAY.until_ms), event(at_ms=DAY.from_ms - 1)], START + DAY_MS)
        assert applied.inserted == 1
        status = store.status(ACCOUNT)
        assert status is not None
        assert status.notes == {"outside the window": 2}


def test_events_are_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        two = [event(), event(tokens=7)]
        for number, items in enumerate((two, two[:1], two[:1], two[:1], two)):
            apply(store, items, START + DAY_MS + number)
            status = store.status(ACCOUNT)
            assert status is not None
            assert status.events == (1 if number == 3 else 2)
        apply(store, [], START, window=SNAPSHOT, resource=LIMITS)
