"""`kharcha push`: only what changed, resumed where it was cut, patient with flaky servers, mute about its token."""

from __future__ import annotations

import json
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import keyring
import pytest

from kharcha_pipeline.ingest import push as module
from kharcha_pipeline.ingest.contract import understood
from kharcha_pipeline.ingest.errors import IngestError, IngestUsageError
from kharcha_pipeline.ingest.push import Patience, Pushed, destination_of, push
from kharcha_pipeline_tests.cli.terminal import UNKNOWN, Terminal, response, write_three_days

TOKEN = "kharcha_canary-0123456789"
Reply = Callable[[BaseHTTPRequestHandler], None]


class Flaky:
    """A server that does what it is told to, request by request, and after that takes everything in."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""

    @contextmanager
    def listening(self) -> Iterator[Flaky]:
        """Listens for as long as the body runs."""
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                understood(data)  # whatever is sent keeps to the contract
                flaky.bodies.append(json.loads(data) | {"path": self.path})
                flaky.headers.append(dict(self.headers))
                reply = flaky.replies.pop(0) if flaky.replies else taken
                reply(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every row that arrived."""
        return [row for body in self.bodies for row in body["rows"]]


NOT_NOW = {"ok": False, "error": "Not now.", "details": []}


def answer(status: int, document: Any = NOT_NOW, **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        data = json.dumps(document).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return reply


def taken(handler: BaseHTTPRequestHandler) -> None:
    answer(200, {"ok": True, "upserted": 1, "changed": 1, "kept": 0, "mismatched": 0, "published": "soon"})(handler)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Ends the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"ok": true')
    handler.close_connection = True
    handler.connection.shutdown(2)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Ends the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(2)


@pytest.fixture
def flaky() -> Iterator[Flaky]:
    with Flaky().listening() as server:
        yield server


@pytest.fixture(scope="module")
def synced_laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine with four rows on three days, one of which has no price."""
    directory = tmp_path_factory.mktemp("laptop")
    terminal = Terminal.below(directory)
    write_three_days(terminal)
    assert terminal.kharcha("sync", "--quiet", KHARCHA_MACHINE="laptop").code == 0
    return directory


@pytest.fixture
def laptop(synced_laptop: Path, tmp_path: Path) -> Terminal:
    """A copy of that machine."""
    shutil.copytree(synced_laptop, tmp_path / "laptop")
    return Terminal(tmp_path / "laptop/home", tmp_path / "laptop/data", {"KHARCHA_MACHINE": "laptop"})


class Pauses(list[float]):
    """Pauses that were asked for, without pausing."""

    def patience(self, **changes: Any) -> Patience:
        return Patience(sleep=self.append, **changes)


def send(laptop: Terminal, flaky: Flaky, pauses: Pauses | None = None, **options: Any) -> Pushed:
    """One push with the right token."""
    patience = (Pauses() if pauses is None else pauses).patience()
    return push(laptop.data, destination_of(flaky.address), lambda: TOKEN, patience=patience, **options)


def test_what_token_usage_holds_is_sent_once_and_then_only_what_changed(laptop: Terminal, flaky: Flaky) -> None:
    first = send(laptop, flaky)
    assert (first.sent, first.requests, first.corrections) == (4, 1, 0)
    (body,) = flaky.bodies
    assert (body["path"], body["timezone"], body["correction"]) == ("/api/usage/ingest", "UTC", False)
    assert flaky.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert {row["machine"] for row in body["rows"]} == {"laptop"}
    assert {row["agent"] for row in body["rows"]} == {"claude-code"}
    costs = {(row["date"], row["model"]): row["costUsd"] for row in body["rows"]}
    assert costs["2026-10-30", "claude-sonnet-4-5"] == "0.45"
    assert costs["2026-11-03", UNKNOWN] is None

    assert send(laptop, flaky).sent == 0
    assert len(flaky.bodies) == 1  # no connection at all
    laptop.transcript("session-3", response(201, "2026-11-02T12:00:00Z", "claude-haiku-4-5", 10, 1))
    laptop.kharcha("sync", "--quiet")
    second = send(laptop, flaky)
    assert (second.sent, second.corrections) == (1, 0)
    assert flaky.bodies[-1]["rows"][0]["messages"] == 2
    assert send(laptop, flaky, everything=True).sent == 4


def test_a_cost_that_leaves_something_out_is_not_sent_as_the_whole(laptop: Terminal, flaky: Flaky) -> None:
    with duckdb.connect(str(laptop.data / "kharcha.duckdb")) as connection:  # some of the responses without a price
        connection.execute("UPDATE daily_usage SET unpriced_events = 1, events = 2 WHERE day = '2026-10-30'")
    send(laptop, flaky)
    costs = {row["date"]: row["costUsd"] for row in flaky.rows if row["model"] == "claude-sonnet-4-5"}
    assert costs == {"2026-10-30": None, "2026-11-02": "0.007995"}


def test_what_shrank_or_vanished_is_sent_as_a_correction(laptop: Terminal, flaky: Flaky) -> None:
    send(laptop, flaky)
    with duckdb.connect(str(laptop.data / "kharcha.duckdb")) as connection:
        connection.execute("UPDATE daily_usage SET input_tokens = 7 WHERE day = '2026-10-30'")
        connection.execute("DELETE FROM daily_usage WHERE day = '2026-11-03'")
    pushed = send(laptop, flaky)
    assert (pushed.sent, pushed.corrections) == (2, 2)
    body = flaky.bodies[-1]
    assert body["correction"] is True
    rows = {row["date"]: row for row in body["rows"]}
    assert rows["2026-10-30"]["inputTokens"] == 7
    gone = rows["2026-11-03"]
    assert (gone["totalTokens"], gone["messages"], gone["costUsd"], gone["model"]) == (0, 0, None, UNKNOWN)
    assert send(laptop, flaky).sent == 0


def test_when_everything_vanished_nothing_is_taken_back_by_mistake(laptop: Terminal, flaky: Flaky) -> None:
    send(laptop, flaky)
    with duckdb.connect(str(laptop.data / "kharcha.duckdb")) as connection:
        connection.execute("DELETE FROM daily_usage")
    with pytest.raises(IngestUsageError, match="None of the 4 rows that were sent before is in the tables any more"):
        send(laptop, flaky)
    assert len(flaky.bodies) == 1
    assert send(laptop, flaky, correction=True).corrections == 4


def test_rows_that_others_sent_are_not_passed_on(laptop: Terminal, flaky: Flaky) -> None:
    with duckdb.connect(str(laptop.data / "kharcha.duckdb")) as connection:
        connection.execute(
            "INSERT INTO daily_usage BY NAME SELECT * REPLACE ('desk' AS machine) FROM daily_usage LIMIT 1"
        )
    send(laptop, flaky)
    assert {row["machine"] for row in flaky.rows} == {"laptop"}


def test_each_destination_has_its_own_memory(laptop: Terminal, flaky: Flaky) -> None:
    with Flaky().listening() as other:
        assert send(laptop, flaky).sent == 4
        assert send(laptop, other).sent == 4
        assert send(laptop, flaky).sent == 0


# ---- failures


def test_a_flaky_server_is_asked_again_as_it_wishes(laptop: Terminal, flaky: Flaky) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    flaky.replies = [
        answer(429, Retry_After="7"),
        answer(503, Retry_After=moment),
        cut,
        hang_up,
        answer(500),
    ]
    pauses = Pauses()
    assert send(laptop, flaky, pauses).sent == 4
    assert pauses[0] == 7
    assert 25 < pauses[1] <= 30
    assert all(0 < pause <= 30 for pause in pauses[2:])
    assert len(flaky.bodies) == 6
    assert send(laptop, flaky).sent == 0


def test_a_push_that_was_cut_goes_on_from_what_was_acknowledged(
    laptop: Terminal, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 1)
    flaky.replies = [taken, taken, *[hang_up] * 6]
    with pytest.raises(IngestError, match=r"could not be reached .*6 times\. What it acknowledged is remembered"):
        send(laptop, flaky)
    flaky.bodies.clear()
    assert send(laptop, flaky).sent == 2
    assert len(flaky.bodies) == 2


def test_a_body_that_is_too_long_there_is_divided(laptop: Terminal, flaky: Flaky) -> None:
    flaky.replies = [answer(413), answer(413)]
    pushed = send(laptop, flaky)
    assert [len(body["rows"]) for body in flaky.bodies] == [4, 2, 1, 1, 2]
    assert (pushed.sent, pushed.requests) == (4, 3)
    flaky.replies = [answer(413)] * 9
    with pytest.raises(IngestError, match="takes no body as long as that of one row"):
        send(laptop, flaky, everything=True)


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (answer(401), IngestUsageError, "refuses the token («Not now»)"),
        (answer(400), IngestError, "refuses the rows: it answers 400 («Not now»)"),
        (answer(404), IngestUsageError, "There is no ingest endpoint at"),
        (answer(307, Location="https://evil.example/"), IngestUsageError, "leads to https://evil.example/"),
        (answer(200, {"hello": 1}), IngestError, "does not answer as an ingest endpoint does"),
        (answer(503, Retry_After="86400"), IngestError, "asks to come back in 86400 seconds"),
    ],
)
def test_what_cannot_pass_is_told_at_once_in_a_sentence(
    laptop: Terminal, flaky: Flaky, reply: Reply, kind: type[Exception], says: str
) -> None:
    flaky.replies = [reply]
    with pytest.raises(kind) as error:
        send(laptop, flaky)
    assert says in str(error.value)
    assert TOKEN not in str(error.value)
    assert len(flaky.bodies) == 1


# ---- the command


def test_the_command_tells_what_it_did_and_keeps_its_token_to_itself(laptop: Terminal, flaky: Flaky) -> None:
    to = ("push", "--to", flaky.address)
    dry = laptop.run(*to, "--dry-run", "--json")
    assert (dry.json["sent"], len(dry.json["rows"]), flaky.bodies) == (0, 4, [])
    outcomes = [laptop.run(*to, KHARCHA_PUSH_TOKEN=TOKEN) for _ in range(2)]
    outcomes.append(laptop.run(*to, "--all", "--json", KHARCHA_PUSH_TOKEN=TOKEN))
    flaky.replies = [answer(401)]
    outcomes.append(laptop.run(*to, "--all", KHARCHA_PUSH_TOKEN=TOKEN))
    flaky.replies = [answer(400)]
    outcomes.append(laptop.run(*to, "--all", KHARCHA_PUSH_TOKEN=TOKEN))
    assert [outcome.code for outcome in outcomes] == [0, 0, 0, 2, 1]
    assert "4 rows; 1 row changed there" in outcomes[0].out
    assert outcomes[1].out.startswith("Nothing changed since the last push to")
    assert outcomes[2].json["sent"] == 4
    assert all(outcome.err.count("\n") == (1 if outcome.code else 0) for outcome in outcomes)
    written = b"".join(path.read_bytes() for path in laptop.data.rglob("*") if path.is_file())
    said = "".join(outcome.out + outcome.err for outcome in outcomes)
    for secret in (TOKEN, TOKEN.removeprefix("kharcha_")):
        assert secret.encode() not in written
        assert secret not in said


def test_wrong_use_is_exit_code_2(laptop: Terminal, flaky: Flaky) -> None:
    def outcome(address: str, *options: str, token: str = TOKEN) -> tuple[int, str]:
        ended = laptop.run("push", "--to", address, *options, KHARCHA_PUSH_TOKEN=token)
        return ended.code, ended.err

    for address, says in {
        "usage.example.org": "is no address to send to",
        "ftp://usage.example.org": "is no address to send to",
        "https://": "is no address to send to",
        "https://[::1": "is no address to send to",
        "https://asha:x@usage.example.org": "must not hold a name or a password",
        "http://usage.example.org": "everybody on the way can read the token",
    }.items():
        code, said = outcome(address)
        assert (code, says in said) == (2, True), said
    code, said = outcome(flaky.address, token="")
    assert (code, "There is no token for http://127.0.0.1" in said) == (2, True)
    code, said = outcome(flaky.address, token="two words")
    assert (code, "two words" in said) == (2, False)
    assert flaky.bodies == []


def test_without_a_sync_it_says_what_to_do(tmp_path: Path) -> None:
    ended = Terminal.below(tmp_path).kharcha("push", "--to", "https://usage.example.org")
    assert (ended.code, "Run `kharcha sync` first" in ended.err) == (1, True)


def test_an_unreachable_server_is_a_failure_in_one_sentence(laptop: Terminal) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
    with pytest.raises(IngestError, match="could not be reached"):
        push(laptop.data, address, lambda: TOKEN, patience=Pauses().patience(attempts=2))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Usage.Example.org/", "https://usage.example.org"),
        ("https://usage.example.org:8443/kharcha/api/usage/ingest", "https://usage.example.org:8443/kharcha"),
        ("http://localhost:8787", "http://localhost:8787"),
        ("http://[::1]:8787", "http://[::1]:8787"),
    ],
)
def test_an_address_has_one_form(given: str, kept: str) -> None:
    assert destination_of(given) == kept


def test_a_token_may_come_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("kharcha", "https://usage.example.org"): TOKEN}
    monkeypatch.setattr(keyring, "get_password", lambda service, user: known.get((service, user)))
    assert module.token_for("https://usage.example.org", {}) == TOKEN
    with pytest.raises(IngestUsageError, match="There is no token"):
        module.token_for("https://other.example.org", {})
