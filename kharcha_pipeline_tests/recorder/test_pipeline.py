"""The pipeline reads the recorder's database exactly once, and its days are the recorder's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline.recorder import Recorder, UsageCounts
from kharcha_pipeline.sources.recorder import DAMAGED, NO_TIME, TOO_NEW
from kharcha_pipeline.sources.recorder import recorder as source
from kharcha_pipeline.unchanged import unchanged_files
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.recorder.database import NOW, call, execute, rows, with_prices
from kharcha_pipeline_tests.sources.reading import read, settle
from kharcha_pipeline_tests.sources.test_claude_code import line, transcript

PRICES = """
[[premium]]
provider = "openai"
model = "gpt-5"
effective_from = 2026-01-01
premium_multiplier = "0.0033"
"""

DAYS = """
    SELECT day::VARCHAR, account_name, endpoint, sum(req_count)::BIGINT, sum(failed_events)::BIGINT,
        sum(aborted_events)::BIGINT, sum(input_tokens)::BIGINT, sum(cached_input_tokens)::BIGINT,
        sum(cache_creation_tokens)::BIGINT, sum(output_tokens)::BIGINT, sum(reasoning_tokens)::BIGINT,
        sum(premium_request_count)
    FROM usage_daily WHERE endpoint <> '' GROUP BY ALL ORDER BY ALL
"""


def days_of_the_recorder(data: Path) -> list[tuple[Any, ...]]:
    """The recorder's `usage_daily` without the model, which the pipeline normalizes."""
    sums: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows(data, "usage_daily"):
        total = sums.setdefault((row["day"], row["account_name"], row["endpoint"]), [0] * 9)
        told = (
            row["req_count"],
            row["failed_count"],
            row["aborted_count"],
            row["input_tokens"],
            row["cache_read_tokens"],
            row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"],
            row["output_tokens"],
            row["reasoning_tokens"],
            Decimal(row["premium_request_count"]),
        )
        total[:] = [one + other for one, other in zip(total, told, strict=True)]
    return sorted((*key, *total) for key, total in sums.items())


counts = st.integers(0, 10**6)
calls = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["team-a", "team-b", "ünï"]),
        "model_id": st.sampled_from(["gpt-5", "claude-sonnet-4-5", "openrouter/openai/gpt-5", "nobody-sells-this"]),
        "endpoint": st.sampled_from(["chat.completions", "messages", "embeddings", "responses"]),
        "upstream_format": st.sampled_from(["openai", "anthropic"]),
        "is_streaming": st.booleans(),
        "usage": st.builds(UsageCounts, counts, counts, counts, counts, counts, counts, st.integers(0, 3)),
        "status": st.sampled_from(["ok", "ok", "error", "aborted"]),
        "request_id": st.none() | st.sampled_from("abcdefgh"),
        "is_internal": st.sampled_from([False, False, False, True]),
        "duration_ms": st.none() | counts,
        # Around midnight in Berlin and in New York, before and after a change of clocks.
        "occurred_at": st.sampled_from([1_774_710_000_000, 1_774_760_000_000, 1_779_900_000_000, NOW - 86_400_000])
        .flatmap(lambda base: st.integers(base - 10_000_000, base + 10_000_000)),
    }
)  # fmt: skip


@given(st.lists(st.lists(calls, max_size=8), min_size=1, max_size=3))
@settings(max_examples=8)
def test_the_pipelines_days_are_the_recorders_before_and_after_a_change_of_zone(batches: list[list[Any]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine.below(Path(directory), timezone="Europe/Berlin")
        environment = with_prices(machine, PRICES)
        with mock.patch.dict("os.environ", environment), Recorder(clock=lambda: NOW) as recorder:
            for batch in batches:
                for given_call in batch:
                    recorder.record_usage(given_call)
                machine.sync()
                assert machine.query(DAYS) == days_of_the_recorder(machine.data)
            before = days_of_the_recorder(machine.data)
            rebucket(machine.warehouse, "America/New_York", PriceSources.load())
            machine.warehouse.publish()
            after = days_of_the_recorder(machine.data)
            assert machine.query(DAYS) == after
            assert [sum(day[3:][0] for day in days) for days in (before, after)] == [
                len(rows(machine.data, "usage_events"))
            ] * 2
            assert sum((day[-1] for day in before), Decimal(0)) == sum((day[-1] for day in after), Decimal(0))
            machine.timezone = "America/New_York"
            recorder.record_usage(call(occurred_at=NOW - 3 * 3_600_000))
            machine.sync()
            assert machine.query(DAYS) == days_of_the_recorder(machine.data)


def test_an_event_tells_what_was_recorded(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call(model_id="anthropic/claude-sonnet-4.5", status="aborted", account="team-a"))
    machine.sync()
    (event,) = machine.query(
        "SELECT source, account, provider, model, model_raw, endpoint, status, service_tier, session_id, "
        "input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, "
        "reasoning_tokens, web_search_requests, premium_request_count, reported_cost_usd, price_model, evidence "
        "FROM priced_events"
    )
    assert event == (
        *("recorder", "team-a", "anthropic", "claude-sonnet-4-5", "anthropic/claude-sonnet-4.5", "messages"),
        *("aborted", "standard", "", 100, 20, 3000, 40, 50, 5, 1, 0, None, "claude-sonnet-4-5", "message"),
    )


def test_it_is_read_incrementally_beside_a_live_recorder(recorder: Recorder, machine: Machine) -> None:
    path = machine.data / "recorder.sqlite"
    recorder.record_usage(call())
    recorder.record_usage(call(account=None))
    first = read(source, path)
    assert (len(first.records), len(first.rejects)) == (1, 1)
    nothing = read(source, path, first)
    assert (nothing.records, nothing.rejects) == ([], [])
    recorder.record_usage(call())
    second = read(source, path, nothing)
    assert (len(second.records), len(second.rejects)) == (1, 0)
    assert len(settle(source, [first, second])) == 2
    assert path.with_name("recorder.sqlite-wal").stat().st_size  # still the recorder's


def test_reading_leaves_nothing_beside_a_database_that_nobody_has_open(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call())
    recorder.close()
    before = {path.name: path.stat().st_mtime_ns for path in machine.data.iterdir()}
    assert len(read(source, machine.data / "recorder.sqlite").records) == 1
    assert {path.name: path.stat().st_mtime_ns for path in machine.data.iterdir()} == before


def test_syncs_without_calls_in_between_do_nothing(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call())
    machine.sync()
    assert unchanged_files(machine.environment) == 1
    recorder.record_usage(call(account=None))
    assert unchanged_files(machine.environment) is None
    machine.sync()
    assert unchanged_files(machine.environment) == 1
    assert machine.query("SELECT reason, position FROM rejects") == [("account is missing", 1)]


def test_a_database_that_began_anew_is_read_from_its_start(recorder: Recorder, machine: Machine) -> None:
    path = machine.data / "recorder.sqlite"
    for _ in range(3):
        recorder.record_usage(call())
    reading = read(source, path)
    recorder.close()
    path.unlink()
    recorder.record_usage(call())
    assert len(read(source, path, reading).records) == 1


def test_a_restored_backup_counts_nothing_twice(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call())
    recorder.close()
    path = machine.data / "recorder.sqlite"
    backup = path.read_bytes()
    recorder.record_usage(call())
    machine.sync()
    recorder.close()
    path.unlink()
    path.write_bytes(backup)
    recorder.record_usage(call())
    machine.sync()
    assert machine.query("SELECT count(*) FROM usage_events") == [(3,)]


def test_a_copy_from_another_machine_is_a_root_with_a_label(machine: Machine, tmp_path: Path) -> None:
    with Recorder(tmp_path / "other") as recorder:
        recorder.record_usage(call())
        execute(tmp_path / "other", "UPDATE usage_events SET account_name = ''")
    config = machine.home / "config.toml"
    config.write_text(f"[[root]]\nsource = 'recorder'\npath = '{tmp_path / 'other'}'\naccount = 'hub'\n")
    with mock.patch.object(Machine, "environment", {**machine.environment, "KHARCHA_CONFIG": str(config)}):
        machine.sync()
    assert machine.query("SELECT account, source FROM usage_events") == [("hub", "recorder")]


def test_what_a_hand_put_into_the_database_stops_nothing(recorder: Recorder, machine: Machine) -> None:
    for _ in range(5):
        recorder.record_usage(call())
    execute(
        machine.data,
        "UPDATE usage_events SET input_tokens = 'many' WHERE id = 1",
        "UPDATE usage_events SET status = 'fine' WHERE id = 2",
        "UPDATE usage_events SET occurred_at = 5 WHERE id = 3",
        "UPDATE usage_events SET account_name = x'ff00' WHERE id = 4",
    )
    reading = read(source, machine.data / "recorder.sqlite")
    assert [(reject.reason, reject.position) for reject in reading.rejects] == [
        (DAMAGED, 1),
        (DAMAGED, 2),
        (NO_TIME, 3),
    ]
    assert [record.position for record in reading.records] == [4, 5]


def test_databases_of_no_use_are_rejects(recorder: Recorder, machine: Machine) -> None:
    path = machine.data / "recorder.sqlite"
    execute(machine.data, "PRAGMA user_version = 2")
    assert [reject.reason for reject in read(source, path).rejects] == [TOO_NEW]
    execute(machine.data, "PRAGMA user_version = 1", "DROP TABLE rejects")
    assert [reject.reason for reject in read(source, path).rejects] == [DAMAGED]
    other = machine.home / "empty.sqlite"
    other.touch()
    assert read(source, other).records == read(source, other).rejects == []


def test_a_database_whose_directory_cannot_be_written_is_read_from_a_copy(
    recorder: Recorder, machine: Machine
) -> None:
    recorder.record_usage(call(account="ünï"))
    with mock.patch("os.access", return_value=False):
        reading = read(source, machine.data / "recorder.sqlite")
    assert [record.said.account for record in reading.records] == ["ünï"]


def test_it_stands_beside_agents_logs(recorder: Recorder, machine: Machine) -> None:
    transcript(machine.home, line("msg_1"))
    recorder.record_usage(call())
    machine.sync()
    assert machine.query("SELECT source, count(*) FROM usage_events GROUP BY ALL ORDER BY ALL") == [
        ("claude-code", 1),
        ("recorder", 1),
    ]


# ------------------------------------------------------------------------------------------------ zone and prices


def test_sync_imposes_the_warehouses_zone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.sync()
    monkeypatch.setenv("KHARCHA_TIMEZONE", "Asia/Tokyo")
    with Recorder(machine.home / "elsewhere") as recorder:  # made where nothing was published
        recorder.record_usage(call(occurred_at=1_779_990_000_000))
    (machine.home / "elsewhere" / "recorder.sqlite").rename(machine.data / "recorder.sqlite")
    assert [row["day"] for row in rows(machine.data, "usage_daily")] == ["2026-05-29"]
    machine.sync()
    assert [row["day"] for row in rows(machine.data, "usage_daily")] == ["2026-05-28"]
    assert [row["day"] for row in rows(machine.data, "usage_events")] == ["2026-05-28"]


def test_a_model_that_was_recorded_has_snapshots_after_the_next_sync(recorder: Recorder, machine: Machine) -> None:
    model = "openrouter/anthropic/claude-sonnet-4.5"
    recorder.record_usage(call(model_id=model))
    machine.sync()
    recorder.record_usage(call(model_id=model))
    found = [row["output_price_snapshot"] for row in rows(machine.data, "usage_events")]
    assert found == [None, "15"]
    (price,) = (row for row in rows(machine.data, "model_pricing") if row["model_id"] == model)
    assert (price["price_provider"], price["source"]) == ("openrouter", "genai-prices 0.2.3")


def test_the_users_own_prices_come_with_the_next_sync_and_snapshots_stay(
    recorder: Recorder, machine: Machine
) -> None:
    recorder.record_usage(call(model_id="gpt-5"))
    price = (
        "[[price]]\nprovider = 'openai'\nmodel = 'gpt-5'\neffective_from = 2026-01-01\ninput = '1'\noutput = '2'\n"
    )
    with mock.patch.object(Machine, "environment", with_prices(machine, PRICES + price)):
        machine.sync()
    recorder.record_usage(call(model_id="gpt-5"))
    snapshots = [
        tuple(row[f"{name}_snapshot"] for name in ("input_price", "output_price", "premium_multiplier"))
        for row in rows(machine.data, "usage_events")
    ]
    assert snapshots == [("1.25", "10", None), ("1", "2", "0.0033")]
    assert [row["premium_request_count"] for row in rows(machine.data, "usage_events")] == ["0", "0.0033"]


def test_prices_that_are_gone_are_no_longer_in_force(recorder: Recorder, machine: Machine) -> None:
    with mock.patch.object(Machine, "environment", with_prices(machine, PRICES)):
        machine.sync()
    machine.sync()
    recorder.record_usage(call(model_id="gpt-5"))
    assert rows(machine.data, "usage_events")[0]["premium_multiplier_snapshot"] is None


def test_unchanged_prices_are_not_written_again(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call())
    recorder.close()
    machine.sync()
    before = (machine.data / "recorder.sqlite").stat().st_mtime_ns
    machine.sync()
    assert (machine.data / "recorder.sqlite").stat().st_mtime_ns == before


def test_prices_are_those_of_the_day_they_are_asked_for(machine: Machine) -> None:
    PriceSources.load(today=date(2026, 5, 1))  # the catalogue is read before the clock is moved
    with time_machine.travel("2026-05-28T12:00:00Z", tick=False), Recorder() as recorder:
        recorder.record_usage(call())
    (facts,) = (row["value"] for row in rows(machine.data, "meta") if row["name"] == "prices")
    assert facts.split()[1] == "2026-05-28"


def test_a_rebucket_says_when_the_recorder_could_not_follow(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call())
    machine.sync()
    recorder.close()
    with closing(sqlite3.connect(machine.data / "recorder.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with mock.patch("kharcha_pipeline.recorder.upkeep.LONGEST_WAIT", 0.0):
            result = rebucket(machine.warehouse, "Asia/Tokyo", PriceSources.load())
        assert result.warnings == [
            f"The recorder's database {machine.data / 'recorder.sqlite'} could not be tended (database is locked)."
        ]
        connection.execute("ROLLBACK")
    machine.timezone = "Asia/Tokyo"
    assert machine.sync().built.warnings == []
    assert {"name": "timezone", "value": "Asia/Tokyo"} in rows(machine.data, "meta")


@pytest.mark.parametrize("command", ["run", "sync", "doctor"])
def test_the_program_knows_the_source(recorder: Recorder, machine: Machine, command: str) -> None:
    recorder.record_usage(call())
    program = Path(sys.executable).with_name("kharcha")
    ended = subprocess.run([program, command], env=machine.environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    if command == "doctor":
        assert "Recorder     1 file" in ended.stdout
    else:
        assert machine.query("SELECT count(*) FROM usage_events") == [(1,)]
    assert "samples" not in ended.stdout
