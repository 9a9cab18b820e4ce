"""What the page, its JSON and its CSV say is what the tables hold, whatever is asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.page.conftest import UNPRICED_MODEL, ZONE
from kharcha_pipeline_tests.page.serving import Server

DIMENSIONS = ("source", "provider", "model", "project", "machine", "account")
COUNTS = (
    "events", "failed_events", "aborted_events", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_5m_tokens", "cache_write_1h_tokens", "reasoning_tokens", "unpriced_events",
)  # fmt: skip
Sums = dict[str, Any]


def sums_of(machine: Machine, condition: str, parameters: list[Any]) -> Sums:
    """The sums of `daily_usage`, in the shape of the JSON."""
    columns = ", ".join(f"coalesce(sum({name}), 0)" for name in COUNTS)
    ((*counts, cost),) = machine.query(
        f"SELECT {columns}, sum(cost_usd) FROM daily_usage WHERE {condition}", parameters
    )
    return dict(zip(COUNTS, counts, strict=True)) | {"cost_usd": None if cost is None else format(cost, "f")}


def only_sums(row: Sums) -> Sums:
    return {name: row[name] for name in (*COUNTS, "cost_usd")}


def added(rows: list[Sums]) -> Sums:
    """Rows of the JSON added up."""
    costs = [Decimal(row["cost_usd"]) for row in rows if row["cost_usd"] is not None]
    counts = {name: sum(row[name] for row in rows) for name in COUNTS}
    return counts | {"cost_usd": format(sum(costs, Decimal(0)), "f") if costs else None}


@pytest.fixture(scope="session")
def rows_of_usage(machine: Machine) -> list[dict[str, str]]:
    """Every combination of names that has usage: filters are taken from these."""
    rows = machine.query(f"SELECT DISTINCT {', '.join(DIMENSIONS)} FROM daily_usage ORDER BY ALL")
    return [dict(zip(DIMENSIONS, row, strict=True)) for row in rows]


@settings(max_examples=25)
@given(data=some.data())
def test_any_filters_and_days_give_the_sums_of_daily_usage(
    machine: Machine, server: Server, rows_of_usage: list[dict[str, str]], data: some.DataObject
) -> None:
    names = data.draw(some.sampled_from(rows_of_usage))
    limited = data.draw(some.sets(some.sampled_from(DIMENSIONS)))
    first = LAST_DAY - timedelta(days=data.draw(some.integers(0, 45)))
    last = first + timedelta(days=data.draw(some.integers(0, 45)))
    by = data.draw(some.sampled_from(("model", "source", "project")))
    filters = {name: names[name] or "(none)" for name in limited}
    said = server.usage(from_=first.isoformat(), to=last.isoformat(), by=by, **filters)

    condition = " AND ".join(["day BETWEEN ? AND ?", *(f"{name} = ?" for name in limited)])
    parameters = [first, last, *(names[name] for name in limited)]
    expected = sums_of(machine, condition, parameters)
    assert only_sums(said["totals"]) == expected
    for divided in (said["days"], said["days_by"]["rows"], *(said[f"{name}s"] for name in DIMENSIONS)):
        assert added(divided) == expected
    events = f"FROM priced_events WHERE evidence = 'message' AND {condition}"
    ((seen, sessions),) = machine.query(
        f"SELECT count(*), count(DISTINCT (source, session_id)) FILTER (WHERE session_id <> '') {events}", parameters
    )
    assert sum(hour["events"] for hour in said["hours"]) == seen
    is_unknown = not sessions and bool(machine.query(f"SELECT 1 FROM daily_usage WHERE {condition}", parameters))
    assert said["totals"]["sessions"] == (None if is_unknown else sessions)


@pytest.mark.parametrize(("name", "days"), [("7d", 7), ("30d", 30), ("90d", 90), ("year", 365)])
def test_a_named_range_ends_today(machine: Machine, server: Server, name: str, days: int) -> None:
    said = server.usage(range=name)
    assert said["range"] == {
        "name": name, "from": (LAST_DAY - timedelta(days=days - 1)).isoformat(), "to": LAST_DAY.isoformat()
    }  # fmt: skip
    assert only_sums(said["totals"]) == sums_of(
        machine, "day BETWEEN ? AND ?", [LAST_DAY - timedelta(days=days - 1), LAST_DAY]
    )


def test_all_begins_with_the_first_usage(machine: Machine, server: Server) -> None:
    said = server.usage(range="all")
    ((first,),) = machine.query("SELECT min(day) FROM daily_usage")
    assert said["range"]["from"] == first.isoformat()
    assert only_sums(said["totals"]) == sums_of(machine, "true", [])


def test_this_month_is_compared_with_last_month_to_the_same_day(machine: Machine, server: Server) -> None:
    said = server.usage()["months"]
    expected = {
        "this": (LAST_DAY.replace(day=1), LAST_DAY),
        "before": (date(2026, 10, 1), date(2026, 10, LAST_DAY.day)),
        "before_whole": (date(2026, 10, 1), date(2026, 10, 31)),
    }
    for name, (first, last) in expected.items():
        assert (said[name]["from"], said[name]["to"]) == (first.isoformat(), last.isoformat())
        assert only_sums(said[name]) == sums_of(machine, "day BETWEEN ? AND ?", [first, last])


def test_hours_are_those_of_the_zones_clock(machine: Machine, server: Server) -> None:
    rows = machine.query(
        f"""
        SELECT isodow(timezone('{ZONE}', occurred_at)), hour(timezone('{ZONE}', occurred_at)), count(*), sum(cost_usd)
        FROM priced_events WHERE evidence = 'message' GROUP BY ALL ORDER BY ALL
        """
    )
    said = server.usage(range="all")["hours"]
    assert [(hour["weekday"], hour["hour"], hour["events"], hour["cost_usd"]) for hour in said] == [
        (weekday, hour, events, None if cost is None else format(cost, "f")) for weekday, hour, events, cost in rows
    ]


def test_sums_of_other_machines_count_but_have_no_hour_and_no_session(machine: Machine, server: Server) -> None:
    said = server.usage(range="all", machine="laptop")
    assert said["totals"]["events"] == 7
    assert said["totals"]["sessions"] is None
    assert said["hours"] == []


def test_the_calendar_is_fifty_three_weeks_whatever_the_range(machine: Machine, server: Server) -> None:
    first = LAST_DAY - timedelta(days=LAST_DAY.weekday() + 7 * 52)
    said = server.usage(range="7d")["calendar"]
    assert added(said) == sums_of(machine, "day BETWEEN ? AND ?", [first, LAST_DAY])


def test_what_has_no_price_is_unknown_everywhere(server: Server) -> None:
    said = server.usage(model=UNPRICED_MODEL)
    assert said["totals"]["cost_usd"] is None
    assert said["totals"]["unpriced_events"] == said["totals"]["events"] == 1
    assert [model["model"] for model in said["unpriced_models"]] == [UNPRICED_MODEL]
    (row,) = table(server, "models", model=UNPRICED_MODEL)
    assert row["cost_usd"] == ""
    page = server.get("/", model=UNPRICED_MODEL).text
    assert "$0.00" not in page
    assert 'class="number unknown" title="1 response, none with a known price">unknown<' in page


def table(server: Server, name: str, **parameters: str) -> list[dict[str, str]]:
    """A CSV table."""
    answered = server.get("/usage.csv", table=name, **parameters)
    assert answered.status == 200, answered.text
    assert answered.headers["content-type"] == "text/csv; charset=utf-8"
    assert answered.headers["content-disposition"] == f'attachment; filename="kharcha-{name}.csv"'
    return list(csv.DictReader(io.StringIO(answered.text)))


CSV_AND_JSON: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "days": lambda said: said["days_by"]["rows"],
    "calendar": lambda said: said["calendar"],
    "months": lambda said: [{"month": name, **sums} for name, sums in said["months"].items()],
    **{f"{name}s": lambda said, name=name: said[f"{name}s"] for name in DIMENSIONS},
    "hours": lambda said: said["hours"],
    "unpriced": lambda said: said["unpriced_models"],
}


@pytest.mark.parametrize("name", CSV_AND_JSON)
def test_every_csv_table_has_the_numbers_of_the_json(server: Server, name: str) -> None:
    said = CSV_AND_JSON[name](server.usage(range="90d", by="source"))
    assert said
    assert table(server, name, range="90d", by="source") == [
        {column: "" if value is None else str(value) for column, value in row.items()} for row in said
    ]


def test_the_page_shows_the_numbers_of_the_json(server: Server) -> None:
    said = server.usage()
    page = server.get("/").text
    cost = Decimal(said["months"]["this"]["cost_usd"])
    assert f"${cost:,.2f}" in page
    assert f'<dd><span class="number">{said["totals"]["events"]:,}</span></dd>' in page
    assert f'<dd><span class="number">{said["totals"]["sessions"]:,}</span></dd>' in page
    for model in said["models"][:5]:
        assert model["model"].replace("<", "&lt;").replace(">", "&gt;") in page
