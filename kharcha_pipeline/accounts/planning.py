"""Which windows of which resource a cycle reads: a pure function of what was read so far and of the time.

Everything is in UTC; a day has 24 hours here, whatever the reporting zone does. What is to be read comes in three
parts, each of which reads all resources, most important first, and the newest windows first:

1. what is revised often: the look-back, in every cycle;
2. once a day what is revised seldom: the deep look-back;
3. what was never read: the history of a new account, the time in which an account could not be asked, a backfill.

Windows end where the vendor's data end: now, less the resource's lag. Their other bounds lie on a fixed grid, so
that a day or a month is one window today and tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from kharcha_pipeline.accounts.connector import SNAPSHOT, AccountSettings, Resource, Window
from kharcha_pipeline.accounts.windows import merged, without

DEEP_EVERY_MS = DAY_MS - HOUR_MS
"""What lies in the deep look-back is read again after this time: a little less than a day, since polls have a jitter.

Asked window by window, so that a cycle that ended early is gone on with, and never begun again."""


class Known(NamedTuple):
    """What was read of a resource so far.

    Attributes:
        covered: the spans of time that were completely read, merged and ascending.
        fresh: of these, what was read within the last `DEEP_EVERY_MS`.
        last_ms: when anything of it was read last; `None` for never.
    """

    covered: Sequence[Window] = ()
    fresh: Sequence[Window] = ()
    last_ms: int | None = None


class Reading(NamedTuple):
    """One window to be read.

    Attributes:
        resource: of what.
        window: from when to when; `SNAPSHOT` for the present.
        is_recent: whether it is read in every cycle; the others may wait for the next one.
        closed_before_ms: what lies before was read often enough to be settled: a mass revision there is suspicious.
    """

    resource: Resource
    window: Window
    is_recent: bool = False
    closed_before_ms: int = 0


def plan(
    resources: Sequence[Resource],
    settings: AccountSettings,
    known: Mapping[str, Known],
    now_ms: int,
    *,
    backfill: Window | None = None,
    reads_again: bool = False,
) -> list[Reading]:
    """The windows of one cycle, in the order in which they should be read.

    Args:
        resources: what can be asked of the account, without what it may not ask.
        settings: the account's, for its own look-back and history.
        known: what was read so far, by name of resource.
        now_ms: the instant now.
        backfill: a span of time to be read, and nothing else; what of it was read before is left out.
        reads_again: whether a backfill also reads what was read before.
    """
    snapshots: list[Reading] = []
    recent: list[Reading] = []
    deep: list[Reading] = []
    missing: list[Reading] = []
    for resource in resources:
        so_far = known.get(resource.name, Known())
        if backfill is not None:
            missing += _backfill(resource, settings, so_far, now_ms, backfill, reads_again=reads_again)
        elif so_far.last_ms is not None and 0 <= now_ms - so_far.last_ms < _ms(resource.every):
            continue
        elif resource.span is None:
            snapshots.append(Reading(resource, SNAPSHOT, is_recent=True))
        else:
            parts = _parts(resource, settings, so_far, now_ms)
            recent += parts.recent
            deep += parts.deep
            missing += parts.missing
    names = [resource.name for resource in resources]
    first = sorted([*snapshots, *recent], key=lambda reading: names.index(reading.resource.name))
    return [*first, *deep, *missing]


class _Parts(NamedTuple):
    """The windows of one resource, by why they are read."""

    recent: list[Reading]
    deep: list[Reading]
    missing: list[Reading]


def _parts(resource: Resource, settings: AccountSettings, so_far: Known, now_ms: int) -> _Parts:
    end_ms = now_ms - _ms(resource.lag)
    oldest_ms = _oldest_ms(resource, now_ms)
    lookback = _days(settings.lookback_days, resource.lookback)
    history = max(lookback, _days(settings.history_days, resource.history))
    recent_from = max(oldest_ms, _floor(end_ms - _ms(lookback), resource))
    deep_from = max(oldest_ms, _floor(end_ms - _ms(resource.deep_lookback), resource))
    wanted_from = max(oldest_ms, _floor(end_ms - _ms(history), resource))
    lookback_windows = _readings(resource, [Window(recent_from, end_ms)], recent_from)
    recent = [reading._replace(is_recent=True) for reading in lookback_windows]
    # Whatever lies between two spans that were read was missed, however long ago: an account may have been expired
    # for longer than its history is.
    first_read = min((window.from_ms for window in so_far.covered), default=end_ms)
    begin = max(oldest_ms, min(wanted_from, first_read))
    deep_window = Window(max(begin, deep_from), recent_from)
    deep = _readings(resource, without([deep_window], so_far.fresh), recent_from)
    wanted = Window(begin, end_ms)
    planned = [reading.window for reading in (*recent, *deep)]
    holes = without([wanted], [*so_far.covered, *planned])
    return _Parts(recent, deep, _readings(resource, holes, recent_from))


def _backfill(
    resource: Resource,
    settings: AccountSettings,
    so_far: Known,
    now_ms: int,
    asked: Window,
    *,
    reads_again: bool,
) -> list[Reading]:
    if resource.span is None:
        return []
    end_ms = now_ms - _ms(resource.lag)
    span = Window(max(asked.from_ms, _oldest_ms(resource, now_ms)), min(asked.until_ms, end_ms))
    holes = [span] if reads_again else without([span], so_far.covered)
    closed_before = _floor(end_ms - _ms(_days(settings.lookback_days, resource.lookback)), resource)
    return _readings(resource, holes, closed_before, end_ms)


def _readings(
    resource: Resource, spans: Sequence[Window], closed_before_ms: int, end_ms: int | None = None
) -> list[Reading]:
    """The windows that cover spans of time, newest first, none longer than one reading may be."""
    last = max((span.until_ms for span in spans), default=0) if end_ms is None else end_ms
    aligned = merged(
        Window(_floor(span.from_ms, resource), min(_ceiling(span.until_ms, resource), last)) for span in spans
    )
    windows = [window for span in aligned for window in _cut(span, resource)]
    return [Reading(resource, window, closed_before_ms=closed_before_ms) for window in sorted(windows, reverse=True)]


def _cut(span: Window, resource: Resource) -> Iterator[Window]:
    """A span of time in pieces whose inner bounds lie on the resource's grid."""
    start = span.from_ms
    while start < span.until_ms:
        end = min(span.until_ms, _next_bound(start, resource))
        yield Window(start, end)
        start = end


def _next_bound(at_ms: int, resource: Resource) -> int:
    """The first instant after another one at which a window may not go on."""
    if resource.alignment == "month":
        return _month_after(_floor(at_ms, resource))
    unit = _UNITS[resource.alignment]
    step = max(unit, _ms(resource.span or timedelta()) // unit * unit)
    return (at_ms // step + 1) * step


_UNITS = {"minute": MINUTE_MS, "day": DAY_MS}


def _floor(at_ms: int, resource: Resource) -> int:
    """The begin of the minute, day or month of an instant, in UTC."""
    if resource.alignment == "month":
        moment = datetime.fromtimestamp(at_ms // SECOND_MS, UTC)
        return _instant(datetime(moment.year, moment.month, 1, tzinfo=UTC))
    unit = _UNITS[resource.alignment]
    return at_ms // unit * unit


def _ceiling(at_ms: int, resource: Resource) -> int:
    """The end of the minute, day or month of an instant, which is itself where one ends."""
    begin = _floor(at_ms, resource)
    if begin == at_ms:
        return at_ms
    return _month_after(begin) if resource.alignment == "month" else begin + _UNITS[resource.alignment]


def _month_after(begin_ms: int) -> int:
    moment = datetime.fromtimestamp(begin_ms // SECOND_MS, UTC)
    years, month = divmod(moment.month, 12)
    return _instant(datetime(moment.year + years, month + 1, 1, tzinfo=UTC))


def _oldest_ms(resource: Resource, now_ms: int) -> int:
    """What lies before was forgotten by the vendor, and is not asked for."""
    return 0 if resource.retention is None else _ceiling(now_ms - _ms(resource.retention), resource)


def _days(configured: int | None, otherwise: timedelta) -> timedelta:
    return otherwise if configured is None else timedelta(days=configured)


def _instant(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND_MS


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
