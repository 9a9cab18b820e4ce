"""Numbers, amounts and days as people read them. Amounts stay decimals; what is unknown is said in words."""

from __future__ import annotations

from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from zoneinfo import ZoneInfo

UNKNOWN = "unknown"
NONE = "(none)"
"""How an empty name is shown, and how the address spells it."""

_CENT = Decimal("0.01")
_TENTH = Decimal("0.1")
_UNITS = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def dollars(amount: Decimal | None) -> str:
    """An amount in USD, rounded to cents; never `$0.00` for what is unknown or merely small."""
    if amount is None:
        return UNKNOWN
    if 0 < amount <= _CENT / 2:
        return "< $0.01"
    rounded = amount.quantize(_CENT, ROUND_HALF_EVEN)
    return f"-${-rounded:,}" if rounded < 0 else f"${rounded:,}"


def exact_dollars(amount: Decimal | None) -> str:
    """An amount in USD with every digit that says something, at least the cents."""
    if amount is None:
        return UNKNOWN
    digits = format(amount, "f")
    whole, _, part = digits.partition(".")
    return f"${int(whole):,}.{part.rstrip('0').ljust(2, '0')}" if amount >= 0 else f"-{exact_dollars(-amount)}"


def tokens(number: int) -> str:
    """A number of tokens in the unit that suits it, with three digits: `12.3 M`."""
    for size, unit in _UNITS:
        if number >= size:
            hundredths = number * 100 // size
            if hundredths >= 10_000:
                return f"{hundredths // 100:,} {unit}"
            if hundredths >= 1_000:
                return f"{hundredths // 100}.{hundredths % 100 // 10} {unit}"
            return f"{hundredths // 100}.{hundredths % 100:02} {unit}"
    return str(number)


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun: `1 response`, `1,204 responses`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def percent(share: Decimal | None) -> str:
    """A share of one in percent; never `0 %` or `100 %` for what is merely close to it."""
    if share is None:
        return UNKNOWN
    if 0 < share < Decimal("0.001"):
        return "< 0.1 %"
    if Decimal("0.999") < share < 1:
        return "> 99.9 %"
    if share in (0, 1):
        return f"{int(share * 100)} %"
    return f"{(share * 100).quantize(_TENTH, ROUND_HALF_EVEN)} %"


def day(value: date) -> str:
    """A day with its weekday: `Thu 26 Nov 2026`."""
    return f"{WEEKDAYS[value.weekday()]} {value.day} {month(value)}"


def month(value: date) -> str:
    """The month of a day: `Nov 2026`."""
    return f"{_MONTHS[value.month - 1]} {value.year}"


def month_name(value: date) -> str:
    """The name of a day's month, cut to three letters."""
    return _MONTHS[value.month - 1]


def days(first: date, last: date) -> str:
    """A span of days without what its ends share: `1–26 Nov 2026`, `28 Oct – 26 Nov 2026`."""
    if first == last:
        return f"{first.day} {month(first)}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{last.day} {month(last)}"
    if first.year == last.year:
        return f"{first.day} {month_name(first)} – {last.day} {month(last)}"
    return f"{first.day} {month(first)} – {last.day} {month(last)}"


def instant(value: datetime, zone: str) -> str:
    """An instant by the clock of a zone, to the minute."""
    local = value.astimezone(ZoneInfo(zone))
    return f"{local.day} {month(local)}, {local:%H:%M}"


def days_ago(then: date, today: date) -> str:
    """How long ago a day was, in words."""
    distance = (today - then).days
    if distance <= 0:
        return "today"
    return "yesterday" if distance == 1 else f"{distance:,} days ago"
