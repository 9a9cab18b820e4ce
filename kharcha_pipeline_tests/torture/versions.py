"""The other ends of what is supported: an older DuckDB, and every Python interpreter that is present.

Each gets an environment of its own and the test suite for as long as there is time; the older DuckDB also takes turns
with the newer one on one data directory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

from kharcha_pipeline_tests.torture import deadline, program
from kharcha_pipeline_tests.torture.findings import CHECKOUT, Finding
from kharcha_pipeline_tests.torture.scene import Scene

FEWEST_SECONDS = 75.0
"""For an interpreter; half of it is for installing. With less, there is time for the older DuckDB alone."""

OTHER_DUCKDB = "1.5.0"
"""The oldest that is supported; `constraints.txt` has the newest that was tried."""

FIRST = (
    "warehouse",
    "test_sync",
    "pricing",
    "sources/test_landing",
    "test_days",
    "torture/test_upgrades",
    "torture/test_torn_writes",
    "torture/test_races",
    "cli/test_sql",
    "cli/test_report",
    "hostile/test_sql",
    "hostile/test_values",
    "hostile/test_contents",
    "assets",
    "test_definitions",
    "test_questions",
    "privacy",
    "sources",
    "hostile/test_fuzz",
    "cli",
    "events",
    "automation",
)
"""The tests in which versions are most likely to tell come first; the others follow."""


class Environment(NamedTuple):
    """An interpreter with everything installed."""

    python: Path
    name: str


def run(directory: Path, seed: int, seconds: float) -> Iterator[Finding]:
    """Takes every environment in turn, the older DuckDB for twice as long as an interpreter."""
    end = time.monotonic() + seconds
    others = [number for number in supported() if number != "{}.{}".format(*sys.version_info)]
    found = {number: find_python(number) for number in others}
    present = [python for python in found.values() if python]
    older = make_environment(Path(sys.executable), directory, OTHER_DUCKDB)
    yield _turns(directory / "turns", seed, older)
    share = (end - time.monotonic()) / (2 + len(present))
    is_time = share > FEWEST_SECONDS
    yield _tested(older, directory, 2 * share if is_time else end - time.monotonic())
    for number, python in found.items():
        if python is None:
            yield Finding(f"Tests with Python {number}", "not done: there is no such interpreter here")
        elif not is_time:
            yield Finding(f"Tests with Python {number}", "not done: there was no time")
        else:
            until = time.monotonic() + share
            yield _tested(make_environment(python, directory), directory, until - time.monotonic())


def supported() -> list[str]:
    """The versions of Python that the package names."""
    return re.findall(r'"Programming Language :: Python :: (\d+\.\d+)"', (CHECKOUT / "pyproject.toml").read_text())


def find_python(number: str) -> Path | None:
    """An interpreter of a version that can make environments, on the search path or among pyenv's."""
    name = f"python{number}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [Path(place) / name for place in os.get_exec_path()]
    for python in (*candidates, *sorted(pyenv.glob(f"versions/{number}.*/bin/{name}"), reverse=True)):
        check = [str(python), "-c", "import ensurepip, sqlite3, ssl, venv"]
        if os.access(python, os.X_OK) and subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return python
    return None


def make_environment(python: Path, directory: Path, duckdb: str = "") -> Environment:
    """An environment with the pinned packages, but for the version of DuckDB where one is named.

    Raises:
        subprocess.CalledProcessError: when something cannot be installed; pip says what.
    """
    place = directory / "environment"
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([python, "-m", "venv", place], check=True)
    pinned = (CHECKOUT / "constraints.txt").read_text()
    constraints = directory / "constraints.txt"
    constraints.write_text(re.sub(r"(?m)^duckdb==.*$", f"duckdb=={duckdb}", pinned) if duckdb else pinned)
    pip = [place / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", constraints]
    for packages in (["hatchling", "editables"], ["--no-build-isolation", "-e", ".[dev]"]):
        subprocess.run([*pip, *packages], cwd=CHECKOUT, check=True)
    said = "import duckdb, platform; print('Python', platform.python_version() + ', DuckDB', duckdb.__version__)"
    asked = subprocess.run([place / "bin/python", "-c", said], capture_output=True, text=True, check=True)
    return Environment(place / "bin/python", asked.stdout.strip())


def _tested(environment: Environment, directory: Path, seconds: float) -> Finding:
    """Runs the test suite for so long."""
    report = directory / "report.xml"
    report.unlink(missing_ok=True)
    options = [
        "-pno:cacheprovider",
        f"-p{deadline.__name__}",
        f"--basetemp={directory / 'tests'}",
        f"--junitxml={report}",
    ]
    more = {"HYPOTHESIS_STORAGE_DIRECTORY": str(directory / "hypothesis")}
    variables = os.environ | more | {deadline.VARIABLE: str(time.monotonic() + seconds)}
    command = [environment.python, "-m", "pytest", *options, *_files()]
    ended = subprocess.run(command, cwd=CHECKOUT, env=variables, check=False)
    suite = ElementTree.parse(report).getroot()[0]
    tests, failures = int(suite.attrib["tests"]), int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    was_interrupted = ended.returncode == pytest.ExitCode.INTERRUPTED
    assert was_interrupted or ended.returncode == (pytest.ExitCode.TESTS_FAILED if failures else pytest.ExitCode.OK)
    extent = "there was no time for more" if was_interrupted else "that is all"
    return Finding(f"Tests with {environment.name}", f"{tests - failures:,} passed; {extent}", failures=failures)


def _files() -> list[str]:
    """All files of tests, the most telling ones first."""
    top = CHECKOUT / "kharcha_pipeline_tests"
    names = sorted(str(path.relative_to(top)) for path in top.rglob("test_*.py"))
    order = {name: next((place for place, first in enumerate(FIRST) if name.startswith(first)), 99) for name in names}
    return [str(top / name) for name in sorted(names, key=lambda name: (order[name], name))]


def _turns(directory: Path, seed: int, other: Environment) -> Finding:
    """Lets both versions of DuckDB work on one data directory in turn."""
    scene = Scene(directory, seed)
    turns = ("sync", "build", "sync", "rebucket", "sync", "reprice", "sync", "publish")
    for number, operation in enumerate(turns):
        scene.prepare(operation)
        python = (other.python, Path(sys.executable))[number % 2]
        subprocess.run(program.command(operation, seed + number, scene.machine, python), cwd=CHECKOUT, check=True)
    scene.repair()
    scene.compare()
    return Finding(
        f"DuckDB {OTHER_DUCKDB} and {version('duckdb')} in turn on one data directory",
        f"{len(turns)} operations",
    )
