"""Kills processes at random instants of landing, building, publishing, repricing and rebucketing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from kharcha_pipeline_tests.torture.nursery import Nursery
from kharcha_pipeline_tests.torture.scene import DISTURBED, Scene

EVERY = 25
"""After so many kills, and at the end, all rows are compared with those of a machine that was never disturbed."""


@dataclass
class Kills:
    """What was killed, how often it was too late, and the longest time the next run took to repair it, in seconds."""

    killed: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    longest_repair: float = 0.0


class _Killer:
    """Kills operations of a scene, and learns how long each of them takes."""

    def __init__(self, scene: Scene, nursery: Nursery) -> None:
        self.scene, self.nursery = scene, nursery
        self.durations = dict.fromkeys(DISTURBED, 0.5)

    def kill(self, disturbed: str) -> bool:
        """Starts an operation and kills it at a random instant; tells whether it was still alive."""
        scene, longest = self.scene, self.durations[disturbed]
        operation = scene.prepare(disturbed)
        seed, delay = scene.rng.randrange(1_000_000), scene.rng.uniform(0, longest)
        end = self.nursery.kill(scene.machine, operation, seed, delay)
        # Kills shall fall into all of an operation and seldom behind its end, whatever the machine is busy with.
        self.durations[disturbed] = longest * 1.05 if end.was_killed else 0.5 * (longest + end.seconds)
        return end.was_killed


def run(directory: Path, seed: int, kills: int, seconds: float = float("inf")) -> Kills:
    """Kills so many processes, each kind at least once, or for so long; after every one the next run repairs all."""
    done = Kills()
    deadline = time.monotonic() + seconds
    with Nursery() as nursery:
        scene = Scene(directory, seed)
        killer = _Killer(scene, nursery)
        for disturbed in cycle(DISTURBED):
            is_enough = done.killed.total() >= kills and len(done.killed) == len(DISTURBED)
            if is_enough or time.monotonic() >= deadline:
                break
            was_alive = killer.kill(disturbed)
            (done.killed if was_alive else done.finished)[disturbed] += 1
            began = time.monotonic()
            scene.repair()
            done.longest_repair = max(done.longest_repair, time.monotonic() - began)
            if was_alive and done.killed.total() % EVERY == 0:
                scene.compare()
    scene.compare()
    return done
