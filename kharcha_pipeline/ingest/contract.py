"""The contract of `POST /api/usage/ingest`: what a body may be, and what is wrong with one that is not (S4.3-S4.9).

A row is what one agent on one machine used of one model on one of its local days. Its token counts are disjoint:
`outputTokens` leaves `reasoningTokens` out. Amounts are decimal strings, since a JSON number would pass through a
float on one side or the other; `null` is an unknown cost and never a cost of 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

MOST_ROWS = 20_000
LARGEST = 2**63 - 1
"""The largest count: that of a `BIGINT`."""

FIRST_DAY = date(2020, 1, 1)
"""No local day before it is kept, from any source: `records.EARLIEST_MS`."""

DAYS_AHEAD = 2
"""How far after today in UTC a day may be: nowhere on Earth is more than one day ahead, and clocks may be wrong."""

LONGEST_TEXT = 256
"""Characters in a name."""

MOST_MISTAKES = 50
"""Mistakes that are named in one answer."""

MOST_VALUES = 1_000_000
"""Values in one body, three times those of 20,000 rows: each takes memory, whatever little it takes on the wire."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROLS = "\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029"
_LONGEST_PLACE = 120

AGENT_SPELLINGS = {"claude": "claude-code"}
"""Agents that the contract knows under another name than our tables."""


class Mistake(NamedTuple):
    """One thing that is wrong with a body: where, as in `rows[3].date`, and what, as a sentence."""

    where: str
    what: str


class RefusedError(Exception):
    """A body that is not as the contract says. `mistakes` holds the first ones, `more` the number of the others."""

    def __init__(self, mistakes: Sequence[Mistake], number: int | None = None) -> None:
        number = len(mistakes) if number is None else number
        super().__init__(f"The body has {number} mistakes.")
        self.mistakes = list(mistakes[:MOST_MISTAKES])
        self.more = max(0, number - len(self.mistakes))


def latest_day() -> date:
    """The last day that a row may have at this moment."""
    return datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)


def _day(text: str) -> str:
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None:
        raise PydanticCustomError("day", "This must be a day of the calendar, written YYYY-MM-DD.")
    if not FIRST_DAY <= day <= latest_day():
        raise PydanticCustomError(
            "day_range",
            "This day must be from {first} to {last}, two days from now in UTC.",
            {"first": FIRST_DAY.isoformat(), "last": latest_day().isoformat()},
        )
    return text


def _zone(text: str) -> str:
    from kharcha_pipeline.settings import SettingsError, checked_zone

    try:
        return checked_zone(text, "timezone")
    except SettingsError:
        raise PydanticCustomError(
            "timezone", "This must be the IANA name of a time zone, like Europe/Berlin or UTC; offsets are refused."
        ) from None


Count = Annotated[int, Field(ge=0, le=LARGEST)]
Day = Annotated[str, AfterValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Name = Annotated[str, Field(max_length=LONGEST_TEXT, pattern=f"^[^{_CONTROLS}]*$")]
Cost = Annotated[str, Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,12})?$", max_length=25)]
Zone = Annotated[
    str,
    Field(max_length=100),
    AfterValidator(_zone),
    WithJsonSchema({"type": "string", "format": "iana-timezone", "maxLength": 100}),
]


class _Strict(BaseModel):
    """Nothing is converted: a quoted number, `true` and `1.0` are no counts. A field nobody knows is a mistake."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Row(_Strict):
    """What one agent used of one model on one local day of its machine."""

    date: Day = Field(description=f"Local day of the sender, from {FIRST_DAY} to two days from now.")
    agent: Annotated[Name, Field(min_length=1)] = Field(
        description="The program that used the model: `claude` (stored as `claude-code`), `codex`, `opencode` …"
    )
    provider: Name = Field(description="Who billed it: `anthropic`, `openai` …; empty when that is not known.")
    model: Name = Field(description="The model; empty when that is not known.")
    input_tokens: Count = Field(alias="inputTokens", description="Prompt tokens that came from no cache.")
    output_tokens: Count = Field(alias="outputTokens", description="Generated tokens without reasoning.")
    cache_read_tokens: Count = Field(alias="cacheReadTokens", description="Prompt tokens read from a cache.")
    cache_write_tokens: Count = Field(alias="cacheWriteTokens", description="Prompt tokens written to a cache.")
    reasoning_tokens: Count = Field(alias="reasoningTokens", description="Reasoning tokens, beside `outputTokens`.")
    total_tokens: Count = Field(
        alias="totalTokens",
        description="The sender's own total. One that is not the sum of the five is kept beside the sum and flagged.",
    )
    cost_usd: Cost | None = Field(
        alias="costUsd",
        description="Cost in USD, a decimal string with at most twelve digits on either side of the point; `null` "
        'when it is not known, while `"0"` is a real 0.',
    )
    messages: Count = Field(description="How many billed responses the row stands for.")
    machine: Name = Field(
        default="",
        description="Label of the machine the usage is of; without one, the label that belongs to the token.",
    )

    @property
    def sum(self) -> int:
        """The total of the five disjoint counts."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.reasoning_tokens
        )


class Body(_Strict):
    """Rows of usage, to be taken in as a whole or not at all."""

    rows: list[Row] = Field(min_length=1, max_length=MOST_ROWS)
    strict: bool = Field(default=False, description="Whether a `totalTokens` that is not the sum is a mistake.")
    correction: bool = Field(
        default=False,
        description="Whether the rows are right even where their tokens are fewer than what was sent before.",
    )
    timezone: Zone | None = Field(default=None, description="IANA name of the zone whose days the rows have.")


class Sent(NamedTuple):
    """A row as it is kept: the key, then what it says. `cost_usd` is a decimal without trailing zeros, or `None`."""

    date: str
    agent: str
    provider: str
    model: str
    machine: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost_usd: str | None
    messages: int

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What a row replaces another one by: date, agent, provider, model, machine."""
        return self[:5]

    @property
    def sum(self) -> int:
        """The total of the five disjoint counts, which decides whether a row shrinks what it replaces."""
        return sum(self[5:10])


class Sending(NamedTuple):
    """What one accepted body asks for."""

    rows: list[Sent]
    correction: bool
    timezone: str
    """IANA name, or `unknown`."""
    mismatched: int
    """Rows whose own total is not the sum of their counts."""


UNKNOWN_ZONE = "unknown"


def understood(data: bytes, machine: str = "") -> Sending:
    """What a body says.

    Args:
        data: the body as it arrived.
        machine: label of rows that name no machine.

    Raises:
        RefusedError: with everything that is wrong, up to a bound.
    """
    body = _checked(_loaded(data))
    mistakes: list[Mistake] = []
    first_of: dict[tuple[str, str, str, str, str], int] = {}
    rows: list[Sent] = []
    mismatched = 0
    for number, row in enumerate(body.rows):
        sent = _sent(row, machine)
        total = sent.sum
        if total > LARGEST:
            mistakes.append(Mistake(f"rows[{number}]", f"The five token counts add up to more than {LARGEST}."))
        elif total != sent.total_tokens:
            mismatched += 1
            if body.strict:
                mistakes.append(
                    Mistake(
                        f"rows[{number}].totalTokens",
                        f"This says {sent.total_tokens}, but the five counts add up to {total}.",
                    )
                )
        first = first_of.setdefault(sent.key, number)
        if first != number:
            mistakes.append(
                Mistake(
                    f"rows[{number}]",
                    f"This row has the same date, agent, provider, model and machine as rows[{first}].",
                )
            )
        rows.append(sent)
    if mistakes:
        raise RefusedError(mistakes)
    return Sending(rows, body.correction, body.timezone or UNKNOWN_ZONE, mismatched)


def cost_text(cost: Decimal) -> str:
    """An amount in the one form in which equal amounts are equal: fixed point, no needless zeros."""
    text = format(cost, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _sent(row: Row, machine: str) -> Sent:
    return Sent(
        row.date,
        AGENT_SPELLINGS.get(row.agent, row.agent),
        row.provider,
        row.model,
        row.machine or machine,
        row.input_tokens,
        row.output_tokens,
        row.cache_read_tokens,
        row.cache_write_tokens,
        row.reasoning_tokens,
        row.total_tokens,
        None if row.cost_usd is None else cost_text(Decimal(row.cost_usd)),
        row.messages,
    )


# ---- reading JSON strictly


class _Repeated(Exception):  # noqa: N818 - a signal between two functions
    """An object has one key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Repeated
    return found


def _constant(name: str) -> Any:
    raise ValueError(name)


def _loaded(data: bytes) -> Any:
    """The values of a body.

    Raises:
        RefusedError: when it is not JSON as RFC 8259 has it, with every key of an object once.
    """
    if data.count(b",") + data.count(b"{") + data.count(b"[") > MOST_VALUES:
        raise RefusedError([Mistake("body", f"The body has more than {MOST_VALUES:,} values.")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError([Mistake("body", f"Byte {error.start} is not valid UTF-8.")]) from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except _Repeated:
        what = "An object has the same key twice."
    except json.JSONDecodeError as error:
        what = f"The body is not JSON: line {error.lineno}, column {error.colno}."
    except RecursionError:
        what = "The body is nested too deeply."
    except ValueError:  # NaN and Infinity, and numbers of thousands of digits
        what = "The body has a number that JSON does not know, or one that is too long."
    raise RefusedError([Mistake("body", what)])


# ---- what is wrong, in sentences

_SENTENCES = {
    "missing": "This field is missing.",
    "extra_forbidden": "There is no such field.",
    "int_type": "This must be a whole number without quotes, fraction or exponent.",
    "int_from_float": "This must be a whole number without quotes, fraction or exponent.",
    "greater_than_equal": "This must not be negative.",
    "less_than_equal": f"This must be at most {LARGEST}.",
    "string_type": "This must be a text.",
    "string_unicode": "This text has half of a surrogate pair.",
    "string_too_short": "This must not be empty.",
    "string_too_long": "This text is too long.",
    "bool_type": "This must be true or false.",
    "list_type": "This must be a list.",
    "too_short": "There must be at least one row.",
    "too_long": f"There must be at most {MOST_ROWS:,} rows.",
    "model_type": "This must be an object.",
    "model_attributes_type": "This must be an object.",
    "dict_type": "This must be an object.",
}
_COST_SENTENCE = (
    'This must be null or a decimal in quotes, like "3.4513", with at most 12 digits on either side of the point.'
)


def _checked(values: Any) -> Body:
    try:
        return Body.model_validate(values)
    except ValidationError as error:
        number = error.error_count()
        if number <= MOST_VALUES // MOST_ROWS * MOST_MISTAKES:
            raise RefusedError(_mistakes(error)) from None
    # To spell out all mistakes of 20,000 wrong rows would take longer than anybody reads.
    found: list[Mistake] = []
    for position, row in enumerate(values["rows"]):
        try:
            Row.model_validate(row)
        except ValidationError as error:
            found += _mistakes(error, ("rows", position))
        if len(found) >= MOST_MISTAKES:
            break
    raise RefusedError(found, number)


def _mistakes(error: ValidationError, below: tuple[int | str, ...] = ()) -> list[Mistake]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [Mistake(_place(below + one["loc"]), _sentence(one["type"], one["loc"], one["msg"])) for one in found]


def _place(location: tuple[int | str, ...]) -> str:
    """A place as in `rows[3].date`. Names that nobody knows come from the sender: they are cut and cleaned."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    cleaned = "".join(character if character.isprintable() else "?" for character in text.lstrip("."))
    return cleaned[:_LONGEST_PLACE] or "body"


def _sentence(kind: str, location: tuple[int | str, ...], message: str) -> str:
    if location and location[-1] == "costUsd" and kind != "missing":
        return _COST_SENTENCE
    if kind == "string_pattern_mismatch":
        return "This text has control characters or line breaks."
    return _SENTENCES.get(kind, message)
