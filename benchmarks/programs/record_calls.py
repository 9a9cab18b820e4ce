"""Records calls from several processes at once: `record_calls PROCESSES CALLS`, into the data directory.

Each process opens the database and records some calls unmeasured; then all begin together. Prints the median and the
99th percentile of the time of one call, the wall time per call from the common beginning to the last end, all in
seconds, and how many calls were told, stored and added to days.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import statistics
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path

from kharcha_pipeline.recorder import Recorder, UsageCounts

UNMEASURED = 100


def calls(number: int, process: int, begin: multiprocessing.synchronize.Barrier) -> tuple[list[float], float, int]:
    """Records calls; returns how long each took, when the last one ended, and how many were lost."""
    recorder = Recorder()
    taken = []
    for call in range(-UNMEASURED, number):
        if call == 0:
            begin.wait()
        request_id = uuid.uuid4().hex
        started = time.perf_counter()
        recorder.record_usage(
            account=f"team-{process}",
            model_id="gpt-5",
            endpoint="chat.completions",
            upstream_format="openai",
            is_streaming=True,
            usage=UsageCounts(1200, 300, 9000, reasoning_tokens=120),
            duration_ms=1830,
            request_id=request_id,
        )
        if call >= 0:
            taken.append(time.perf_counter() - started)
    return taken, time.perf_counter(), recorder.statistics.lost


def main() -> None:
    """Prints what it measured."""
    processes, number = int(sys.argv[1]), int(sys.argv[2])
    Recorder().close()
    context = multiprocessing.get_context("fork")
    begin = context.Barrier(processes + 1)
    told: multiprocessing.SimpleQueue[tuple[list[float], float, int]] = context.SimpleQueue()
    workers = [
        context.Process(target=lambda process=process: told.put(calls(number, process, begin)))
        for process in range(processes)
    ]
    for worker in workers:
        worker.start()
    begin.wait()
    started = time.perf_counter()
    found = [told.get() for _ in workers]
    for worker in workers:
        worker.join()
    taken = sorted(seconds for times, _, _ in found for seconds in times)
    wall = max(ended for _, ended, _ in found) - started
    with Recorder() as recorder:  # drains what was spilled
        while (Path(os.environ["KHARCHA_DATA_DIR"]) / "recorder.spill").exists():
            recorder.record_usage(account="drain", is_internal=False)
    with closing(sqlite3.connect(Path(os.environ["KHARCHA_DATA_DIR"]) / "recorder.sqlite")) as database:
        (stored,) = database.execute("SELECT count(*) FROM usage_events").fetchone()
        (added,) = database.execute("SELECT sum(req_count) FROM usage_daily").fetchone()
    print(
        statistics.median(taken),
        taken[len(taken) * 99 // 100],
        wall / len(taken),
        processes * (number + UNMEASURED),
        stored,
        added,
    )


if __name__ == "__main__":
    main()
