"""Corpora of agent logs with known totals: made once, kept in a directory, grown for a case and put back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent
SEED = "1"
COUNTS = ("events", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")
SOURCES = {"claude": "claude-code"}
"""Sources that a generator of other origin names differently."""

STOPS_THE_PEER = b'"payload":{"type":'
"""ccusage 20.0.24 ends without a report at a rollout whose unfinished last line ends just here."""

Cell = tuple[str, str, str]
"""UTC day, source, model as logged."""
Totals = dict[Cell, tuple[int, ...]]
"""By cell, the counts named in `COUNTS`."""


class WrongTotalsError(Exception):
    """What was measured does not say what is true, so its speed says nothing."""


@dataclass(frozen=True)
class Corpus:
    """A home directory full of logs, and what is true about it.

    Attributes:
        directory: holds `home` and `truth.json`.
        generator: the command that made it.
    """

    directory: Path
    generator: tuple[str, ...]

    @property
    def home(self) -> Path:
        """The home directory to read."""
        return self.directory / "home"

    @property
    def truth(self) -> Totals:
        """What a right reader finds, as it is now."""
        rows = json.loads((self.directory / "truth.json").read_text())["daily"]
        return {
            (row["day"], SOURCES.get(row["agent"], row["agent"]), row["model"]): tuple(row[name] for name in COUNTS)
            for row in rows
        }

    @property
    def tokens(self) -> int:
        """All tokens, reasoning counted once as a part of the output."""
        return sum(sum(counts[1:-1]) for counts in self.truth.values())

    @property
    def events(self) -> int:
        """All responses."""
        return sum(counts[0] for counts in self.truth.values())

    def files(self) -> dict[Path, os.stat_result]:
        """Every file below the home directory."""
        return {
            path: path.stat() for top, _, names in os.walk(self.home) for path in (Path(top, name) for name in names)
        }

    def grow(self, transcripts: int) -> None:
        """Adds one response each to some transcripts, and to the truth."""
        _run([*self.generator, str(self.directory), "--append", str(transcripts), "--seed", SEED])

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Undoes what grows meanwhile, so that the next case and the next run find the same corpus."""
        truth = (self.directory / "truth.json").read_bytes()
        before = self.files()
        try:
            yield
        finally:
            for path, status in before.items():
                if path.stat().st_size != status.st_size:
                    os.truncate(path, status.st_size)
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            (self.directory / "truth.json").write_bytes(truth)

    def check(self, found: Totals) -> None:
        """Compares totals with the truth, cell by cell.

        Raises:
            WrongTotalsError: when any cell differs.
        """
        truth = self.truth
        wrong = sorted(cell for cell in truth.keys() | found.keys() if truth.get(cell) != found.get(cell))
        if wrong:
            examples = "\n".join(f"  {cell}: {found.get(cell)} instead of {truth.get(cell)}" for cell in wrong[:5])
            raise WrongTotalsError(f"{len(wrong)} of {len(truth)} totals differ from the truth:\n{examples}")


@dataclass(frozen=True)
class Corpora:
    """Where corpora are kept, and what makes them.

    Attributes:
        directory: a corpus made there once is used again.
        script: a generator with the same command line as `benchmarks.generator`, to use in its place.
    """

    directory: Path
    script: Path | None

    @property
    def generator_name(self) -> str:
        """Which generator makes the corpora, for the report."""
        return self.script.name if self.script else "benchmarks.generator"

    def corpus(self, megabytes: float, days: int) -> Corpus:
        """The corpus of this size and span, made now if it is not there yet."""
        command = (
            (sys.executable, str(self.script)) if self.script else (sys.executable, "-m", "benchmarks.generator")
        )
        directory = self.directory / f"{self.generator_name}-{self._digest()}-{megabytes:g}mb-{days}d"
        if not directory.exists():
            fresh = directory.with_name(f"{directory.name}.{os.getpid()}")
            _run([*command, str(fresh), "--size-mb", f"{megabytes:g}", "--days", str(days), "--seed", SEED])
            _spare_the_peer(fresh / "home")
            try:
                fresh.rename(directory)
            except BaseException:
                shutil.rmtree(fresh)
                raise
        return Corpus(directory, command)

    def _digest(self) -> str:
        """Of the generator's text: a changed one makes new corpora."""
        ours = [CHECKOUT / "benchmarks" / "generator.py", CHECKOUT / "kharcha_pipeline_tests" / "corpus.py"]
        text = b"".join(path.read_bytes() for path in ([self.script] if self.script else ours))
        return hashlib.blake2b(text, digest_size=4).hexdigest()


def totals_of(rows: list[Any]) -> Totals:
    """Totals as the program `totals` prints them."""
    return {(day, source, model): tuple(counts) for day, source, model, *counts in rows}


def environment(**variables: str | Path) -> Mapping[str, str]:
    """The variables a measured process runs under: nothing of ours but what is given."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "TZ": "UTC", **{name: str(value) for name, value in variables.items()}}


def _spare_the_peer(home: Path) -> None:
    """Cuts off the unfinished lines that end the peer; there is nothing to count in them."""
    for path in home.glob(".codex/**/*.jsonl"):
        with path.open("rb+") as stream:
            stream.seek(max(0, path.stat().st_size - 4096))
            start, end = stream.tell(), stream.read()
            if end.endswith(STOPS_THE_PEER):
                stream.truncate(start + end.rfind(b"\n") + 1)


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=CHECKOUT, check=True, stderr=subprocess.DEVNULL)
