"""Options that several commands share, and how they are understood."""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from kharcha_pipeline import locations


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="table for people; json and csv hold every digit.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SourceOption = Annotated[
    list[str] | None,
    typer.Option("--source", "-s", metavar="AGENT", help="Only this agent, e.g. claude-code. May be repeated."),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="Only this model; * stands for anything: 'claude-*'. May be repeated."
    ),
]
DAY_FORMS = "YYYY-MM-DD, today, yesterday, or 7d for seven days ago"


def published_path() -> Path:
    """The published database. Reports need no other setting than the data directory."""
    return Path(locations.data_directory(os.environ)) / "kharcha.duckdb"


def home() -> str:
    """The home directory, shown as `~`."""
    return locations.home(os.environ)


def understood_day(text: str | None, zone: str, option: str) -> date | None:
    """A day given on the command line.

    Args:
        text: as given; `None` for none.
        zone: the reporting zone, which says what `today` is.
        option: its name, for the message.

    Raises:
        BadParameter: when it is not a day.
    """
    if text is None:
        return None
    today = datetime.now(ZoneInfo(zone)).date()
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    if text.endswith("d") and text[:-1].isdecimal() and len(text) <= 6:
        return today - timedelta(days=int(text[:-1]))
    return calendar_day(text, option, DAY_FORMS)


def calendar_day(text: str, option: str, forms: str = "YYYY-MM-DD") -> date:
    """A day of the calendar given on the command line.

    Raises:
        BadParameter: when it is not a day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; write {forms}.", param_hint=option) from None
