"""Reports by days and months: which buckets a window holds, how vendors are asked for them, what belongs to one.

All days and months are UTC's. A bucket lies inside a window by its begin, so a window that ends now holds today.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.items import VendorItem, instant_of
from kharcha_pipeline.accounts.values import Fields, drifted

Item = TypeVar("Item", bound=VendorItem)


class Month(NamedTuple):
    """A calendar month: its number, and its span in milliseconds since the epoch."""

    year: int
    month: int
    at_ms: int
    until_ms: int


def whole_days(window: Window) -> Window:
    """The window, widened to whole days: vendors leave out a bucket that does not end inside the asked span."""
    return Window(window.from_ms // DAY_MS * DAY_MS, -(-window.until_ms // DAY_MS) * DAY_MS)


def days_in(window: Window) -> list[int]:
    """The begins of the days that begin inside a window."""
    return list(range(-(-window.from_ms // DAY_MS) * DAY_MS, window.until_ms, DAY_MS))


def months_in(window: Window) -> list[Month]:
    """The months that begin inside a window."""
    begin = datetime_of(window.from_ms)
    year, month = begin.year, begin.month
    months = []
    while (at_ms := _first_of(year, month)) < window.until_ms:
        following = (year + month // 12, month % 12 + 1)
        if at_ms >= window.from_ms:
            months.append(Month(year, month, at_ms, _first_of(*following)))
        year, month = following
    return months


def month_of(year: int, month: int) -> Month:
    """A month by its number."""
    return Month(year, month, _first_of(year, month), _first_of(year + month // 12, month % 12 + 1))


def datetime_of(at_ms: int) -> datetime:
    """An instant as Python's own."""
    return datetime.fromtimestamp(at_ms // 1000, UTC)


def date_text(at_ms: int) -> str:
    """The day of an instant, `YYYY-MM-DD`."""
    return datetime_of(at_ms).strftime("%Y-%m-%d")


def instant_text(at_ms: int) -> str:
    """An instant in RFC 3339, to the second."""
    return datetime_of(at_ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def day_bucket(bucket: Fields, at_ms: int | None, until_ms: int | None) -> Window:
    """The whole day of a bucket, from the begin and end that its vendor tells.

    The end of the running day is told as midnight or as now, depending on what was asked: a row would be another one
    at each poll if that went into its key.

    Raises:
        Drifted: when the bucket is no UTC day.
    """
    if at_ms is None or at_ms % DAY_MS or until_ms is None or not at_ms < until_ms <= at_ms + DAY_MS:
        raise drifted(bucket.where, "a bucket is no UTC day", bucket.values)
    return Window(at_ms, at_ms + DAY_MS)


def inside(window: Window, items: Iterable[Item], notes: Counter[str]) -> list[Item]:
    """The items that lie inside a window; the others are noted."""
    kept = []
    for item in items:
        if window.from_ms <= instant_of(item) < window.until_ms:
            kept.append(item)
        else:
            notes["outside the window"] += 1
    return kept


def _first_of(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
