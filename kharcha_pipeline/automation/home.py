"""Dagster's home directory. Standard library only: the command line prepares it before it starts Dagster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from kharcha_pipeline import locations
from kharcha_pipeline.warehouse.lock import exclusive

_STORAGE = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
"""What Dagster makes in an empty home. Two processes that make it at once collide, and one of them dies."""


OWNER_ONLY = 0o077
"""The umask under which Dagster is started: events tell of projects and branches, and its logs of whatever fails."""


class HomeError(Exception):
    """Dagster's home directory cannot be prepared. The message is a sentence for the user."""


def dagster_home(environment: Mapping[str, str]) -> Path:
    """`DAGSTER_HOME`, else `dagster/` in the data directory."""
    if configured := environment.get("DAGSTER_HOME"):
        return Path(locations.expanded(configured, environment))
    return Path(locations.data_directory(environment)) / "dagster"


def prepare_home(path: Path) -> None:
    """Makes Dagster's home ready for any number of processes: our settings and an initialized storage.

    What is there already stays as it is, above all an edited `dagster.yaml`.

    Raises:
        HomeError: when the directory cannot be written, or Dagster cannot use it.
        LockTimeoutError: when another process is preparing it for too long.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(path / "home.lock", "prepare Dagster's home"):
            _write_settings(path / "dagster.yaml")
            if not all((path / name).exists() for name in _STORAGE):
                _initialize(path)
    except OSError as error:
        raise HomeError(
            f"Dagster's home {path} cannot be written ({error.strerror}). Make it writable, or set DAGSTER_HOME."
        ) from error


def _write_settings(path: Path) -> None:
    if path.exists():
        return
    fresh = path.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_text(resources.files(__package__).joinpath("dagster.yaml").read_text(encoding="utf-8"), "utf-8")
    os.replace(fresh, path)


def _initialize(path: Path) -> None:
    """Lets one Dagster process make the storage before others use it."""
    finished = subprocess.run(
        [sys.executable, "-m", "dagster", "instance", "info"],
        env={**os.environ, "DAGSTER_HOME": str(path)},
        capture_output=True,
        text=True,
        check=False,
        umask=OWNER_ONLY,
    )
    if finished.returncode:
        reason = (finished.stderr or finished.stdout).strip().splitlines() or ["no reason was given"]
        raise HomeError(f"Dagster cannot use its home {path}: {reason[-1]}")
