"""Options that several commands share, and how they are understood."""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import click

from kharcha_pipeline import locations


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


format_option = click.option(
    "--format",
    "-f",
    type=click.Choice([format.value for format in Format]),
    default=Format.TABLE.value,
    callback=lambda context, parameter, value: Format(value),
    show_default=True,
    help="table for people; json and csv hold every digit.",
)
json_option = click.option("--json", is_flag=True, help="Print one JSON object.")
source_option = click.option(
    "--source", "-s", metavar="AGENT", multiple=True, help="Only this agent, e.g. claude-code. May be repeated."
)
DAY_FORMS = "YYYY-MM-DD, today, yesterday, or 7d for seven days ago"


def published_path() -> Path:
    """The published database. Reports need no other setting than the data directory."""
    return data_directory() / "kharcha.duckdb"


def data_directory() -> Path:
    """Where everything is written."""
    return Path(locations.data_directory(os.environ))


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
    from zoneinfo import ZoneInfo

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
        raise click.BadParameter(f"{text!r} is not a day; write {forms}.", param_hint=option) from None
