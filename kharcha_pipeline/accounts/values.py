"""What stands in an answer, read exactly: decimals, cents, instants, words. Nothing here knows a vendor.

Every function is total: whatever JSON holds gives a value, `None`, or `Drifted`. A field that is there and cannot be
read is unknown and noted, never 0; a container of another shape than known is `Drifted`, since nothing of what it
holds can be trusted then. Notes and messages hold names of fields, never values.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, Inexact
from typing import Any, Literal, TypeVar

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import Answer
from kharcha_pipeline.accounts.failures import Drifted
from kharcha_pipeline.records import EARLIEST_MS

AHEAD = timedelta(days=2)
"""How far in the future, as of the answer, an instant of something that happened may lie: clocks differ."""

Value = TypeVar("Value")

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SHOWN_DOLLARS = re.compile(r"(-?)\$([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(\.[0-9]+)?")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_BROKEN_CHARACTERS = re.compile("[\ud800-\udfff\x00]")
_EXACT = Context(prec=200, traps=[Inexact])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST_COUNT = 2**63
_MOST_DIGITS = 18
_MOST_DECIMALS = 60


# --------------------------------------------------------------------------------------------------- documents


def decoded(answer: Answer) -> Any:
    """The JSON of an answer, with every number as it was written: `int`, or `Decimal`. A byte order mark is passed
    over; `NaN`, infinities and names that occur twice in one object are no JSON here.

    Raises:
        Drifted: when it is not JSON in UTF-8.
    """
    try:
        return json.loads(
            answer.body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_refused, object_pairs_hook=_object
        )
    except (ValueError, ArithmeticError, RecursionError):
        raise Drifted(f"The answer of {answer.request.path} is not the JSON that was expected.") from None


def structure(value: object, depth: int = 6) -> str:
    """Names and types of what JSON holds, and none of its values: what may be kept of an answer that was refused."""
    match value:
        case None:
            return "null"
        case bool():
            return "flag"
        case int() | Decimal():
            return "number"
        case str():
            return "text"
        case list() | dict() if depth == 0:
            return "…"
        case list():
            shapes = dict.fromkeys(structure(inner, depth - 1) for inner in value[:50])
            return "[" + " | ".join(list(shapes)[:3]) + "]"
        case dict():
            fields = (f"{_named(name)}: {structure(inner, depth - 1)}" for name, inner in list(value.items())[:60])
            return "{" + ", ".join(fields) + "}"
    return "unknown"


def drifted(where: str, what: str, value: object) -> Drifted:
    """The failure that an answer has another shape than known, with its structure and none of its values."""
    return Drifted(f"The shape of {where} changed: {what}.", sample=structure(value))


def required_id(row: Fields) -> str:
    """The vendor's id of what a row is about, as text.

    Raises:
        Drifted: when it is missing or empty.
    """
    row.require("id")
    known = row.text("id")
    if not known:
        raise drifted(row.where, "it has no id", None)
    return known


def _refused(_: str) -> Any:
    raise ValueError


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


def _named(name: str) -> str:
    """A field's name as it may be shown: what is no plain name may be somebody's data."""
    return f'"{name}"' if _PLAIN_NAME.fullmatch(name) else "(an unusual name)"


# ------------------------------------------------------------------------------------------------------ values


def text_of(value: object) -> str | None:
    """A word; whole numbers become text, since ids were numbers once. What no database takes is replaced."""
    if isinstance(value, str):
        return _BROKEN_CHARACTERS.sub("\ufffd", value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_COUNT:
        return str(value)
    return None


def decimal_of(value: object) -> Decimal | None:
    """A number, or the text of one, exactly; `None` for anything else and for what no amount can be."""
    if isinstance(value, str):
        if len(value) > 100 or not _NUMBER.fullmatch(value):
            return None
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    if not number:
        return Decimal(0)
    exponent = number.as_tuple().exponent
    is_plausible = isinstance(exponent, int) and exponent >= -_MOST_DECIMALS and number.adjusted() < _MOST_DIGITS
    return number if is_plausible else None


def whole_of(value: object) -> int | None:
    """A whole number, also as text or as `3.0`; `None` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < _LARGEST_COUNT else None
    number = decimal_of(value)
    return int(number) if number is not None and number == number.to_integral_value() else None


def flag_of(value: object) -> bool | None:
    """A truth value, also as the words `true` and `false`."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value)
    return value if isinstance(value, bool) else None


def dollars_of_cents(cents: Decimal) -> Decimal:
    """Cents in dollars: the point moves, no digit is lost."""
    return _shifted(cents, -2)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """A sum without rounding: that of Python rounds to 28 digits."""
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def _shifted(number: Decimal, places: int) -> Decimal:
    """A finite number times a power of ten, exactly: arithmetic would round to the context's precision."""
    sign, digits, exponent = number.as_tuple()
    return Decimal((sign, digits, int(exponent) + places))


def shown_dollars(value: object) -> tuple[Decimal | None, bool]:
    """What a table for people shows as a cost: `$0.03`, `-` for nothing to say, or a word such as `Included`.

    Returns:
        The amount in dollars, rounded as it was shown, and whether the rule knows what was shown.
    """
    if value is None or value in ("", "-", "Included"):
        return None, True
    matched = _SHOWN_DOLLARS.fullmatch(value) if isinstance(value, str) and len(value) < 40 else None
    if matched is None:
        return None, False
    sign, whole, fraction = matched.groups()
    return Decimal(sign + whole.replace(",", "") + (fraction or "")), True


def instant_of_number(value: object, unit: Literal["ms", "s"], latest_ms: int) -> int | None:
    """An instant in milliseconds from a number of milliseconds or seconds, also as text.

    Returns:
        `None` when it is no whole number of milliseconds, before 2020 or after `latest_ms`: seconds that are taken
        for milliseconds lie in 1970, the other way round in the year 58000.
    """
    number = decimal_of(value)
    if number is None:
        return None
    milliseconds = whole_of(_shifted(number, 3 if unit == "s" else 0))
    return milliseconds if milliseconds is not None and EARLIEST_MS <= milliseconds <= latest_ms else None


def instant_of_text(value: object, latest_ms: int) -> int | None:
    """An instant in milliseconds from ISO 8601 with a zone; `None` for anything else and outside 2020..latest."""
    if not isinstance(value, str) or len(value) > 60:
        return None
    try:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            return None
        milliseconds = (instant - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None
    return milliseconds if EARLIEST_MS <= milliseconds <= latest_ms else None


def day_of_text(value: object, latest_ms: int) -> int | None:
    """The first instant of a UTC day `YYYY-MM-DD`, in milliseconds; `None` for anything else."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):  # ISO 8601 has also weeks and days of the year
        return None
    try:
        days = (date.fromisoformat(value) - _EPOCH.date()).days
    except ValueError:
        return None
    return days * DAY_MS if EARLIEST_MS <= days * DAY_MS <= latest_ms else None


# ------------------------------------------------------------------------------------------------------ objects


class Fields:
    """One object of an answer, taken field by field; at the end, what nobody asked for is told as new.

    A missing field and `null` are the same: not known. Attributes:
        where: what this object is, for messages: `a usage event of /teams/filtered-usage-events`.
        notes: what was noticed, with how often; shared by all objects of a window.
        fetched_ms: when the answer came, by which instants are checked.
    """

    def __init__(self, value: object, where: str, notes: Counter[str], fetched_ms: int) -> None:
        if not isinstance(value, dict):
            raise drifted(where, "it is no object", value)
        self._values: dict[str, Any] = value
        self._asked: set[str] = set()
        self.where = where
        self.notes = notes
        self.fetched_ms = fetched_ms

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    @property
    def is_empty(self) -> bool:
        """Whether it is `{}`."""
        return not self._values

    @property
    def values(self) -> dict[str, Any]:
        """The object as it is in JSON."""
        return self._values

    def raw(self, name: str) -> object:
        """The field as it is in JSON; `None` when missing."""
        self._asked.add(name)
        return self._values.get(name)

    def lacks_list(self, total: str) -> bool:
        """Whether this is a page without rows, in the form that leaves out empty lists and zeros: it counts none, and
        no list stands under another name.
        """
        return not self.count(total) and not any(isinstance(value, list) for value in self._values.values())

    def require(self, *names: str) -> None:
        """Checks that fields are there, whatever they hold.

        Raises:
            Drifted: when one is missing.
        """
        for name in names:
            if name not in self._values:
                raise drifted(self.where, f'the field "{name}" is missing', self._values)

    def text(self, name: str) -> str:
        """A word, `''` when missing."""
        return self._known(name, text_of(self.raw(name))) or ""

    def whole(self, name: str) -> int | None:
        """A whole number."""
        return self._known(name, whole_of(self.raw(name)))

    def count(self, name: str) -> int | None:
        """A whole number that is not negative."""
        number = whole_of(self.raw(name))
        return self._known(name, None if number is None or number < 0 else number)

    def decimal(self, name: str) -> Decimal | None:
        """A number."""
        return self._known(name, decimal_of(self.raw(name)))

    def dollars(self, name: str) -> Decimal | None:
        """An amount that the vendor tells in dollars."""
        return self.decimal(name)

    def cents(self, name: str) -> Decimal | None:
        """An amount that the vendor tells in cents, in dollars."""
        cents = self.decimal(name)
        return None if cents is None else dollars_of_cents(cents)

    def flag(self, name: str) -> bool | None:
        """A truth value."""
        return self._known(name, flag_of(self.raw(name)))

    def milliseconds(self, name: str, ahead: timedelta = AHEAD) -> int | None:
        """An instant that the vendor tells in milliseconds since the epoch."""
        return self._known(name, instant_of_number(self.raw(name), "ms", self._latest(ahead)))

    def seconds(self, name: str, ahead: timedelta = AHEAD) -> int | None:
        """An instant that the vendor tells in seconds since the epoch, in milliseconds."""
        return self._known(name, instant_of_number(self.raw(name), "s", self._latest(ahead)))

    def instant(self, name: str, ahead: timedelta = AHEAD) -> int | None:
        """An instant that the vendor tells in ISO 8601, in milliseconds."""
        return self._known(name, instant_of_text(self.raw(name), self._latest(ahead)))

    def day(self, name: str, ahead: timedelta = AHEAD) -> int | None:
        """The first instant of a UTC day that the vendor tells as `YYYY-MM-DD`, in milliseconds."""
        return self._known(name, day_of_text(self.raw(name), self._latest(ahead)))

    def object(self, name: str, where: str = "") -> Fields | None:
        """An object inside this one; `None` when missing.

        Raises:
            Drifted: when it is something else.
        """
        value = self.raw(name)
        where = where or f'"{name}" of {self.where}'
        return None if value is None else Fields(value, where, self.notes, self.fetched_ms)

    def objects(self, name: str, where: str = "") -> list[Fields] | None:
        """A list of objects; `None` when missing.

        Raises:
            Drifted: when it, or one of it, is something else.
        """
        value = self.raw(name)
        if value is None:
            return None
        where = where or f'"{name}" of {self.where}'
        if not isinstance(value, list):
            raise drifted(where, "it is no list", value)
        return [Fields(row, where, self.notes, self.fetched_ms) for row in value]

    def finish(self, *passed_over: str) -> None:
        """Notes the fields that were neither asked for nor are passed over on purpose."""
        for name in self._values.keys() - self._asked - set(passed_over):
            self.notes[f"new field {_named(name)}"] += 1

    def _latest(self, ahead: timedelta) -> int:
        return self.fetched_ms + ahead // timedelta(milliseconds=1)

    def _known(self, name: str, value: Value | None) -> Value | None:
        if value is None and self._values.get(name) is not None:
            self.notes[f"unreadable field {_named(name)}"] += 1
        return value


def document(answer: Answer, notes: Counter[str]) -> Fields:
    """The object that an answer is.

    Raises:
        Drifted: when it is not JSON, or no object.
    """
    return Fields(decoded(answer), f"the answer of {answer.request.path}", notes, answer.fetched_ms)
