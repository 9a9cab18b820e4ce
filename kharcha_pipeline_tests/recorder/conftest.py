"""For the tests of the recorder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kharcha_pipeline.recorder import Recorder
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.recorder.database import NOW


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of one's own, which is also the environment of this process."""
    machine = Machine.below(tmp_path, timezone="Europe/Berlin")
    for name in ("KHARCHA_PRICES", "KHARCHA_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    return machine


@pytest.fixture
def recorder(machine: Machine) -> Iterator[Recorder]:
    """A recorder whose clock stands still."""
    with Recorder(clock=lambda: NOW) as recorder:
        yield recorder
