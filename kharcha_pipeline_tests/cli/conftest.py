"""Terminals with and without synced logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kharcha_pipeline_tests.cli.terminal import Terminal, write_three_days


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal on a machine without any log."""
    return Terminal.below(tmp_path)


@pytest.fixture(scope="session")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal on a machine whose three days of logs are synced; tests only look at it."""
    terminal = Terminal.below(tmp_path_factory.mktemp("synced"))
    write_three_days(terminal)
    assert terminal.kharcha("sync").code == 0
    return terminal
