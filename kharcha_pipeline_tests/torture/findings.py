"""What a torture run found, as the table that `docs/reliability.md` shows."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parent.parent.parent
PAGE = CHECKOUT / "docs" / "reliability.md"
_FIGURES = re.compile(r"(?<=<!-- figures begin -->\n).*(?=<!-- figures end -->)", re.DOTALL)


class Finding(NamedTuple):
    """One row: what was done, how often, what took longest, and how often it failed."""

    what: str
    how_often: str
    longest: str = ""
    failures: int = 0


def table(findings: Sequence[Finding], minutes: float, seed: int) -> str:
    """The table, and above it when, where and of what it was made."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "dagster", "msgspec"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
    return "\n".join(
        [
            f"{datetime.now(UTC):%Y-%m-%d}, {minutes:g} minutes, seed {seed}, commit {_commit()}; {machine};",
            f"Python {platform.python_version()}, {packages}.",
            "",
            "| What was done | How often | Longest | Failures |",
            "|---|---|---|---|",
            *(f"| {one.what} | {one.how_often} | {one.longest or '–'} | {one.failures} |" for one in findings),
            "",
        ]
    )


def write_figures(text: str) -> None:
    """Puts the table into the page, in place of the one before."""
    page = PAGE.read_text("utf-8")
    assert _FIGURES.search(page), f"{PAGE.name} has no place for the figures"
    PAGE.write_text(_FIGURES.sub(lambda _: text, page), "utf-8")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()
    return said or "unknown"
