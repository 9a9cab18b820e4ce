"""Limits on failures: whoever guesses has to wait."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque

MOST_KEYS = 10_000
"""Keys that are remembered; the oldest are forgotten first, so that guessing from many places takes no memory."""


class FailureLimit:
    """How often something may fail, for each key, within a sliding span of time. For all threads."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._guard = threading.Lock()

    def wait(self, key: str) -> int:
        """Whole seconds until another failure is allowed; 0 when it is now."""
        now = time.monotonic()
        with self._guard:
            failures = self._recent(key, now)
            if len(failures) < self.most:
                return 0
            return max(1, math.ceil(failures[0] + self.seconds - now))

    def note(self, key: str) -> None:
        """Notes a failure."""
        now = time.monotonic()
        with self._guard:
            failures = self._recent(key, now)
            failures.append(now)
            self._failures[key] = failures
            self._failures.move_to_end(key)
            while len(self._failures) > MOST_KEYS:
                self._failures.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Takes the last failure back: an attempt that was noted before it was known how it would end went well."""
        with self._guard:
            failures = self._failures.get(key)
            if failures:
                failures.pop()

    def _recent(self, key: str, now: float) -> deque[float]:
        failures = self._failures.get(key, deque())
        while failures and failures[0] <= now - self.seconds:
            failures.popleft()
        return failures


def origin_of(address: str) -> str:
    """By what an address is counted: itself, or its network of 64 bits, all of which one household has in IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
