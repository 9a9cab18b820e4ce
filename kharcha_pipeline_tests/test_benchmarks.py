"""The benchmarks run from end to end on a tiny corpus, and refuse to time what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent


def run_quickly(corpora: Path, *cases: str) -> subprocess.CompletedProcess[str]:
    named = [word for case in cases for word in ("--case", case)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KHARCHA_")}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--corpus-directory", str(corpora), *named],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sync_tells_how_long_it_took_to_find_out_what_changed(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "KHARCHA_DATA_DIR": str(tmp_path / "data"), "KHARCHA_TIMEZONE": "UTC"}
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.programs.timed_sync"],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < float(told.stdout) < 10


def test_cases_are_measured_and_a_wrong_total_fails_its_case_alone(tmp_path: Path) -> None:
    right = run_quickly(tmp_path, "cold-sync-small")
    assert right.returncode == 0, right.stderr
    assert "| cold sync, 100 MB, CPU |" in right.stdout

    truth = next(tmp_path.glob("*/truth.json"))
    stored = json.loads(truth.read_text())
    stored["daily"][0]["output"] += 1
    truth.write_text(json.dumps(stored))
    wrong = run_quickly(tmp_path, "cold-sync-small", "memory")
    assert wrong.returncode == 1
    assert "1 of " in wrong.stderr
    assert "totals differ from the truth" in wrong.stderr
    assert "| cold sync, 100 MB, CPU |" not in wrong.stdout
    assert "| cold sync of 4 GB |" in wrong.stdout


def test_recorded_calls_are_counted_before_they_are_timed(tmp_path: Path) -> None:
    told = run_quickly(tmp_path, "recorder")
    assert told.returncode == 0, told.stderr
    assert "| recording a call, one writer | median |" in told.stdout
    assert "| calls of four processes (200 µs are 5,000/s) | wall per call |" in told.stdout


def test_accounts_are_polled_whole_before_they_are_timed(tmp_path: Path) -> None:
    told = run_quickly(tmp_path, "accounts")
    assert told.returncode == 0, told.stderr
    assert "| polling twelve accounts beside one that hangs, one expired, one rate-limited |" in told.stdout
