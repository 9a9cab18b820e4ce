"""The page's numbers as JSON: money as decimal strings with every digit, unknown as null."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from kharcha_pipeline.page.figures import Figures, Named, Sums, Window
from kharcha_pipeline.page.selection import DIMENSIONS
from kharcha_pipeline.page.tables import SUMS, sums_of

SCHEMA_VERSION = 1
"""Raised when a name or a meaning changes, not when something is added."""


def json_of(figures: Figures) -> str:
    """Everything the page shows, as one JSON object."""
    selection = figures.selection
    answer = {
        "schema_version": SCHEMA_VERSION,
        "timezone": figures.zone,
        "today": figures.today,
        "published_at": figures.published_at,
        "changes": figures.changes,
        "last_sync_at": figures.last_sync,
        "last_day_with_usage": figures.latest_day,
        "projects_hidden": figures.hide_projects,
        "range": {"name": selection.range or None, "from": figures.first, "to": figures.last},
        "filters": {name: selection.filters.get(name) for name in DIMENSIONS},
        "totals": {**_sums(figures.totals), "sessions": figures.sessions},
        "months": {name: _window(window) for name, window in figures.months._asdict().items()},
        "days": [{"day": day, **_sums(sums)} for day, sums in figures.days.items()],
        "days_by": {
            "dimension": selection.by,
            "rows": [{"day": row.day, selection.by: row.name, **_sums(row.sums)} for row in figures.slices],
        },
        "calendar": [{"day": day, **_sums(sums)} for day, sums in figures.calendar.items()],
        "models": _named(figures.lists["model"], "model"),
        "projects": _named(figures.lists["project"], "project"),
        "sources": _named(figures.lists["source"], "source"),
        "providers": _named(figures.lists["provider"], "provider"),
        "machines": _named(figures.lists["machine"], "machine"),
        "accounts": _named(figures.lists["account"], "account"),
        "hours": [
            {
                "weekday": hour.weekday,
                "hour": hour.hour,
                "events": hour.events,
                "total_tokens": hour.tokens,
                "cost_usd": hour.cost_usd,
                "unpriced_events": hour.unpriced_events,
            }
            for hour in figures.hours
        ],
        "unpriced_models": _named(figures.unpriced, "model"),
    }
    return json.dumps(answer, ensure_ascii=False, default=_plain)


def _sums(sums: Sums) -> dict[str, Any]:
    return dict(zip(SUMS, sums_of(sums), strict=True))


def _window(window: Window) -> dict[str, Any]:
    return {"from": window.first, "to": window.last, **_sums(window.sums)}


def _named(rows: Iterable[Named], dimension: str) -> list[dict[str, Any]]:
    return [
        {dimension: row.name, **({"provider": row.provider} if dimension == "model" else {}), **_sums(row.sums)}
        for row in rows
    ]


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form here.")
