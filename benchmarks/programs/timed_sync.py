"""Runs `kharcha sync` and prints how much CPU time of it went into finding out which files changed.

That is the sweep of the directories and the comparison with what is known of each file: the part that grows with
the number of files there are. The functions that do it are timed where they are called, so that nothing is counted
that a sync does not do.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from kharcha_pipeline.cli.main import main

FINDING_OUT = (
    ("kharcha_pipeline.unchanged", "look"),
    ("kharcha_pipeline.unchanged", "remember"),
    ("kharcha_pipeline.sources.scanner", "sweep_places"),
    ("kharcha_pipeline.sources.scanner", "compare"),
    ("kharcha_pipeline.sources.whereabouts", "known_files"),
)
CALLERS = ("kharcha_pipeline.cli.main", "kharcha_pipeline.sync", "kharcha_pipeline.sources.landing")


class Stopwatch:
    """Adds up the CPU time of functions; one that another timed one calls is not counted twice."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def call(*arguments: Any, **named: Any) -> Any:
            if self._running:
                return function(*arguments, **named)
            self._running, started = True, time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.process_time() - started
                self._running = False

        return call

    def attach(self, module: str, name: str) -> None:
        """Times a function wherever it is known by its name."""
        function = vars(importlib.import_module(module))[name]
        timed = self.timed(function)
        for known in [importlib.import_module(caller) for caller in (module, *CALLERS)]:
            if getattr(known, name, None) is function:
                setattr(known, name, timed)


if __name__ == "__main__":
    stopwatch = Stopwatch()
    for module, name in FINDING_OUT:
        stopwatch.attach(module, name)
    exit_code = main(["sync", "--quiet"])
    print(stopwatch.seconds)
    sys.exit(exit_code)
