"""The numbers of the usage page, asked of the published database. Costs stay decimals and unknown stays `None`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from kharcha_pipeline.page.database import Snapshot
from kharcha_pipeline.page.selection import DIMENSIONS, Selection

Key = TypeVar("Key")

WEEKS_OF_CALENDAR = 53
MOST_CHOICES = 200
"""How many names a filter offers: those with the most usage."""

_COUNTS = (
    "events",
    "unpriced_events",
    "failed_events",
    "aborted_events",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
_SUMS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in _COUNTS) + ", sum(cost_usd) AS cost_usd"
_TOTAL_TOKENS = (
    "sum(input_tokens) + sum(output_tokens) + sum(cache_read_tokens) + sum(cache_write_5m_tokens) "
    "+ sum(cache_write_1h_tokens)"
)
"""Summed one by one: the sum of five BIGINT columns of one row may not fit into one."""

_OF_SESSIONS = frozenset({"source", "provider", "model"})
"""What `session_usage` can be limited to."""

_QUARTER_HOUR = 900_000_000
"""Microseconds. Every zone's clock differs from UTC by whole quarters of an hour (since 1972), so instants can be put
together by quarter before they are turned into a clock's hours, which is what takes time."""

_HOURS = f"""
    SELECT isodow(local) AS weekday, hour(local) AS hour, sum(events) AS events, sum(tokens) AS tokens,
        sum(cost_usd) AS cost_usd, sum(unpriced_events) AS unpriced_events
    FROM (
        SELECT timezone(?, make_timestamptz(quarter * {_QUARTER_HOUR})) AS local, *
        FROM (
            SELECT epoch_us(occurred_at) // {_QUARTER_HOUR} AS quarter, count(*) AS events,
                coalesce({_TOTAL_TOKENS}, 0) AS tokens, sum(cost_usd) AS cost_usd,
                count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_events
            FROM priced_events WHERE evidence <> 'aggregate' AND {{condition}} GROUP BY quarter
        )
    )
    GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True)
class Sums:
    """What some usage adds up to.

    Attributes:
        events: billed responses.
        unpriced_events: those without a known price; their cost is not in `cost_usd`.
        failed_events: those whose status is error.
        aborted_events: those whose status is aborted.
        input_tokens: prompt tokens that were neither read from nor written to a cache.
        output_tokens: completion tokens, reasoning included.
        cache_read_tokens: prompt tokens read from a cache.
        cache_write_5m_tokens: prompt tokens written to a cache for five minutes, or for an unknown time.
        cache_write_1h_tokens: prompt tokens written to a cache for an hour.
        reasoning_tokens: a part of `output_tokens`.
        cost_usd: `None` when nothing has a known price.
    """

    events: int = 0
    unpriced_events: int = 0
    failed_events: int = 0
    aborted_events: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: Decimal | None = None

    def __add__(self, other: Sums) -> Sums:
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return Sums(**counts, cost_usd=added(self.cost_usd, other.cost_usd))

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, however they were billed."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        """All five disjoint kinds."""
        return self.prompt_tokens + self.output_tokens

    @property
    def cache_hit_rate(self) -> Decimal | None:
        """The part of the prompts that was read from a cache; `None` without prompts."""
        return part(self.cache_read_tokens, self.prompt_tokens)

    @property
    def unpriced_share(self) -> Decimal | None:
        """The part of the responses that has no known price; `None` without responses."""
        return part(self.unpriced_events, self.events)

    def measured(self, measure: str) -> Decimal | int | None:
        """What a picture of cost or of tokens shows."""
        return self.cost_usd if measure == "cost" else self.total_tokens


class Named(NamedTuple):
    """One row of a list: of models with their provider, else of names."""

    name: str
    provider: str
    sums: Sums


class Slice(NamedTuple):
    """The usage of one day and one name of what the days are divided by."""

    day: date
    name: str
    sums: Sums


class Hour(NamedTuple):
    """An hour of the week by the clock of the reporting zone; Monday is 1."""

    weekday: int
    hour: int
    events: int
    tokens: int
    cost_usd: Decimal | None
    unpriced_events: int

    def measured(self, measure: str) -> Decimal | int | None:
        """What a picture of cost or of tokens shows."""
        return self.cost_usd if measure == "cost" else self.tokens


class Window(NamedTuple):
    """Some days, both ends included, and what they add up to."""

    first: date
    last: date
    sums: Sums


class Months(NamedTuple):
    """This month up to today, the last one up to the same day (whole when it is shorter), and the last one whole."""

    this: Window
    before: Window
    before_whole: Window


@dataclass(frozen=True)
class Figures:
    """Everything a page shows.

    Attributes:
        selection: what was asked for.
        zone: the reporting zone.
        today: there.
        published_at: when the copy was published, as `about` has it.
        changes: which state of the warehouse it shows.
        last_sync: when the last sync that read anything ended.
        latest_day: the last day with usage, of all usage.
        first: first day of the range.
        last: last day of the range.
        totals: of the range.
        sessions: different sessions in the range; `None` where there is usage and none of its sessions is known.
        months: what is compared, with the same filters.
        slices: the days of the range, divided.
        lists: by dimension, the names in the range; dearest first.
        calendar_first: a Monday.
        calendar_last: the last day of the range.
        calendar: days with usage between these, with the same filters.
        hours: hours of the week with usage.
        choices: by dimension, what can be limited to.
        hidden_choices: by dimension, how many names there are beyond these.
        hide_projects: whether projects have neutral labels.
    """

    selection: Selection
    zone: str
    today: date
    published_at: datetime
    changes: int
    last_sync: datetime | None
    latest_day: date | None
    first: date
    last: date
    totals: Sums
    sessions: int | None
    months: Months
    slices: Sequence[Slice]
    lists: Mapping[str, Sequence[Named]]
    calendar_first: date
    calendar_last: date
    calendar: Mapping[date, Sums]
    hours: Sequence[Hour]
    choices: Mapping[str, Sequence[str]]
    hidden_choices: Mapping[str, int]
    hide_projects: bool = False
    days: Mapping[date, Sums] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "days", summed((slice_.day, slice_.sums) for slice_ in self.slices))

    @property
    def unpriced(self) -> list[Named]:
        """Models with responses without a known price, most of these first."""
        found = [model for model in self.lists["model"] if model.sums.unpriced_events]
        return sorted(found, key=lambda model: (-model.sums.unpriced_events, model.provider, model.name))


def figures(snapshot: Snapshot, selection: Selection, today: date, *, hide_projects: bool = False) -> Figures:
    """Asks the published database for everything a page shows.

    Raises:
        UnreadableError: when it cannot answer.
    """
    ((first_used, latest_day),) = snapshot.rows("SELECT min(day), max(day) FROM daily_usage")
    first, last = selection.bounds(today, first_used, latest_day)
    condition, parameters = selection.condition(first, last)
    shown = _shown_names(snapshot, hide_projects)
    calendar_first = last - timedelta(days=last.weekday() + 7 * (WEEKS_OF_CALENDAR - 1))
    choices = {name: _choices(snapshot, name) for name in DIMENSIONS if not (hide_projects and name == "project")}
    return Figures(
        selection=selection,
        zone=snapshot.zone,
        today=today,
        published_at=datetime.fromisoformat(snapshot.about["published_at"]),
        changes=int(snapshot.about["changes"]),
        last_sync=snapshot.rows("SELECT max(finished_at) FROM sync_runs")[0][0],
        latest_day=latest_day,
        first=first,
        last=last,
        totals=_sums(snapshot, condition, parameters),
        sessions=_sessions(snapshot, selection, condition, parameters),
        months=_months(snapshot, selection, today),
        slices=[
            Slice(day, shown(selection.by, name), Sums(*sums))
            for day, name, *sums in snapshot.rows(
                f"SELECT day, {selection.by}, {_SUMS} FROM daily_usage WHERE {condition} GROUP BY ALL ORDER BY 1, 2",
                parameters,
            )
        ],
        lists={name: _list(snapshot, name, condition, parameters, shown) for name in DIMENSIONS},
        calendar_first=calendar_first,
        calendar_last=last,
        calendar=_by_day(snapshot, *selection.condition(calendar_first, last)),
        hours=[Hour(*row) for row in snapshot.rows(_HOURS.format(condition=condition), [snapshot.zone, *parameters])],
        choices={name: found[:MOST_CHOICES] for name, found in choices.items()},
        hidden_choices={name: max(0, len(found) - MOST_CHOICES) for name, found in choices.items()},
        hide_projects=hide_projects,
    )


def added(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """The sum of what is known."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def part(of: int, whole: int) -> Decimal | None:
    """A share of one; `None` of nothing."""
    return Decimal(of) / whole if whole else None


def summed(rows: Iterable[tuple[Key, Sums]]) -> dict[Key, Sums]:
    """The sums by key, in the order in which keys appear."""
    found: dict[Key, Sums] = {}
    for key, sums in rows:
        found[key] = found[key] + sums if key in found else sums
    return found


def _shown_names(snapshot: Snapshot, hide_projects: bool) -> Callable[[str, str], str]:
    if not hide_projects:
        return lambda dimension, name: name
    labels = snapshot.project_labels
    return lambda dimension, name: labels.get(name, "Project") if dimension == "project" else name


def _sums(snapshot: Snapshot, condition: str, parameters: list[Any]) -> Sums:
    return Sums(*snapshot.rows(f"SELECT {_SUMS} FROM daily_usage WHERE {condition}", parameters)[0])


def _by_day(snapshot: Snapshot, condition: str, parameters: list[Any]) -> dict[date, Sums]:
    rows = snapshot.rows(
        f"SELECT day, {_SUMS} FROM daily_usage WHERE {condition} GROUP BY day ORDER BY day", parameters
    )
    return {day: Sums(*sums) for day, *sums in rows}


def _sessions(snapshot: Snapshot, selection: Selection, condition: str, parameters: list[Any]) -> int | None:
    """Sessions cannot be added up over rows of `daily_usage`: one may use several models and days.

    Both tables know the same sessions; `session_usage` has a tenth of the rows, but not all that can be limited to.
    """
    table = "session_usage" if _OF_SESSIONS.issuperset(selection.filters) else "priced_events"
    ((sessions, groups),) = snapshot.rows(
        "SELECT count(*) FILTER (WHERE session_id <> ''), count(*) FROM ("
        f"SELECT DISTINCT source, session_id FROM {table} WHERE {condition})",
        parameters,
    )
    return int(sessions) if sessions or not groups else None


def _months(snapshot: Snapshot, selection: Selection, today: date) -> Months:
    this_first = today.replace(day=1)
    before_last = this_first - timedelta(days=1)
    before_first = before_last.replace(day=1)

    def window(first: date, last: date) -> Window:
        return Window(first, last, _sums(snapshot, *selection.condition(first, last)))

    return Months(
        this=window(this_first, today),
        before=window(before_first, before_last.replace(day=min(today.day, before_last.day))),
        before_whole=window(before_first, before_last),
    )


def _list(
    snapshot: Snapshot, dimension: str, condition: str, parameters: list[Any], shown: Callable[[str, str], str]
) -> list[Named]:
    provider = "provider" if dimension == "model" else "''"
    rows = snapshot.rows(
        f"SELECT {dimension} AS name, {provider} AS of_provider, {_SUMS}, {_TOTAL_TOKENS} AS total_tokens "
        f"FROM daily_usage WHERE {condition} GROUP BY 1, 2 "
        "ORDER BY cost_usd DESC NULLS LAST, total_tokens DESC, of_provider, name",
        parameters,
    )
    return [Named(shown(dimension, name), of_provider, Sums(*sums)) for name, of_provider, *sums, _ in rows]


def _choices(snapshot: Snapshot, dimension: str) -> Sequence[str]:
    """All names, those with the most usage first."""

    def names() -> list[str]:
        rows = snapshot.rows(f"SELECT {dimension} FROM daily_usage GROUP BY 1 ORDER BY {_TOTAL_TOKENS} DESC, 1")
        return [str(name) for (name,) in rows]

    return snapshot.remembered(f"choices of {dimension}", names)
