"""What the reports ask of the published database: usage summed by day, week, month, session, project or model."""

from __future__ import annotations

import os
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from kharcha_pipeline import locations

if TYPE_CHECKING:
    import duckdb

SUMS = (
    "events",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_usd",
    "unpriced_events",
)
"""What every report states for every row, in this order. `total_tokens` is the five disjoint kinds; reasoning is part
of output. `cost_usd` is NULL when nothing in the row is priced."""

Row = dict[str, Any]


class Report(StrEnum):
    """By what usage is summed."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    SESSION = "session"
    PROJECT = "project"
    MODEL = "model"


class _Grain(NamedTuple):
    """How one report is made: its key, its order, and what else it tells about a row."""

    key: dict[str, str]
    order: str
    besides: dict[str, str]


_SOURCES = {"sources": "list(DISTINCT source ORDER BY source)"}
_MODELS = {"models": "list(DISTINCT model ORDER BY model)"}
_DEAREST_FIRST = "cost_usd DESC NULLS LAST, total_tokens DESC"
_GRAINS = {
    Report.DAILY: _Grain({"day": "day"}, "day", _SOURCES | _MODELS),
    Report.WEEKLY: _Grain(
        {"week": "strftime(day, '%G-W%V')", "first_day": "date_trunc('week', day)::DATE"}, "week", _SOURCES | _MODELS
    ),
    Report.MONTHLY: _Grain({"month": "strftime(day, '%Y-%m')"}, "month", _SOURCES | _MODELS),
    Report.SESSION: _Grain(
        {"source": "source", "session_id": "session_id"},
        "last_at, source, session_id",
        {
            "project": "arg_max(project, (occurred_at, event_id))",
            "first_at": "min(occurred_at)",
            "last_at": "max(occurred_at)",
            "first_day": "min(day)",
            "last_day": "max(day)",
            **_MODELS,
        },
    ),
    Report.PROJECT: _Grain({"project": "project"}, f"{_DEAREST_FIRST}, project", _SOURCES | _MODELS),
    Report.MODEL: _Grain({"provider": "provider", "model": "model"}, f"{_DEAREST_FIRST}, provider, model", _SOURCES),
}

_TOTAL_TOKENS = "input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens"
_SUMMED = ", ".join(
    "sum(cost_usd) AS cost_usd" if name == "cost_usd" else f"coalesce(sum({name}), 0)::BIGINT AS {name}"
    for name in SUMS
)


class Filters(NamedTuple):
    """Which usage is looked at; everything that is given must hold, and one of each list.

    Attributes:
        since: first local day.
        until: last local day, included.
        sources: names of agents.
        models: names of models, `*` standing for anything.
        projects: directories as logged, their last parts, or patterns with `*`.
    """

    since: date | None = None
    until: date | None = None
    sources: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()

    def condition(self) -> tuple[str, list[Any]]:
        """The filters as an SQL condition with its parameters."""
        parts: list[str] = []
        parameters: list[Any] = []
        for text, value in (("day >= ?", self.since), ("day <= ?", self.until)):
            if value is not None:
                parts.append(text)
                parameters.append(value)
        for text, values in (
            ("source = wanted", self.sources),
            ("model = wanted OR model GLOB wanted", self.models),
            ("project = wanted OR project GLOB wanted OR ends_with(project, '/' || wanted)", self.projects),
        ):
            if values:
                parts.append(f"EXISTS (SELECT 1 FROM (SELECT unnest(?::VARCHAR[]) AS wanted) WHERE {text})")
                parameters.append(list(values))
        return " AND ".join(parts) or "true", parameters


def project_filter(text: str) -> str:
    """A project as given on the command line: `.` and other relative or `~` paths are made absolute."""
    if text == "." or text.startswith(("./", "../", "~")):
        return locations.expanded(text, os.environ)
    return text if text == "/" else text.rstrip("/")


class Usage(NamedTuple):
    """The answer to one report.

    Attributes:
        names: the columns of the rows, in order.
        rows: the rows, in the report's order.
        total: the sums over all rows, under the names of `SUMS`.
        unpriced: the models without a known price among them: `provider`, `model`, `events`; most frequent first.
    """

    names: list[str]
    rows: list[Row]
    total: Row
    unpriced: list[Row]


def reporting_zone(connection: duckdb.DuckDBPyConnection) -> str:
    """The zone whose days the published tables show."""
    rows = connection.execute("SELECT value FROM about WHERE name = 'timezone'").fetchall()
    return str(rows[0][0]) if rows else "UTC"


def usage(connection: duckdb.DuckDBPyConnection, report: Report, filters: Filters) -> Usage:
    """Asks the published database for one report."""
    grain = _GRAINS[report]
    condition, parameters = filters.condition()
    looked_at = (
        f"WITH looked_at AS (SELECT *, {_TOTAL_TOKENS} AS total_tokens FROM {_table(report)} WHERE {condition})"
    )

    def ask(select: str) -> tuple[list[str], list[Row]]:
        connection.execute(f"{looked_at} {select}", parameters)
        names = [column[0] for column in connection.description or ()]
        return names, [dict(zip(names, row, strict=True)) for row in connection.fetchall()]

    columns = ", ".join(f"{sql} AS {name}" for name, sql in (grain.key | grain.besides).items())
    keys = ", ".join(str(number) for number in range(1, len(grain.key) + 1))
    names, rows = ask(f"SELECT {columns}, {_SUMMED} FROM looked_at GROUP BY {keys} ORDER BY {grain.order}")
    _, (total,) = ask(f"SELECT {_SUMMED} FROM looked_at")
    _, unpriced = ask(
        "SELECT provider, model, sum(unpriced_events)::BIGINT AS events FROM looked_at WHERE unpriced_events > 0 "
        "GROUP BY provider, model ORDER BY events DESC, provider, model"
    )
    return Usage(names, rows, total, unpriced)


def known_sources(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The agents that can be read, and those whose usage is in the tables.

    Usage of vendor accounts stands under the vendors' products.
    """
    from kharcha_pipeline.sources.accounts import accounts
    from kharcha_pipeline.sources.registry import SOURCES

    used = {row[0] for row in connection.execute("SELECT DISTINCT source FROM daily_usage").fetchall()}
    return sorted(used.union(source.name for source in SOURCES if source is not accounts))


def _table(report: Report) -> str:
    """Sessions are made from the events themselves, which know their instants; all else from the daily rollup."""
    if report is Report.SESSION:
        return (
            "(SELECT *, responses AS events, CASE WHEN cost_usd IS NULL THEN responses ELSE 0 END AS unpriced_events "
            "FROM priced_events)"
        )
    return "daily_usage"
