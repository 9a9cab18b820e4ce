"""Fuzzes the readers for as long as it is told to.

    python -m kharcha_pipeline_tests.hostile.fuzz claude-code --seconds 60

Where atheris is installed, coverage guides it: what an input makes the reader do decides which input is tried next.
Otherwise seeds are tried one after the other. `all` takes every kind of file in turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from kharcha_pipeline_tests.hostile.mutation import damaged_bytes, damaged_line

NAMES = (
    "claude-code",
    "codex",
    "codex-records",
    "codex-headless",
    "kimi-cli",
    "kimi-code",
    "kimi-config",
    "kimi-config-json",
    "kimi-directories",
    "kimi-launch",
    "kimi-session",
    "kimi-index",
    "kimi-workspaces",
    "codex-compressed",
    "opencode-message",
    "opencode-session",
    "opencode-part",
    "opencode-rows",
    "opencode-pages",
    "opencode-schema",
    "opencode-log",
)
GUIDED = ("claude-code", "codex", "codex-records", "codex-headless", "kimi-cli", "kimi-code")
"""What coverage can guide: lines. For documents, rows and pages seeds do as well."""


def main() -> int:
    """Runs until the time is over or something is found; the exit code tells which."""
    parser = argparse.ArgumentParser(prog="python -m kharcha_pipeline_tests.hostile.fuzz")
    parser.add_argument("source", choices=(*NAMES, "all"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None, help="try this seed alone, to see a failure again")
    chosen = parser.parse_args()
    if chosen.source == "all":
        share = max(1, chosen.seconds // len(NAMES))
        return max(_in_a_process(name, share) for name in NAMES)
    with tempfile.TemporaryDirectory(prefix="kharcha-fuzz-") as directory:
        if chosen.seed is None and chosen.source in GUIDED and importlib.util.find_spec("atheris"):
            return _guided(chosen.source, chosen.seconds, Path(directory))
        return _seeded(chosen.source, chosen.seconds, chosen.seed, Path(directory))


def _in_a_process(name: str, seconds: int) -> int:
    command = [sys.executable, "-m", "kharcha_pipeline_tests.hostile.fuzz", name, "--seconds", str(seconds)]
    return subprocess.run(command, check=False).returncode


def _seeded(name: str, seconds: int, seed: int | None, directory: Path) -> int:
    from kharcha_pipeline_tests.hostile.cases import cases
    from kharcha_pipeline_tests.hostile.subjects import write_subjects

    case = dict(cases(write_subjects(directory / "home"), directory))[name]
    if seed is not None:
        case(Random(seed))
        return 0
    seeds = Random()
    tried, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        seed = seeds.randrange(2**32)
        try:
            case(Random(seed))
        except Exception:
            print(f"{name}: seed {seed} found something", file=sys.stderr)
            raise
        tried += 1
    print(f"{name}: {tried:,} cases in {seconds} s, nothing found")
    return 0


def _guided(name: str, seconds: int, directory: Path) -> int:
    """Lets libFuzzer choose: the hostile lines are its input, the guards around them stay the same."""
    import atheris

    with atheris.instrument_imports(include=["kharcha_pipeline.sources"]):
        from kharcha_pipeline_tests.hostile import subjects

    lines = subjects.write_subjects(directory / "home").lines[name]
    path = subjects.scratch(lines, directory)
    seeds = directory / "seeds"
    seeds.mkdir()
    for number, line in enumerate(lines.pool):
        (seeds / str(number)).write_bytes(line)

    def try_one(data: bytes) -> None:
        hostile = data.rstrip(b"\n") + b"\n"
        subjects.check_lines(lines, path, hostile, len(lines.guards) // 2, growing=len(data) % 3 == 0)

    def mutated(data: bytes, largest: int, seed: int) -> Any:
        rng = Random(seed)
        if rng.random() < 0.3:
            return atheris.Mutate(data, largest)
        return (damaged_line if rng.random() < 0.8 else damaged_bytes)(data, rng)[:largest]

    options = [
        f"-max_total_time={seconds}",
        "-max_len=65536",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    child = os.fork()  # libFuzzer ends its process itself
    if child == 0:
        atheris.Setup(
            [sys.argv[0], *options, f"-artifact_prefix={Path.cwd()}/", str(seeds)], try_one, custom_mutator=mutated
        )
        atheris.Fuzz()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
