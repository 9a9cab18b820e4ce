"""A plugin for pytest that interrupts a run when its time is over, after the test that is under way."""

from __future__ import annotations

import os
import time

import pytest

VARIABLE = "KHARCHA_TESTS_END_AT"
"""The instant, on the machine's monotonic clock."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Lets a run that goes on for too long end here."""
    if time.monotonic() > float(os.environ[VARIABLE]):
        item.session.shouldstop = "the time is over"
