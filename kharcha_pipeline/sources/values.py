"""Careful reading of what agents write: counts, instants, texts and amounts of any quality.

Rules of every source: a bad field never costs the record it stands in; `null`, missing, negative and
not-a-number counts are 0; a missing instant is never "now".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

LARGEST_COUNT = 10**11
"""No response and no thread has more tokens than this; a larger number is damage, not usage. Ten million of the
largest ones still add up to a `BIGINT`."""

LARGEST_COST = Decimal(10) ** 12
COST_STEP = Decimal("1E-12")
"""USD. The smallest difference between two sums of money that is kept."""

MOST_VALUES = 2_000_000
"""Values in one JSON text. Each takes some hundred bytes of memory, whatever little it takes in the file."""

_LONGEST_INTEGER = 30
_LAST_MS = 253_402_300_800_000
"""10000-01-01 in UTC, in milliseconds: the end of the calendar."""

_minutes: dict[str, int] = {}


def count(value: object) -> int:
    """A token count: int, float without fraction or decimal text; anything else, and anything negative, is 0."""
    if type(value) is int:
        return value if 0 <= value <= LARGEST_COUNT else 0
    if isinstance(value, float):
        return int(value) if value.is_integer() and 0 <= value <= LARGEST_COUNT else 0
    if isinstance(value, Decimal | str):
        try:
            number = Decimal(value)
            if number == number.to_integral_value() and 0 <= number <= LARGEST_COUNT:
                return int(number)
        except (InvalidOperation, ValueError, OverflowError):
            pass
    return 0


def amount(value: object) -> Decimal | None:
    """A positive sum of money in USD, exactly as written, else `None`. Never goes through a float."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        number = Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() and 0 < number <= LARGEST_COST else None


def rounded(cost: Decimal | None) -> Decimal | None:
    """A sum of money to twelve places, half to even; `None` when nothing is left of it."""
    if cost is None or cost.as_tuple().exponent >= -12:  # type: ignore[operator]  # an amount is finite
        return cost
    return cost.quantize(COST_STEP, ROUND_HALF_EVEN) or None


def text(value: object) -> str:
    """A text, else `''`: agents write `null`, numbers and objects where names belong.

    NUL characters and halves of surrogate pairs, which JSON can spell but no database can store, become `?`.
    """
    if not isinstance(value, str):
        return ""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "?").encode("utf-8", errors="replace").decode("utf-8")


def instant(value: object, *, seconds: bool = False) -> int | None:
    """Milliseconds since the epoch, UTC, of ISO-8601 text or a number; `None` when it is no instant.

    Args:
        value: text with `Z` or an offset (text without either is taken as UTC), or a number.
        seconds: whether a number counts seconds (kept to the millisecond) instead of milliseconds.
    """
    if type(value) is str:
        if len(value) == 24 and value[23] == "Z" and value[16] == ":":  # 2026-03-04T09:15:22.481Z
            start = _minutes.get(value[:16])
            if start is None:
                start = _parsed(value[:16] + ":00+00:00")
                if start is None:
                    return _parsed(value)
                if len(_minutes) > 100_000:
                    _minutes.clear()
                _minutes[value[:16]] = start
            rest, thousandths = value[17:19], value[20:23]
            if rest.isdecimal() and thousandths.isdecimal() and value[19] == "." and int(rest) < 60:
                return start + int(rest) * 1000 + int(thousandths)
        return _parsed(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        number = Decimal(str(value))
        if not 0 < number < _LAST_MS:  # before anything else: as an integer, 1E+999999 takes a minute to compute
            return None
    except (InvalidOperation, ValueError):
        return None
    whole = int((number * (1000 if seconds else 1)).to_integral_value())
    return whole if 0 < whole < _LAST_MS else None


def moment(value: datetime | float | None) -> int | None:
    """Milliseconds since the epoch, UTC, of what a typed decoder made of an instant; without a zone it is UTC."""
    if type(value) is not datetime:
        return instant(value)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    seconds = int(value.timestamp())
    return seconds * 1000 + value.microsecond // 1000 if seconds > 0 else None


def _parsed(value: str) -> int | None:
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        difference = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError:
        return None
    milliseconds = difference.days * 86_400_000 + difference.seconds * 1000 + difference.microseconds // 1000
    return milliseconds if milliseconds > 0 else None


def fraction(digits: str) -> Decimal | None:
    """A number with a fraction or an exponent, exactly as written; `None` when no computer could hold it."""
    try:
        return Decimal(digits)
    except InvalidOperation:
        return None


def is_crowded(data: bytes) -> bool:
    """Whether JSON text may hold more than `MOST_VALUES`, so that it must not be read."""
    return len(data) > MOST_VALUES and data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES


def document(data: bytes) -> Any:
    """JSON text of any quality as Python values, with exact decimals for fractions.

    Bytes that are no UTF-8 are replaced; `NaN` and `Infinity` become `None`.

    Raises:
        ValueError: when the text is no JSON, nested too deeply to be read, or crowded.
    """
    if is_crowded(data):
        raise ValueError("too many values")
    said = data.decode("utf-8", errors="replace")
    try:
        return _loaded(said)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _loaded(said: str) -> Any:
    strange: dict[str, Any] = {"parse_float": fraction, "parse_constant": lambda name: None}
    try:
        return json.loads(said, **strange)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python refuses to read integers of thousands of digits
        return json.loads(said, parse_int=_integer, **strange)


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else Decimal(digits)
