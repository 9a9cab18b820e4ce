"""Everything at once on one data directory: syncs, backfills, rebucket, reprice, publishing and readers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline_tests.corpus import append_corpus, merged, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.torture import worker
from kharcha_pipeline_tests.torture.agreement import assert_equal_to_undisturbed

WORKERS = ("sync", "sync", "build", "rebucket", "reprice", "publish", "read", "read_for_long")
MORE_WORKERS = (*WORKERS, "sync", "sync", "backfill")
"""With Dagster beside them, which needs seconds to begin."""


@dataclass
class Work:
    """How often each operation was done, the longest that one took, and how often the logs grew."""

    rounds: dict[str, int] = field(default_factory=dict)
    longest_seconds: dict[str, float] = field(default_factory=dict)
    growths: int = 0


def run(directory: Path, seed: int, seconds: float, workers: tuple[str, ...] = WORKERS) -> Work:
    """Lets processes work on one data directory while its logs grow, and compares the end with one serial run.

    Nobody may fail, for whatever reason: every worker's errors are the test's.
    """
    machine = Machine.below(directory, "shared")
    truth = write_corpus(machine.home, seed, 24, 20, LAST_DAY)
    machine.sync()
    machine.timezone = ""  # that of the warehouse, which changes under way
    work = Work()
    arguments = [str(seconds), str(seed), str(machine.home), str(machine.data), machine.timezone, *workers]
    program = [sys.executable, "-m", worker.__name__, *arguments]
    errors = (directory / "errors").open("w+")
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < deadline:
            work.growths += 1
            truth = merged(truth, append_corpus(machine.home, seed, 2, LAST_DAY, work.growths))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
        output, _ = process.communicate()
    finally:
        process.kill()
    errors.seek(0)
    with errors:
        assert process.returncode == 0, errors.read()
    for said in map(json.loads, output.splitlines()):
        name = said["operation"]
        work.rounds[name] = work.rounds.get(name, 0) + said["rounds"]
        work.longest_seconds[name] = max(work.longest_seconds.get(name, 0.0), said["longest_seconds"])
    machine.sync()
    rebucket(machine.warehouse, "UTC", PriceSources.load())
    machine.warehouse.publish()
    alone = Machine(machine.home, directory / "alone")
    alone.sync()
    assert_equal_to_undisturbed(machine, alone, truth)
    return work
