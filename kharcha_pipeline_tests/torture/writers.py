"""Syncs over and over while agents write, rewrite, move and delete their logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kharcha_pipeline_tests.corpus import Tokens, Truth
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.torture import agents
from kharcha_pipeline_tests.torture.agreement import assert_consistent


@dataclass
class Reading:
    """How many syncs read beside the agents, and what they found in all."""

    syncs: int
    files_read: int
    events: int


def run(directory: Path, seed: int, seconds: float) -> Reading:
    """Lets the agents work for so long; all they ever wrote completely is there in the end, once."""
    machine = Machine.below(directory, "writers")
    confirmed = directory / "confirmed"
    _confirm(confirmed, 0.0)
    arguments = [str(machine.home), str(seconds), str(seed), str(confirmed)]
    process = subprocess.Popen([sys.executable, "-m", agents.__name__, *arguments], stdout=subprocess.PIPE, text=True)
    syncs, files_read = 0, 0
    try:
        while process.poll() is None:
            began = time.monotonic()
            files_read += machine.sync().landing.files_read
            _confirm(confirmed, began)
            syncs += 1
        output, _ = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    machine.sync()
    assert_consistent(machine)
    truth: Truth = {
        (date.fromisoformat(day), source, model): Tokens(*counts)
        for day, source, model, *counts in json.loads(output)
    }
    found = machine.cells()
    differing = {
        key: (found.get(key), truth.get(key))
        for key in found.keys() | truth.keys()
        if found.get(key) != truth.get(key)
    }
    assert not differing, f"after {syncs} syncs, found and written: {differing}"
    return Reading(syncs, files_read, sum(tokens.events for tokens in truth.values()))


def _confirm(confirmed: Path, instant: float) -> None:
    fresh = confirmed.with_suffix(".new")
    fresh.write_text(repr(instant))
    os.replace(fresh, confirmed)
