"""When an account is polled: five cron fields in UTC, and then a while later, each account by a while of its own.

Fifteen accounts with the same schedule would otherwise all ask at the same second. The while is made of the account's
name, so it is the same in every process and after every restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

from cronsim import CronSim

from kharcha_pipeline.accounts.clock import MINUTE_MS, SECOND_MS

LONGEST_DELAY_MS = 10 * MINUTE_MS
"""No account waits longer than this behind its schedule, nor longer than a quarter of the time between two polls."""

_STEPS = 2**32


def next_poll_ms(schedule: str, account: str, after_ms: int) -> int:
    """The first instant after `after_ms` at which an account is due, in milliseconds since the epoch.

    Args:
        schedule: five cron fields, in UTC; checked when `accounts.toml` was read.
        account: the account's name, which decides about its delay.
        after_ms: an instant, usually now.
    """
    share = _share(account)
    for tick_ms, following_ms in pairwise(_ticks(schedule, after_ms - LONGEST_DELAY_MS)):
        longest = min(LONGEST_DELAY_MS, (following_ms - tick_ms) // 4)
        due_ms = tick_ms + int(share * longest)
        if due_ms > after_ms:
            return due_ms
    raise AssertionError("a schedule never ends")


def return_ms(account: str, until_ms: int, now_ms: int) -> int:
    """When an account that was asked to wait comes back: a little after `until_ms`, as all others were asked too.

    Args:
        account: the account's name.
        until_ms: before this instant it must not be asked.
        now_ms: the instant now.
    """
    longest = min(LONGEST_DELAY_MS, max(0, until_ms - now_ms) // 4)
    return until_ms + int(_share(account) * longest)


def _ticks(schedule: str, from_ms: int) -> Iterator[int]:
    """The instants of a schedule after `from_ms`, ascending."""
    for tick in CronSim(schedule, datetime.fromtimestamp(from_ms / SECOND_MS, UTC)):
        yield int(tick.timestamp()) * SECOND_MS


def _share(account: str) -> Fraction:
    """A number from 0 to below 1 that is evenly spread over names."""
    digest = hashlib.sha256(account.encode()).digest()
    return Fraction(int.from_bytes(digest[:4], "big"), _STEPS)
