"""Credentials of accounts, proxies and alerts are recognizable here, and sought in all that is written or printed."""

from __future__ import annotations

import base64
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
import zstandard

from kharcha_pipeline.accounts.configuration import accounts_file, load_accounts
from kharcha_pipeline.accounts.cycle import poll, take_over
from kharcha_pipeline.accounts.store import AccountStore
from kharcha_pipeline.assets.vendor_accounts import account_partitions
from kharcha_pipeline.automation.home import prepare_home
from kharcha_pipeline_tests.accounts.cursor_vendor import CANARY_INVOICE, CursorVendor, Person
from kharcha_pipeline_tests.accounts.office import Office
from kharcha_pipeline_tests.accounts.vendor_server import (
    Fault,
    ProxyServer,
    Received,
    Reply,
    TurnedClock,
    VendorServer,
    page,
)
from kharcha_pipeline_tests.automation.location import Location
from kharcha_pipeline_tests.cli.terminal import Terminal
from kharcha_pipeline_tests.machine import Machine

PROXY_PASSWORD = "proxy-canary-3c81"
ALERT_PASSWORD = "alert-canary-9d40"
VENDOR_COOKIE = "vendor-cookie-canary-55ab"


@dataclass
class Produced:
    """What was written and printed, and the secrets that it was done with."""

    machine: Machine
    secrets: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def produced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Produced]:
    machine = Machine.below(tmp_path_factory.mktemp("secrets"))
    clock = TurnedClock(time.time_ns() // 1_000_000)
    person = Person(expires_s=clock.now_ms() // 1000 + 86_400)
    dashboard = CursorVendor(clock)
    dashboard.people = [person]
    found = Produced(machine)
    with (
        Office(machine.home, clock) as office,
        VendorServer(lambda received: _with_cookie(dashboard.answer(received)), clock) as own,
        VendorServer(lambda received: Reply(200, {}), clock) as told,
        ProxyServer("guarded", credentials=("somebody", PROXY_PASSWORD)) as proxy,
        ProxyServer("closed", "refuse_407") as closed,
    ):
        with_password = f"://somebody:{PROXY_PASSWORD}@"
        variables = {
            "PROXY": proxy.url.replace("://", with_password),
            "CLOSED": closed.url.replace("://", with_password),
            "ALERT_URL": told.url.replace("http://", f"json://somebody:{ALERT_PASSWORD}@"),
        }
        office.alerts = ["env:ALERT_URL"]
        for name in ("team", "gone", "moved", "broken", "stuck"):
            office.add(name)
        office.fields["team"] = ['proxies = ["env:PROXY"]']
        office.fields["stuck"] = ['proxies = ["env:CLOSED"]']
        office.vendors["gone"].keys = {}
        office.server.faults += [
            Fault(_by(office, "moved"), page("<html><script src='/_next/a.js'></script></html>"), nth=2, sticky=True),
            Fault(
                _by(office, "broken", "/teams/filtered-usage-events"),
                Reply(500, {"error": f"{office.key('broken')} is unwell"}),
                sticky=True,
            ),
        ]
        office.write()
        office.keep("own", person.cookie)
        with office.file.open("a") as stream:
            stream.write(
                f'\n[accounts.own]\nconnector = "cursor-dashboard"\nsecret = "file:own.key"\nbase_url = "{own.url}"\n'
                "history_days = 3\naccept_unofficial = true\n"
            )
        terminal = Terminal(machine.home, machine.data, variables)
        for arguments in (
            ["check"],
            ["poll", "team", "gone", "moved", "stuck"],
            ["list", "--all"],
            ["list", "--format", "json"],
            ["login", "team"],
        ):
            outcome = terminal.run("accounts", *arguments, stdin=f"{office.key('team')}\n")
            found.printed += [outcome.out, outcome.err]
        _poll_apart(terminal, clock, ["own", "broken"])
        doctor = terminal.run("doctor")
        found.printed += [doctor.out, doctor.err]
        _run_dagster(machine, variables)
        found.alerts = [received.json["message"] for received in told.log]
    found.secrets = [
        *(office.key(name) for name in office.names),
        *(base64.b64encode(f"{office.key(name)}:".encode()).decode().rstrip("=") for name in office.names),
        person.cookie,
        person.token,
        quote(person.token),
        PROXY_PASSWORD,
        ALERT_PASSWORD,
        VENDOR_COOKIE,
        CANARY_INVOICE,
    ]
    yield found


def _poll_apart(terminal: Terminal, clock: TurnedClock, names: list[str]) -> None:
    """Polls accounts that have to wait for long, by a clock of which no time passes; then syncs."""
    environment = terminal.environment
    configuration = load_accounts(accounts_file(environment), environment)
    with AccountStore(terminal.data) as store:
        take_over(configuration, store)
        for name in names:
            poll(configuration.accounts[name], store, clock, environment)
    assert terminal.kharcha("sync").code == 0


def _by(office: Office, name: str, path: str = "") -> Any:
    def matches(received: Received) -> bool:
        return received.credential == office.key(name) and received.path.startswith(path)

    return matches


def _with_cookie(reply: Reply) -> Reply:
    return reply._replace(headers={**reply.headers, "Set-Cookie": f"session={VENDOR_COOKIE}"})


def _run_dagster(machine: Machine, variables: dict[str, str]) -> None:
    home = machine.data / "dagster"
    prepare_home(home)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**machine.environment, **variables, "DAGSTER_HOME": str(home)}.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:
            location = Location(machine, instance)
            location.machine = _Polled(machine.home, machine.data, variables=variables)
            instance.add_dynamic_partitions(str(account_partitions.name), ["team", "gone", "stuck"])
            for account in ("team", "gone", "stuck"):
                with dg.partition_loading_context(dynamic_partitions_store=instance):
                    assert location.follow(dg.RunRequest(job_name="poll_accounts", partition_key=account)).success
            assert location.run("inspect").success


@dataclass
class _Polled(Machine):
    """A machine with more variables."""

    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.variables


def test_accounts_were_polled_through_all_of_it(produced: Produced) -> None:
    with closing(sqlite3.connect(produced.machine.data / "accounts.sqlite")) as connection:
        states = dict(connection.execute("SELECT name, state FROM accounts"))
        kept = connection.execute("SELECT count(*) FROM bodies").fetchone()[0]
    assert states == {
        "team": "active",
        "own": "active",
        "gone": "session_expired",
        "moved": "needs_attention",
        "broken": "degraded",
        "stuck": "waiting",
    }
    assert kept > 10
    assert any("account gone" in text or "login gone" in text for text in produced.alerts)


def test_no_secret_is_in_any_file_that_is_written(produced: Produced) -> None:
    contents = [(str(path), path.read_bytes()) for path in produced.machine.data.rglob("*") if path.is_file()]
    assert {"accounts.sqlite", "kharcha.duckdb", "runs.db"} <= {Path(name).name for name, _ in contents}
    with closing(sqlite3.connect(produced.machine.data / "accounts.sqlite")) as connection:
        for (packed,) in connection.execute("SELECT content FROM bodies"):
            contents.append(("bodies", zstandard.ZstdDecompressor().decompress(packed)))
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            contents += [(table, repr(row).encode()) for row in connection.execute(f"SELECT * FROM {table}")]
    leaks = {
        (secret, where) for secret in produced.secrets for where, content in contents if secret.encode() in content
    }
    assert leaks == set()


def test_no_secret_is_in_any_value_of_any_table(produced: Produced) -> None:
    rows = produced.machine.raw("SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT temporary")
    text = "\n".join(repr(produced.machine.raw(f'FROM "{schema}"."{table}"')) for schema, table in rows)
    assert "team" in text
    assert [secret for secret in produced.secrets if secret in text] == []


def test_no_secret_is_printed_or_told(produced: Produced) -> None:
    text = "\n".join([*produced.printed, *produced.alerts])
    assert "team" in text
    assert [secret for secret in produced.secrets if secret in text] == []
