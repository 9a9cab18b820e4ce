"""`kharcha sql`: answers exactly, reads nothing but the published tables, changes nothing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from kharcha_pipeline_tests.cli.terminal import Terminal


def test_json_has_exact_values_under_distinct_names(synced: Terminal) -> None:
    document = synced.kharcha(
        "sql", "SELECT day, cost_usd, 1 AS cost_usd FROM daily_usage ORDER BY day LIMIT 1", "-f", "json"
    ).json
    assert document["schema_version"] == 1
    assert document["columns"] == [
        {"name": "day", "type": "DATE"},
        {"name": "cost_usd", "type": "DECIMAL(38,12)"},
        {"name": "cost_usd_2", "type": "INTEGER"},
    ]
    assert document["rows"] == [{"day": "2026-10-30", "cost_usd": "0.450000000000", "cost_usd_2": 1}]


def test_csv_and_table_have_every_digit(synced: Terminal) -> None:
    query = "SELECT sum(cost_usd) AS total, NULL::VARCHAR AS nothing FROM priced_events"
    assert list(csv.reader(io.StringIO(synced.kharcha("sql", query, "-f", "csv").out))) == [
        ["total", "nothing"],
        ["0.482995000000", ""],
    ]
    assert synced.kharcha("sql", query).lines[2] == "0.482995000000  NULL"


def test_instants_are_shown_in_utc(synced: Terminal) -> None:
    query = "SELECT max(occurred_at) AS at FROM priced_events"
    row = synced.kharcha("sql", query, "-f", "json", TZ="Asia/Tokyo").json["rows"][0]
    assert row == {"at": "2026-11-03T23:30:00Z"}


def test_a_table_is_never_cut(synced: Terminal) -> None:
    assert synced.kharcha("sql", f"SELECT '{'x' * 300}' AS long", COLUMNS="60").lines[2] == "x" * 300


def test_a_query_can_come_from_the_standard_input(synced: Terminal) -> None:
    assert synced.run("sql", "-", "-f", "csv", stdin="SELECT 7 AS seven").out == "seven\n7\n"


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO daily_usage SELECT * FROM daily_usage",
        "DELETE FROM core.priced_events",
        "DROP TABLE priced_events",
        "CREATE TABLE mine AS SELECT 1",
        "COPY priced_events TO '{tmp}/stolen.csv'",
        "EXPORT DATABASE '{tmp}/stolen'",
        "ATTACH '{tmp}/other.duckdb'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "SELECT 1; DROP TABLE priced_events",
    ],
)
def test_nothing_can_be_changed_or_reached(synced: Terminal, tmp_path: Path, query: str) -> None:
    before = (synced.data / "kharcha.duckdb").read_bytes()
    outcome = synced.kharcha("sql", query.format(tmp=tmp_path))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("kharcha: The query failed: ")
    assert outcome.err.count("\n") == 1
    assert (synced.data / "kharcha.duckdb").read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_the_raw_layer_is_not_there(synced: Terminal) -> None:
    assert synced.kharcha("sql", "SELECT * FROM raw.usage_records").code == 1


def test_a_mistake_is_one_sentence_with_the_suggestion(synced: Terminal) -> None:
    outcome = synced.kharcha("sql", "SELECT * FROM daily_usag")
    assert outcome.err == (
        "kharcha: The query failed: Catalog Error: Table with name daily_usag does not exist. "
        'Did you mean "daily_usage"?\n'
    )


@pytest.mark.parametrize("query", ["", "  ", "-- nothing"])
def test_no_query_is_wrong_usage(synced: Terminal, query: str) -> None:
    assert synced.kharcha("sql", query).code == 2
