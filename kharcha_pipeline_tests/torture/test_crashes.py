"""Kills at random instants: the next run repairs everything, and what was committed is there for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kharcha_pipeline_tests.torture import crashes, rapid
from kharcha_pipeline_tests.torture.scene import DISTURBED


def test_twenty_kills_in_all_that_writes_are_repaired_by_the_next_run(tmp_path: Path) -> None:
    kills = crashes.run(tmp_path, seed=1, kills=20)
    assert kills.killed.total() >= 20
    assert set(kills.killed) == set(DISTURBED)


def test_a_writer_killed_over_and_over_loses_nothing_it_has_committed(tmp_path: Path) -> None:
    program = [sys.executable, "-m", rapid.__name__, str(tmp_path), "5", "1"]
    ended = subprocess.run(program, stdout=subprocess.PIPE, check=True)
    assert json.loads(ended.stdout)["killed"] > 5
