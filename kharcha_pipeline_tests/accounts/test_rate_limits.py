"""Vendors that want to be asked less: their pauses are kept, and their limits are not reached to begin with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.clock import HOUR_MS
from kharcha_pipeline.accounts.connector import Rate, Request
from kharcha_pipeline.accounts.failures import Blocked, DeadlinePassed, RateLimited
from kharcha_pipeline.accounts.rates import RateLimiter
from kharcha_pipeline_tests.accounts.sending import GOOD, MEMBERS, good, session
from kharcha_pipeline_tests.accounts.tiny_connector import TinyConnector
from kharcha_pipeline_tests.accounts.vendor_server import (
    Fault,
    ProxyServer,
    Received,
    Reply,
    TurnedClock,
    VendorServer,
    http_date,
    page,
)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[VendorServer]:
    with VendorServer(good, clock) as server:
        yield server


def refusal(**headers: str) -> Reply:
    """A 429 as programs get it."""
    return Reply(
        429, {"error": "Too Many Requests"}, {name.replace("_", "-"): text for name, text in headers.items()}
    )


class Counting:
    """A vendor that refuses what is above its limit, by a window that slides over arrivals."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.arrivals: list[int] = []
        self.refused = 0

    def __call__(self, received: Received) -> Reply:
        begin = received.at_ms - self.rate.seconds * 1000
        if sum(at > begin for at in self.arrivals) >= self.rate.requests:
            self.refused += 1
            return refusal()
        self.arrivals.append(received.at_ms)
        return GOOD


def test_429_with_retry_after_in_seconds_waits_as_long_and_goes_on_at_the_same_page(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    server.faults.append(Fault("/members", refusal(Retry_After="17"), nth=2))
    with session(server.url, clock, tmp_path) as transport:
        for number in ("1", "2", "3"):
            transport.send(Request(path="/members", query=(("page", number),)))
    assert [received.parameters["page"] for received in server.log] == ["1", "2", "2", "3"]
    assert [received.status for received in server.log] == [200, 429, 200, 200]
    assert 17_000 <= server.log[2].at_ms - server.log[1].at_ms <= 18_001


def test_retry_after_as_an_http_date(server: VendorServer, clock: TurnedClock, tmp_path: Path) -> None:
    server.faults.append(Fault("/members", refusal(Retry_After=http_date(clock.now_ms() + 40_000))))
    with session(server.url, clock, tmp_path) as transport:
        transport.send(MEMBERS)
    assert 40_000 <= server.log[1].at_ms - server.log[0].at_ms <= 41_001


@pytest.mark.parametrize("ahead", [-3_600, 3_600])
def test_retry_after_as_a_date_of_a_vendor_whose_clock_is_wrong(tmp_path: Path, ahead: int) -> None:
    ours = TurnedClock()
    theirs = TurnedClock(ours.now_ms() + ahead * 1000)
    with VendorServer(good, theirs) as server, session(server.url, ours, tmp_path) as transport:
        server.faults.append(Fault("/members", refusal(Retry_After=http_date(theirs.now_ms() + 40_000))))
        transport.send(MEMBERS)
    assert len(ours.slept) == 1
    assert 40 <= ours.slept[0] <= 41


@pytest.mark.parametrize("past", ["date", "0"])
def test_retry_after_in_the_past_is_the_shortest_wait(
    server: VendorServer, clock: TurnedClock, tmp_path: Path, past: str
) -> None:
    text = http_date(clock.now_ms() - 60_000) if past == "date" else past
    server.faults.append(Fault("/members", refusal(Retry_After=text)))
    with session(server.url, clock, tmp_path) as transport:
        transport.send(MEMBERS)
    assert len(clock.slept) == 1
    assert 1 <= clock.slept[0] <= 2


@pytest.mark.parametrize("text", [None, "-5", "soon", "", "1.5e3", "9" * 400, "Thu, 99 Foo 2026 99:99:99 GMT"])
def test_retry_after_absent_negative_or_text_is_exponential_backoff_with_jitter(
    server: VendorServer, clock: TurnedClock, tmp_path: Path, text: str | None
) -> None:
    reply = refusal() if text is None else refusal(Retry_After=text)
    server.faults.append(Fault("/members", reply, sticky=True))
    with session(server.url, clock, tmp_path) as transport, pytest.raises(RateLimited) as caught:
        transport.send(MEMBERS)
    for pause, longest in zip(clock.slept, (1, 2, 4, 8), strict=True):
        assert longest / 2 <= pause <= longest
    assert caught.value.until_ms == clock.now_ms() + 900_000, "who goes on refusing is left alone for a while"


def test_very_large_retry_after_is_not_slept_and_other_accounts_go_on(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    server.faults.append(Fault(lambda received: received.credential == "limited-key", refusal(Retry_After="3600")))
    begun = clock.now_ms()
    with (
        session(server.url, clock, tmp_path, account="limited", key="limited-key") as limited,
        session(server.url, clock, tmp_path, account="other") as other,
    ):
        with pytest.raises(RateLimited) as caught:
            limited.send(MEMBERS)
        assert other.send(MEMBERS).status == 200
    assert caught.value.until_ms == begun + HOUR_MS
    assert clock.slept == []
    assert str(caught.value) == "127.0.0.1/members asks for a pause: too many requests (429)."


def test_a_pause_of_a_minute_is_slept_and_a_longer_one_ends_the_cycle(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    with session(server.url, clock, tmp_path) as transport:
        server.faults.append(Fault("/members", refusal(Retry_After="60")))
        transport.send(MEMBERS)
        server.faults.append(Fault("/members", refusal(Retry_After="61")))
        with pytest.raises(RateLimited):
            transport.send(MEMBERS)
    assert len(clock.slept) == 1


def test_503_with_retry_after_is_kept_too(server: VendorServer, clock: TurnedClock, tmp_path: Path) -> None:
    server.faults.append(Fault("/members", Reply(503, b"", {"Retry-After": "30"})))
    with session(server.url, clock, tmp_path) as transport:
        transport.send(MEMBERS)
    assert 30 <= clock.slept[0] <= 31


def test_429_with_a_bot_checkpoint_is_blocked_and_not_an_expired_session(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    checkpoint = page("<!DOCTYPE html><title>Security Checkpoint</title><script>x</script>", 429)
    server.faults.append(Fault("/members", checkpoint))
    with session(server.url, clock, tmp_path) as transport, pytest.raises(Blocked) as caught:
        transport.send(MEMBERS)
    assert caught.value.until_ms == clock.now_ms() + HOUR_MS
    assert "says nothing about the credential" in str(caught.value)
    assert len(server.log) == 1
    assert clock.slept == []


def test_403_with_a_used_up_budget_and_its_reset_is_a_rate_limit(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    now = clock.now_ms() // 1000
    used_up = {"x-ratelimit-remaining": "0"}
    with session(server.url, clock, tmp_path) as transport:
        server.faults.append(Fault("/members", Reply(403, {}, used_up | {"x-ratelimit-reset": str(now + 30)})))
        assert transport.send(MEMBERS).status == 200
        assert 30 <= clock.slept[0] <= 31
        server.faults.append(Fault("/members", Reply(403, {}, used_up | {"x-ratelimit-reset": str(now + 1800)})))
        with pytest.raises(RateLimited) as caught:
            transport.send(MEMBERS)
        assert caught.value.until_ms is not None
        assert 0 <= caught.value.until_ms - (now + 1800) * 1000 <= 1000, "the vendor's date knows no milliseconds"
        server.faults.append(Fault("/members", Reply(403, {"message": "secondary limit"}, {"Retry-After": "20"})))
        assert transport.send(MEMBERS).status == 200
        server.faults.append(Fault("/members", Reply(403, {}, used_up | {"x-ratelimit-reset": "soon"})))
        assert transport.send(MEMBERS).status == 200
    assert len(clock.slept) == 3


def test_server_enforces_n_per_minute_and_never_has_to(clock: TurnedClock, tmp_path: Path) -> None:
    vendor = Counting(Rate(20, 60))
    connector = TinyConnector({"default": Rate(20, 60)})
    with VendorServer(vendor, clock) as server:
        for _ in range(3):  # the next process knows of the requests of the one before
            with session(server.url, clock, tmp_path, connector=connector) as transport:
                for number in range(15):
                    transport.send(MEMBERS)
                    clock.advance(0.2 * (number % 3))
    assert vendor.refused == 0
    assert len(vendor.arrivals) == 45
    assert 2 * 60_000 <= vendor.arrivals[-1] - vendor.arrivals[0] <= 2 * 62_000, "and no slower than it has to be"


def test_each_budget_has_its_own_limit_and_one_without_a_name_counts_by_default(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    connector = TinyConnector({"default": Rate(2, 60), "events": Rate(5, 60)})
    with session(server.url, clock, tmp_path, connector=connector) as transport:
        for _ in range(5):
            transport.send(Request(path="/events", budget="events"))
        transport.send(Request(path="/a"))
        transport.send(Request(path="/b", budget="unknown"))
        assert clock.slept == []
        transport.send(Request(path="/c"))
    assert clock.slept == [60.5]


def test_a_limit_that_would_outlast_the_cycle_ends_it_at_once(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    connector = TinyConnector({"default": Rate(1, 3600)})
    with session(server.url, clock, tmp_path, connector=connector) as transport:
        transport.send(MEMBERS)
        with pytest.raises(DeadlinePassed) as caught:
            transport.send(MEMBERS)
    assert caught.value.until_ms == clock.now_ms() + HOUR_MS + 500
    assert clock.slept == []
    assert len(server.log) == 1


def test_a_clock_that_was_set_back_costs_one_window_and_not_the_difference(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    connector = TinyConnector({"default": Rate(3, 60)})
    with session(server.url, clock, tmp_path, connector=connector) as transport:
        for _ in range(3):
            transport.send(MEMBERS)
        clock.turn_to(clock.now_ms() - 30 * 86_400_000)
        transport.send(MEMBERS)
    assert clock.slept == [60.5]


class Remembered:
    """The memory of requests, in memory."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def note_request(self, account: str, budget: str, at_ms: int) -> None:
        self.sent.append(at_ms)

    def requests_since(self, account: str, budget: str, since_ms: int) -> list[int]:
        return [at for at in self.sent if at >= since_ms]


@given(
    requests=st.integers(1, 7),
    seconds=st.sampled_from([0.5, 1.0, 10.0, 60.0]),
    gaps=st.lists(st.floats(0, 30, allow_nan=False), max_size=60),
)
def test_no_window_ever_holds_more_than_the_limit(requests: int, seconds: float, gaps: list[float]) -> None:
    clock, memory = TurnedClock(), Remembered()
    limiter = RateLimiter("team", {"default": Rate(requests, seconds)}, memory, clock, clock.sleep)
    for gap in gaps:
        clock.advance(gap)
        limiter.wait("default")
    assert len(memory.sent) == len(gaps)
    for first, last in zip(memory.sent, memory.sent[requests:], strict=False):
        assert last - first >= seconds * 1000


def test_429_through_one_proxy_of_a_pool_rests_the_account_on_every_route(clock: TurnedClock, tmp_path: Path) -> None:
    vendor = Counting(Rate(6, 60))
    connector = TinyConnector({"default": Rate(6, 60)})
    with ExitStack() as stack:
        server = stack.enter_context(VendorServer(vendor, clock))
        proxies = tuple(stack.enter_context(ProxyServer(f"proxy-{number}")).url for number in range(3))
        server.faults.append(Fault("/members", refusal(Retry_After="25"), nth=2))
        server.faults.append(Fault("/members", refusal(Retry_After="7200"), nth=8))
        with session(server.url, clock, tmp_path, connector=connector, proxies=proxies) as transport:
            for _ in range(7):
                transport.send(MEMBERS)
            refused, following = server.log[1], server.log[2]
            assert refused.status == 429
            assert following.at_ms - refused.at_ms >= 25_000
            assert following.via != refused.via
            with pytest.raises(RateLimited) as caught:
                transport.send(MEMBERS)
        assert caught.value.until_ms is not None
        assert caught.value.until_ms >= clock.now_ms() + 7_200_000
        assert {received.via for received in server.log} == {"proxy-0", "proxy-1", "proxy-2"}
        assert vendor.refused == 0, "three proxies do not make three limits"


def test_accounts_in_threads_do_not_slow_each_other(clock: TurnedClock, tmp_path: Path) -> None:
    vendors = {f"key-of-account-{number}": Counting(Rate(5, 60)) for number in range(4)}
    connector = TinyConnector({"default": Rate(5, 60)})

    with VendorServer(lambda received: vendors[received.credential](received), clock) as server:

        def poll(key: str) -> None:
            with session(server.url, clock, tmp_path, account=key, key=key, connector=connector) as transport:
                for _ in range(5):
                    transport.send(MEMBERS)

        threads = [threading.Thread(target=poll, args=(key,)) for key in vendors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert clock.slept == []
    assert [len(vendor.arrivals) for vendor in vendors.values()] == [5] * 4
