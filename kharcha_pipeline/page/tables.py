"""Each table of the page as CSV: every digit, unknown costs empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from kharcha_pipeline.page.figures import Figures, Named, Sums

SUMS = (
    "events",
    "failed_events",
    "aborted_events",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cache_hit_rate",
    "cost_usd",
    "unpriced_events",
)
"""The columns of sums, in CSV as in JSON. `total_tokens` is the five disjoint kinds; reasoning is part of output."""

Rows = Iterable[Sequence[Any]]


def csv_of(figures: Figures, table: str) -> str:
    """One of `TABLES` with a heading."""
    names, rows = TABLES[table](figures)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def sums_of(sums: Sums) -> list[Any]:
    """The values of `SUMS`."""
    return [getattr(sums, name) for name in SUMS]


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _days(figures: Figures) -> tuple[list[str], Rows]:
    by = figures.selection.by
    return ["day", by, *SUMS], ([row.day, row.name, *sums_of(row.sums)] for row in figures.slices)


def _calendar(figures: Figures) -> tuple[list[str], Rows]:
    return ["day", *SUMS], ([day, *sums_of(sums)] for day, sums in figures.calendar.items())


def _months(figures: Figures) -> tuple[list[str], Rows]:
    months = figures.months._asdict().items()
    return ["month", "from", "to", *SUMS], (
        [name, window.first, window.last, *sums_of(window.sums)] for name, window in months
    )


def _hours(figures: Figures) -> tuple[list[str], Rows]:
    names = ["weekday", "hour", "events", "total_tokens", "cost_usd", "unpriced_events"]
    return names, figures.hours


def _list(dimension: str) -> Callable[[Figures], tuple[list[str], Rows]]:
    def table(figures: Figures) -> tuple[list[str], Rows]:
        return _named(dimension, figures.lists[dimension])

    return table


def _unpriced(figures: Figures) -> tuple[list[str], Rows]:
    return _named("model", figures.unpriced)


def _named(dimension: str, rows: Iterable[Named]) -> tuple[list[str], Rows]:
    if dimension == "model":
        return ["model", "provider", *SUMS], ([row.name, row.provider, *sums_of(row.sums)] for row in rows)
    return [dimension, *SUMS], ([row.name, *sums_of(row.sums)] for row in rows)


TABLES: dict[str, Callable[[Figures], tuple[list[str], Rows]]] = {
    "days": _days,
    "calendar": _calendar,
    "months": _months,
    "models": _list("model"),
    "projects": _list("project"),
    "sources": _list("source"),
    "providers": _list("provider"),
    "machines": _list("machine"),
    "accounts": _list("account"),
    "hours": _hours,
    "unpriced": _unpriced,
}
"""Names and contents of the tables."""
