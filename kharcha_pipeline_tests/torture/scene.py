"""A machine to which things happen: what is done there, and what its owner does afterwards, which is nothing."""

from __future__ import annotations

import io
import random
import shutil
from contextlib import redirect_stdout
from pathlib import Path

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline_tests.corpus import Truth, append_corpus, merged, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.torture.agreement import assert_consistent, assert_equal_to_undisturbed
from kharcha_pipeline_tests.torture.operations import take_back_reprices

DISTURBED = ("first sync", "sync", "build", "reprice", "rebucket", "publish")
"""What is disturbed: operations by name, the first landing of all on its own."""


class Scene:
    """A machine whose operations are disturbed, and the truth of its logs. Its zone is that of the warehouse."""

    def __init__(self, directory: Path, seed: int, sessions: int = 12) -> None:
        self.directory, self.seed = directory, seed
        self.rng = random.Random(seed)
        self.machine = Machine.below(directory, "victim", timezone="")
        self.truth: Truth = write_corpus(self.machine.home, seed, sessions, 20, LAST_DAY)
        self.turn = 0
        self.repair()

    def prepare(self, disturbed: str) -> str:
        """Sees to it that there is something to do; returns the operation's name."""
        if disturbed == "first sync":
            _empty(self.machine.data)
        elif disturbed == "sync":
            self.grow()
        return disturbed.split()[-1]

    def grow(self) -> None:
        """Lets the logs grow."""
        self.turn += 1
        self.truth = merged(self.truth, append_corpus(self.machine.home, self.seed, 2, LAST_DAY, self.turn))

    def repair(self) -> None:
        """What an owner does after a disturbance: nothing but the next run. Changes that were made are taken back."""
        if (self.machine.data / "kharcha.duckdb").exists():
            assert_consistent(self.machine)
        self.machine.sync()
        assert_consistent(self.machine)
        assert self.machine.cells() == self.truth
        with redirect_stdout(io.StringIO()):
            take_back_reprices(self.machine)
        if self.machine.raw("SELECT value FROM operations.facts WHERE name = 'timezone'") != [("UTC",)]:
            rebucket(self.machine.warehouse, "UTC", PriceSources.load())
            self.machine.warehouse.publish()

    def compare(self) -> None:
        """Compares all rows with those of a machine that was never disturbed."""
        undisturbed = Machine(self.machine.home, self.directory / "undisturbed")
        shutil.rmtree(undisturbed.data, ignore_errors=True)
        undisturbed.sync()
        assert_equal_to_undisturbed(self.machine, undisturbed, self.truth)


def _empty(directory: Path) -> None:
    """Deletes what is in a directory, and leaves the directory: something may be mounted there."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
