"""How often a vendor may be asked: counted over processes and proxies, and never exceeded to begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kharcha_pipeline.accounts.clock import Clock
from kharcha_pipeline.accounts.connector import Rate

MARGIN_MS = 500
"""The vendor counts when requests arrive, not when they are sent: one may be slow on its way and the next fast."""


class RequestMemory(Protocol):
    """Where requests are remembered, so that the next process knows of them: `AccountStore`."""

    def note_request(self, account: str, budget: str, at_ms: int) -> None:
        """Remembers a request."""
        ...

    def requests_since(self, account: str, budget: str, since_ms: int) -> list[int]:
        """The instants of requests at or after one, in order."""
        ...


class RateLimiter:
    """Lets an account's requests through at the pace that its vendor allows.

    A window that slides over what was really sent, so a vendor that counts by minutes of the clock sees no more than
    one that counts the last sixty seconds.
    """

    def __init__(
        self,
        account: str,
        rates: Mapping[str, Rate],
        memory: RequestMemory,
        clock: Clock,
        sleep: Callable[[float], None],
    ) -> None:
        self._account = account
        self._rates = rates
        self._memory = memory
        self._clock = clock
        self._sleep = sleep

    def wait(self, budget: str) -> None:
        """Waits until one more request may be sent, and counts it.

        Args:
            budget: of the connector's; one that it does not name counts by `default`.
        """
        budget = budget if budget in self._rates else "default"
        rate = self._rates[budget]
        span_ms = int(rate.seconds * 1000) + MARGIN_MS
        has_waited_for_clock = False
        while True:
            now_ms = self._clock.now_ms()
            sent = self._memory.requests_since(self._account, budget, now_ms - span_ms + 1)
            if sent and sent[-1] > now_ms:
                # The clock was set back. When they were really sent nobody knows, but longer ago than a whole window
                # once that was waited.
                if not has_waited_for_clock:
                    has_waited_for_clock = True
                    self._sleep(span_ms / 1000)
                    continue
                sent = [at for at in sent if at <= now_ms]
            if len(sent) < rate.requests:
                break
            self._sleep((sent[-rate.requests] + span_ms - now_ms) / 1000)
        self._memory.note_request(self._account, budget, now_ms)
