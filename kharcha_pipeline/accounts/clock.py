"""The time, and waiting: an object of its own, so that hours of a vendor's cool-down pass in a test at once."""

from __future__ import annotations

import time
from typing import Protocol

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Clock(Protocol):
    """Tells the time and waits."""

    def now_ms(self) -> int:
        """The instant now, in milliseconds since the epoch, UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds on a clock that never goes back, for deadlines."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """The instant now, in milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def elapsed(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)
