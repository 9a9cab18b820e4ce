"""The ready questions of docs/questions: each answer is worked out again here, from single events and without SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript, usage
from kharcha_pipeline_tests.write_docs import QUESTIONS

Row = dict[str, Any]
ZONE = "Europe/Berlin"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Forty days of all agents, over the end of a month; one response was still being written at the first sync."""
    machine = Machine.below(tmp_path_factory.mktemp("questions"), timezone=ZONE)
    write_corpus(machine.home, 5, 120, 40, LAST_DAY)
    growing = {"at": f"{LAST_DAY}T10:00:00Z", "stop": None}
    transcript(machine.home, line(used=usage(output_tokens=4), **growing))
    machine.sync()
    transcript(machine.home, line(used=usage(output_tokens=4), **growing), line(at=f"{LAST_DAY}T10:00:09Z"))
    machine.sync()
    return machine


@pytest.fixture(scope="module")
def ask(machine: Machine) -> Callable[[str], list[Row]]:
    """Answers a query, or the question in a file of that name."""

    def answers(query: str) -> list[Row]:
        text = (QUESTIONS / f"{query}.sql").read_text("utf-8") if " " not in query else query
        described = [row[0] for row in machine.query(f"DESCRIBE {text.rstrip().rstrip(';')}")]
        return [dict(zip(described, row, strict=True)) for row in machine.query(text)]

    return answers


@pytest.fixture(scope="module")
def events(ask: Callable[[str], list[Row]]) -> list[Row]:
    """Every priced event."""
    return ask("SELECT * FROM priced_events")


def cost(rows: Iterable[Row]) -> Decimal | None:
    """What events cost; `None` when nothing is priced."""
    costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    return sum(costs, Decimal(0)) if costs else None


def unpriced(rows: Iterable[Row]) -> int:
    return sum(row["cost_usd"] is None for row in rows)


def grouped(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names) if len(names) > 1 else row[names[0]]].append(row)
    return groups


def prompt(row: Row) -> int:
    counts = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    return sum(int(row[name]) for name in counts)


def test_there_are_ten_questions_and_each_has_a_test_here() -> None:
    names = [path.stem for path in sorted(QUESTIONS.glob("*.sql"))]
    assert len(names) == 10
    for name in names:
        assert f"test_{name[3:].replace('-', '_')}" in globals()


def test_cost_by_project(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    last = max(row["day"] for row in events)
    recent = grouped((row for row in events if row["day"] > last - timedelta(days=30)), "project")
    answer = ask("01-cost-by-project")
    assert {row["project"]: (row["cost_usd"], row["events"], row["unpriced_events"]) for row in answer} == {
        project: (cost(rows), len(rows), unpriced(rows)) for project, rows in recent.items()
    }
    assert sum(len(rows) for rows in recent.values()) < len(events)
    assert abs(sum(row["percent"] for row in answer if row["percent"] is not None) - 100) < 0.5
    assert [row["cost_usd"] for row in answer] == sorted((row["cost_usd"] for row in answer), reverse=True)


def test_month_to_date(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    last: date = max(row["day"] for row in events)
    month = last.replace(day=1)
    before = (month - timedelta(days=1)).replace(day=1)
    expected = {}
    for source, rows in grouped(events, "source").items():
        this = [row for row in rows if row["day"] >= month]
        previous = [row for row in rows if before <= row["day"] <= before.replace(day=last.day)]
        if this or previous:
            expected[source] = (cost(this), cost(previous), unpriced(this), unpriced(previous))
    answer = {
        row["source"]: (
            row["this_month_usd"],
            row["last_month_usd"],
            row["unpriced_this_month"],
            row["unpriced_last_month"],
        )
        for row in ask("02-month-to-date")
    }
    assert answer == expected
    assert any(previous for _, previous, *_ in expected.values())


def test_cache_hit_rate(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    answer = {(row["provider"], row["model"]): row for row in ask("03-cache-hit-rate")}
    models = grouped(events, "provider", "model")
    assert answer.keys() == models.keys()
    for key, rows in models.items():
        tokens = sum(prompt(row) for row in rows)
        assert answer[key]["prompt_tokens"] == tokens
        if tokens:
            percent = 100 * sum(row["cache_read_tokens"] for row in rows) / tokens
            assert answer[key]["percent_from_cache"] == pytest.approx(percent, abs=0.051)


def test_cache_savings(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    """With the savings added and the extra cost taken off, everything costs what it would without a cache."""
    answer = {(row["provider"], row["model"]): row for row in ask("04-cache-savings")}
    rates = {
        (row["price_provider"], row["price_model"], row["snapshot_day"], row["revision"]): row
        for row in ask(
            """
            SELECT * FROM pricing_snapshots JOIN pricing_rates USING (rates_sha256)
            WHERE variant = 'standard' AND prompt_over = -1 AND from_minute = 0 AND until_minute = 1440
            """
        )
    }
    checked = 0
    for key, rows in grouped((row for row in events if row["price_model"] is not None), "provider", "model").items():
        if any((row["price_variant"], row["price_tier"]) != ("standard", -1) for row in rows):
            continue
        uncached = Decimal(0)
        for row in rows:
            used = rates[row["price_provider"], row["price_model"], row["snapshot_day"], row["snapshot_revision"]]
            searches = row["web_search_requests"] * (used["web_search_per_k"] or Decimal(0)) / 1000
            uncached += (
                prompt(row) * used["input_per_mtok"] + row["output_tokens"] * used["output_per_mtok"]
            ) / 1_000_000 + searches
        total = cost(rows)
        assert total is not None
        assert total + answer[key]["saved_usd"] - answer[key]["extra_for_writing_usd"] == uncached
        checked += answer[key]["saved_usd"] > 0
    assert checked >= 3


def test_dearest_sessions(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    sessions = grouped(events, "source", "session_id")
    dearest = sorted((total for rows in sessions.values() if (total := cost(rows)) is not None), reverse=True)
    answer = ask("05-dearest-sessions")
    assert [row["cost_usd"] for row in answer] == dearest[:10]
    for row in answer:
        of_session = sessions[row["source"], row["session_id"]]
        assert (row["events"], row["unpriced_events"]) == (len(of_session), unpriced(of_session))
        assert row["first_at"] == min(event["occurred_at"] for event in of_session)
        assert row["last_at"] == max(event["occurred_at"] for event in of_session)
        assert row["models"] == ", ".join(sorted({event["model"] for event in of_session}))


def test_unpriced_usage(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    without = grouped((row for row in events if row["cost_usd"] is None), "provider", "model")
    answer = ask("06-unpriced-usage")
    assert answer
    assert {
        (row["provider"], row["model"]): (row["unpriced_events"], row["first_day"], row["last_day"]) for row in answer
    } == {
        key: (len(rows), min(row["day"] for row in rows), max(row["day"] for row in rows))
        for key, rows in without.items()
    }
    for row in answer:
        assert row["percent_of_all_events"] == pytest.approx(100 * row["unpriced_events"] / len(events), abs=0.0051)


def test_unusual_days(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    expected = set()
    for project, rows in grouped(events, "project").items():
        days = {day: total for day, of_day in grouped(rows, "day").items() if (total := cost(of_day)) is not None}
        if len(days) < 7:
            continue
        middle = median(days.values())
        distance = median(abs(total - middle) for total in days.values())
        expected |= {(project, day) for day, total in days.items() if abs(total - middle) > 3 * distance}
    assert expected
    assert {(row["project"], row["day"]) for row in ask("07-unusual-days")} == expected


def test_what_changed(ask: Callable[[str], list[Row]]) -> None:
    (changed,) = [row for row in ask("08-what-changed") if row["reason"] == "a better copy was found"]
    assert (changed["subject"], changed["changes"], changed["events"]) == ("event", 1, 1)
    assert changed["output_tokens_added"] == 318 - 4
    assert changed["withdrawn"] == 0


def test_subagents(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    expected = {}
    for project, rows in grouped(events, "project").items():
        inner = [row for row in rows if row["is_subagent"]]
        expected[project] = (len(rows), len(inner), cost(rows), cost(inner), unpriced(rows))
    answer = {
        row["project"]: (
            row["events"],
            row["subagent_events"],
            row["cost_usd"],
            row["subagent_cost_usd"],
            row["unpriced_events"],
        )
        for row in ask("09-subagents")
    }
    assert answer == expected
    assert any(0 < inner < every for every, inner, *_ in answer.values())


def test_busiest_hours(ask: Callable[[str], list[Row]], events: list[Row]) -> None:
    hours: dict[int, list[Row]] = defaultdict(list)
    for row in events:
        at: datetime = row["occurred_at"]
        hours[at.astimezone(ZoneInfo(ZONE)).hour].append(row)
    assert {
        row["hour_of_day"]: (row["events"], row["days"], row["cost_usd"], row["unpriced_events"])
        for row in ask("10-busiest-hours")
    } == {
        hour: (len(rows), len({row["day"] for row in rows}), cost(rows), unpriced(rows))
        for hour, rows in hours.items()
    }
