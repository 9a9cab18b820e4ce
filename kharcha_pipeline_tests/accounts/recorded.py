"""What a fake vendor knows, and when: things that come, change and go as its clock turns; pages with cursors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock


@dataclass
class Recorded:
    """Something that a vendor recorded.

    Attributes:
        at_ms: when it happened.
        values: what is told of it.
        visible_from_ms, gone_from_ms: from when to when it is told.
        revisions: instants from which a value is another one.
    """

    at_ms: int
    values: dict[str, Any]
    visible_from_ms: int = 0
    gone_from_ms: int | None = None
    revisions: list[tuple[int, str, Any]] = field(default_factory=list)

    def as_of(self, now_ms: int) -> dict[str, Any] | None:
        """Its values as they are told at an instant, `None` when it is not told."""
        if now_ms < self.visible_from_ms or (self.gone_from_ms is not None and now_ms >= self.gone_from_ms):
            return None
        revisions = sorted(self.revisions, key=lambda revision: revision[0])
        return {**self.values, **{name: value for from_ms, name, value in revisions if now_ms >= from_ms}}


def told(recorded: Iterable[Recorded], now_ms: int) -> list[tuple[int, dict[str, Any]]]:
    """Instant and values of everything that is told at an instant."""
    seen = ((one.at_ms, one.as_of(now_ms)) for one in recorded)
    return [(at_ms, values) for at_ms, values in seen if values is not None]


def summed(rows: Iterable[dict[str, Any]], grouping: Sequence[str], numbers: Sequence[str]) -> list[dict[str, Any]]:
    """Rows by what they are grouped by, their numbers added; dimensions are null where a row has none."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row.get(name) for name in grouping)
        group = groups.setdefault(key, {**dict(zip(grouping, key, strict=True)), **dict.fromkeys(numbers)})
        for name in numbers:
            if row.get(name) is not None:
                group[name] = (group[name] or 0) + row[name]
    return list(groups.values())


class Refused(Exception):  # noqa: N818 - it says what is the case
    """The vendor does not answer as asked: raised inside a fake vendor, with the reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.status))
        self.reply = reply


class Cursors:
    """Cursors as vendors make them: opaque, bound to the question, and forgotten after a while.

    Attributes:
        lifetime_ms: how long one is known; `None` for ever.
    """

    def __init__(self, clock: TurnedClock, lifetime_ms: int | None = None) -> None:
        self._clock = clock
        self._issued: dict[str, tuple[str, int, int]] = {}
        self.lifetime_ms = lifetime_ms

    def page(
        self, received: Received, rows: Sequence[Any], size: int, parameter: str = "page"
    ) -> tuple[list[Any], str | None]:
        """The rows of the page that was asked for, and the cursor of the next one.

        Raises:
            LookupError: a cursor that is no longer known.
            ValueError: one that is none, or of another question.
        """
        question = json.dumps(sorted(pair for pair in received.query if pair[0] != parameter))
        cursor = received.parameters.get(parameter)
        begin = 0
        if cursor is not None:
            if cursor not in self._issued:
                raise ValueError(cursor)
            asked, begin, at_ms = self._issued[cursor]
            if asked != f"{received.path} {question}":
                raise ValueError(cursor)
            if self.lifetime_ms is not None and self._clock.now_ms() >= at_ms + self.lifetime_ms:
                raise LookupError(cursor)
        end = begin + size
        if end >= len(rows):
            return list(rows[begin:]), None
        now_ms = self._clock.now_ms()
        name = hashlib.sha256(f"{received.path} {question} {end} {now_ms}".encode()).hexdigest()[:20]
        self._issued[name] = (f"{received.path} {question}", end, now_ms)
        return list(rows[begin:end]), name
