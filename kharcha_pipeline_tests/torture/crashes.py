"""Kills processes at random instants of landing, building, publishing, repricing and rebucketing."""

from __future__ import annotations

import io
import random
import shutil
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from kharcha_pipeline.pricing.price_sources import PriceSources
from kharcha_pipeline.rebucket import rebucket
from kharcha_pipeline_tests.corpus import Truth, append_corpus, merged, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.torture.agreement import assert_consistent, assert_equal_to_undisturbed
from kharcha_pipeline_tests.torture.nursery import Nursery
from kharcha_pipeline_tests.torture.operations import take_back_reprices

VICTIMS = ("first sync", "sync", "build", "reprice", "rebucket", "publish")
EVERY = 25
"""After so many kills, and at the end, all rows are compared with those of a machine that was never disturbed."""


@dataclass
class Kills:
    """What was killed, and how often it was too late."""

    killed: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)


class Scene:
    """A machine whose processes are killed, the truth of its logs, and how long each operation takes."""

    def __init__(self, directory: Path, seed: int, nursery: Nursery, sessions: int = 12) -> None:
        self.directory, self.seed, self.nursery = directory, seed, nursery
        self.rng = random.Random(seed)
        self.machine = Machine.below(directory, "victim", timezone="")
        self.truth: Truth = write_corpus(self.machine.home, seed, sessions, 20, LAST_DAY)
        self.turn = 0
        self.durations = dict.fromkeys(VICTIMS, 0.5)
        self.repair()

    def kill(self, victim: str) -> bool:
        """Starts an operation and kills it at a random instant; tells whether it was still alive."""
        if victim == "first sync":
            shutil.rmtree(self.machine.data)
        elif victim == "sync":
            self.turn += 1
            more = append_corpus(self.machine.home, self.seed, 2, LAST_DAY, self.turn)
            self.truth = merged(self.truth, more)
        longest = self.durations[victim]
        seed, delay = self.rng.randrange(1_000_000), self.rng.uniform(0, longest)
        end = self.nursery.kill(self.machine, victim.split()[-1], seed, delay)
        # Kills shall fall into all of an operation and seldom behind its end, whatever the machine is busy with.
        self.durations[victim] = longest * 1.05 if end.was_killed else 0.5 * (longest + end.seconds)
        return end.was_killed

    def repair(self) -> None:
        """What an owner does after a crash: nothing but the next run. Changes that were made are taken back."""
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


def run(directory: Path, seed: int, kills: int, seconds: float = float("inf")) -> Kills:
    """Kills so many processes, or for so long, and checks after every one that the next run repairs everything."""
    with Nursery() as nursery:
        return _run(Scene(directory, seed, nursery), kills, seconds)


def _run(scene: Scene, kills: int, seconds: float) -> Kills:
    done = Kills()
    deadline = time.monotonic() + seconds
    victims = list(VICTIMS)
    while done.killed.total() < kills and time.monotonic() < deadline:
        victim = victims[(done.killed.total() + done.finished.total()) % len(victims)]
        was_alive = scene.kill(victim)
        (done.killed if was_alive else done.finished)[victim] += 1
        scene.repair()
        if was_alive and done.killed.total() % EVERY == 0:
            scene.compare()
    scene.compare()
    return done
