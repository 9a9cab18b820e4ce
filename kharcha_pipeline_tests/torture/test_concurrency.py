"""Everything at once: no error reaches anybody, nobody sees a part of a day, and the end is that of a serial run."""

from __future__ import annotations

from pathlib import Path

from kharcha_pipeline_tests.torture import concurrency


def test_syncs_backfills_rebucket_reprice_publishing_and_readers_at_once(tmp_path: Path) -> None:
    work = concurrency.run(tmp_path, seed=1, seconds=5)
    assert set(work.rounds) == set(concurrency.WORKERS)
    assert work.growths > 2
