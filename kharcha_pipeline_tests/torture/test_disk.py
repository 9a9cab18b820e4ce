"""Disks without space: one sentence, the last good state is kept, and the next run with space repairs."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from kharcha_pipeline.warehouse.warehouse import WarehouseError
from kharcha_pipeline_tests.torture.disk import Victim, fill_file_systems, limit_file_sizes


def test_a_sync_that_cannot_write_says_so_and_loses_nothing(tmp_path: Path) -> None:
    assert limit_file_sizes(tmp_path, seed=1, times=3)["failed"] > 0


def test_a_process_that_lives_on_works_again_when_there_is_space(tmp_path: Path) -> None:
    victim = Victim(tmp_path, seed=2)
    victim.sync_with_space()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (victim.machine.data / "warehouse.duckdb").stat().st_size
    for limit in (10_000, size):
        victim.grow()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(WarehouseError):
                victim.machine.sync()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        victim.sync_with_space()


def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    """Where this user may not mount a file system, the limits above stand for it."""
    ends = fill_file_systems(tmp_path, seed=1, times=3)
    assert ends.total() in (0, 3)
    assert not ends or ends["failed"] > 0
