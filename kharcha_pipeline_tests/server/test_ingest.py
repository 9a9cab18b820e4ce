"""`POST /api/usage/ingest`: the contract's example, who may send, and that every error is a sentence in JSON."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from kharcha_pipeline.ingest import store
from kharcha_pipeline.ingest.access import Access
from kharcha_pipeline.ingest.inbox import Inbox
from kharcha_pipeline.server.bodies import LONGEST_BODY
from kharcha_pipeline_tests.ingest.rows import SEED_ROW, body, row
from kharcha_pipeline_tests.server.serving import Site, running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("hub")) as site:
        yield site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path) as site:
        yield site


def rows_in(site: Site) -> int:
    """How many rows were ever appended."""
    with sqlite3.connect(site.data / "ingest.sqlite") as connection:
        return int(connection.execute("SELECT count(*) FROM rows").fetchone()[0])


def test_the_contracts_own_example_is_taken_in_verbatim(site: Site) -> None:
    data = body(SEED_ROW)
    answer = site.send(data)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json | {"ok": True, "upserted": 1} == answer.json
    assert (answer.json["mismatched"], answer.json["changed"]) == (1, 1)
    assert site.publisher is not None
    assert site.publisher.asked == 1
    again = site.send(data).json
    assert (again["upserted"], again["changed"], again["published"]) == (1, 0, "already")
    assert (site.publisher.asked, rows_in(site)) == (1, 1)
    with sqlite3.connect(site.data / "ingest.sqlite") as connection:
        kept = connection.execute("SELECT sender, machine, agent, total_tokens, timezone FROM rows").fetchall()
    assert kept == [("laptop", "desk", "claude-code", 5870, "unknown")]


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}", "bearer  x"])
def test_nothing_is_taken_in_without_a_token(shared: Site, shown: str) -> None:
    before = rows_in(shared)
    answer = shared.send(body(SEED_ROW), Authorization=shown.format(token=shared.token))
    assert (answer.status, answer.json["ok"]) == (401, False)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert rows_in(shared) == before


def test_a_revoked_token_opens_nothing(site: Site) -> None:
    access = Access(site.data)
    token = access.create_token("other")
    assert site.send(body(SEED_ROW), token).status == 200
    access.revoke_token("other")
    access.close()
    assert site.send(body(SEED_ROW), token).status == 401
    assert site.send(body(SEED_ROW)).status == 200


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"rows": [NaN]}', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"rows": []}', "application/json"),
        (body(row(date="2026-13-99")), "application/json"),
        (body(SEED_ROW), "text/plain"),
        (body(SEED_ROW), "application/json; charset=latin-1"),
        (body(SEED_ROW), ""),
    ],
)
def test_whatever_is_wrong_with_a_body_is_a_400_and_never_a_422(shared: Site, data: bytes, kind: str) -> None:
    before = rows_in(shared)
    answer = shared.send(data, Content_Type=kind)
    assert (answer.status, answer.json["ok"], rows_in(shared)) == (400, False, before)
    assert answer.json["error"].endswith(".")


def test_every_mistake_is_named_with_its_place(shared: Site) -> None:
    answer = shared.send(body(row(), row(date="2026-02-30", inputTokens=-1), row(costUsd=0.5, model="x")))
    assert answer.status == 400
    assert answer.json["error"] == "The body has 4 mistakes."
    assert [one["where"] for one in answer.json["details"]] == [
        "rows[1].date",
        "rows[1].inputTokens",
        "rows[1].totalTokens",
        "rows[2].costUsd",
    ]
    many = shared.send(json.dumps({"rows": [{}] * 20_000}))
    assert many.json["error"] == "The body has 240,000 mistakes. The first 50 are listed."
    assert len(many.json["details"]) == 50


def test_a_packed_body_is_refused(shared: Site) -> None:
    assert shared.send(body(SEED_ROW), Content_Encoding="gzip").status == 400


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_long_is_a_413(shared: Site, is_chunked: bool) -> None:
    connection = socket.create_connection(("127.0.0.1", shared.port))
    head = (
        "POST /api/usage/ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {shared.token}\r\n"
    )
    block = b" " * 2**20
    if is_chunked:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(LONGEST_BODY // len(block) + 1):
            connection.sendall(b"%x\r\n" % len(block) + block + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
    else:
        connection.sendall(f"{head}Content-Length: {LONGEST_BODY + 1}\r\n\r\n".encode())
        connection.sendall(b" " * (LONGEST_BODY + 1))
    with connection:
        said = connection.recv(65_536)
        while b"at once" not in said:
            said += connection.recv(65_536)
    assert said.startswith(b"HTTP/1.1 413")
    assert b"16,777,216 bytes" in said


def test_unknown_addresses_and_methods_are_told_in_json(shared: Site) -> None:
    missing = shared.ask("GET", "/api/nothing")
    assert (missing.status, missing.json["error"]) == (404, "There is nothing at this address.")
    wrong = shared.ask("GET", "/api/usage/ingest")
    assert (wrong.status, wrong.headers["allow"], wrong.json["ok"]) == (405, "POST", False)
    assert shared.ask("POST", "/api/usage/ingest/").status == 404


def test_many_wrong_tokens_have_to_wait_while_the_right_one_passes(site: Site) -> None:
    for _ in range(30):
        assert site.send(body(SEED_ROW), "wrong").status == 401
    answer = site.send(body(SEED_ROW), "wrong")
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert site.send(body(SEED_ROW)).status == 200


def test_a_locked_inbox_is_a_503_and_the_next_try_succeeds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.01)
    other = sqlite3.connect(site.data / "ingest.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = site.send(body(SEED_ROW))
    assert (answer.status, answer.headers["retry-after"], answer.json["ok"]) == (503, "5", False)
    other.execute("ROLLBACK")
    other.close()
    assert rows_in(site) == 0
    assert site.send(body(SEED_ROW)).status == 200


def test_a_failure_of_our_own_is_a_500_without_any_detail(site: Site) -> None:
    with patch.object(Inbox, "take", side_effect=RuntimeError("the secret is 42")):
        answer = site.send(body(SEED_ROW))
    assert answer.status == 500
    assert answer.json["error"].startswith("The server failed")
    assert b"42" not in answer.body
    assert site.send(body(SEED_ROW)).status == 200


def test_every_answer_protects_browsers(shared: Site) -> None:
    for answer in (
        shared.ask("GET", "/healthz"),
        shared.ask("GET", "/nothing"),
        shared.ask("GET", "/sign-in"),
        shared.ask("GET", "/openapi.json"),
        shared.send(b"{"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert shared.ask("GET", "/healthz").json == {"ok": True}


def test_the_log_holds_neither_tokens_nor_queries(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        site.send(body(SEED_ROW))
        site.send(body(SEED_ROW), "kharcha_wrong")
        site.ask("GET", f"/healthz?token={site.token}", headers={"Cookie": "kharcha_session=canary"})
        while "/healthz" not in caplog.text:  # the line is written after the answer
            time.sleep(0.01)
    said = caplog.text
    assert "POST /api/usage/ingest 200" in said
    assert "GET /healthz 200" in said
    for secret in (site.token, "kharcha_wrong", "canary"):
        assert secret not in said
