"""What was measured, as Markdown: the verdicts, the figures behind them, and the machine they come from."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks.corpora import CHECKOUT, Corpora
from benchmarks.measuring import Samples
from benchmarks.peer import VERSION, Peer

PACKAGES = ("duckdb", "dagster", "msgspec", "polars")

UNITS = {"×": (1, 2), "s": (1, 2), "s/GB": (1, 2), "ms": (1_000, 0), "µs": (1e6, 0), "MiB": (1 / 2**20, 0)}
"""By unit, what a value in seconds, bytes or as a ratio is multiplied by, and the decimals shown."""


class Row(NamedTuple):
    """One limit and what was measured against it. Values are ratios, seconds or bytes; the smaller the better.

    Attributes:
        name: what was done.
        measure: which quantity, compared with what.
        unit: one of `UNITS`.
        value: `None` when it was not measured.
        reach: the limit to keep.
        beat: the limit to aim at.
        note: why it was not measured.
    """

    name: str
    measure: str
    unit: str
    value: float | None
    reach: float
    beat: float
    note: str = ""

    @property
    def verdict(self) -> str:
        """How the value stands to the two limits."""
        if self.value is None:
            return f"not measured: {self.note}"
        if self.value <= self.beat:
            return "beaten"
        return "reached" if self.value <= self.reach else "**missed**"


class Figure(NamedTuple):
    """Raw samples behind the verdicts."""

    name: str
    unit: str
    samples: Samples


class Outcome(NamedTuple):
    """What one case found: rows for the verdicts, figures behind them, and facts in words."""

    rows: Sequence[Row]
    figures: Sequence[Figure] = ()
    facts: Sequence[str] = ()


def shown(value: float, unit: str) -> str:
    """A value in its unit."""
    scale, digits = UNITS[unit]
    return f"{value * scale:,.{digits}f} {unit}"


def report(outcomes: Sequence[Outcome], corpora: Corpora, peer: Peer | None, took: float) -> str:
    """The whole report."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; [how it measures](../docs/performance.md). Ratios count and absolute times do not:",
        "the programs ran in turn on the same files, and medians are compared.",
        "",
        *(f"- {fact}" for fact in [*surroundings(corpora, peer, took), *_facts(outcomes)]),
        "",
        "| Case | Measured | Result | Reach | Beat | Verdict |",
        "|---|---|---|---|---|---|",
        *(_row(row) for outcome in outcomes for row in outcome.rows),
        "",
        "## Medians and ranges",
        "",
        "| What | Median | Lowest | Highest | Runs |",
        "|---|---|---|---|---|",
        *(_figure(figure) for outcome in outcomes for figure in outcome.figures),
    ]
    return "\n".join(lines) + "\n"


def _facts(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(fact for outcome in outcomes for fact in outcome.facts))


def _row(row: Row) -> str:
    value = "–" if row.value is None else shown(row.value, row.unit)
    limits = f"{shown(row.reach, row.unit)} | {shown(row.beat, row.unit)}"
    return f"| {row.name} | {row.measure} | {value} | {limits} | {row.verdict} |"


def _figure(figure: Figure) -> str:
    values = figure.samples.values
    cells = [shown(value, figure.unit) for value in (figure.samples.median, min(values), max(values))]
    return f"| {figure.name} | {' | '.join(cells)} | {len(values)} |"


def surroundings(corpora: Corpora, peer: Peer | None, took: float) -> list[str]:
    """Date, machine and versions, without anything that names the machine or its paths."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{_cores()} cores of {_processor()}, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, in {took / 60:.0f} minutes, of commit {_commit()}",
        f"{machine}; page cache warm",
        f"Kharcha Pipeline {version('kharcha-pipeline')}, Python {platform.python_version()}, {packages}",
        _peer(peer),
        f"Corpora made by `{corpora.generator_name}`; all totals equalled the truth before anything was timed",
    ]


def _peer(peer: Peer | None) -> str:
    if peer is None:
        return f"ccusage is not installed: ratios to it (limits are set against {VERSION}) were not measured"
    expected = "" if peer.version == VERSION else f" (the limits are set against {VERSION})"
    return f"Peer: ccusage {peer.version}{expected}, its native program, run as `ccusage daily --offline --json`"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()
    return said or "unknown"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "an unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unknown CPU")
