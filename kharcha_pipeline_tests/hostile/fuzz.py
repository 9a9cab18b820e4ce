"""Fuzzes the readers for as long as it is told to.

    python -m kharcha_pipeline_tests.hostile.fuzz claude-code --seconds 60

Where atheris is installed, coverage guides it: what an input makes the reader do decides which input is tried next.
Otherwise seeds are tried one after the other. What was found is tried again with `--seed` or `--input`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

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


class Fuzzed(NamedTuple):
    """How many cases were tried, and whether coverage guided them."""

    cases: int
    guided: bool


class FoundError(Exception):
    """A case failed. The message tells how to try it again."""


def main() -> int:
    """Runs until the time is over or something is found; the exit code tells which."""
    parser = argparse.ArgumentParser(prog="python -m kharcha_pipeline_tests.hostile.fuzz")
    parser.add_argument("source", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first-seed", type=int, default=0, help="where to begin")
    parser.add_argument("--seed", type=int, help="try this seed alone, to see a failure again")
    parser.add_argument("--input", type=Path, help="try this file's content alone, likewise")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kharcha-fuzz-") as name:
        directory = Path(name)
        if chosen.input is not None:
            guided_case(chosen.source, directory)(chosen.input.read_bytes())
        elif chosen.seed is not None:
            seeded_case(chosen.source, directory)(Random(chosen.seed))
        else:
            print(json.dumps(run(chosen.source, chosen.seconds, chosen.first_seed, directory)))
    return 0


def run(name: str, seconds: float, first_seed: int, directory: Path) -> Fuzzed:
    """Tries cases of one kind for so long.

    Raises:
        FoundError: when a case failed.
    """
    if name in GUIDED and importlib.util.find_spec("atheris"):
        return Fuzzed(_guided(name, seconds, directory), guided=True)
    return Fuzzed(_seeded(name, seconds, first_seed, directory), guided=False)


def seeded_case(name: str, directory: Path) -> Callable[[Random], None]:
    """What is done with every seed."""
    from kharcha_pipeline_tests.hostile.cases import cases
    from kharcha_pipeline_tests.hostile.subjects import write_subjects

    return dict(cases(write_subjects(directory / "home"), directory))[name]


def _seeded(name: str, seconds: float, first_seed: int, directory: Path) -> int:
    case = seeded_case(name, directory)
    seed, end = first_seed, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            case(Random(seed))
        except Exception as error:
            again = f"python -m {__spec__.name} {name} --seed {seed}"
            raise FoundError(f"{name}: {error!r}; to see it again: {again}") from error
        seed += 1
    return seed - first_seed


def guided_case(name: str, directory: Path) -> Callable[[bytes], None]:
    """What is done with every input that libFuzzer makes: hostile lines; the guards around them stay the same."""
    from kharcha_pipeline_tests.hostile import subjects

    lines = subjects.write_subjects(directory / "home").lines[name]
    path = subjects.scratch(lines, directory)
    (directory / "seeds").mkdir()
    for number, line in enumerate(lines.pool):
        (directory / "seeds" / str(number)).write_bytes(line)

    def try_one(data: bytes) -> None:
        hostile = data.rstrip(b"\n") + b"\n"
        subjects.check_lines(lines, path, hostile, len(lines.guards) // 2, growing=len(data) % 3 == 0)

    return try_one


def _guided(name: str, seconds: float, directory: Path) -> int:
    import atheris

    with atheris.instrument_imports(include=["kharcha_pipeline.sources"]):
        case = guided_case(name, directory)

    def mutated(data: bytes, largest: int, seed: int) -> Any:
        rng = Random(seed)
        if rng.random() < 0.3:
            return atheris.Mutate(data, largest)
        return (damaged_line if rng.random() < 0.8 else damaged_bytes)(data, rng)[:largest]

    tried = mmap.mmap(-1, _COUNT.size)  # shared with the child: libFuzzer ends its process itself

    def try_one(data: bytes) -> None:
        _COUNT.pack_into(tried, 0, _COUNT.unpack_from(tried)[0] + 1)
        case(data)

    found = Path(tempfile.gettempdir()) / f"kharcha-found-{name}-"
    options = [
        f"-max_total_time={max(1, int(seconds))}",
        "-max_len=65536",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-verbosity=0",
        f"-artifact_prefix={found}",
    ]
    child = os.fork()
    if child == 0:
        atheris.Setup([sys.argv[0], *options, str(directory / "seeds")], try_one, custom_mutator=mutated)
        atheris.Fuzz()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        again = f"python -m {__spec__.name} {name} --input {found}…"
        raise FoundError(f"{name}: coverage led to a failure; to see it again: {again}")
    return int(_COUNT.unpack_from(tried)[0])


_COUNT = struct.Struct("<Q")


if __name__ == "__main__":
    sys.exit(main())
