"""Fixtures of the connectors' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kharcha_pipeline_tests.accounts.connectors import cursor_reading
from kharcha_pipeline_tests.accounts.connectors.cursor_reading import Cursor


@pytest.fixture
def team() -> Iterator[Cursor]:
    """A team behind Cursor's Admin API."""
    with cursor_reading.team() as way:
        yield way


@pytest.fixture
def dashboard() -> Iterator[Cursor]:
    """Somebody's dashboard at Cursor."""
    with cursor_reading.dashboard() as way:
        yield way


@pytest.fixture(params=["team", "dashboard"])
def cursor(request: pytest.FixtureRequest) -> Iterator[Cursor]:
    """Either of Cursor's ways: what holds for one holds for the other."""
    with getattr(cursor_reading, request.param)() as way:
        yield way
