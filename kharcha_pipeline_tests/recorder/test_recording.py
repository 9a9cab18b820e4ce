"""One call, one row: what is stored, what is not, and that a caller never hears of any trouble."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.recorder import Recorder, RecordUsageInput, Statistics, UsageCounts
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.recorder.database import NOW, call, execute, rows, with_prices

PRICES = (
    "input_price_snapshot",
    "cached_input_price_snapshot",
    "output_price_snapshot",
    "reasoning_price_snapshot",
    "premium_unit_price_snapshot",
    "premium_multiplier_snapshot",
)
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "web_search_requests",
)


# ------------------------------------------------------------------------------------- the four tests of the seed


def test_one_call_is_one_event_row_and_one_daily_row(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(RecordUsageInput(**call(request_id="req_1")))
    (event,) = rows(machine.data, "usage_events")
    assert len(event.pop("event_id")) == 36
    assert event == {
        "id": 1,
        "occurred_at": NOW,
        "day": "2026-05-28",
        "account_name": "team-a",
        "model_id": "claude-sonnet-4-5",
        "endpoint": "messages",
        "upstream_format": "anthropic",
        "is_streaming": 1,
        "status": "ok",
        "duration_ms": 812,
        "request_id": "req_1",
        **dict(zip(COUNTS, (100, 20, 3000, 40, 50, 5, 1), strict=True)),
        "premium_request_count": "0",
        **dict(zip(PRICES, ("3", "0.3", "15", "15", None, None), strict=True)),
    }
    (day,) = rows(machine.data, "usage_daily")
    assert day == {
        "day": "2026-05-28",
        "account_name": "team-a",
        "model_id": "claude-sonnet-4-5",
        "endpoint": "messages",
        "req_count": 1,
        "failed_count": 0,
        "aborted_count": 0,
        **{name: event[name] for name in COUNTS},
        "premium_request_count": "0",
    }


def test_a_second_call_of_the_same_day_account_model_and_endpoint_adds_to_the_row(
    recorder: Recorder, machine: Machine
) -> None:
    recorder.record_usage(call())
    recorder.record_usage(call(usage=UsageCounts(1, 2, 3, 4, 5, 6, 7)))
    recorder.record_usage(call(endpoint="chat.completions"))
    days = {row["endpoint"]: row for row in rows(machine.data, "usage_daily")}
    assert days["messages"]["req_count"] == 2
    assert [days["messages"][name] for name in COUNTS] == [101, 22, 3003, 44, 55, 11, 8]
    assert days["chat.completions"]["req_count"] == 1
    assert len(rows(machine.data, "usage_events")) == 3


def test_a_model_without_a_price_has_no_snapshots_and_raises_nothing(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call(model_id="nobody-sells-this"))
    (event,) = rows(machine.data, "usage_events")
    assert {event[name] for name in PRICES} == {None}
    assert event["premium_request_count"] == "0"


@pytest.mark.parametrize("name", ["is_internal", "isInternal"])
def test_an_internal_call_writes_nothing(recorder: Recorder, machine: Machine, name: str) -> None:
    recorder.record_usage(call(**{name: True}))
    assert [rows(machine.data, table) for table in ("usage_events", "usage_daily", "rejects")] == [[], [], []]
    assert recorder.statistics == Statistics(internal=1)


def test_an_error_of_the_database_is_swallowed_and_logged(
    recorder: Recorder, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    execute(machine.data, "DROP TABLE usage_daily")
    with caplog.at_level(logging.ERROR, logger="kharcha_pipeline.recorder"):
        recorder.record_usage(call())
    assert "no such table" in caplog.text
    assert rows(machine.data, "usage_events") == []  # both or neither
    assert recorder.statistics == Statistics(spilled=1)


# --------------------------------------------------------------------------------------------- how it may be said


def test_the_names_of_the_seed_are_understood(recorder: Recorder, machine: Machine) -> None:
    said = {
        "account": "team-a",
        "modelId": "claude-sonnet-4-5",
        "endpoint": "messages",
        "upstreamFormat": "anthropic",
        "isStreaming": True,
        "usage": {"inputTokens": 100, "outputTokens": 20, "cacheReadTokens": 3000, "cacheWrite5mTokens": 40}
        | {"cacheWrite1hTokens": 50, "reasoningTokens": 5, "webSearchRequests": 1},
        "durationMs": 812,
        "status": "ok",
        "isInternal": False,
    }
    recorder.record_usage(call(request_id="1"))
    recorder.record_usage(said, requestId="2")
    recorder.record_usage(**said, requestId="3")
    recorder.record_usage(RecordUsageInput(**said, requestId="4"))
    recorder.record_usage(RecordUsageInput(**said), request_id="5")
    found = rows(machine.data, "usage_events")
    assert [event.pop("request_id") for event in found] == ["1", "2", "3", "4", "5"]
    alike = {tuple((name, event[name]) for name in event if name not in ("id", "event_id")) for event in found}
    assert len(alike) == 1


def test_an_instant_may_be_told(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call(occurred_at=datetime(2026, 5, 28, 22, 30, tzinfo=UTC)))
    recorder.record_usage(call(occurredAt=NOW - 1))
    assert [(row["occurred_at"], row["day"]) for row in rows(machine.data, "usage_events")] == [
        (1_780_007_400_000, "2026-05-29"),  # half past midnight in Berlin
        (NOW - 1, "2026-05-28"),
    ]


def test_a_request_id_makes_a_call_repeatable(recorder: Recorder, machine: Machine) -> None:
    for _ in range(3):
        recorder.record_usage(call(request_id="req_1"))
    recorder.record_usage(call(request_id="req_1", account="team-b"))
    recorder.record_usage(call())
    recorder.record_usage(call(request_id=""))
    assert [row["request_id"] for row in rows(machine.data, "usage_events")] == ["req_1", "req_1", None, None]
    assert {row["account_name"]: row["req_count"] for row in rows(machine.data, "usage_daily")} == {
        "team-a": 3,
        "team-b": 1,
    }
    assert recorder.statistics == Statistics(recorded=4, repeated=2)


def test_failed_and_aborted_calls_are_counted_as_such(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call())
    recorder.record_usage(call(status="error", usage=None))
    recorder.record_usage(call(status="aborted", usage=None))
    recorder.record_usage(call(status="aborted"))
    (day,) = rows(machine.data, "usage_daily")
    assert (day["req_count"], day["failed_count"], day["aborted_count"], day["input_tokens"]) == (4, 1, 2, 200)


def test_premium_requests_are_exact_and_only_what_is_billed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = (
        "[[premium]]\nprovider = 'anthropic'\nmodel = 'claude-sonnet-4-5'\neffective_from = 2026-01-01\n"
        "premium_multiplier = '0.33'\npremium_unit_price_usd = '0.04'\n"
        "[[premium]]\nprovider = 'openai'\nmodel = 'plan-model'\neffective_from = 2026-01-01\n"
        "premium_multiplier = 10\n"
    )
    for name, value in with_prices(machine, prices).items():
        monkeypatch.setenv(name, value)
    with Recorder() as recorder:
        for _ in range(10):
            recorder.record_usage(call())
        recorder.record_usage(call(status="error"))
        recorder.record_usage(call(status="aborted"))
        recorder.record_usage(call(status="aborted", usage=UsageCounts()))
        recorder.record_usage(call(model_id="gpt-5"))
    premium = [row["premium_request_count"] for row in rows(machine.data, "usage_events")]
    assert premium == ["0.33"] * 10 + ["0", "0.33", "0", "0"]
    (event, *_) = rows(machine.data, "usage_events")
    assert [event[name] for name in PRICES] == ["3", "0.3", "15", "15", "0.04", "0.33"]
    days = {row["model_id"]: row["premium_request_count"] for row in rows(machine.data, "usage_daily")}
    assert days == {"claude-sonnet-4-5": "3.63", "gpt-5": "0"}


# ---------------------------------------------------------------------------------------------- what is refused


class Hostile:
    """An object that fails at whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


SECRET = "sk-secret-4711"

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"account": None}, "account is missing"),
    ({"account": " "}, "account is missing"),
    ({"account": 7}, "account is no text"),
    ({"model_id": SECRET * 100}, "model_id is too long"),
    ({"endpoint": SECRET}, "endpoint is none of those that are known"),
    ({"endpoint": ["messages"]}, "endpoint is none of those that are known"),
    ({"upstream_format": SECRET}, "upstream_format is neither openai nor anthropic"),
    ({"is_streaming": SECRET}, "is_streaming is neither true nor false"),
    ({"is_internal": "no"}, "is_internal is neither true nor false"),
    ({"status": SECRET}, "status is none of ok, error and aborted"),
    ({"duration_ms": -1}, "duration_ms is no time in milliseconds"),
    ({"duration_ms": float("nan")}, "duration_ms is no time in milliseconds"),
    ({"duration_ms": True}, "duration_ms is no time in milliseconds"),
    ({"request_id": 5}, "request_id is no text"),
    ({"usage": None}, "a call that succeeded came without usage"),
    ({"usage": 5}, "usage is not understood"),
    ({"usage": Hostile()}, "usage is not understood"),
    ({"usage": {"prompt_tokens": 5}}, "usage has an unknown field"),
    ({"usage": {"cachedInputTokens": 5}}, "usage has an unknown field"),
    ({"usage": {7: 5}}, "usage has an unknown field"),
    ({"usage": UsageCounts(-1)}, "usage has a count that is no count"),
    ({"usage": UsageCounts(10**11 + 1)}, "usage has a count that is no count"),
    ({"usage": UsageCounts(1.5)}, "usage has a count that is no count"),  # type: ignore[arg-type]
    ({"usage": UsageCounts(True)}, "usage has a count that is no count"),
    ({"occurred_at": datetime(2026, 1, 1)}, "occurred_at has no time zone"),
    ({"occurred_at": "2026-01-01T00:00:00Z"}, "occurred_at is no instant"),
    ({"occurred_at": 5}, "occurred_at is out of range"),
    ({"occurred_at": NOW + 86_400_001}, "occurred_at is out of range"),
    ({SECRET: 1}, "a field has an unknown name"),
    ({"self": 1}, "a field has an unknown name"),
]


@pytest.mark.parametrize(("changed", "reason"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_used_is_a_reject_that_quotes_nothing(
    recorder: Recorder, machine: Machine, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], reason: str
) -> None:
    recorder.record_usage(call(**changed))
    (reject,) = rows(machine.data, "rejects")
    assert (reject["reason"], reject["occurred_at"]) == (reason, NOW)
    assert rows(machine.data, "usage_events") == []
    assert recorder.statistics == Statistics(rejected=1)
    assert reason in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("given", [7, "usage", ["account"], {7: 8}, Hostile()], ids=lambda value: str(type(value)))
def test_what_is_no_call_at_all_is_a_reject(recorder: Recorder, machine: Machine, given: Any) -> None:
    recorder.record_usage(given)
    assert len(rows(machine.data, "rejects")) == 1


def test_names_that_no_database_can_hold_are_stored_with_question_marks(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call(account="a\0b", model_id="c\ud800d", request_id="\udfff"))
    (event,) = rows(machine.data, "usage_events")
    assert (event["account_name"], event["model_id"], event["request_id"]) == ("a?b", "c?d", "?")


# ------------------------------------------------------------------------------------------------ circumstances


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_are_for_their_owner_alone_under_any_umask(machine: Machine, umask: int) -> None:
    before = os.umask(umask)
    data = machine.data / "deep" / "down"
    try:
        with Recorder(data) as recorder:
            recorder.record_usage(call())
            modes = modes_below(machine.data)
            spill_a_call(data, recorder)
            modes |= modes_below(machine.data)
    finally:
        os.umask(before)
    names = {"data", "deep", "down", "recorder.sqlite", "recorder.sqlite-wal", "recorder.sqlite-shm"}
    assert modes.keys() == names | {"recorder.spill", "current.jsonl"}
    assert set(modes.values()) == {0o600, 0o700}
    assert modes["recorder.sqlite"] == modes["current.jsonl"] == 0o600


def modes_below(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}


def spill_a_call(data: Path, recorder: Recorder) -> None:
    recorder.close()
    (data / "recorder.sqlite").rename(data / "moved")
    (data / "recorder.sqlite").mkdir()
    recorder.record_usage(call())
    (data / "recorder.sqlite").rmdir()
    (data / "moved").rename(data / "recorder.sqlite")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "UTC"])
def test_the_day_is_that_of_sqlites_localtime_where_the_zone_is_the_machines(tmp_path: Path, zone: str) -> None:
    """Around every hour of a year: changes of clocks, midnights that do not exist."""
    script = """
import sqlite3, sys
from kharcha_pipeline.recorder.store import local_day
database = sqlite3.connect(":memory:")
wrong = 0
for instant in range(1_751_328_000_000, 1_783_000_000_000, 1_799_999):
    (theirs,) = database.execute("SELECT date(? / 1000, 'unixepoch', 'localtime')", (instant,)).fetchone()
    wrong += theirs != local_day(instant, sys.argv[1])
sys.exit(wrong)
"""
    environment = {**os.environ, "TZ": zone}
    assert subprocess.run([sys.executable, "-c", script, zone], env=environment, check=False).returncode == 0


def test_a_new_database_takes_the_zone_that_is_set_and_prices_of_the_catalogue(machine: Machine) -> None:
    Recorder().close()
    facts = {row["name"]: row["value"] for row in rows(machine.data, "meta")}
    assert facts["timezone"] == "Europe/Berlin"
    assert len(rows(machine.data, "model_pricing")) > 100


def test_a_new_database_takes_the_zone_of_the_published_tables(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.sync()
    monkeypatch.setenv("KHARCHA_TIMEZONE", "Asia/Tokyo")
    Recorder().close()
    assert {"name": "timezone", "value": "Europe/Berlin"} in rows(machine.data, "meta")


@pytest.mark.parametrize(
    "settings", [{"KHARCHA_TIMEZONE": "+05:30"}, {"KHARCHA_PRICES": "/nowhere"}, {"KHARCHA_CONFIG": "/nowhere"}]
)
def test_wrong_settings_are_logged_and_calls_recorded(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with Recorder() as recorder:
        recorder.record_usage(call())
    assert len(rows(machine.data, "usage_events")) == 1
    assert next(iter(settings.values())) in caplog.text


def test_a_database_of_a_newer_version_is_left_alone(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    Recorder().close()
    execute(machine.data, "PRAGMA user_version = 2")
    with Recorder() as recorder:
        recorder.record_usage(call())
    assert "newer than" in caplog.text
    assert recorder.statistics == Statistics(spilled=1)
    assert rows(machine.data, "usage_events") == []


def test_a_database_that_is_deleted_under_a_recorder_is_made_anew(recorder: Recorder, machine: Machine) -> None:
    recorder.record_usage(call())
    for path in machine.data.glob("recorder.sqlite*"):
        path.unlink()
    recorder.record_usage(call(model_id="second"))
    assert [row["model_id"] for row in rows(machine.data, "usage_events")] == ["second"]


def test_importing_it_takes_the_standard_library_alone() -> None:
    script = (
        "import sys\nbefore = set(sys.modules)\nimport kharcha_pipeline.recorder\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(name for name in new - sys.stdlib_module_names if not name.startswith('_sysconfigdata')))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["kharcha_pipeline"]


def test_only_numbers_and_names_are_stored(recorder: Recorder, machine: Machine) -> None:
    canary = "canary-91c sings"
    recorder.record_usage(call(prompt=canary))
    recorder.record_usage(call(usage={"input_tokens": 1, "content": canary}))
    recorder.record_usage(call(usage={"input_tokens": canary}))
    recorder.record_usage(call(status=canary, endpoint=canary))
    recorder.record_usage(call(usage=[canary]))
    recorder.record_usage(call())
    machine.sync()
    recorder.close()
    assert len(rows(machine.data, "rejects")) == 5
    assert machine.query("SELECT count(*) FROM rejects") == [(5,)]
    written = b"".join(path.read_bytes() for path in machine.data.rglob("*") if path.is_file())
    assert canary.encode() not in written + machine.archived()


@pytest.mark.parametrize("ask", [Recorder.close, lambda recorder: recorder.statistics])
def test_a_recorder_may_be_used_after_it_was_closed(
    recorder: Recorder, machine: Machine, ask: Callable[[Recorder], object]
) -> None:
    recorder.close()
    ask(recorder)
    recorder.record_usage(call())
    assert len(rows(machine.data, "usage_events")) == 1


def test_a_clock_that_is_set_back_loses_and_doubles_nothing(machine: Machine) -> None:
    times = iter([NOW, NOW - 31_536_000_000, NOW - 31_536_000_000, NOW, NOW])
    with Recorder(clock=lambda: next(times)) as recorder:
        for _ in range(2):
            recorder.record_usage(call())
        machine.sync()
        for _ in range(3):
            recorder.record_usage(call())
        machine.sync()
    found = rows(machine.data, "usage_events")
    assert [row["id"] for row in found] == [1, 2, 3, 4, 5]
    assert {(row["day"], row["req_count"]) for row in rows(machine.data, "usage_daily")} == {
        ("2026-05-28", 3),
        ("2025-05-28", 2),
    }
    assert machine.query("SELECT count(*) FROM usage_events") == [(5,)]


def test_event_ids_are_uuids_whose_order_is_that_of_time(machine: Machine) -> None:
    clock = [NOW]
    with Recorder(clock=lambda: clock[0]) as recorder:
        for _ in range(50):
            recorder.record_usage(call())
            clock[0] += 1
    ids = [row["event_id"] for row in rows(machine.data, "usage_events")]
    assert ids == sorted(ids)
    assert {(uuid.UUID(event_id).version, uuid.UUID(event_id).variant) for event_id in ids} == {(7, uuid.RFC_4122)}


def test_the_write_ahead_log_stays_short_beside_other_writers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kharcha_pipeline.recorder.store.LONGEST_WAL", 100_000)
    largest = 0
    with Recorder() as recorder, Recorder() as other:
        for _ in range(400):
            recorder.record_usage(call())
            other.record_usage(call())
            largest = max(largest, (machine.data / "recorder.sqlite-wal").stat().st_size)
    assert largest < 100_000 + 2 * 64 * 10_000
    assert len(rows(machine.data, "usage_events")) == 800


def test_a_durable_recorder_flushes_every_call(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for durable, level in ((False, 1), (True, 2)):
        with Recorder(durable=durable) as recorder:
            recorder.record_usage(call())
            assert recorder._store is not None
            assert recorder._store.connection.execute("PRAGMA synchronous").fetchone() == (level,)
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    (machine.data / "recorder.sqlite").rename(machine.data / "moved")
    (machine.data / "recorder.sqlite").mkdir()
    Recorder(durable=True).record_usage(call())
    assert len(flushed) == 1
