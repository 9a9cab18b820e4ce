"""What was rendered, kept in memory: a page that nothing changed is sent again without asking the database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple


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
