"""The main job, from logs to published tables: the truth of a corpus, whatever way and however often it is read."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kharcha_pipeline_tests.corpus import append_corpus, merged, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_cell_equals_the_truth_also_after_the_logs_have_grown(tmp_path: Path, seed: int) -> None:
    machine = Machine.below(tmp_path)
    truth = write_corpus(machine.home, seed, 40, 20, LAST_DAY)
    machine.sync()
    assert machine.cells() == truth
    for turn in (1, 2):
        truth = merged(truth, append_corpus(machine.home, seed, 2, LAST_DAY, turn))
        result = machine.sync()
        assert result.landing.files_read <= 8
        assert machine.cells() == truth


def test_a_second_sync_changes_no_row_of_any_table(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 4, 24, 20, LAST_DAY)
    machine.sync()
    before = machine.everything()
    assert not machine.sync().landing.changed
    assert machine.everything() == before


def test_reading_everything_again_changes_no_row_of_any_result(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 5, 24, 20, LAST_DAY)
    machine.sync()
    before = machine.contents()
    records = machine.raw("SELECT sum(records) FROM raw.usage_records")
    result = machine.sync(full=True)
    assert result.landing.files_read > 20
    assert result.landing.touched_days == set()
    assert machine.contents() == before
    assert machine.raw("SELECT sum(records) FROM raw.usage_records") == records
    assert machine.query("SELECT count(*) FROM event_changes") == [(0,)]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000))
def test_any_order_of_files_over_any_number_of_syncs_gives_the_same_tables(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole = Machine.below(tmp_path, f"whole-{seed}-{time.monotonic_ns()}")
    write_corpus(whole.home, seed, 12, 6, LAST_DAY)
    whole.sync()
    pieces = Machine.below(tmp_path, f"pieces-{seed}-{time.monotonic_ns()}")
    files = [path for path in whole.home.rglob("*") if path.is_file()]
    rng.shuffle(files)
    turns = rng.randrange(2, 4)
    for turn in range(turns):
        for path in files[turn::turns]:
            target = pieces.home / path.relative_to(whole.home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        pieces.sync()
    assert pieces.contents() == whole.contents()


def test_a_sync_that_was_killed_is_repaired_by_the_next(tmp_path: Path) -> None:
    undisturbed = Machine.below(tmp_path, "undisturbed")
    write_corpus(undisturbed.home, 6, 40, 20, LAST_DAY)
    undisturbed.sync()
    expected = undisturbed.contents()
    victim = Machine(undisturbed.home, tmp_path / "victim")
    rng = random.Random(6)
    program = [sys.executable, "-c", "from kharcha_pipeline.cli.main import main; main()", "sync", "--quiet"]
    killed = 0
    for _ in range(12):
        process = subprocess.Popen(program, env={**os.environ, **victim.environment})
        try:
            process.wait(rng.uniform(0.05, 0.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    victim.sync()
    assert killed > 0
    assert victim.contents() == expected


def test_four_syncs_at_once_come_to_the_same_tables(tmp_path: Path) -> None:
    alone = Machine.below(tmp_path, "alone")
    write_corpus(alone.home, 7, 24, 20, LAST_DAY)
    alone.sync()
    shared = Machine(alone.home, tmp_path / "shared")
    program = [sys.executable, "-c", "from kharcha_pipeline.cli.main import main; main()", "sync", "--quiet"]
    processes = [subprocess.Popen(program, env={**os.environ, **shared.environment}) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert shared.contents() == alone.contents()


def test_history_outlives_the_logs(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 8, 16, 10, LAST_DAY)
    machine.sync()
    before = machine.contents()
    shutil.rmtree(machine.home)
    machine.home.mkdir()
    machine.sync()
    assert machine.contents() == before
    assert machine.query("SELECT DISTINCT status FROM log_files") == [("gone",)]


def test_nothing_found_still_publishes_empty_tables(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    machine.sync()
    assert machine.query("SELECT count(*), sum(cost_usd) FROM daily_usage") == [(0, None)]


def test_sums_agree_between_events_and_every_rollup_and_view(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path, timezone="America/New_York")
    write_corpus(machine.home, 9, 40, 20, LAST_DAY)
    machine.sync()
    events = "count(*), sum(output_tokens)::BIGINT, sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL)"
    sums = "sum(events)::BIGINT, sum(output_tokens)::BIGINT, sum(cost_usd), sum(unpriced_events)::BIGINT"
    expected = machine.query(f"SELECT day, {events} FROM priced_events GROUP BY day ORDER BY day")
    assert sum(row[1] for row in expected) == machine.query("SELECT count(*) FROM usage_events")[0][0]
    for table in ("session_usage", "daily_usage", "daily_rollups", "hourly_usage"):
        assert machine.query(f"SELECT day, {sums} FROM {table} GROUP BY day ORDER BY day") == expected, table
    total = [tuple(sum((row[n] or 0 for row in expected), Decimal(0) if n == 3 else 0) for n in (1, 2, 3, 4))]
    assert machine.query(f"SELECT {sums} FROM monthly_usage") == total
    assert (
        machine.query(
            """SELECT sum(req_count)::BIGINT, sum(output_tokens)::BIGINT, sum(cost_usd), sum(unpriced_events)::BIGINT
        FROM usage_daily"""
        )
        == total
    )
    assert machine.query(
        """SELECT sum(messages)::BIGINT, sum("outputTokens" + "reasoningTokens")::BIGINT, sum("costUsd")
        FROM token_usage"""
    ) == [total[0][:3]]


def test_the_session_key_is_the_hash_of_its_five_parts(tmp_path: Path) -> None:
    import hashlib

    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 10, 16, 10, LAST_DAY)
    machine.sync()
    rows = machine.query("SELECT dedupe_key, source, session_id, provider, model, day FROM session_usage")
    assert rows
    for key, *parts in rows:
        assert key == hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()
    assert len({row[0] for row in rows}) == len(rows)
