"""Real processes: a laptop and a hub from log to table, and a server that is killed while rows come in."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kharcha_pipeline_tests.cli.terminal import SONNET, Terminal, response, write_three_days
from kharcha_pipeline_tests.ingest.rows import SEED_ROW, body, row
from kharcha_pipeline_tests.server.serving import Site, process

EVERYTHING = "SELECT * FROM token_usage ORDER BY ALL"


def asked(terminal: Terminal, query: str) -> list[tuple[Any, ...]]:
    """What the published tables answer."""
    with duckdb.connect(str(terminal.data / "kharcha.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def installation(directory: Path, label: str) -> Terminal:
    """A machine with a name."""
    terminal = Terminal.below(directory)
    terminal.variables["KHARCHA_MACHINE"] = label
    return terminal


def token_of(hub: Terminal, name: str = "laptop") -> str:
    """A new token of the hub."""
    made = hub.run("tokens", "create", name)
    assert made.code == 0, made.err
    return made.out.strip()


def test_a_laptop_and_a_hub(tmp_path: Path) -> None:
    laptop, hub = installation(tmp_path / "laptop", "laptop"), installation(tmp_path / "hub", "hub")
    write_three_days(laptop)
    assert laptop.run("sync", "--quiet").code == 0
    token = token_of(hub)
    with process(hub.home.parent, HOME=str(hub.home), KHARCHA_MACHINE="hub") as site:

        def pushed() -> dict[str, Any]:
            outcome = laptop.run("push", "--to", site.address, "--json", KHARCHA_PUSH_TOKEN=token)
            assert outcome.code == 0, outcome.err
            return outcome.json  # type: ignore[no-any-return]

        def published() -> bool:
            return (hub.data / "kharcha.duckdb").exists() and asked(hub, EVERYTHING) == asked(laptop, EVERYTHING)

        assert (pushed()["sent"], len(asked(laptop, EVERYTHING))) == (4, 4)
        wait_for(published)
        changes = "SELECT value FROM about WHERE name = 'changes'"
        before = asked(hub, changes)
        first = pushed()
        assert (first["sent"], first["requests"]) == (0, 0)
        (laptop.data / "push.sqlite").unlink()
        assert (pushed()["sent"], pushed()["changed"]) == (4, 0)
        assert asked(hub, changes) == before

        laptop.transcript("session-9", response(901, "2026-11-02T13:00:00Z", SONNET, 10_000, 5))
        laptop.run("sync", "--quiet")
        assert pushed()["changed"] == 1
        wait_for(published)
        assert site.log is not None
        for path in (*laptop.data.iterdir(), *hub.data.iterdir(), site.log):
            assert token.encode() not in path.read_bytes(), path
        assert asked(hub, "SELECT DISTINCT evidence, machine FROM priced_events") == [("aggregate", "laptop")]
    assert site.process is not None
    assert site.process.returncode == 0


def test_events_of_the_hub_itself_win_over_rows_of_the_same_machine_and_day(tmp_path: Path) -> None:
    hub = installation(tmp_path, "hub")
    write_three_days(hub)
    assert hub.run("sync", "--quiet").code == 0
    own = asked(hub, EVERYTHING)
    token = token_of(hub)
    with process(tmp_path, HOME=str(hub.home), KHARCHA_MACHINE="hub") as site:
        site.token = token
        rows = [
            row(date="2026-11-02", machine="hub", inputTokens=9_999_999),
            row(date="2026-11-02", machine="elsewhere", inputTokens=7),
            row(date="2026-11-05", machine="hub", inputTokens=5),
        ]
        assert site.send(body(*rows)).json["upserted"] == 3
        wait_for(lambda: len(asked(hub, EVERYTHING)) == len(own) + 2)
        added = set(asked(hub, EVERYTHING)) - set(own)
        assert sorted((str(one[0]), one[4], one[5]) for one in added) == [
            ("2026-11-02", "elsewhere", 7),
            ("2026-11-05", "hub", 5),
        ]


def test_what_a_killed_server_acknowledged_is_there_and_nothing_by_half(tmp_path: Path) -> None:
    hub = installation(tmp_path, "hub")
    token = token_of(hub)
    acknowledged: list[int] = []
    begun: list[int] = []
    numbers = itertools.count()

    def post(site: Site, ended: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        while not ended.is_set():
            number = next(numbers)
            begun.append(number)
            rows = [row(model=f"{number}", machine=str(part), inputTokens=number) for part in range(50)]
            try:
                connection.request("POST", "/api/usage/ingest", body(*rows), headers)
                if connection.getresponse().read().startswith(b'{"ok":true'):
                    acknowledged.append(number)
            except (OSError, http.client.HTTPException):
                return

    for round_number in range(3):
        with process(tmp_path, HOME=str(hub.home), KHARCHA_MACHINE="hub") as site:
            assert site.process is not None
            ended = threading.Event()
            threads = [threading.Thread(target=post, args=(site, ended)) for _ in range(3)]
            for thread in threads:
                thread.start()
            enough = 5 * (round_number + 1)
            wait_for(lambda: len(acknowledged) >= enough)  # noqa: B023
            site.process.send_signal(signal.SIGKILL)
            ended.set()
            for thread in threads:
                thread.join()
    with sqlite3.connect(hub.data / "ingest.sqlite") as connection:
        kept = dict(connection.execute("SELECT CAST(model AS INTEGER), count(*) FROM rows GROUP BY model"))
        stands = connection.execute("SELECT count(*) FROM standing").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert set(acknowledged) <= set(kept) <= set(begun)
    assert set(kept.values()) == {50}
    assert stands == 50 * len(kept)
    assert hub.run("sync", "--quiet").code == 0
    assert asked(hub, "SELECT count(*) FROM token_usage") == [(stands,)]


def test_rows_that_a_killed_server_did_not_publish_are_published_when_it_starts_again(tmp_path: Path) -> None:
    hub = installation(tmp_path, "hub")
    token = token_of(hub)
    with process(tmp_path, HOME=str(hub.home)) as site:
        site.token = token
        assert site.send(body(SEED_ROW)).json["published"] == "soon"
        assert site.process is not None
        site.process.send_signal(signal.SIGKILL)
    with process(tmp_path, HOME=str(hub.home)):
        wait_for(lambda: (hub.data / "kharcha.duckdb").exists() and len(asked(hub, EVERYTHING)) == 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    before = os.umask(0)
    try:
        with process(tmp_path) as site:
            assert site.ask("GET", "/healthz").status == 200
            assert site.process is not None
            site.process.send_signal(number)
            assert site.process.wait(timeout=30) == 0
    finally:
        os.umask(before)
    assert site.log is not None
    assert "Traceback" not in site.log.read_text()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in site.data.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_a_sync_that_fails_is_told_in_the_log_and_tried_again(tmp_path: Path) -> None:
    hub = installation(tmp_path, "hub")
    token = token_of(hub)
    hub.data.joinpath("samples").write_text("Samples are not mixed with real usage.")
    with process(tmp_path, HOME=str(hub.home)) as site:
        site.token = token
        assert site.send(body(SEED_ROW)).status == 200
        assert site.log is not None
        log = site.log
        wait_for(lambda: "The sync ended with exit code 2" in log.read_text())
        assert "holds the bundled samples" in log.read_text()
        hub.data.joinpath("samples").unlink()
        wait_for(lambda: (hub.data / "kharcha.duckdb").exists() and len(asked(hub, EVERYTHING)) == 1)
        assert token not in log.read_text()


def test_a_port_that_is_taken_is_told_in_a_sentence(tmp_path: Path) -> None:
    hub = installation(tmp_path, "hub")
    with process(tmp_path, HOME=str(hub.home)) as site:
        outcome = hub.run("serve", "--port", str(site.port))
    assert outcome.code == 1
    assert f"The server cannot listen on 127.0.0.1, port {site.port}" in outcome.err
    assert json.dumps(outcome.err).count("Traceback") == 0
