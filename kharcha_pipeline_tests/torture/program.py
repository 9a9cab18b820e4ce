"""One operation as a program of its own, for what must be done to a whole process: limits, tracing, other versions.

    python -m kharcha_pipeline_tests.torture.program OPERATION SEED HOME DATA TIMEZONE

It ends as the command line does: failures that can be expected are one sentence and an exit code.
"""

from __future__ import annotations

import io
import os
import random
import sys
from contextlib import redirect_stdout
from pathlib import Path

from kharcha_pipeline.cli import exits
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.torture.operations import OPERATIONS


def command(
    operation: str, seed: int, machine: Machine, python: str | os.PathLike[str] = sys.executable
) -> list[str]:
    """The command that does an operation."""
    place = [str(machine.home), str(machine.data), machine.timezone]
    return [str(python), "-m", __name__, operation, str(seed), *place]


def main(operation: str, seed: str, home: str, data: str, timezone: str) -> int:
    try:
        with redirect_stdout(io.StringIO()):
            OPERATIONS[operation](Machine(Path(home), Path(data), timezone), random.Random(int(seed)))
    except Exception as error:
        known = exits.explained(error)
        if known is None:
            raise
        print(f"kharcha: {known[0]}", file=sys.stderr)
        return known[1]
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
