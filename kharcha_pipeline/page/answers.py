"""What was asked and rendered, kept in memory: what nothing changed is sent again without asking the database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from kharcha_pipeline.page.figures import Figures


class Answer(NamedTuple):
    """A rendered body.

    Attributes:
        body: as it is sent.
        media_type: of the body.
    """

    body: bytes
    media_type: str


class Answers:
    """Answers by their tag, the least recently used forgotten first. Safe from any thread."""

    def __init__(self, most: int = 256, most_bytes: int = 32 * 2**20) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._guard = threading.Lock()
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        self._bytes = 0

    def get(self, tag: str) -> Answer | None:
        """The answer with that tag, if it is still known."""
        with self._guard:
            answer = self._kept.get(tag)
            if answer is not None:
                self._kept.move_to_end(tag)
            return answer

    def keep(self, tag: str, answer: Answer) -> None:
        """Remembers an answer."""
        with self._guard:
            if tag in self._kept:
                return
            self._kept[tag] = answer
            self._bytes += len(answer.body)
            while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
                _, forgotten = self._kept.popitem(last=False)
                self._bytes -= len(forgotten.body)


class RecentFigures:
    """The figures of the last few questions: a page, its tables and its JSON, in cost or in tokens, show the same."""

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._guard = threading.Lock()
        self._kept: OrderedDict[object, Figures] = OrderedDict()

    def get(self, key: object, ask: Callable[[], Figures]) -> Figures:
        """The figures for a key, asked for when they are not known any more."""
        with self._guard:
            found = self._kept.pop(key, None)
        if found is None:
            found = ask()
        with self._guard:
            self._kept[key] = found
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found
