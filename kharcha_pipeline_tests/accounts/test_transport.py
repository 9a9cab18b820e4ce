"""What happens on the way to a vendor and back: every fault that may pass is borne, within bounds, and told apart."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.connector import Answer, Request
from kharcha_pipeline.accounts.failures import (
    AccountsUsageError,
    DeadlinePassed,
    Drifted,
    Failure,
    Misconfigured,
    Moved,
    SessionExpired,
    Unauthorized,
    Unreachable,
)
from kharcha_pipeline.accounts.transport import REMOVED, Limits
from kharcha_pipeline_tests.accounts.certificates import server_context
from kharcha_pipeline_tests.accounts.sending import GOOD, KEY, MEMBERS, SHORT, good, session
from kharcha_pipeline_tests.accounts.tiny_connector import CookieConnector, TinyConnector
from kharcha_pipeline_tests.accounts.vendor_server import (
    Behaviour,
    Fault,
    ProxyServer,
    Received,
    Reply,
    TurnedClock,
    VendorServer,
    nobody_listens,
    page,
    redirect,
)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[VendorServer]:
    with VendorServer(good, clock) as server:
        yield server


def failure_of(caught: pytest.ExceptionInfo[Failure]) -> str:
    """The sentence; nothing is behind it that could hold what was sent."""
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert str(error).endswith(".")
    assert KEY not in "".join(traceback.format_exception(error))
    return str(error)


def test_a_request_arrives_as_asked_and_its_answer_is_whole(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    request = Request(
        method="POST",
        path="/usage events",
        query=(("group_by[]", "model"), ("group_by[]", "user"), ("empty", "")),
        body={"startDate": 1795176000000, "limit": Decimal("0.1000"), "name": "Zoë"},
        headers=(("Accept", "application/json"), ("x-tiny-version", "2")),
    )
    with session(f"{server.url}/v1/", clock, tmp_path) as transport:
        answer = transport.send(request)
        assert transport.requests_sent == 1
        assert transport.now_ms() == clock.now_ms()
    (received,) = server.log
    assert (received.method, received.path) == ("POST", "/v1/usage events")
    assert received.query == list(request.query)
    assert received.body == '{"startDate":1795176000000,"limit":0.1000,"name":"Zoë"}'.encode()
    assert received.headers["content-type"] == "application/json"
    assert received.headers["x-tiny-version"] == "2"
    assert received.credential == KEY
    assert received.headers["user-agent"].startswith("kharcha-pipeline/")
    assert "cookie" not in received.headers
    assert answer.request is request
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == GOOD.content
    assert answer.fetched_ms == clock.now_ms()


@pytest.mark.parametrize("status", [500, 502, 503, 529, 408])
def test_a_5xx_once_is_retried_with_success(
    server: VendorServer, clock: TurnedClock, tmp_path: Path, status: int
) -> None:
    server.faults.append(Fault("/members", Reply(status, {"error": "x"})))
    with session(server.url, clock, tmp_path) as transport:
        assert transport.send(MEMBERS).status == 200
        assert transport.requests_sent == 2
    assert [received.status for received in server.log] == [status, 200]
    assert len(clock.slept) == 1
    assert 0.5 <= clock.slept[0] <= 1.0


def test_5xx_for_ever_ends_after_bounded_attempts_and_the_next_cycle_tries_again(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    server.faults.append(Fault("/members", Reply(503, b"down"), sticky=True))
    for _ in range(2):
        with session(server.url, clock, tmp_path) as transport, pytest.raises(Unreachable) as caught:
            transport.send(MEMBERS)
        assert "/members fails (503); 5 attempts were made, and the next cycle tries again" in failure_of(caught)
    assert len(server.log) == 10
    first = clock.slept[:4]
    for pause, longest in zip(first, (1, 2, 4, 8), strict=True):
        assert longest / 2 <= pause <= longest
    assert clock.slept[4:] != first, "pauses differ, so that many do not come back at the same moment"


def test_connection_refused(clock: TurnedClock, tmp_path: Path) -> None:
    with session(nobody_listens(), clock, tmp_path) as transport, pytest.raises(Unreachable) as caught:
        transport.send(MEMBERS)
    assert "could not be connected to; 5 attempts" in failure_of(caught)
    assert len(clock.slept) == 4


def test_connection_reset(server: VendorServer, clock: TurnedClock, tmp_path: Path) -> None:
    server.faults.append(Fault("/members", Behaviour("reset")))
    with session(server.url, clock, tmp_path) as transport:
        assert transport.send(MEMBERS).status == 200
        server.faults.append(Fault("/members", Behaviour("reset"), sticky=True))
        with pytest.raises(Unreachable) as caught:
            transport.send(MEMBERS)
    assert "cut the connection without an answer" in failure_of(caught)


def test_dns_error(clock: TurnedClock, tmp_path: Path) -> None:
    with (
        session("https://vendor.invalid", clock, tmp_path, limits=Limits(attempts=2)) as transport,
        pytest.raises(Unreachable) as caught,
    ):
        transport.send(MEMBERS)
    assert failure_of(caught).startswith("vendor.invalid/members has a name that cannot be resolved; 2 attempts")


def test_no_answer_is_a_read_timeout_and_a_retry(server: VendorServer, clock: TurnedClock, tmp_path: Path) -> None:
    server.faults.append(Fault("/members", Behaviour("hang")))
    with session(server.url, clock, tmp_path, limits=SHORT._replace(attempts=6)) as transport:
        assert transport.send(MEMBERS).status == 200
    assert len(server.log) >= 2


def test_slow_headers_end_by_the_total_time_though_each_byte_comes_in_time(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    server.faults.append(Fault("/members", Behaviour("slow_headers", 0.02), sticky=True))
    with session(server.url, clock, tmp_path, limits=SHORT) as transport, pytest.raises(Unreachable) as caught:
        transport.send(MEMBERS)
    assert "sent nothing for too long; 2 attempts" in failure_of(caught)
    assert len(server.log) == 2


def test_byte_by_byte_body_is_ended_by_the_total_deadline(clock: TurnedClock, tmp_path: Path) -> None:
    long = Reply(200, {"members": ["x" * 10_000]})
    with VendorServer(lambda _: long, clock) as server:
        server.faults.append(Fault("/members", Behaviour("drip", 0.02), sticky=True))
        with session(server.url, clock, tmp_path, limits=SHORT) as transport, pytest.raises(Unreachable):
            transport.send(MEMBERS)
        patient = SHORT._replace(answer_seconds=60.0, read_seconds=30.0)
        with session(server.url, clock, tmp_path, limits=patient, deadline_seconds=1) as transport:
            with pytest.raises(DeadlinePassed) as caught:
                transport.send(MEMBERS)
            with pytest.raises(DeadlinePassed):
                transport.send(Request(path="/anything"))
        assert "the next one goes on from there" in failure_of(caught)
        assert server.requests("/anything") == []


def test_a_pause_that_would_outlast_the_cycle_is_not_begun(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    server.faults.append(Fault("/members", Reply(503, b"", {"Retry-After": "50"})))
    with (
        session(server.url, clock, tmp_path, deadline_seconds=45) as transport,
        pytest.raises(DeadlinePassed) as caught,
    ):
        transport.send(MEMBERS)
    assert clock.slept == []
    assert caught.value.until_ms is not None
    assert caught.value.until_ms >= clock.now_ms() + 50_000
    failure_of(caught)


def test_huge_body_ends_at_the_size_cap(server: VendorServer, clock: TurnedClock, tmp_path: Path) -> None:
    server.faults.append(Fault("/members", Behaviour("huge"), sticky=True))
    limits = Limits(largest_body=2**20)
    with session(server.url, clock, tmp_path, limits=limits) as transport, pytest.raises(Unreachable) as caught:
        transport.send(MEMBERS)
    assert "an answer of more than 1 MB" in failure_of(caught)
    assert len(server.log) == 1, "it would be as long again"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut_json", "JSON that breaks off"),
        ("wrong_length", "ends too early"),
        ("broken_chunks", "ends too early"),
        ("bad_gzip", "cannot be decompressed"),
    ],
)
def test_a_broken_body_is_retried_and_never_taken_for_whole(
    server: VendorServer, clock: TurnedClock, tmp_path: Path, kind: str, said: str
) -> None:
    server.faults.append(Fault("/members", Behaviour(kind)))  # type: ignore[arg-type]
    with session(server.url, clock, tmp_path) as transport:
        assert json.loads(transport.send(MEMBERS).body) == GOOD.content
        assert transport.requests_sent == 2
        server.faults.append(Fault("/members", Behaviour(kind), sticky=True))  # type: ignore[arg-type]
        with pytest.raises(Unreachable) as caught:
            transport.send(MEMBERS)
    assert said in failure_of(caught)


@pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/octet-stream", ""])
def test_json_with_a_wrong_content_type_is_accepted_when_it_parses(
    clock: TurnedClock, tmp_path: Path, content_type: str
) -> None:
    contents = iter([b'{"members": []}', b" [1] ", b"members: none"])
    answer = lambda _: Reply(200, next(contents), {"Content-Type": content_type})  # noqa: E731
    with (
        VendorServer(answer, clock) as server,
        session(server.url, clock, tmp_path, limits=Limits(attempts=1)) as transport,
    ):
        assert transport.send(MEMBERS).body == b'{"members": []}'
        assert transport.send(MEMBERS).body == b" [1] "
        with pytest.raises(Unreachable):
            transport.send(MEMBERS)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b'{"a": [Infinity]}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"b": [{"a": 1, "a": 1}]}',
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_nan_and_names_that_occur_twice_are_refused(clock: TurnedClock, tmp_path: Path, body: bytes) -> None:
    with (
        VendorServer(lambda _: Reply(200, body), clock) as server,
        session(server.url, clock, tmp_path) as transport,
        pytest.raises(Drifted) as caught,
    ):
        transport.send(MEMBERS)
    assert "nothing of it is used" in failure_of(caught)
    assert len(server.log) == 1


def test_a_byte_order_mark_is_passed_over_and_kept_as_it_came(clock: TurnedClock, tmp_path: Path) -> None:
    body = b'\xef\xbb\xbf{"members": []}'
    with VendorServer(lambda _: Reply(200, body), clock) as server, session(server.url, clock, tmp_path) as transport:
        assert transport.send(MEMBERS).body == body


def test_204_is_no_data_and_304_is_unchanged_only_where_that_was_asked(clock: TurnedClock, tmp_path: Path) -> None:
    replies = {"/none": Reply(204), "/same": Reply(304, b"", {"ETag": '"1"'}), "/empty": Reply(200)}
    asked = Request(path="/same", headers=(("If-None-Match", '"1"'),))
    with (
        VendorServer(lambda received: replies[received.path], clock) as server,
        session(server.url, clock, tmp_path, limits=Limits(attempts=1)) as transport,
    ):
        none = transport.send(Request(path="/none"))
        assert (none.status, none.body) == (204, b"")
        same = transport.send(asked)
        assert (same.status, same.headers["etag"]) == (304, '"1"')
        with pytest.raises(Moved):
            transport.send(Request(path="/same"))
        with pytest.raises(Unreachable):
            transport.send(Request(path="/empty"))


def test_what_is_no_json_is_accepted_where_the_request_asks_for_it(clock: TurnedClock, tmp_path: Path) -> None:
    replies = {
        "/csv": Reply(200, b"day,usd\n", {"Content-Type": "text/csv"}),
        "/page": page("<title>Sign in</title>"),
    }
    accept = (("Accept", "text/csv"),)
    with (
        VendorServer(lambda received: replies[received.path], clock) as server,
        session(server.url, clock, tmp_path) as transport,
    ):
        assert transport.send(Request(path="/csv", headers=accept)).body == b"day,usd\n"
        with pytest.raises(SessionExpired):
            transport.send(Request(path="/page", headers=accept))
    assert server.log[0].headers["accept"] == "text/csv"


HEADS = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, br, zstd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: https://[\r\nContent-Type: ;;=\xff\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.1 429 No\r\nRetry-After: Mon, 99\r\nDate: yesterday\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/0.9 999 \r\n\r\n",
    ]
)


@given(head=HEADS, body=st.binary(max_size=64) | st.sampled_from([b"5\r\n[1,2]\r\n0\r\n\r\n", b'{"a": [1.5e9]}']))
def test_whatever_a_server_sends_is_an_answer_or_a_failure(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, body: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(head + body)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        limits = Limits(attempts=1, read_seconds=5.0, answer_seconds=5.0)
        with session(address, TurnedClock(), tmp_path_factory.getbasetemp() / "any", limits=limits) as transport:
            try:
                assert 200 <= transport.send(MEMBERS).status < 300
            except Failure as failure:
                assert str(failure).endswith(".")
                assert failure.__context__ is None
        thread.join()


# ---- the credential


def test_401_on_the_first_request_is_told_at_once(server: VendorServer, clock: TurnedClock, tmp_path: Path) -> None:
    server.faults.append(Fault("/members", Reply(401, {"error": "no"}), sticky=True))
    with session(server.url, clock, tmp_path) as transport, pytest.raises(Unauthorized) as caught:
        transport.send(MEMBERS)
    assert "does not accept the credential (401)" in failure_of(caught)
    assert len(server.log) == 1


def test_401_in_the_middle_of_paging_is_retried_once(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    server.faults.append(Fault("/members", Reply(401, {"error": "no"}), nth=2))
    with session(server.url, clock, tmp_path) as transport:
        transport.send(MEMBERS)
        assert transport.send(MEMBERS).status == 200
        assert [received.status for received in server.log] == [200, 401, 200]
        assert server.log[1].query == server.log[2].query
        server.faults.append(Fault("/members", Reply(401, {"error": "no"}), sticky=True))
        with pytest.raises(Unauthorized) as caught:
            transport.send(MEMBERS)
    failure_of(caught)
    assert [received.status for received in server.log[3:]] == [401, 401]


def test_a_cookie_that_the_server_sets_neither_replaces_nor_joins_the_configured_one(
    clock: TurnedClock, tmp_path: Path
) -> None:
    setting = {"Set-Cookie": "TinySession=other; Path=/; Domain=127.0.0.1"}
    with VendorServer(lambda _: Reply(200, {}, setting), clock) as server:
        with session(server.url, clock, tmp_path, connector=CookieConnector()) as transport:
            answers = [transport.send(MEMBERS) for _ in range(3)]
        assert [received.headers["cookie"] for received in server.log] == [f"TinySession={KEY}"] * 3
        assert all("set-cookie" not in answer.headers for answer in answers)
        with session(server.url, clock, tmp_path) as transport:
            transport.send(MEMBERS)
            transport.send(MEMBERS)
        assert all("cookie" not in received.headers for received in server.log[3:])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_never_followed_and_no_credential_goes_with_them(
    server: VendorServer, clock: TurnedClock, tmp_path: Path, status: int
) -> None:
    with VendorServer(good, clock) as elsewhere:
        for location, expected in ((f"{elsewhere.url}/login", SessionExpired), (f"{elsewhere.url}/v2", Moved)):
            server.faults.append(Fault("/members", redirect(location, status)))
            with session(server.url, clock, tmp_path) as transport, pytest.raises(expected) as caught:
                transport.send(MEMBERS)
            assert elsewhere.url not in failure_of(caught)
        assert elsewhere.log == []
    assert len(server.log) == 2


def test_environment_proxies_are_ignored(
    server: VendorServer, clock: TurnedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProxyServer("environment") as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with session(server.url, clock, tmp_path) as transport:
            transport.send(MEMBERS)
        assert proxy.targets == []
    assert [received.via for received in server.log] == ["direct"]


def test_a_signed_link_is_asked_for_without_any_credential(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    with VendorServer(good, clock) as store, session(server.url, clock, tmp_path) as transport:
        transport.send(Request(path=f"{store.url}/file?signature=abc", is_bare=True))
        with pytest.raises(Misconfigured, match="not encrypted"):
            transport.send(Request(path="http://files.example.com/file", is_bare=True))
    (received,) = store.log
    assert received.query == [("signature", "abc")]
    assert received.credential == ""
    assert "x-tiny-version" not in received.headers


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("https://api.tiny.example", "https://api.tiny.example.evil.test/x"),
        ("https://api.tiny.example", "https://eviltiny.example/x"),
        ("https://api.tiny.co.uk", "https://evil.co.uk/x"),
        ("https://10.0.0.1", "https://9.9.0.1/x"),
        ("https://api.tiny.example", "http://api.tiny.example/x"),
        ("https://api.tiny.example", "https://"),
        ("http://127.0.0.1:1", "https://api.tiny.example/x"),
    ],
)
def test_a_credential_goes_to_hosts_of_its_own_vendor_only(
    clock: TurnedClock, tmp_path: Path, base_url: str, path: str
) -> None:
    with session(base_url, clock, tmp_path) as transport:
        with pytest.raises(Misconfigured) as caught:
            transport.send(Request(path=path))
        assert transport.requests_sent == 0
    failure_of(caught)


def test_a_credential_that_cannot_be_one_of_the_vendor_is_refused_before_anything_is_sent(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    class Picky(TinyConnector):
        def authorization(self, secret: str, settings: object) -> dict[str, str]:
            raise AccountsUsageError("This is no key of the vendor.")

    with (
        pytest.raises(AccountsUsageError, match="no key of the vendor"),
        session(server.url, clock, tmp_path, connector=Picky()),
    ):
        pass
    assert server.log == []


def test_a_header_that_http_cannot_carry_is_a_failure_without_a_quote(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    for bad in (f"{KEY}\r\nX: 1", f"{KEY}ö€"):
        with session(server.url, clock, tmp_path, key=bad) as transport, pytest.raises(Unreachable) as caught:
            transport.send(MEMBERS)
        assert "characters that HTTP does not have" in failure_of(caught)
    assert server.log == []


def test_logs_and_what_is_stored_contain_no_key(
    clock: TurnedClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.NOTSET)
    basic = base64.b64encode(f"{KEY}:".encode()).decode()

    class Echoing(CookieConnector):
        def authorization(self, secret: str, settings: object) -> dict[str, str]:
            return {"Cookie": f"TinySession={secret}", "Authorization": f"Basic {basic}"}

    def echo(received: Received) -> Reply:
        told = f"{received.headers['cookie']} {received.headers['authorization']}"
        return Reply(200, {"told": told, "plain": KEY}, {"X-Told": told, "Set-Cookie": f"s={KEY}"})

    request = Request(path="/members", query=(("page", "query-canary"),))
    with VendorServer(echo, clock) as server:
        with session(server.url, clock, tmp_path, connector=Echoing()) as transport:
            answer = transport.send(request)
            assert KEY not in repr(transport) + repr(vars(transport)["_egress"])
        server.faults.append(Fault("/members", Reply(500, {"error": KEY}), sticky=True))
        with session(server.url, clock, tmp_path, connector=Echoing()) as transport:
            with pytest.raises(Unreachable) as caught:
                transport.send(request)
            assert KEY not in failure_of(caught)
    assert KEY in server.log[0].headers["cookie"]
    everything = repr(answer) + answer.body.decode() + caplog.text + repr([vars(record) for record in caplog.records])
    everything += "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    for canary in (KEY, basic):
        assert canary not in everything
    assert "query-canary" not in caplog.text
    assert "team: GET 127.0.0.1/members" in caplog.text
    assert json.loads(answer.body)["plain"] == REMOVED
    assert answer.headers["x-told"].count(REMOVED) == 2


def test_the_token_of_a_cookie_is_removed_also_where_it_stands_alone(clock: TurnedClock, tmp_path: Path) -> None:
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhdXRoMHx1c2VyXzEifQ.c2lnbmF0dXJl"
    reply = Reply(200, {"user": "user_EXAMPLE01", "session": token})
    with (
        VendorServer(lambda _: reply, clock) as server,
        session(
            server.url, clock, tmp_path, connector=CookieConnector(), key=f"user_EXAMPLE01%3A%3A{token}"
        ) as transport,
    ):
        answer = transport.send(MEMBERS)
    assert json.loads(answer.body) == {"user": "user_EXAMPLE01", "session": REMOVED}


def test_what_the_connector_says_of_an_answer_comes_first(
    server: VendorServer, clock: TurnedClock, tmp_path: Path
) -> None:
    seen: list[Answer] = []

    def classify(answer: Answer) -> Failure | None:
        seen.append(answer)
        return Misconfigured("It is another account.") if answer.status == 418 else None

    server.faults.append(Fault("/members", Reply(418)))
    with session(server.url, clock, tmp_path, connector=TinyConnector(classify=classify)) as transport:
        with pytest.raises(Misconfigured, match="another account"):
            transport.send(MEMBERS)
        transport.send(MEMBERS)
    assert [answer.status for answer in seen] == [418, 200]


# ---- encryption


def test_https_works_with_a_certificate_that_the_system_trusts_and_with_no_other(
    clock: TurnedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = server_context(tmp_path / "certificates")
    with VendorServer(good, clock, tls=context) as server:
        with session(server.url, clock, tmp_path) as transport, pytest.raises(Unreachable) as caught:
            transport.send(MEMBERS)
        assert "a certificate that this machine does not trust" in failure_of(caught)
        assert server.log == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        with session(server.url, clock, tmp_path) as transport:
            assert transport.send(MEMBERS).status == 200
        assert server.log[0].credential == KEY
