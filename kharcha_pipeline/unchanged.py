"""Tells, with the standard library alone, that a sync has nothing to do.

A sync that leaves nothing waiting remembers what it saw: every log file's path, inode, size and time, the settings
in force, the price data, and the state of the two databases. As long as all of that is the
same, the next sync returns before any dependency is imported. The memory is disposable: without it, or when
anything differs, the sync simply looks properly.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from time import strftime

from kharcha_pipeline import __version__, locations
from kharcha_pipeline.sources.sweep import listing, sweep_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 2
VARIABLES = (
    "HOME",
    "KHARCHA_CONFIG",
    "KHARCHA_DATA_DIR",
    "KHARCHA_MACHINE",
    "KHARCHA_PRICES",
    "KHARCHA_TIMEZONE",
    "XDG_CONFIG_HOME",
)


def memory_path(data_directory: str) -> str:
    """Where the memory of the last complete sync is kept: a line of JSON, then the listing of the log files."""
    return os.path.join(data_directory, "unchanged")


def signature(path: str) -> list[int] | None:
    """Inode, size and modification time of a file or directory; `None` when it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def price_data() -> str:
    """The file by which the installed price catalogue is recognized."""
    for top in sys.path:
        path = os.path.join(top, "genai_prices", "__init__.py")
        if os.path.exists(path):
            return path
    return ""


def circumstances(environment: Mapping[str, str], variables: Sequence[str]) -> dict[str, Any]:
    """Everything but the log files that decides what a sync would do."""
    directory = locations.data_directory(environment)
    files = [
        locations.config_file(environment),
        environment.get("KHARCHA_PRICES", ""),
        price_data(),
        os.path.join(directory, "warehouse.duckdb"),
        os.path.join(directory, "warehouse.duckdb.wal"),
        os.path.join(directory, "kharcha.duckdb"),
    ]
    return {
        "schema": SCHEMA,
        "version": __version__,
        "today": strftime("%Y-%m-%d"),
        "variables": {name: environment.get(name) for name in sorted({*VARIABLES, *variables})},
        "files": {path: signature(path) for path in files},
    }


def remember(
    environment: Mapping[str, str],
    seen: Mapping[str, Any],
    beside: Sequence[str],
    plan: Sequence[tuple[str, tuple[str, ...]]],
    swept: bytes,
) -> None:
    """Stores what a complete sync saw.

    Args:
        environment: the environment of the sync.
        seen: the circumstances, taken before it was certain that nothing is left to do.
        beside: further files and directories that matter: the prices file, directories in which places may appear.
        plan: the swept tops and endings.
        swept: listing of the sweep the sync began with.
    """
    memory = {"circumstances": seen, "beside": {path: signature(path) for path in beside}, "plan": plan}
    path = memory_path(locations.data_directory(environment))
    fresh = f"{path}.{os.getpid()}.new"
    with open(fresh, "wb", opener=_private) as stream:
        stream.write(json.dumps(memory).encode() + b"\n" + swept)
    os.replace(fresh, path)


def unchanged_files(environment: Mapping[str, str]) -> int | None:
    """The number of log files when nothing at all changed since the last complete sync, else `None`."""
    try:
        with open(memory_path(locations.data_directory(environment)), "rb") as stream:
            memory = json.loads(stream.readline())
            before = stream.read()
        then = memory["circumstances"]
        if then != circumstances(environment, list(then["variables"])):
            return None
        if any(signature(path) != known for path, known in memory["beside"].items()):
            return None
        plan = [(top, tuple(endings)) for top, endings in memory["plan"]]
        now = listing(sweep_all(plan))
        return now.count(b"\n") if now == before else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
