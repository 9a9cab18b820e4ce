"""A process that has everything imported, and forks one that does an operation, to be killed in the middle of it.

Forking takes milliseconds where starting a program takes a second: so a kill hits the operation itself, and hundreds
of kills are a matter of minutes.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.torture.operations import OPERATIONS


class End(NamedTuple):
    """How a forked process ended, and after how many seconds."""

    was_killed: bool
    seconds: float


class Nursery:
    """The process that forks, seen from outside. It ends with its block."""

    def __enter__(self) -> Nursery:
        program = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.communicate()

    def kill(self, machine: Machine, operation: str, seed: int, delay: float) -> End:
        """Has an operation begun and kills it after so many seconds, unless it has ended by then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        place = (str(machine.home), str(machine.data), machine.timezone)
        self._process.stdin.write(json.dumps([delay, operation, seed, *place]) + "\n")
        self._process.stdin.flush()
        code, seconds = json.loads(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL), f"{operation} failed by itself"
        return End(code != 0, seconds)


def work(operation: str, seed: int, home: str, data: str, timezone: str) -> int:
    """Does one operation in a forked process; returns its exit code."""
    try:
        with redirect_stdout(io.StringIO()):
            OPERATIONS[operation](Machine(Path(home), Path(data), timezone), random.Random(seed))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    for request in sys.stdin:
        delay, *arguments = json.loads(request)
        began = time.monotonic()
        child = os.fork()
        if not child:
            os._exit(work(*arguments))
        if signal.sigtimedwait([signal.SIGCHLD], delay) is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        signal.sigtimedwait([signal.SIGCHLD], 0)  # of a child that was killed, or had ended just then
        print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - began]), flush=True)


if __name__ == "__main__":
    main()
