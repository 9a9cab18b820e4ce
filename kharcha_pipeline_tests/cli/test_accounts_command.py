"""`kharcha accounts`: what people see of their accounts, and what they can do about them."""

from __future__ import annotations

import csv
import io
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline_tests.accounts.cursor_vendor import Usage, event
from kharcha_pipeline_tests.accounts.office import HISTORY_DAYS, KEY, Office
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Reply
from kharcha_pipeline_tests.cli.terminal import Outcome, Terminal


@pytest.fixture
def office(terminal: Terminal) -> Iterator[Office]:
    with Office(terminal.home) as office:
        yield office


def accounts(terminal: Terminal, *arguments: str) -> dict[str, dict[str, Any]]:
    outcome = terminal.kharcha("accounts", "list", *arguments, "--format", "json")
    assert outcome.code == 0, outcome
    return {account["account"]: account for account in outcome.json["accounts"]}


def well(outcome: Outcome) -> Outcome:
    assert (outcome.code, outcome.err) == (0, "")
    return outcome


def test_without_accounts_toml_it_says_how_one_begins(terminal: Terminal) -> None:
    for arguments in (["list"], ["check"], ["poll"], ["login", "team"], ["accept", "1"]):
        outcome = terminal.kharcha("accounts", *arguments)
        assert outcome.code == 2
        assert "accounts.toml does not exist" in outcome.err
        assert "[accounts.team]" in outcome.err
    assert not (terminal.data / "accounts.sqlite").exists()


def test_an_account_from_its_first_line_to_its_cost(terminal: Terminal, office: Office) -> None:
    office.add("team", 'label = "Acme"', 'owner = "asha@example.com"')
    office.file.with_name("team.key").unlink()
    assert terminal.kharcha("accounts", "check").code == 3
    outcome = terminal.run("accounts", "login", "team", stdin=f"{office.key('team')}\n")
    assert outcome.code == 0, outcome
    assert stat.S_IMODE(office.file.with_name("team.key").stat().st_mode) == 0o600
    assert "accepts the credential" in well(terminal.kharcha("accounts", "check")).out
    assert accounts(terminal)["team"]["status"] == "not polled yet"
    outcome = well(terminal.kharcha("accounts", "poll"))
    assert outcome.lines[0].startswith("team: ")
    assert " new with " in outcome.lines[0]
    events = 2 * HISTORY_DAYS
    (team,) = accounts(terminal).values()
    assert (team["status"], team["events"], team["label"], team["owner"]) == (
        "active",
        events,
        "Acme",
        "asha@example.com",
    )
    assert Decimal(team["spend_usd"]) == Decimal("44.124375")  # the vendor's sum of its open cycle
    assert team["last_success"] < team["next_poll"]
    assert "No account is due" in well(terminal.kharcha("accounts", "poll")).out
    sums = terminal.kharcha("sql", "SELECT count(*), sum(cost_usd) FROM priced_events", "--format", "csv").lines[1]
    assert sums.split(",")[0] == str(events)
    assert Decimal(sums.split(",")[1]) == events * Decimal("0.06625")


def test_a_second_poll_changes_nothing(terminal: Terminal, office: Office) -> None:
    office.add("team")
    well(terminal.kharcha("accounts", "poll"))
    assert "team: nothing new" in well(terminal.kharcha("accounts", "poll", "--all", "--no-sync")).out
    assert "team: nothing new" in well(terminal.kharcha("accounts", "poll", "team", "--no-sync")).out


def test_the_table_and_csv_say_the_same(terminal: Terminal, office: Office) -> None:
    office.add("team")
    office.add("zebra", "enabled = false")
    terminal.kharcha("accounts", "poll", "--no-sync")
    table = well(terminal.kharcha("accounts", "list")).lines
    assert table[0].split()[:3] == ["Account", "Connector", "Status"]
    assert table[2].split()[:3] == ["team", "cursor-team", "active"]
    assert "44.12" in table[2]
    assert table[3].split()[:3] == ["zebra", "cursor-team", "disabled"]
    assert "unknown" in table[3]
    rows = list(csv.DictReader(io.StringIO(well(terminal.kharcha("accounts", "list", "-f", "csv")).out)))
    assert [row["account"] for row in rows] == ["team", "zebra"]
    assert rows[0]["spend_usd"] == "44.124375"
    assert rows[1]["spend_usd"] == ""


def test_one_account_s_trouble_is_told_and_the_others_are_polled(terminal: Terminal, office: Office) -> None:
    office.add("good")
    office.add("gone").keys = {}
    outcome = terminal.kharcha("accounts", "poll")
    assert outcome.code == 1
    assert "kharcha accounts login gone" in outcome.err
    assert any(line.startswith("good: ") for line in outcome.lines)
    found = accounts(terminal)
    assert (found["good"]["status"], found["gone"]["status"]) == ("active", "session expired")
    assert "login gone" in found["gone"]["sentence"]
    asked = len(office.requests("gone"))
    assert terminal.kharcha("accounts", "poll", "gone", "--no-sync").code == 1
    assert len(office.requests("gone")) == asked
    doctor = terminal.kharcha("doctor")
    assert doctor.code == 0
    assert "gone" in doctor.out
    assert "kharcha accounts login gone" in doctor.out


def test_another_key_is_taken_only_when_the_vendor_accepts_it(terminal: Terminal, office: Office) -> None:
    team = office.add("team")
    terminal.kharcha("accounts", "poll", "--no-sync")
    team.keys = {f"{KEY}second": "/"}
    terminal.kharcha("accounts", "poll", "--all", "--no-sync")
    assert accounts(terminal)["team"]["status"] == "session expired"
    refused = terminal.run("accounts", "login", "team", stdin=f"{KEY}wrong\n")
    assert refused.code == 1
    assert f"{KEY}wrong" not in refused.out + refused.err
    nonsense = terminal.run("accounts", "login", "team", stdin="a cookie: no key\n")
    assert nonsense.code == 2
    assert office.file.with_name("team.key").read_text() == f"{office.key('team')}\n"
    assert terminal.run("accounts", "login", "team", stdin=f"{KEY}second\n").code == 0
    outcome = well(terminal.kharcha("accounts", "poll", "--no-sync"))  # due, since the credential is another one
    assert outcome.out.startswith("team: ")
    assert accounts(terminal)["team"]["status"] == "active"


def test_a_credential_of_the_environment_is_not_this_command_s_to_keep(terminal: Terminal, office: Office) -> None:
    office.add("team")
    office.file.write_text(office.file.read_text().replace("file:team.key", "env:TEAM_KEY"))
    outcome = terminal.kharcha("accounts", "login", "team")
    assert outcome.code == 2
    assert "TEAM_KEY" in outcome.err


def test_pause_and_resume(terminal: Terminal, office: Office) -> None:
    office.add("team")
    well(terminal.kharcha("accounts", "pause", "team"))
    assert accounts(terminal)["team"]["status"] == "paused"
    outcome = terminal.kharcha("accounts", "poll", "team", "--no-sync")
    assert (outcome.code, office.server.log) == (0, [])
    assert "resume team" in outcome.err
    well(terminal.kharcha("accounts", "resume", "team"))
    well(terminal.kharcha("accounts", "poll", "--no-sync"))
    assert accounts(terminal)["team"]["events"] == 2 * HISTORY_DAYS


def test_a_rest_is_not_ended_by_resuming(terminal: Terminal, office: Office) -> None:
    office.add("team")
    limit = Reply(429, {"error": "Too Many Requests"}, {"Retry-After": "7200"})
    office.server.faults.append(Fault("/teams/filtered-usage-events", limit, sticky=True))
    assert terminal.kharcha("accounts", "poll", "--no-sync").code == 1
    assert accounts(terminal)["team"]["status"] == "rate limited"
    outcome = terminal.kharcha("accounts", "resume", "team")
    assert outcome.code == 1
    assert accounts(terminal)["team"]["status"] == "rate limited"
    until = accounts(terminal)["team"]["until"]
    well(terminal.kharcha("accounts", "pause", "team"))
    well(terminal.kharcha("accounts", "resume", "team"))
    assert accounts(terminal)["team"]["until"] == until
    asked = len(office.server.log)
    terminal.kharcha("accounts", "poll", "--all", "--no-sync")
    assert terminal.kharcha("accounts", "check").code == 3
    assert len(office.server.log) == asked


def test_a_removed_account_keeps_its_history(terminal: Terminal, office: Office) -> None:
    office.add("team")
    office.add("other")
    well(terminal.kharcha("accounts", "poll", "--no-sync"))
    assert terminal.kharcha("accounts", "remove", "team").code == 2  # accounts.toml still names it
    office.names.remove("team")
    office.write()
    assert set(accounts(terminal)) == {"other"}
    removed = accounts(terminal, "--all")["team"]
    assert (removed["status"], removed["events"]) == ("removed", 2 * HISTORY_DAYS)
    well(terminal.kharcha("accounts", "remove", "team"))
    assert accounts(terminal, "--all")["team"]["events"] == 2 * HISTORY_DAYS
    assert terminal.kharcha("accounts", "poll", "team").code == 2


def test_backfill_by_month(terminal: Terminal, office: Office) -> None:
    team = office.add("team")
    well(terminal.kharcha("accounts", "poll", "--no-sync"))
    team.events.append(Usage(event(1_788_300_000_000)))  # 2026-09-01
    backfill = ("accounts", "backfill", "team", "--from", "2026-09", "--until", "2026-09")
    assert "team: 1 new" in well(terminal.kharcha(*backfill)).out
    assert "team: nothing new." in well(terminal.kharcha(*backfill, "--no-sync")).out
    for wrong in (["--from", "September"], ["--from", "2026-09", "--until", "2026-08"], ["--from", "2026-13"]):
        assert terminal.kharcha("accounts", "backfill", "team", *wrong).code == 2
    assert accounts(terminal)["team"]["events"] == 2 * HISTORY_DAYS + 1


def test_all_readings_of_an_account_are_decided_at_once(terminal: Terminal, office: Office) -> None:
    team = office.add("team")
    now_ms = office.clock.now_ms()
    team.events = [
        Usage(event(now_ms - day * DAY_MS - 3_600_000 - number * 1000)) for day in range(2) for number in range(12)
    ]
    well(terminal.kharcha("accounts", "poll", "--no-sync"))
    for usage in team.events:
        usage.shown["chargedCents"] = 0
    terminal.kharcha("accounts", "poll", "--all", "--no-sync")
    assert len(accounts(terminal)["team"]["held"]) > 1
    assert terminal.kharcha("accounts", "accept", "team", "nobody", "--no-sync").code == 2
    well(terminal.kharcha("accounts", "accept", "team", "--no-sync"))
    assert accounts(terminal)["team"]["held"] == []
    assert accounts(terminal)["team"]["spend_usd"] is not None


def test_answers_that_were_kept_are_understood_again_without_asking_anybody(
    terminal: Terminal, office: Office
) -> None:
    office.add("team")
    well(terminal.kharcha("accounts", "poll"))
    with closing(sqlite3.connect(terminal.data / "accounts.sqlite")) as connection, connection:
        before = connection.execute("SELECT count(*) FROM versions").fetchone()
        query = "UPDATE versions SET content = replace(content, '\"input_tokens\":1200', '\"input_tokens\":7')"
        connection.execute(f"{query} WHERE id = (SELECT min(id) FROM versions WHERE kind = 'event')")
    asked = len(office.server.log)
    assert "team: 1 change." in well(terminal.kharcha("accounts", "normalize")).out
    assert "team: nothing new." in well(terminal.kharcha("accounts", "normalize", "team")).out
    assert len(office.server.log) == asked
    with closing(sqlite3.connect(terminal.data / "accounts.sqlite")) as connection:
        assert connection.execute("SELECT count(*) - 1 FROM versions").fetchone() == before


@pytest.mark.parametrize("decision", ["accept", "discard"])
def test_a_reading_that_is_held_back_waits_for_a_decision(terminal: Terminal, office: Office, decision: str) -> None:
    team = office.add("team")
    now_ms = office.clock.now_ms()
    team.events = [Usage(event(now_ms - 3_600_000 - number * 1000)) for number in range(12)]
    well(terminal.kharcha("accounts", "poll", "--no-sync"))
    for usage in team.events:
        usage.shown["chargedCents"] = 0
    outcome = terminal.kharcha("accounts", "poll", "--all", "--no-sync")
    assert "waits for a decision" in outcome.err
    (number,) = accounts(terminal)["team"]["held"]
    assert f"kharcha accounts {decision} {number}" in terminal.kharcha("accounts", "list").out
    options = ["--no-sync"] if decision == "accept" else []
    well(terminal.kharcha("accounts", decision, str(number), *options))
    assert accounts(terminal)["team"]["held"] == []
    with closing(sqlite3.connect(terminal.data / "accounts.sqlite")) as connection:
        (changed,) = connection.execute(
            "SELECT count(*) FROM versions WHERE previous IS NOT NULL AND kind = 'event'"
        ).fetchone()
    assert changed == (12 if decision == "accept" else 0)
    assert terminal.kharcha("accounts", decision, str(number)).code == 2


def test_mistakes_are_sentences_and_touch_nothing(terminal: Terminal, office: Office) -> None:
    office.add("team")
    for arguments in (["poll", "nobody"], ["pause", "nobody"], ["check", "nobody"], ["accept", "7"]):
        outcome = terminal.kharcha("accounts", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("kharcha: ")
    office.file.write_text(office.file.read_text().replace("file:team.key", office.key("team")))
    for command in ("list", "poll"):
        outcome = terminal.kharcha("accounts", command)
        assert outcome.code == 2
        assert office.key("team") not in outcome.err
    assert office.server.log == []
    doctor = terminal.kharcha("doctor")
    assert doctor.code == 3
    assert office.key("team") not in doctor.out + doctor.err


def test_nothing_of_accounts_is_loaded_for_a_sync_without_changes(terminal: Terminal, office: Office) -> None:
    office.add("team")
    well(terminal.kharcha("accounts", "poll"))
    terminal.kharcha("sync")
    modules = terminal.run("sync", "--quiet", PYTHONVERBOSE="1").err
    assert "kharcha_pipeline.unchanged" in modules
    assert "kharcha_pipeline.accounts" not in modules


def test_everything_is_written_below_the_data_directory_for_its_owner_alone(
    terminal: Terminal, office: Office
) -> None:
    office.add("team")
    before = set(terminal.home.rglob("*"))
    well(terminal.kharcha("accounts", "poll", "--no-sync"))
    assert set(terminal.home.rglob("*")) == before
    for path in Path(terminal.data).rglob("*"):
        assert not path.stat().st_mode & 0o077, path
