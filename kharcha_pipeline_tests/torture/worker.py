"""A program whose processes do one operation each, over and over and all at once.

    python -m kharcha_pipeline_tests.torture.worker SECONDS SEED HOME DATA TIMEZONE OPERATION…

It says `ready` when all of them have begun. In the end every process says how often it did its operation and how
long that took at most. The first failure ends the program with exit code 1, after its traceback.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import time
import traceback
from contextlib import redirect_stdout
from pathlib import Path

from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.torture.operations import OPERATIONS


def work(operation: str, seed: str, machine: Machine, seconds: float) -> dict[str, object]:
    """Does one operation for so long, and at least once."""
    rng = random.Random(f"{operation}:{seed}")
    rounds, longest = 0, 0.0
    deadline = time.monotonic() + seconds
    while not rounds or time.monotonic() < deadline:
        began = time.monotonic()
        with redirect_stdout(io.StringIO()):
            OPERATIONS[operation](machine, rng)
        rounds, longest = rounds + 1, max(longest, time.monotonic() - began)
    return {"operation": operation, "rounds": rounds, "longest_seconds": round(longest, 3)}


def main(seconds: str, seed: str, home: str, data: str, timezone: str, *operations: str) -> int:
    machine = Machine(Path(home), Path(data), timezone)
    children = []
    for number, operation in enumerate(operations):
        child = os.fork()
        if not child:
            try:
                said = json.dumps(work(operation, f"{seed}:{number}", machine, float(seconds)))
                os.write(1, f"{said}\n".encode())
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    print("ready", flush=True)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
