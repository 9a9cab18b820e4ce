"""One account's trouble touches no other; ways out are the account's own; secrets are nowhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import zstandard

from kharcha_pipeline.accounts.configuration import Configuration
from kharcha_pipeline.accounts.cycle import AT_ONCE_PER_VENDOR, Polled, is_due, poll_all, take_over
from kharcha_pipeline_tests.accounts.little_vendor import House, Little, some_usage
from kharcha_pipeline_tests.accounts.vendor_server import (
    NOON_MS,
    Behaviour,
    Fault,
    ProxyServer,
    Received,
    Reply,
    nobody_listens,
)

PATIENCE = 120.0
"""Seconds after which a test gives up waiting for what must come."""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


@pytest.mark.parametrize("accounts", [4, 15])
def test_one_account_hangs_one_expired_one_rate_limited_the_others_finish(house: House, accounts: int) -> None:
    names = [f"seat-{number:02}" for number in range(accounts)]
    for name in names:
        house.add(name, some_usage(NOON_MS, 3))
    hanging, expired, limited, *healthy = names
    house.expire(expired)
    house.server.faults += [
        Fault(lambda received: received.credential == f"key-of-{hanging}", Behaviour("hang"), sticky=True),
        Fault(
            lambda received: received.credential == f"key-of-{limited}" and received.path == "/events",
            Reply(429, b"", {"Retry-After": "7200"}),
            sticky=True,
        ),
    ]
    results: list[Polled] = []
    others_are_done = threading.Event()

    def told(polled: Polled) -> None:
        results.append(polled)
        if len(results) == accounts - 1:
            others_are_done.set()

    def run() -> None:
        poll_all(list(house.accounts.values()), house.directory, house.clock, house.environment, told=told)

    polls = threading.Thread(target=run)
    polls.start()
    assert others_are_done.wait(PATIENCE)
    # All others have ended, and the one that hangs has not: its vendor never answers.
    assert hanging not in {polled.account for polled in results}
    assert {polled.account for polled in results if polled.outcome == "polled"} == set(healthy)
    for name in healthy:
        assert house.known(name) == house.told(name)
    house.server.__exit__(None, None, None)  # the vendor hangs up
    polls.join(PATIENCE)
    assert not polls.is_alive()
    states = {name: house.status(name).state for name in names}
    assert (states[hanging], states[expired], states[limited]) == ("degraded", "session_expired", "rate_limited")
    assert {states[name] for name in healthy} == {"active"}


def test_of_one_vendor_at_most_two_accounts_are_asked_at_a_time(house: House) -> None:
    for number in range(6):
        house.add(f"acorn-{number}", connector=Little(vendor="acorn"))
        house.add(f"beech-{number}", connector=Little(vendor="beech"))
    lock = threading.Lock()
    running: dict[str, set[str]] = {"acorn": set(), "beech": set()}
    most: dict[str, int] = {"acorn": 0, "beech": 0}
    answer = house.server.answer

    def watched(received: Received) -> Reply:
        name = received.credential.removeprefix("key-of-")
        with lock:
            vendor = name.partition("-")[0]
            running[vendor].add(name)
            most[vendor] = max(most[vendor], len(running[vendor]))
        return answer(received)

    def done(polled: Polled) -> None:
        with lock:
            running[polled.account.partition("-")[0]].discard(polled.account)

    house.server.answer = watched
    accounts = list(house.accounts.values())
    results = poll_all(accounts, house.directory, house.clock, house.environment, told=done)
    assert [polled.account for polled in results] == [account.name for account in accounts]
    assert {polled.outcome for polled in results} == {"polled"}
    assert most == dict.fromkeys(most, AT_ONCE_PER_VENDOR)


def test_what_one_account_raises_is_its_own_result(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 2))
    stranger = house.add("stranger")
    house.store._connection.execute("DELETE FROM accounts WHERE name = 'stranger'")
    results = poll_all(list(house.accounts.values()), house.directory, house.clock, house.environment)
    assert [polled.outcome for polled in results] == ["polled", "failed"]
    assert stranger.name in results[1].sentence


def test_account_added_disabled_removed(house: House) -> None:
    house.add("seat", some_usage(NOON_MS, 2))
    house.poll_all()
    house.add("new", some_usage(NOON_MS, 2))
    assert house.poll_all()["new"].outcome == "polled"
    house.settle("seat", is_enabled=False)
    asked = len(house.requests("seat"))
    assert house.poll_all(is_forced=True)["seat"].outcome == "disabled"
    assert len(house.requests("seat")) == asked
    known = house.known("seat")
    del house.accounts["seat"]
    house.configure()
    assert set(house.poll_all(is_forced=True)) == {"new"}
    assert house.known("seat") == known


def test_settings_that_are_known_are_not_written_again(house: House) -> None:
    house.add("seat", label="Seat", local_sources=("claude-code",))
    house.add("other", counted=False)

    def written() -> list[bytes]:
        return [
            path.read_bytes()
            for path in sorted(house.directory.glob("accounts.sqlite*"))
            if path.suffix != ".sqlite-shm"
        ]

    def configuration() -> Configuration:
        return Configuration(dict(house.accounts), (), house.directory)

    before = written()
    take_over(configuration(), house.store)
    assert written() == before
    del house.accounts["other"]
    take_over(configuration(), house.store)
    assert written() != before
    assert not house.status("other").is_configured
    before = written()
    take_over(configuration(), house.store)
    assert written() == before
    seat = house.accounts["seat"]
    house.accounts["seat"] = seat._replace(settings=msgspec.structs.replace(seat.settings, label="Another"))
    take_over(configuration(), house.store)
    assert house.status("seat").label == "Another"


def test_what_is_due_is_told_without_a_request(house: House) -> None:
    account = house.add("seat", some_usage(NOON_MS, 2))

    def due() -> bool:
        return is_due(account, house.status("seat"), house.store, house.clock.now_ms(), house.environment)

    assert due()
    house.poll("seat")
    assert not due()
    house.clock.advance(3600)
    assert due()
    house.expire("seat")
    house.poll("seat")
    house.clock.advance(365 * 86_400)
    assert not due()
    house.environment["KEY_SEAT"] = "another-key"
    assert due()
    house.store.move("seat", "paused", "Somebody paused it.", house.clock.now_ms())
    assert not due()
    assert all(received.at_ms < NOON_MS + 2 * 3_600_000 for received in house.server.log)


def test_proxy_pool(house: House) -> None:
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(ProxyServer(name)) for name in ("first", "second", "third"))
        house.add("light", some_usage(NOON_MS, 3))
        house.add("pooled", some_usage(NOON_MS, 3), proxies=(first.url, second.url))
        house.add("single", some_usage(NOON_MS, 3), proxies=(third.url,))
        assert {polled.outcome for polled in house.poll_all().values()} == {"polled"}
    served = {name: {one.via for one in house.requests(name)} for name in house.accounts}
    assert served == {"light": {"direct"}, "pooled": {"first", "second"}, "single": {"third"}}
    for name in house.accounts:
        assert house.known(name) == house.told(name)


def test_proxy_down(house: House) -> None:
    with ProxyServer("refusing", "refuse_407") as refusing, ProxyServer("good") as good:
        house.add("seat", some_usage(NOON_MS, 3), proxies=(refusing.url, nobody_listens(), good.url))
        assert house.poll("seat").outcome == "polled"
        assert {one.via for one in house.requests("seat")} == {"good"}
        assert house.status("seat").state == "active"


def test_all_proxies_down_the_account_waits_and_is_never_asked_directly(house: House) -> None:
    with ProxyServer("refusing", "refuse_407") as refusing:
        house.add("seat", some_usage(NOON_MS, 3), proxies=(refusing.url, nobody_listens()))
        polled = house.poll("seat")
        status = house.status("seat")
        assert (polled.outcome, status.state) == ("failed", "waiting")
        assert status.until is not None
        assert house.clock.now_ms() < status.until <= house.clock.now_ms() + 3_600_000
        assert house.server.log == []
        assert house.poll("seat", is_forced=True).outcome == "resting"
        refusing.mode = "ok"
        house.clock.turn_to(status.until)
        assert house.poll("seat", is_forced=True).outcome == "polled"
    assert {one.via for one in house.requests("seat")} == {"refusing"}
    assert house.transitions("seat") == ["waiting", "active"]


def test_logs_and_stored_raw_payloads_contain_no_key_cookie_token_or_proxy_password(
    house: House, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["key-of-seat", "key-of-broken", "proxy-password", "alert-password", "cookie-of-the-vendor"]
    with ProxyServer("guarded", credentials=("somebody", "proxy-password")) as proxy:
        house.environment["PROXY"] = proxy.url.replace("://", "://somebody:proxy-password@")
        house.add("seat", some_usage(NOON_MS, 3), proxies=("env:PROXY",))
        house.add("broken", some_usage(NOON_MS, 3))
        echo = Reply(
            200,
            {"rows": [{"limit": "100", "echo": "Bearer key-of-seat"}]},
            {"Set-Cookie": "session=cookie-of-the-vendor", "X-Echo": "key-of-seat"},
        )
        house.vendor.answers["/limits"] = echo
        house.server.faults.append(
            Fault(
                lambda received: received.credential == "key-of-broken" and received.path == "/events",
                Reply(500, b"key-of-broken is the problem"),
                sticky=True,
            )
        )
        outcomes = {name: polled.outcome for name, polled in house.poll_all().items()}
        assert outcomes == {"seat": "polled", "broken": "failed"}
        with ProxyServer("closed", "refuse_407") as closed:
            house.environment["PROXY"] = closed.url.replace("://", "://somebody:proxy-password@")
            assert house.poll("seat", is_forced=True).outcome == "failed"
    kept = house.rows("SELECT content FROM bodies")
    assert kept
    written = [path.read_bytes() for path in house.directory.rglob("*") if path.is_file()]
    written += [zstandard.ZstdDecompressor().decompress(body) for (body,) in kept]
    written += [str(row).encode() for row in house.rows("SELECT * FROM answers")]
    captured = capfd.readouterr()
    written += [text.encode() for text in (captured.out, captured.err, caplog.text)]
    for secret in secrets:
        assert not any(secret.encode() in content for content in written), secret
