"""`kharcha report`: the numbers of every report, filters, formats, and layouts for any terminal."""

from __future__ import annotations

import csv
import io
import os
import pty
import subprocess
from decimal import Decimal
from typing import Any

import pytest

from kharcha_pipeline_tests.cli.terminal import KHARCHA, SONNET, UNKNOWN, Terminal, response

REPORTS = ("daily", "weekly", "monthly", "session", "project", "model")


def rows(synced: Terminal, *arguments: str) -> list[dict[str, Any]]:
    """The rows of a report, as JSON has them."""
    outcome = synced.kharcha("report", *arguments, "--format", "json")
    assert outcome.code == 0
    listed: list[dict[str, Any]] = outcome.json["rows"]
    return listed


def test_daily_has_a_row_per_local_day_with_exact_costs(synced: Terminal) -> None:
    found = [(row["day"], row["events"], row["cost_usd"], row["unpriced_events"]) for row in rows(synced, "daily")]
    assert found == [
        ("2026-10-30", 1, "0.450000000000", 0),
        ("2026-11-02", 2, "0.032995000000", 0),  # 0.007995 and haiku's 0.02 + 0.005
        ("2026-11-03", 1, None, 1),
    ]


def test_report_alone_is_the_daily_one(synced: Terminal) -> None:
    assert synced.kharcha("report").out == synced.kharcha("report", "daily").out


def test_weeks_are_those_of_iso_and_begin_on_monday(synced: Terminal) -> None:
    found = [(row["week"], row["first_day"], row["events"]) for row in rows(synced, "weekly")]
    assert found == [("2026-W44", "2026-10-26", 1), ("2026-W45", "2026-11-02", 3)]


def test_months_are_those_of_local_days(synced: Terminal) -> None:
    assert [(row["month"], row["events"]) for row in rows(synced, "monthly")] == [("2026-10", 1), ("2026-11", 3)]


def test_a_session_has_a_first_and_a_last_day(synced: Terminal) -> None:
    found = [
        (row["session_id"], row["first_day"], row["last_day"], row["project"]) for row in rows(synced, "session")
    ]
    assert found == [
        ("session-2", "2026-11-02", "2026-11-02", "/home/sam/api"),
        ("session-1", "2026-10-30", "2026-11-03", "/home/sam/shop"),
    ]


def test_projects_and_models_are_listed_dearest_first_and_unpriced_ones_last(synced: Terminal) -> None:
    assert [row["project"] for row in rows(synced, "project")] == ["/home/sam/shop", "/home/sam/api"]
    assert [row["model"] for row in rows(synced, "model")] == [SONNET, "claude-haiku-4-5", UNKNOWN]


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_adds_up_to_the_same_total(synced: Terminal, report: str) -> None:
    document = synced.kharcha("report", report, "-f", "json").json
    costs = [Decimal(row["cost_usd"]) for row in document["rows"] if row["cost_usd"] is not None]
    assert document["total"]["cost_usd"] == format(sum(costs), "f") == "0.482995000000"
    for name in ("events", "input_tokens", "output_tokens", "total_tokens", "unpriced_events"):
        assert document["total"][name] == sum(row[name] for row in document["rows"])
    assert (document["schema_version"], document["report"], document["timezone"]) == (1, report, "UTC")
    assert [row["model"] for row in document["unpriced_models"]] == [UNKNOWN]


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        (["--since", "2026-11-02"], 3),
        (["--until", "2026-11-02"], 3),
        (["--since", "2026-11-01", "--until", "2026-11-02"], 2),
        (["--source", "claude-code"], 4),
        (["--source", "codex"], 0),
        (["--source", "codex", "--source", "claude-code"], 4),
        (["--model", SONNET], 2),
        (["--model", "claude-*"], 3),
        (["--model", "claude"], 0),
        (["-m", SONNET, "-m", UNKNOWN], 3),
        (["--project", "/home/sam/api"], 1),
        (["--project", "api"], 1),
        (["--project", "*/sam/*"], 4),
        (["--project", "pi"], 0),
        (["--since", "2026-11-02", "-p", "shop", "-m", "claude-*"], 1),
        (["--since", "2026-11-04"], 0),
        (["--since", "9999d"], 4),
        (["--until", "yesterday", "--since", "today"], 0),
    ],
)
@pytest.mark.parametrize("report", ["daily", "session"])
def test_filters_limit_rows_and_total(synced: Terminal, report: str, arguments: list[str], events: int) -> None:
    document = synced.kharcha("report", report, *arguments, "-f", "json").json
    assert document["total"]["events"] == sum(row["events"] for row in document["rows"]) == events


def test_a_relative_project_is_the_directory_meant(synced: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert [row["project"] for row in rows(synced, "project", "--project", "./home/sam/api")] == ["/home/sam/api"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--source", "claud-code"], "'claud-code' is none of claude-code, codex"),
        (["--since", "2026-02-30"], "'2026-02-30' is not a day"),
        (["--until", "soon"], "'soon' is not a day"),
        (["hourly"], "'hourly' is not one of"),
        (["--last", "0"], "0 is not in the range"),
        (["--format", "xml"], "'xml' is not one of"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(synced: Terminal, arguments: list[str], says: str) -> None:
    outcome = synced.kharcha("report", *arguments)
    assert outcome.code == 2
    assert says in outcome.err


def test_last_shows_the_latest_rows_and_the_total_of_all(synced: Terminal) -> None:
    document = synced.kharcha("report", "daily", "--last", "1", "-f", "json").json
    assert [row["day"] for row in document["rows"]] == ["2026-11-03"]
    assert (document["rows_not_shown"], document["total"]["events"]) == (2, 4)
    assert "Not shown, but in the total: 2 rows." in synced.kharcha("report", "--last", "1").out


def test_csv_has_every_digit_and_leaves_unknown_costs_empty(synced: Terminal) -> None:
    read = list(csv.DictReader(io.StringIO(synced.kharcha("report", "daily", "-f", "csv").out)))
    assert [row["cost_usd"] for row in read] == ["0.450000000000", "0.032995000000", ""]
    assert read[1]["models"] == "claude-haiku-4-5;claude-sonnet-4-5"


def test_tables_round_to_cents_and_mark_what_has_no_price(synced: Terminal) -> None:
    outcome = synced.kharcha("report")
    by_day = {line.split()[0]: line for line in outcome.lines if line.startswith(("2026", "Total"))}
    assert by_day["2026-10-30"].endswith(" 0.45")
    assert by_day["2026-11-02"].endswith(" 0.03")
    assert by_day["2026-11-03"].endswith(" unpriced *")
    assert by_day["Total"].endswith(" 0.48 *")
    assert f"* Without 1 response whose price is not known: {UNKNOWN} (1)." in outcome.out
    assert "kharcha prices unpriced" in outcome.out


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_tables_fit_the_terminal_and_always_show_the_cost(synced: Terminal, report: str, width: int) -> None:
    lines = synced.kharcha("report", report, COLUMNS=str(width)).lines
    table = lines[2 : lines.index("", 2)]
    assert max(map(len, table)) <= width
    assert "Cost (USD)" in table[0]
    assert "Tokens" in table[0]
    assert ("Cache read" in table[0]) == ("Cache write" in table[0])


def test_nothing_matching_and_nothing_at_all_are_told_apart(synced: Terminal, terminal: Terminal) -> None:
    assert synced.kharcha("report", "--model", "nope").out == "No usage matches.\n"
    terminal.kharcha("sync")
    assert terminal.kharcha("report").out == "There is no usage yet.\n"


def test_before_the_first_sync_the_next_step_is_named(terminal: Terminal) -> None:
    outcome = terminal.kharcha("report")
    assert (outcome.code, outcome.out) == (1, "")
    assert "Run `kharcha sync` first." in outcome.err


def test_names_in_logs_cannot_steer_the_terminal(terminal: Terminal) -> None:
    terminal.transcript(
        "s", response(1, "2026-11-02T09:00:00Z", "evil\x1b[31mname", 10, 10, project="/tmp/\x1b]0;x\x07")
    )
    terminal.kharcha("sync")
    for report in REPORTS:
        assert "\x1b" not in terminal.kharcha("report", report).out


@pytest.mark.parametrize(
    ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_is_for_terminals_whose_user_wants_it(
    synced: Terminal, variables: dict[str, str], coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    environment = {**synced.environment, "TERM": "xterm", **variables}
    process = subprocess.Popen([str(KHARCHA), "report", "-n", "1"], env=environment, stdout=theirs)
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    assert process.wait() == 0
    assert b"Total" in said
    assert (b"\x1b[" in said) is coloured


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end of a terminal was closed
        return b""


def test_what_is_piped_has_no_colour(synced: Terminal) -> None:
    assert "\x1b" not in synced.run("report", TERM="xterm").out
