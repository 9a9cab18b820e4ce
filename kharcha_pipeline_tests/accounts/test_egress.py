"""Proxies: requests are spread over them, what fails rests, and an account that demands one never goes without."""

from __future__ import annotations

import base64
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kharcha_pipeline.accounts.failures import AccountsUsageError, ProxiesDown, Unreachable
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.accounts.transport import Limits
from kharcha_pipeline_tests.accounts.certificates import server_context
from kharcha_pipeline_tests.accounts.sending import KEY, MEMBERS, SHORT, good, session
from kharcha_pipeline_tests.accounts.vendor_server import (
    Behaviour,
    Fault,
    ProxyServer,
    TurnedClock,
    VendorServer,
    nobody_listens,
)

PASSWORD = "proxy-canary-0123456789"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[VendorServer]:
    with VendorServer(good, clock) as server:
        yield server


@pytest.fixture
def proxies() -> Iterator[list[ProxyServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ProxyServer(f"proxy-{number}")) for number in range(3)]


def addresses(proxies: list[ProxyServer]) -> tuple[str, ...]:
    return tuple(proxy.url for proxy in proxies)


def rests(directory: Path, clock: TurnedClock) -> dict[str, int]:
    """For how many seconds each proxy rests."""
    with AccountStore(directory) as store:
        return {proxy: (until - clock.now_ms()) // 1000 for proxy, until in store.resting_proxies("team").items()}


def test_proxy_pool_shows_which_proxy_served_which_account_and_none_goes_direct(
    server: VendorServer, clock: TurnedClock, proxies: list[ProxyServer], tmp_path: Path
) -> None:
    pools = {"key-of-first": addresses(proxies[:2]), "key-of-second": addresses(proxies[2:]), "key-of-third": ()}
    for key, pool in pools.items():
        with session(server.url, clock, tmp_path, account=key, key=key, proxies=pool) as transport:
            for _ in range(6):
                transport.send(MEMBERS)
    served = Counter((received.credential, received.via) for received in server.log)
    assert served == {
        ("key-of-first", "proxy-0"): 3,
        ("key-of-first", "proxy-1"): 3,
        ("key-of-second", "proxy-2"): 6,
        ("key-of-third", "direct"): 6,
    }
    assert proxies[0].targets == [server.url.removeprefix("http://")] * 3


def test_cycles_of_one_request_do_not_all_take_the_same_proxy(
    server: VendorServer, clock: TurnedClock, proxies: list[ProxyServer], tmp_path: Path
) -> None:
    for _ in range(12):
        with session(server.url, clock, tmp_path, proxies=addresses(proxies)) as transport:
            transport.send(MEMBERS)
        clock.advance(61 * 60)
    assert {received.via for received in server.log} == {"proxy-0", "proxy-1", "proxy-2"}


@pytest.mark.parametrize("fault", ["refused", "refuse_407", "reset"])
def test_proxy_down_is_an_error_of_the_proxy_and_the_next_one_is_taken(
    server: VendorServer,
    clock: TurnedClock,
    proxies: list[ProxyServer],
    tmp_path: Path,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "kharcha_pipeline.accounts")
    broken = proxies[1]
    if fault == "refused":
        broken.close()
    else:
        broken.mode = fault  # type: ignore[assignment]
    with session(server.url, clock, tmp_path, proxies=addresses(proxies)) as transport:
        for _ in range(6):
            assert transport.send(MEMBERS).status == 200
    assert Counter(received.via for received in server.log) == {"proxy-0": 3, "proxy-2": 3}
    assert clock.slept == [], "the account has nothing to wait for"
    assert rests(tmp_path, clock) == {broken.url: 60}
    assert f"team: the proxy {broken.url} rests for 60 seconds: by it the vendor " in caplog.text
    assert f"team: GET 127.0.0.1/members answered 200 ({proxies[2].url})" in caplog.text


def test_a_failed_proxy_rests_twice_as_long_each_time_up_to_an_hour_and_comes_back(
    server: VendorServer, clock: TurnedClock, proxies: list[ProxyServer], tmp_path: Path
) -> None:
    broken = proxies[0]
    broken.mode = "reset"
    lengths: list[int] = []
    pool = addresses(proxies[:2])
    with session(server.url, clock, tmp_path, proxies=pool, deadline_seconds=86_400) as transport:
        for _ in range(9):
            tried = len(broken.targets)
            while len(broken.targets) == tried:
                transport.send(MEMBERS)
            lengths.append(rests(tmp_path, clock)[broken.url])
            transport.send(MEMBERS)
            assert len(broken.targets) == tried + 1, "it is left alone while it rests"
            clock.advance(lengths[-1] + 1)
        assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
        broken.mode = "ok"
        server.log.clear()
        for _ in range(4):
            transport.send(MEMBERS)
        assert Counter(received.via for received in server.log) == {"proxy-0": 2, "proxy-1": 2}
        broken.mode = "reset"
        transport.send(MEMBERS)
        transport.send(MEMBERS)
    assert rests(tmp_path, clock)[broken.url] == 60, "what worked is trusted again"


def test_all_proxies_down_is_waiting_and_never_a_direct_request(
    server: VendorServer, clock: TurnedClock, proxies: list[ProxyServer], tmp_path: Path
) -> None:
    proxies[0].mode, proxies[1].mode = "refuse_407", "reset"
    pool = (*addresses(proxies[:2]), nobody_listens())
    for _ in range(2):  # the second cycle finds all of them resting and tries none
        with session(server.url, clock, tmp_path, proxies=pool) as transport, pytest.raises(ProxiesDown) as caught:
            transport.send(MEMBERS)
        assert caught.value.until_ms == clock.now_ms() + 60_000
        assert "None of the account's 3 proxies can be used at present" in str(caught.value)
        assert caught.value.__context__ is None
    assert [len(proxy.targets) for proxy in proxies[:2]] == [1, 1]
    assert server.log == []
    clock.advance(61)
    proxies[0].mode = "ok"
    with session(server.url, clock, tmp_path, proxies=pool) as transport:
        assert transport.send(MEMBERS).status == 200
    assert [received.via for received in server.log] == ["proxy-0"]


def test_a_proxy_that_delays_rests_once_another_brought_the_answer(
    server: VendorServer, clock: TurnedClock, proxies: list[ProxyServer], tmp_path: Path
) -> None:
    proxies[0].mode = "delay"
    limits = SHORT._replace(attempts=5, answer_seconds=10.0)
    with session(server.url, clock, tmp_path, proxies=addresses(proxies[:2]), limits=limits) as transport:
        for _ in range(6):
            transport.send(MEMBERS)
    assert {received.via for received in server.log} == {"proxy-1"}
    assert len(proxies[0].targets) == 1
    assert list(rests(tmp_path, clock)) == [proxies[0].url]


def test_a_vendor_that_hangs_is_not_the_proxies_fault(
    server: VendorServer, clock: TurnedClock, proxies: list[ProxyServer], tmp_path: Path
) -> None:
    server.faults.append(Fault("/members", Behaviour("hang"), sticky=True))
    with (
        session(server.url, clock, tmp_path, proxies=addresses(proxies), limits=SHORT) as transport,
        pytest.raises(Unreachable, match="sent nothing for too long"),
    ):
        transport.send(MEMBERS)
    assert rests(tmp_path, clock) == {}


def test_a_broken_answer_through_a_proxy_is_retried_and_no_proxy_rests(
    server: VendorServer, clock: TurnedClock, proxies: list[ProxyServer], tmp_path: Path
) -> None:
    server.faults.append(Fault("/members", Behaviour("wrong_length")))
    server.faults.append(Fault("/members", Behaviour("broken_chunks")))
    with session(server.url, clock, tmp_path, proxies=addresses(proxies)) as transport:
        assert transport.send(MEMBERS).status == 200
    assert len(server.log) == 3
    assert rests(tmp_path, clock) == {}


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http-proxy", "https-proxy"])
def test_through_tunnels_encryption_reaches_the_vendor_itself(
    clock: TurnedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    trusted, context = server_context(tmp_path / "certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    reference = {"PROXY": ""}
    with (
        VendorServer(good, clock, tls=context) as server,
        ProxyServer("asks", credentials=("me", PASSWORD), tls=context if is_encrypted else None) as proxy,
    ):
        reference["PROXY"] = proxy.url.replace("://", f"://me:{PASSWORD}@")
        with session(server.url, clock, tmp_path, proxies=("env:PROXY",), environment=reference) as transport:
            assert transport.send(MEMBERS).status == 200
            assert transport.send(MEMBERS).status == 200
        assert [received.via for received in server.log] == ["asks", "asks"]
        assert "proxy-authorization" not in server.log[0].headers
        assert proxy.targets[0] == server.url.removeprefix("https://")
        reference["PROXY"] = proxy.url.replace("://", "://me:wrong@")
        with (
            session(server.url, clock, tmp_path, proxies=("env:PROXY",), environment=reference) as transport,
            pytest.raises(ProxiesDown, match="by the last one the vendor was not reached: the proxy refused"),
        ):
            transport.send(MEMBERS)
        assert len(server.log) == 2


def test_logs_and_what_is_stored_contain_no_proxy_password(
    server: VendorServer, clock: TurnedClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.NOTSET)
    with ProxyServer("asks", credentials=("me", PASSWORD)) as proxy:
        environment = {"PROXY": proxy.url.replace("http://", f"http://me:{PASSWORD}@")}
        shown: list[str] = []
        for mode in ("ok", "reset"):
            proxy.mode = mode  # type: ignore[assignment]
            with session(server.url, clock, tmp_path, proxies=("env:PROXY",), environment=environment) as transport:
                try:
                    shown.append(repr(transport.send(MEMBERS)))
                except ProxiesDown as error:
                    shown.append(f"{error!r} {error.__context__!r}")
        assert len(proxy.targets) == 2
    everything = " ".join(shown) + caplog.text + repr([vars(record) for record in caplog.records])
    everything += "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    assert "ProxiesDown" in everything
    assert proxy.url in everything, "its address is remembered"
    for canary in (PASSWORD, base64.b64encode(f"me:{PASSWORD}".encode()).decode(), KEY):
        assert canary not in everything


def test_a_reference_that_leads_nowhere_is_refused_before_anything_is_sent(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    with (
        pytest.raises(AccountsUsageError, match="The variable PROXY is not set"),
        session(server.url, clock, tmp_path, proxies=("env:PROXY",), limits=Limits()),
    ):
        pass
    assert server.log == []
