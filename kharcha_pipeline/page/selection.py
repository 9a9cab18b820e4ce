"""What the address of a page asks for: which days, which usage, and how it is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from kharcha_pipeline.page.phrases import NONE

DIMENSIONS = {
    "source": "Agent",
    "provider": "Provider",
    "model": "Model",
    "project": "Project",
    "machine": "Machine",
    "account": "Account",
}
"""What usage can be limited to and divided by: columns of `daily_usage`, and what the page calls them."""

RANGES = {"7d": 7, "30d": 30, "90d": 90, "year": 365, "all": None}
"""Days that a range has, counted back from today."""

MEASURES = ("cost", "tokens")
PERIODS = ("day", "week", "month")
DIVISIONS = ("model", "source", "project")
"""By what the picture of the days can be stacked."""

LONGEST_VALUE = 1_000
MOST_BARS = 3_660
DEFAULT_RANGE = "30d"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SHORTEST = {"day": 1, "week": 7, "month": 28}
"""Days of a period."""
_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2199, 12, 31)
_DAYS_BY_DAY, _DAYS_BY_WEEK = 100, 730
"""Up to how many days are drawn one by one, and how many by week."""


class WrongParameterError(Exception):
    """The address asks for something that cannot be answered. The message is a sentence for whoever typed it."""


@dataclass(frozen=True)
class Selection:
    """Which usage is looked at, and how.

    Attributes:
        range: one of `RANGES`, or empty when days are given.
        since: first local day, when given.
        until: last local day, when given.
        filters: by dimension, the one name that is looked at; `(none)` stands for the empty name.
        by: by what the days are stacked.
        measure: what pictures show.
        per: what one bar stands for; empty: what suits the range.
    """

    range: str = DEFAULT_RANGE
    since: date | None = None
    until: date | None = None
    filters: Mapping[str, str] = field(default_factory=dict)
    by: str = "model"
    measure: str = "cost"
    per: str = ""

    def bounds(self, today: date, first_used: date | None, last_used: date | None) -> tuple[date, date]:
        """First and last local day. Everything ends today, or later when another machine is a day ahead."""
        latest = max(today, last_used or today)
        last = self.until or (latest if self.range == "all" else max(today, self.since or today))
        days = RANGES.get(self.range)
        if self.range and days is not None:
            return last - timedelta(days=days - 1), last
        return min(self.since or first_used or last, last), last

    def period(self, first: date, last: date) -> str:
        """What one bar stands for.

        Raises:
            WrongParameterError: when there would be too many of them.
        """
        days = (last - first).days + 1
        period = self.per or ("day" if days <= _DAYS_BY_DAY else "week" if days <= _DAYS_BY_WEEK else "month")
        if days // _SHORTEST[period] > MOST_BARS:
            raise WrongParameterError(
                f"From {first} to {last} there are more than {MOST_BARS:,} {period}s, too many to draw. "
                "Ask for fewer days or for longer periods."
            )
        return period

    def condition(self, first: date, last: date) -> tuple[str, list[Any]]:
        """The selection as an SQL condition with its parameters."""
        parts, parameters = ["day BETWEEN ? AND ?"], [first, last]
        filters, values = self.filter_condition()
        return " AND ".join([*parts, filters]), [*parameters, *values]

    def filter_condition(self) -> tuple[str, list[Any]]:
        """The filters alone, of whatever day."""
        parts: list[str] = []
        parameters: list[Any] = []
        for name, value in self.filters.items():
            parts.append(f"{name} IN ('', ?)" if value == NONE else f"{name} = ?")
            parameters.append(value)
        return " AND ".join(parts) or "true", parameters

    def parameters(self) -> dict[str, str]:
        """The parameters that ask for this selection, in a fixed order, without those that change nothing."""
        given: dict[str, str] = {}
        if self.range and self.range != DEFAULT_RANGE:
            given["range"] = self.range
        if self.since:
            given["from"] = self.since.isoformat()
        if self.until:
            given["to"] = self.until.isoformat()
        given |= {name: self.filters[name] for name in DIMENSIONS if name in self.filters}
        for name, standard in (("by", "model"), ("measure", "cost"), ("per", "")):
            if (value := getattr(self, name)) != standard:
                given[name] = value
        return given

    def query(self, **more: str) -> str:
        """The same as a query string, `?` included; with more parameters when given."""
        return "?" + urlencode(self.parameters() | more)

    def showing(self, **changes: Any) -> Selection:
        """Another selection."""
        return replace(self, **changes)

    def in_range(self, name: str) -> Selection:
        """The same usage of a named range."""
        return replace(self, range=name, since=None, until=None)

    def only(self, dimension: str, value: str) -> Selection:
        """The same, limited to one name."""
        return replace(self, filters={**self.filters, dimension: value or NONE})

    def without(self, dimension: str) -> Selection:
        """The same without a filter."""
        return replace(self, filters={name: value for name, value in self.filters.items() if name != dimension})


def understood(
    parameters: Iterable[tuple[str, str]], *, hide_projects: bool, also: Iterable[str] = ()
) -> tuple[Selection, dict[str, str]]:
    """Understands the parameters of an address.

    Args:
        parameters: names and values as given. An empty value is the same as none: forms send them.
        hide_projects: whether the names of projects are hidden, so that nothing can be limited to one.
        also: names of further parameters, which are returned as they are.

    Raises:
        WrongParameterError: when a name or value is not known, or a name is given twice.
    """
    known = {"range", "from", "to", "by", "measure", "per", *DIMENSIONS, *also}
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in known:
            raise WrongParameterError(
                f"There is no parameter {_quoted(name)}. There are: {', '.join(sorted(known))}."
            )
        if not value:
            continue
        if name in given:
            raise WrongParameterError(f"The parameter {name} is given twice; each can have one value.")
        if len(value) > LONGEST_VALUE:
            raise WrongParameterError(f"The value of {name} is longer than {LONGEST_VALUE:,} characters.")
        given[name] = value
    if hide_projects and "project" in given:
        raise WrongParameterError("The names of projects are hidden here, so usage cannot be limited to one.")
    since, until = _day(given, "from"), _day(given, "to")
    if since and until and since > until:
        raise WrongParameterError(f"The range ends before it begins: from {since} to {until}.")
    named = _one_of(given, "range", tuple(RANGES), DEFAULT_RANGE)
    selection = Selection(
        range="" if since or until else named,
        since=since,
        until=until,
        filters={name: given[name] for name in DIMENSIONS if name in given},
        by=_one_of(given, "by", DIVISIONS, "model"),
        measure=_one_of(given, "measure", MEASURES, "cost"),
        per=_one_of(given, "per", PERIODS, ""),
    )
    return selection, {name: given.get(name, "") for name in also}


def _one_of(given: Mapping[str, str], name: str, known: tuple[str, ...], standard: str) -> str:
    value = given.get(name, standard)
    if value != standard and value not in known:
        raise WrongParameterError(f"{_quoted(value)} is no value of {name}. Known are: {', '.join(known)}.")
    return value


def _day(given: Mapping[str, str], name: str) -> date | None:
    if name not in given:
        return None
    try:
        if not _DAY.fullmatch(given[name]):
            raise ValueError
        day = date.fromisoformat(given[name])
    except ValueError:
        raise WrongParameterError(f"{_quoted(given[name])} is no day; {name} takes one like 2026-11-26.") from None
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise WrongParameterError(
            f"{name} takes days from {_FIRST_DAY} to {_LAST_DAY}, and {day} is not one of them."
        )
    return day


def _quoted(text: str) -> str:
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:60])
    return f"«{shown}»"
