"""Price files in TOML: the user's own prices and the corrections that come with this version.

Both have the same form; a correction may also name several models in one row, give rates for some hours of the day,
or state a variant as a multiple of the standard rates. Everything that could be a slip of the pen is an error: an
unknown key, two rows for the same day, a rate of zero that does not say `free`, more decimals than are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kharcha_pipeline.events.names import Alias, names, provider_name
from kharcha_pipeline.pricing.rates import BASE_TIER, HIGHEST_RATE, MINUTES_OF_DAY, RATE_STEP, VARIANTS

_RATES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
_ROW_KEYS = frozenset(
    {"provider", "model", "effective_from", "effective_to", "variant", "prompt_over", "free", "web_search_per_k"}
    | {"source", "note", *_RATES}
)
_HOUR_KEYS = frozenset({"utc_hours", "weekdays_only"})
_ALIAS_KEYS = frozenset({"match", "tool", "provider", "model", "effective_from", "effective_to", "source", "note"})
_MULTIPLIER_KEYS = frozenset(
    {"provider", "model", "variant", "factor", "effective_from", "effective_to", "source", "note"}
)
_PREMIUM_KEYS = frozenset(
    {"provider", "model", "effective_from", "effective_to", "premium_multiplier", "premium_unit_price_usd"}
    | {"source", "note"}
)
_HIGHEST_SEARCH_PRICE = Decimal(10) ** 6
_HIGHEST_PREMIUM = Decimal(10) ** 6
_PREMIUM_STEP = Decimal("0.0001")


class PriceFileError(ValueError):
    """A price file cannot be used. The message is a sentence for the user."""


class Period(NamedTuple):
    """UTC days from `first` on, up to but without `end`."""

    first: date
    end: date | None = None

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.first <= day and (self.end is None or day < self.end)

    def meets(self, other: Period) -> bool:
        """Whether the two have a day in common."""
        return (other.end is None or self.first < other.end) and (self.end is None or other.first < self.end)


class PriceRow(msgspec.Struct, frozen=True, eq=False):
    """One `[[price]]`: rates in USD per million tokens, or the statement that the model is free.

    `windows` are half-open spans of minutes of the UTC day in which these rates hold instead of the day's own;
    empty for rates of the whole day.
    """

    provider: str
    model: str
    period: Period
    variant: str = "standard"
    prompt_over: int = BASE_TIER
    free: bool = False
    rates: Mapping[str, Decimal] = {}
    web_search_per_k: Decimal | None = None
    source: str = ""
    windows: tuple[tuple[int, int], ...] = ()
    weekdays_only: bool = False

    @property
    def place(self) -> tuple[str, int, tuple[tuple[int, int], ...]]:
        """Which of a model's rates the row states: two rows of one place must not share a day."""
        return self.variant, self.prompt_over, self.windows

    def holds(self, day: date) -> bool:
        """Whether the row speaks about this UTC day."""
        return day in self.period and not (self.weekdays_only and day.weekday() >= 5)


class Multiplier(msgspec.Struct, frozen=True, eq=False):
    """A variant whose token rates are a multiple of the standard ones."""

    provider: str
    model: str
    variant: str
    factor: Decimal
    period: Period
    source: str = ""


class Premium(msgspec.Struct, frozen=True, eq=False):
    """One `[[premium]]`: how many premium requests a call of a model counts as, and what one of them costs.

    Only the recorder counts premium requests. Costs are made of tokens, whatever is said here.
    """

    provider: str
    model: str
    period: Period
    multiplier: Decimal
    unit_price_usd: Decimal | None = None


class PriceBook(msgspec.Struct, frozen=True):
    """The content of one price file."""

    name: str = ""
    sha256: str = ""
    rows: Mapping[tuple[str, str], tuple[PriceRow, ...]] = {}
    multipliers: Mapping[tuple[str, str], tuple[Multiplier, ...]] = {}
    aliases: tuple[Alias, ...] = ()
    premiums: Mapping[tuple[str, str], tuple[Premium, ...]] = {}

    def premium(self, provider: str, model: str, day: date) -> Premium | None:
        """What is said about a model's premium requests on a UTC day."""
        return next((one for one in self.premiums.get((provider, model), ()) if day in one.period), None)

    def prices(self, provider: str, model: str, day: date) -> bool:
        """Whether the book alone can price the model on this day."""
        return any(
            row.variant == "standard" and row.prompt_over == BASE_TIER and not row.windows and row.holds(day)
            for row in self.rows.get((provider, model), ())
        )

    def rows_on(self, provider: str, models: Iterable[str], day: date) -> list[PriceRow]:
        """The rows about a model on a UTC day, where the first of its names that a row speaks of counts."""
        found: dict[object, PriceRow] = {}
        for model in models:
            for row in self.rows.get((provider, model), ()):
                if row.holds(day):
                    found.setdefault(row.place, row)
        return list(found.values())

    def multipliers_on(self, provider: str, models: Iterable[str], day: date) -> list[Multiplier]:
        """The variants stated as multiples of the standard rates on a UTC day."""
        found: dict[str, Multiplier] = {}
        for model in models:
            for multiplier in self.multipliers.get((provider, model), ()):
                if day in multiplier.period:
                    found.setdefault(multiplier.variant, multiplier)
        return list(found.values())


EMPTY_BOOK = PriceBook()


def read_overrides(path: Path | None) -> PriceBook:
    """The user's own prices, from the file that `KHARCHA_PRICES` names; empty without one.

    Raises:
        PriceFileError: when the file is missing or says something that cannot be meant.
    """
    if path is None:
        return EMPTY_BOOK
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PriceFileError(f"The prices file {path} cannot be read ({error.strerror}).") from error
    return parsed(content, str(path), shipped=False)


def read_corrections() -> PriceBook:
    """The reviewed corrections of the price catalogue that come with this version."""
    return parsed(corrections_bytes(), "corrections.toml", shipped=True)


def corrections_bytes() -> bytes:
    """The shipped corrections as they are on disk."""
    return resources.files(__package__).joinpath("corrections.toml").read_bytes()


def parsed(content: bytes, name: str, *, shipped: bool) -> PriceBook:
    """A price file's content.

    Args:
        content: TOML in UTF-8.
        name: how the file is called in messages.
        shipped: whether the forms reserved for the shipped corrections are allowed.

    Raises:
        PriceFileError: when anything in it is wrong.
    """
    import tomllib

    try:
        document = tomllib.loads(content.decode("utf-8"), parse_float=Decimal)
    except (ValueError, InvalidOperation, RecursionError) as error:  # no TOML, or numbers beyond all bounds
        raise PriceFileError(f"The prices file {name} is not valid TOML: {error}.") from error
    known = {"schema", "price", "alias", "multiplier" if shipped else "premium"}
    if unknown := sorted(document.keys() - known):
        raise PriceFileError(f"The prices file {name} has the unknown table or key {_quoted(unknown)}.")
    if document.get("schema", 1) != 1:
        raise PriceFileError(f"The prices file {name} has a schema other than 1, the only one there is.")

    rows = [row for entry in _entries(document, "price", name) for row in _price_rows(entry, shipped=shipped)]
    aliases = [_alias(entry) for entry in _entries(document, "alias", name)]
    multipliers = [m for entry in _entries(document, "multiplier", name) for m in _multipliers(entry)]
    premiums = [_premium(entry) for entry in _entries(document, "premium", name)]
    _refuse_overlaps(name, rows, aliases)
    _refuse_two_premiums(name, premiums)
    return PriceBook(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        rows=_by_model(rows),
        multipliers=_by_model(multipliers),
        aliases=tuple(aliases),
        premiums=_by_model(premiums),
    )


class _Entry:
    """One table of a list, with what its messages need to say where it stands."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def wrong(self, what: str) -> PriceFileError:
        return PriceFileError(f"{self.where}: {what}.")

    def only(self, allowed: frozenset[str]) -> None:
        if unknown := sorted(self.values.keys() - allowed):
            raise self.wrong(f"unknown key {_quoted(unknown)}; the keys are {', '.join(sorted(allowed))}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.wrong(f"`{key}` must be given as text" if value is None else f"`{key}` must be text")
        return value.strip()

    def texts(self, key: str, default: str | None = None, *, several: bool) -> list[str]:
        value = self.values.get(key, default)
        if several and isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
            return value
        return [self.text(key, default)]

    def period(self, *, must_start: bool = True) -> Period:
        first = self.day("effective_from")
        if first is None and must_start:
            raise self.wrong("`effective_from` must be given, as the first UTC day of the price")
        period = Period(first or date.min, self.day("effective_to"))
        if period.end is not None and period.end <= period.first:
            raise self.wrong("`effective_to` is the first day no longer covered and must be after `effective_from`")
        return period

    def day(self, key: str) -> date | None:
        value = self.values.get(key)
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value)
            except ValueError:
                raise self.wrong(f"`{key}` must be a day like 2026-05-16") from None
        if value is not None and (not isinstance(value, date) or isinstance(value, datetime)):
            raise self.wrong(f"`{key}` must be a day like 2026-05-16, without a time")
        return value

    def decimal(self, key: str, highest: Decimal) -> Decimal | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise self.wrong(f"`{key}` must be a number, or a number as text")
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise self.wrong(f"`{key}` must be a number, or a number as text") from None
        if not number.is_finite() or number < 0:
            raise self.wrong(f"`{key}` must not be negative or endless")
        if number > highest:
            raise self.wrong(f"`{key}` is above {highest:,}, which is no price in USD per million (or thousand)")
        if number != number.quantize(RATE_STEP):
            raise self.wrong(f"`{key}` has more than six decimals, the most that is kept exactly")
        return number

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(f"`{key}` must be true or false")
        return value


def _entries(document: dict[str, Any], kind: str, name: str) -> Iterator[_Entry]:
    listed = document.get(kind, [])
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise PriceFileError(f"The prices file {name} must write each {kind} as a table of its own, [[{kind}]].")
    for number, entry in enumerate(listed, start=1):
        yield _Entry(entry, f"The prices file {name}, [[{kind}]] number {number}")


def _price_rows(entry: _Entry, *, shipped: bool) -> Iterator[PriceRow]:
    entry.only(_ROW_KEYS | _HOUR_KEYS if shipped else _ROW_KEYS)
    provider = provider_name(entry.text("provider"))
    models = entry.texts("model", several=shipped)
    variants = entry.texts("variant", "standard", several=shipped)
    if wrong := [variant for variant in variants if variant not in VARIANTS]:
        raise entry.wrong(f"`variant` {_quoted(wrong)} is none of {', '.join(VARIANTS)}")
    prompt_over = entry.values.get("prompt_over", BASE_TIER)
    if isinstance(prompt_over, bool) or not isinstance(prompt_over, int) or prompt_over < BASE_TIER:
        raise entry.wrong("`prompt_over` must be a whole number of tokens, or -1 for every prompt")
    rates = {key: rate for key in _RATES if (rate := entry.decimal(key, HIGHEST_RATE)) is not None}
    searches = entry.decimal("web_search_per_k", _HIGHEST_SEARCH_PRICE)
    free = entry.flag("free")
    if free and (rates or searches is not None or variants != ["standard"] or prompt_over != BASE_TIER):
        raise entry.wrong("a free model has no rates, variants or tiers")
    if not free and not {"input", "output"} <= rates.keys():
        raise entry.wrong("`input` and `output` must be given, or `free = true`")
    if not free and not any(rates.values()):
        raise entry.wrong("all rates are zero; write `free = true` if the model costs nothing")
    period = entry.period()
    source = entry.text("source", "")
    windows = tuple(_window(entry, text) for text in entry.values.get("utc_hours", []))
    for model in models:
        for variant in variants:
            yield PriceRow(
                provider=provider,
                model=_model_name(provider, model),
                period=period,
                variant=variant,
                prompt_over=prompt_over,
                free=free,
                rates=rates,
                web_search_per_k=searches,
                source=source,
                windows=windows,
                weekdays_only=entry.flag("weekdays_only"),
            )


def _window(entry: _Entry, text: object) -> tuple[int, int]:
    try:
        first, end = (60 * int(part[:2]) + int(part[3:]) for part in str(text).split("-"))
    except ValueError:
        raise entry.wrong("`utc_hours` must be spans like 01:00-04:00") from None
    if not 0 <= first < end <= MINUTES_OF_DAY:
        raise entry.wrong("`utc_hours` must be spans like 01:00-04:00, within one day")
    return first, end


def _multipliers(entry: _Entry) -> Iterator[Multiplier]:
    entry.only(_MULTIPLIER_KEYS)
    factor = entry.decimal("factor", Decimal(100))
    if not factor:
        raise entry.wrong("`factor` must be given")
    period = entry.period()
    provider = provider_name(entry.text("provider"))
    for model in entry.texts("model", several=True):
        for variant in entry.texts("variant", several=True):
            yield Multiplier(
                provider, _model_name(provider, model), variant, factor, period, entry.text("source", "")
            )


def _premium(entry: _Entry) -> Premium:
    entry.only(_PREMIUM_KEYS)
    provider = provider_name(entry.text("provider"))
    multiplier = entry.decimal("premium_multiplier", _HIGHEST_PREMIUM)
    if multiplier is None:
        raise entry.wrong("`premium_multiplier` must be given: how many premium requests a call counts as")
    if multiplier != multiplier.quantize(_PREMIUM_STEP):
        raise entry.wrong("`premium_multiplier` has more than four decimals, the most that is kept exactly")
    return Premium(
        provider,
        _model_name(provider, entry.text("model")),
        entry.period(),
        multiplier,
        entry.decimal("premium_unit_price_usd", _HIGHEST_PREMIUM),
    )


def _alias(entry: _Entry) -> Alias:
    entry.only(_ALIAS_KEYS)
    provider = provider_name(entry.text("provider"))
    period = entry.period(must_start=False)
    return Alias(
        match=entry.text("match").lower().removesuffix("[1m]"),
        provider=provider,
        model=_model_name(provider, entry.text("model")),
        effective_from=period.first,
        effective_to=period.end,
        tool=entry.text("tool", ""),
    )


def _model_name(provider: str, model: str) -> str:
    """The model as events have it, so that `claude-opus-4.5` and `claude-opus-4-5-20251101` mean the same row."""
    text = model.strip().lower()
    if provider == "anthropic":
        spelled = names("", provider, text)
        if spelled.service_tier_hint is None:
            return spelled.model
    return text


def _refuse_overlaps(name: str, rows: list[PriceRow], aliases: list[Alias]) -> None:
    by_model = _by_model(rows)
    for (provider, model), same in by_model.items():
        for index, row in enumerate(same):
            for other in same[index + 1 :]:
                contradicts = row.free or other.free or row.place == other.place
                if contradicts and row.period.meets(other.period):
                    raise PriceFileError(
                        f"The prices file {name} has two prices of {provider} {model} ({row.variant}) for the same "
                        f"days, from {row.period.first} and from {other.period.first}."
                    )
    for index, alias in enumerate(aliases):
        for other_alias in aliases[index + 1 :]:
            if (alias.match, alias.tool) == (other_alias.match, other_alias.tool) and Period(
                alias.effective_from, alias.effective_to
            ).meets(Period(other_alias.effective_from, other_alias.effective_to)):
                raise PriceFileError(f"The prices file {name} has two aliases of {alias.match} for the same days.")


def _refuse_two_premiums(name: str, premiums: list[Premium]) -> None:
    for (provider, model), same in _by_model(premiums).items():
        for index, premium in enumerate(same):
            if any(premium.period.meets(other.period) for other in same[index + 1 :]):
                raise PriceFileError(
                    f"The prices file {name} has two statements about premium requests of {provider} {model} for the "
                    "same days."
                )


def _by_model(rows: list[Any]) -> dict[tuple[str, str], tuple[Any, ...]]:
    collected: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        collected.setdefault((row.provider, row.model), []).append(row)
    return {key: tuple(same) for key, same in collected.items()}


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)
