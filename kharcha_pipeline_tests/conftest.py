"""For all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
"""Hypothesis would fail an example that takes 200 ms, as on a busy machine. Tests that are about time measure it."""
