"""A process of its own that does one operation, once or over and over: to work beside others, or to be killed.

    python -m kharcha_pipeline_tests.torture.worker OPERATION SECONDS SEED HOME DATA

It says `ready` when everything is imported, and how it went at its end. With 0 seconds it does the operation once.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.torture.operations import OPERATIONS


def start(
    machine: Machine, operation: str, seconds: float, seed: int, before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """Starts such a process and returns when it is ready.

    Args:
        machine: whose data directory it works on; where it has no zone, that of the warehouse holds.
        operation: a name from `OPERATIONS`.
        seconds: for how long.
        seed: decides what is left to chance.
        before: called in the new process before it begins, e.g. to limit it.
    """
    arguments = [operation, str(seconds), str(seed), str(machine.home), str(machine.data), machine.timezone]
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
        env={**os.environ, **machine.environment},
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def main(operation: str, seconds: str, seed: str, home: str, data: str, timezone: str) -> None:
    machine = Machine(Path(home), Path(data), timezone)
    rng = random.Random(f"{operation}:{seed}")
    work = OPERATIONS[operation]
    print("ready", flush=True)
    rounds, longest = 0, 0.0
    deadline = time.monotonic() + float(seconds)
    while not rounds or time.monotonic() < deadline:
        began = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):
            work(machine, rng)
        rounds, longest = rounds + 1, max(longest, time.monotonic() - began)
    print(json.dumps({"rounds": rounds, "longest_seconds": round(longest, 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
