"""A page in a real browser, for tests of what the server shows."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, ViewportSize

DESKTOP: ViewportSize = {"width": 1440, "height": 900}


class Watched:
    """A page that remembers what went wrong in it and what it asked of whom."""

    def __init__(self, browser: Browser, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, **context})
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.hosts: set[str | None] = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # whoever goes on to another page does without the rest of this one
            self.errors.append(f"{request.url} failed: {request.failure}")

    def _asked(self, request: Request) -> None:
        self.hosts.add(urlsplit(request.url).hostname)

    def finish(self) -> None:
        self.context.close()
        assert self.errors == []
        assert self.hosts == {"127.0.0.1"}
