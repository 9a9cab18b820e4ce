"""The usage page as HTML: what is drawn, in which words. Asks nothing of the database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kharcha_pipeline.page import phrases
from kharcha_pipeline.page.figures import WEEKS_OF_CALENDAR, Figures, Hour, Named, Sums, Window, summed
from kharcha_pipeline.page.phrases import NONE
from kharcha_pipeline.page.selection import DIMENSIONS, DIVISIONS, MEASURES, PERIODS, RANGES, Selection

SERIES = 6
"""How many names get a colour of their own; the others are one."""
ROWS_OF_LIST = 10
LEVELS = 4
"""Shades of a map, beside the one for nothing."""
CELL = 14
HOUR_WIDTH, HOUR_HEIGHT = 28, 17
"""Distances of the cells of the maps of the year and of the week, in units of their drawings."""

_RANGE_NAMES = {"7d": "7 days", "30d": "30 days", "90d": "90 days", "year": "Year", "all": "All"}
_LIST_TITLES = {
    "model": "Models",
    "project": "Projects",
    "source": "Agents",
    "provider": "Providers",
    "machine": "Machines",
    "account": "Accounts",
}
_ALWAYS_LISTED = ("model", "project")
"""The others are listed when there is more than one name."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Value(NamedTuple):
    """A number as it is shown.

    Attributes:
        text: rounded for people.
        title: every digit, and what must be known about it.
        partial: whether it leaves out responses without a known price.
        known: whether there is a number at all.
    """

    text: str
    title: str
    partial: bool = False
    known: bool = True


class Choice(NamedTuple):
    """One of several views: its words, where it is, and whether it is this one."""

    label: str
    query: str
    current: bool


class Cell(NamedTuple):
    """A cell of a map: its place in the drawing, its shade (`u`: unknown), and what it says."""

    x: int
    y: int
    level: str
    title: str


class Mark(NamedTuple):
    """A word at the edge of a map."""

    x: int
    y: int
    text: str


class Map(NamedTuple):
    """A drawing made of cells.

    Attributes:
        width: of the drawing.
        height: of the drawing.
        cells: all of them.
        marks: what stands at its edges.
        summary: what it shows, in a sentence.
    """

    width: int
    height: int
    cells: list[Cell]
    marks: list[Mark]
    summary: str


class Bucket(NamedTuple):
    """The days of one bar."""

    label: str
    first: date
    last: date
    series: list[Value]
    total: Value
    sums: Sums


class Bars(NamedTuple):
    """The picture of the days.

    Attributes:
        names: of the series, the largest first.
        sums: of the series.
        buckets: all bars, from the first day of the range to its last.
        data: for the script that draws it, as JSON.
        period: what a bar stands for.
        summary: what it shows, in a sentence.
    """

    names: list[str]
    sums: list[Value]
    buckets: list[Bucket]
    data: str
    period: str
    summary: str


class Line(NamedTuple):
    """A row of a list."""

    name: str
    detail: str
    query: str | None
    value: Value
    width: str
    share: str
    tokens: Value
    events: int
    hits: str


class Listing(NamedTuple):
    """A list of names with their usage.

    Attributes:
        dimension: of what.
        title: its heading.
        lines: the first of them.
        more: how many are not shown.
        rest: what these add up to.
    """

    dimension: str
    title: str
    lines: list[Line]
    more: int
    rest: Value


def message(title: str, sentence: str, *, static: Callable[[str], str], command: str = "") -> str:
    """A page that says one thing: that there is no data yet, or what is wrong with an address."""
    return _templates.get_template("message.html").render(
        title=title, sentence=sentence, command=command, static=static
    )


def usage_page(figures: Figures, *, static: Callable[[str], str]) -> str:
    """The usage page.

    Args:
        figures: what it shows.
        static: gives the address of a file that comes with the page.
    """
    selection = figures.selection
    return _templates.get_template("usage.html").render(
        figures=figures,
        selection=selection,
        static=static,
        phrases=phrases,
        title=_title(selection),
        cost=lambda sums: shown(sums, "cost"),
        tokens=lambda sums: shown(sums, "tokens"),
        value=lambda sums: shown(sums, selection.measure),
        comparison=_comparison(figures.months.this, figures.months.before),
        ranges=[
            Choice(_RANGE_NAMES[name], selection.in_range(name).query(), selection.range == name) for name in RANGES
        ],
        measures=[
            Choice(name.capitalize(), selection.showing(measure=name).query(), selection.measure == name)
            for name in MEASURES
        ],
        divisions=[
            Choice(DIMENSIONS[name], selection.showing(by=name).query(), selection.by == name) for name in DIVISIONS
        ],
        periods=[
            Choice(
                name.capitalize(),
                selection.showing(per=name).query(),
                selection.period(figures.first, figures.last) == name,
            )
            for name in PERIODS
        ],
        chips=[
            (DIMENSIONS[name], selection.filters[name], selection.without(name).query())
            for name in DIMENSIONS
            if name in selection.filters
        ],
        fields=_fields(figures),
        kept={
            name: value for name, value in selection.parameters().items() if name in ("range", "by", "measure", "per")
        },
        cleared=Selection().query(),
        per_active_day=_per_active_day(figures),
        bars=_bars(figures),
        calendar=_calendar(figures),
        calendar_rows=[(phrases.day(day), sums) for day, sums in reversed(list(figures.calendar.items()))],
        hours=_hours(figures),
        hour_rows=_hour_rows(figures),
        lists=[
            _listing(figures, name, rows)
            for name in _LIST_TITLES
            if len(rows := figures.lists[name]) > 1 or (rows and name in _ALWAYS_LISTED)
        ],
        dimensions=DIMENSIONS,
    )


def shown(sums: Sums, measure: str) -> Value:
    """A sum of cost or tokens as it is shown; what is unknown or not there is said in words."""
    if not sums.events:
        return Value("–", "no usage", known=False)
    if measure == "tokens":
        return Value(phrases.tokens(sums.total_tokens), phrases.counted(sums.total_tokens, "token"))
    without = phrases.counted(sums.unpriced_events, "response")
    if sums.cost_usd is None:
        return Value(phrases.UNKNOWN, f"{without}, none with a known price", known=False)
    title = phrases.exact_dollars(sums.cost_usd)
    if sums.unpriced_events:
        title += f", without {without} whose price is not known"
    return Value(phrases.dollars(sums.cost_usd), title, partial=bool(sums.unpriced_events))


def _title(selection: Selection) -> str:
    names = [value for name in DIMENSIONS if (value := selection.filters.get(name))]
    return " · ".join([*names, "Usage and cost"])


def _comparison(this: Window, before: Window) -> dict[str, str]:
    """How this month compares with the last one up to the same day: a direction and a sentence."""
    days = phrases.days(before.first, before.last)
    if not before.sums.events:
        return {"direction": "none", "change": "", "sentence": f"No usage in {days}"}
    if before.sums.cost_usd is None:
        return {"direction": "none", "change": "", "sentence": f"The cost of {days} is unknown"}
    then = phrases.dollars(before.sums.cost_usd)
    now = Decimal(0) if not this.sums.events else this.sums.cost_usd
    if now is None or not before.sums.cost_usd:
        return {"direction": "none", "change": "", "sentence": f"{then} in {days}"}
    change = (now - before.sums.cost_usd) / before.sums.cost_usd
    if not change:
        return {"direction": "same", "change": "the same", "sentence": f"as {then} in {days}"}
    direction, word = ("up", "more") if change > 0 else ("down", "less")
    times = abs(change) >= 10
    amount = f"{(change + 1).quantize(Decimal(1)):,} ×" if times else phrases.percent(abs(change))
    return {
        "direction": direction,
        "change": amount if times else f"{amount} {word}",
        "sentence": f"{'' if times else 'than '}{then} in {days}",
    }


def _per_active_day(figures: Figures) -> str:
    active = sum(1 for sums in figures.days.values() if sums.events)
    days = (figures.last - figures.first).days + 1
    used = f"{active:,} of {phrases.counted(days, 'day')} used"
    if figures.totals.cost_usd is None or not active:
        return used
    return f"{phrases.dollars(figures.totals.cost_usd / active)} per day of use; {used}"


def _fields(figures: Figures) -> list[dict[str, Any]]:
    """The filters as form fields."""
    fields = []
    for name, title in DIMENSIONS.items():
        if name not in figures.choices:
            continue
        chosen = figures.selection.filters.get(name, "")
        options = {choice or NONE for choice in figures.choices[name]} | ({chosen} if chosen else set())
        hidden = figures.hidden_choices[name]
        fields.append({"name": name, "title": title, "chosen": chosen, "options": sorted(options), "hidden": hidden})
    return fields


def _bars(figures: Figures) -> Bars:
    selection = figures.selection
    period = selection.period(figures.first, figures.last)
    by_name = summed((slice_.name, slice_.sums) for slice_ in figures.slices)
    ranked = sorted(by_name, key=lambda name: (_size(by_name[name].measured(selection.measure)), name), reverse=True)
    own = ranked[:SERIES] if len(ranked) > SERIES + 1 else ranked
    place = {name: number for number, name in enumerate(own)}
    names = [name or NONE for name in own]
    if len(own) < len(ranked):
        names.append(f"{len(ranked) - len(own)} others")
    cells = summed(
        ((_start(slice_.day, period), place.get(slice_.name, len(own))), slice_.sums) for slice_ in figures.slices
    )
    buckets = []
    for first, last in _buckets(figures.first, figures.last, period):
        start = _start(first, period)
        parts = [cells.get((start, number), Sums()) for number in range(len(names))]
        total = sum(parts, Sums())
        buckets.append(
            Bucket(
                _bucket_label(first, last, period),
                first,
                last,
                [shown(sums, selection.measure) for sums in parts],
                shown(total, selection.measure),
                total,
            )
        )
    sums = [
        shown(
            sum((by_name[name] for name in ranked if place.get(name, len(own)) == number), Sums()), selection.measure
        )
        for number in range(len(names))
    ]
    starts = [_start(bucket.first, period) for bucket in buckets]
    drawn = {
        "measure": selection.measure,
        "labels": [bucket.label for bucket in buckets],
        "totals": [bucket.total.text for bucket in buckets],
        "unpriced": [
            phrases.counted(bucket.sums.unpriced_events, "response") if bucket.sums.unpriced_events else ""
            for bucket in buckets
        ],
        "series": [
            {
                "name": name,
                "values": [
                    _drawn(cells.get((start, number), Sums()).measured(selection.measure)) for start in starts
                ],
                "texts": [bucket.series[number].text for bucket in buckets],
            }
            for number, name in enumerate(names)
        ],
    }
    return Bars(names, sums, buckets, _data(drawn), period, _bars_summary(figures, buckets, period))


def _bars_summary(figures: Figures, buckets: Sequence[Bucket], period: str) -> str:
    measure = figures.selection.measure
    what = f"{measure.capitalize()} per {period} by {DIMENSIONS[figures.selection.by].lower()}"
    span = phrases.days(figures.first, figures.last)
    largest = max(buckets, key=lambda bucket: _size(bucket.sums.measured(measure)), default=None)
    if largest is None or not largest.sums.events:
        return f"{what}, {span}: no usage."
    return f"{what}, {span}. The most: {largest.label}, {largest.total.text}."


def _start(day: date, period: str) -> date:
    """The first day of the calendar's week or month that a day is in; the day itself for days."""
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def _buckets(first: date, last: date, period: str) -> Iterable[tuple[date, date]]:
    """The days of every bar; the first and the last week or month are cut where the range is."""
    day = first
    while day <= last:
        if period == "month":
            end = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        else:
            end = day + timedelta(days=6 - day.weekday()) if period == "week" else day
        yield day, min(end, last)
        day = end + timedelta(days=1)


def _bucket_label(first: date, last: date, period: str) -> str:
    if period == "day":
        return phrases.day(first)
    whole = period == "month" and first.day == 1 and (last + timedelta(days=1)).day == 1
    return phrases.month(first) if whole else phrases.days(first, last)


def _calendar(figures: Figures) -> Map:
    measure = figures.selection.measure
    left, top = 32, 20
    level = _levels([sums.measured(measure) for sums in figures.calendar.values()])
    cells, marks = [], []
    day, column = figures.calendar_first, 0
    marked = -4
    while day <= figures.calendar_last:
        row = day.weekday()
        sums = figures.calendar.get(day, Sums())
        text = shown(sums, measure)
        said = text.title if measure == "tokens" or not text.known else text.text
        cells.append(
            Cell(left + column * CELL, top + row * CELL, level(sums.measured(measure), sums.events),
                 f"{phrases.day(day)}: {said}")
        )  # fmt: skip
        is_first_week = day.day <= 7 and row == 0
        if is_first_week and column - marked >= 3 and column < WEEKS_OF_CALENDAR - 1:  # the last has no room for it
            marks.append(Mark(left + column * CELL, top - 7, phrases.month_name(day)))
            marked = column
        if row == 6:
            column += 1
        day += timedelta(days=1)
    marks += [Mark(0, top + row * CELL + 9, phrases.WEEKDAYS[row]) for row in (0, 2, 4)]
    span = phrases.days(figures.calendar_first, figures.calendar_last)
    summary = f"{measure.capitalize()} of each day, {span}: "
    if figures.calendar:
        most = max(figures.calendar, key=lambda day: _size(figures.calendar[day].measured(measure)))
        summary += (
            f"{phrases.counted(len(figures.calendar), 'day')} with usage, the most on {phrases.day(most)}, "
            f"{shown(figures.calendar[most], measure).text}."
        )
    else:
        summary += "no usage."
    weeks = (figures.calendar_last - figures.calendar_first).days // 7 + 1
    return Map(left + weeks * CELL, top + 7 * CELL, cells, marks, summary)


def _hours(figures: Figures) -> Map:
    measure = figures.selection.measure
    left, top, wide = 32, 18, HOUR_WIDTH
    by_place = {(hour.weekday, hour.hour): hour for hour in figures.hours}
    level = _levels([hour.measured(measure) for hour in figures.hours])
    cells = []
    for weekday in range(1, 8):
        for number in range(24):
            hour = by_place.get((weekday, number))
            shade = level(hour.measured(measure), hour.events) if hour else "0"
            cells.append(
                Cell(left + number * wide, top + (weekday - 1) * HOUR_HEIGHT, shade,
                     f"{phrases.WEEKDAYS[weekday - 1]} {number:02}–{number + 1:02} h: {_hour_text(hour, measure)}")
            )  # fmt: skip
    marks = [Mark(left + number * wide, top - 7, f"{number:02}") for number in range(0, 24, 3)]
    marks += [Mark(0, top + row * HOUR_HEIGHT + 11, name) for row, name in enumerate(phrases.WEEKDAYS)]
    summary = f"{measure.capitalize()} by hour of the week: "
    if figures.hours:
        most = max(figures.hours, key=lambda hour: _size(hour.measured(measure)))
        summary += (
            f"the most on {phrases.WEEKDAYS[most.weekday - 1]} from {most.hour:02} to {most.hour + 1:02} h, "
            f"{_hour_text(most, measure)}."
        )
    else:
        summary += "no usage that knows its hour."
    return Map(left + 24 * wide, top + 7 * HOUR_HEIGHT, cells, marks, summary)


def _hour_text(hour: Hour | None, measure: str) -> str:
    if hour is None:
        return "no usage"
    responses = phrases.counted(hour.events, "response")
    if measure == "tokens":
        return f"{phrases.tokens(hour.tokens)} tokens, {responses}"
    if hour.cost_usd is None:
        return f"cost unknown, {responses}"
    return f"{phrases.dollars(hour.cost_usd)}, {responses}"


def _hour_rows(figures: Figures) -> list[tuple[str, list[Value]]]:
    measure = figures.selection.measure
    by_place = {(hour.weekday, hour.hour): hour for hour in figures.hours}
    rows = []
    for number in range(24):
        cells = []
        for weekday in range(1, 8):
            hour = by_place.get((weekday, number))
            if hour is None:
                cells.append(Value("–", "no usage", known=False))
            elif measure == "tokens":
                cells.append(Value(phrases.tokens(hour.tokens), phrases.counted(hour.tokens, "token")))
            else:
                cells.append(
                    Value(
                        phrases.dollars(hour.cost_usd),
                        phrases.exact_dollars(hour.cost_usd),
                        partial=bool(hour.unpriced_events) and hour.cost_usd is not None,
                        known=hour.cost_usd is not None,
                    )
                )
        rows.append((f"{number:02}–{number + 1:02}", cells))
    return rows


def _listing(figures: Figures, dimension: str, rows: Sequence[Named]) -> Listing:
    """The first names of a list, in the order of what is measured."""
    selection = figures.selection
    measure = selection.measure
    ranked = sorted(rows, key=lambda row: _size(row.sums.measured(measure)), reverse=True)
    # one more than there is room for would be a row «1 more», which takes the same room
    top = ranked if len(ranked) == ROWS_OF_LIST + 1 else ranked[:ROWS_OF_LIST]
    whole = figures.totals.measured(measure)
    linked = not (dimension == "project" and figures.hide_projects)
    lines = []
    for row in top:
        size = row.sums.measured(measure)
        share = Decimal(size) / whole if size is not None and whole else None
        name, detail = _split(row.name) if dimension == "project" and linked else (row.name, row.provider)
        lines.append(
            Line(
                name or NONE,
                detail,
                selection.only(dimension, row.name).query() if linked else None,
                shown(row.sums, measure),
                f"{(share or Decimal(0)) * 100:.2f}",
                phrases.percent(share) if share is not None else "",
                shown(row.sums, "tokens"),
                row.sums.events,
                phrases.percent(row.sums.cache_hit_rate) if row.sums.cache_hit_rate is not None else "–",
            )
        )
    rest = sum((row.sums for row in ranked[len(top) :]), Sums())
    return Listing(dimension, _LIST_TITLES[dimension], lines, len(ranked) - len(top), shown(rest, measure))


def _split(path: str) -> tuple[str, str]:
    """The last part of a directory, and where it is."""
    above, slash, name = path.rstrip("/").rpartition("/")
    return (name, above + slash) if name else (path, "")


def _levels(values: Iterable[Decimal | int | None]) -> Callable[[Decimal | int | None, int], str]:
    """Gives each value its shade: a quarter of the days with usage has each. Unknown is none of them."""
    known = sorted(value for value in values if value)
    limits = [known[(len(known) * number) // LEVELS] for number in range(1, LEVELS)] if known else []

    def level(value: Decimal | int | None, events: int) -> str:
        if value is None and events:
            return "u"
        return str(1 + sum(value >= limit for limit in limits)) if value else "0"

    return level


def _size(value: Decimal | int | None) -> Decimal:
    """For ordering: what is unknown comes after everything else."""
    return Decimal(-1) if value is None else Decimal(value)


def _drawn(value: Decimal | int | None) -> str | None:
    """A number for the script, which turns it into the height of a bar and shows nothing of it."""
    return None if value is None else str(value)


def _data(value: Mapping[str, Any]) -> str:
    """JSON that can stand inside a `script` element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
