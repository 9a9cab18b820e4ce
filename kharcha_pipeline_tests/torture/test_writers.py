"""Agents at work beside the syncs: all they ever wrote completely is there in the end, once."""

from __future__ import annotations

from pathlib import Path

from kharcha_pipeline_tests.torture import writers


def test_logs_that_are_written_rewritten_moved_and_deleted_while_they_are_read(tmp_path: Path) -> None:
    reading = writers.run(tmp_path, seed=1, seconds=5)
    assert reading.syncs > 1
    assert reading.events > 100
