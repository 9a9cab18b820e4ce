"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
"""Hypothesis would fail an example that takes 200 ms, as on a busy machine. Tests that are about time measure it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the longest files first: what is left at the end should keep all workers busy."""
    items.sort(key=lambda item: "/torture/" not in item.nodeid and "/hostile/" not in item.nodeid)
