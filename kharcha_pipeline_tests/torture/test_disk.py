"""Disks without space: one sentence, the last good state is kept, and the next run with space repairs."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from kharcha_pipeline.warehouse.warehouse import WarehouseError
from kharcha_pipeline_tests.torture.disk import fill_file_systems, inject_faults, limit_file_sizes
from kharcha_pipeline_tests.torture.scene import DISTURBED, Scene


def test_landing_build_reprice_rebucket_and_publish_that_cannot_write_say_so_and_lose_nothing(tmp_path: Path) -> None:
    ends = limit_file_sizes(tmp_path, seed=1, times=len(DISTURBED))
    assert {disturbed for disturbed, _ in ends} == set(DISTURBED)
    assert sum(times for (_, end), times in ends.items() if end == "failed") > 3


def test_a_call_that_fails_or_kills_is_a_sentence_or_a_crash_like_any_other(tmp_path: Path) -> None:
    """Where strace is not installed, the limits above stand for it."""
    ends = inject_faults(tmp_path, seed=8, times=3)
    assert ends.total() in (0, 3)
    assert not ends or {end for _, end in ends} != {"succeeded"}


def test_a_process_that_lives_on_works_again_when_there_is_space(tmp_path: Path) -> None:
    scene = Scene(tmp_path, seed=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (scene.machine.data / "warehouse.duckdb").stat().st_size
    for limit in (10_000, size):
        scene.grow()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(WarehouseError):
                scene.machine.sync()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        scene.repair()


def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    """Where this user may not mount a file system, the limits above stand for it."""
    ends = fill_file_systems(tmp_path, seed=1, times=3)
    assert ends.total() in (0, 3)
    assert not ends or sum(times for (_, end), times in ends.items() if end == "failed") > 0
