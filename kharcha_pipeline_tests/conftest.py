"""For all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from kharcha_pipeline_tests.browsing import Watched

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
"""Hypothesis would fail an example that takes 200 ms, as on a busy machine. Tests that are about time measure it."""


_LONGEST = ("/torture/", "/hostile/", "automation/test_accounts", "automation/test_daemon", "test_interrupted")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first (xdist must not sort them): what is left at the end keeps all workers busy."""
    items.sort(key=lambda item: not any(part in item.nodeid for part in _LONGEST))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "These tests need chromium, which is not installed; `make test` leaves them out."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A page of desktop width; at the end there must have been no error and no request to anybody else."""
    from kharcha_pipeline_tests.browsing import Watched

    watched = Watched(browser)
    yield watched
    watched.finish()
