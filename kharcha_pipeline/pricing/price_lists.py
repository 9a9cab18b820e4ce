"""The price lists of genai-prices in plain form: what `catalogue` asks of them, and nothing else.

They are read from `catalogue.json`, which `make catalogue` writes from the pinned version of the package. The package
itself is models of pydantic around 1.6 MB of Python, which takes longer to import than most syncs take otherwise; it
is imported only where another version of it is installed, and then brought into the same form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from genai_prices import types

TOKEN_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
NOT_BY_TOKENS = frozenset({"requests_kcount", "output_reasoning_mtok", "output_citation_mtok"})
"""Parts of a price that usage events have no count for: a cost without them would be too low."""

_KEPT = {*TOKEN_RATES, *NOT_BY_TOKENS, "cache_write_5m_mtok", "web_searches_kcount"}
"""The parts of a price that are asked for; images, audio and hours of storage are not."""

_ANY_DAY_AT_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clause(msgspec.Struct, frozen=True, omit_defaults=True):
    """How names of a model are recognized. One of these is given; all but the pattern are in lower case."""

    equals: str | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    contains: str | None = None
    regex: str | None = None
    any_of: tuple[Clause, ...] | None = None
    all_of: tuple[Clause, ...] | None = None

    def matches(self, name: str) -> bool:
        """Whether a name in lower case is one of the model's. A clause that says nothing matches nothing."""
        if self.equals is not None:
            return name == self.equals
        if self.any_of is not None:
            return any(clause.matches(name) for clause in self.any_of)
        if self.contains is not None:
            return self.contains in name
        if self.starts_with is not None:
            return name.startswith(self.starts_with)
        if self.regex is not None:
            return re.search(self.regex, name) is not None
        if self.ends_with is not None:
            return name.endswith(self.ends_with)
        return self.all_of is not None and all(clause.matches(name) for clause in self.all_of)


class Tier(msgspec.Struct, frozen=True):
    """A rate for prompts of more tokens than `start`."""

    start: int
    rate: Decimal


class Tiered(msgspec.Struct, frozen=True):
    """A rate that depends on the length of the prompt."""

    base: Decimal
    tiers: tuple[Tier, ...]


class Price(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rates by the catalogue's name of what they are for, from a UTC day on or, without one, always.

    `when` is the request option that they are for; the rates that it does not name are the standard ones.
    """

    rates: dict[str, Decimal | Tiered]
    start: date | None = None
    when: dict[str, str] = {}

    def holds(self, day: date) -> bool:
        """Whether the price has begun by this UTC day."""
        return self.start is None or self.start <= day


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model of a price list. The last of its prices that holds counts, and the first when none does."""

    id: str
    match: Clause
    prices: tuple[Price, ...] = ()
    variants: tuple[Price, ...] = ()


PriceLists = Mapping[str, msgspec.Raw]
"""The models of each price list as JSON, in the catalogue's order; of some fifty lists a user needs two or three."""


class Extract(msgspec.Struct, frozen=True):
    """The content of `catalogue.json`, and what it was extracted from."""

    version: str
    data_sha256: str
    lists: dict[str, msgspec.Raw]


def models(listed: msgspec.Raw) -> list[Model]:
    """The models of one price list."""
    return msgspec.json.decode(listed, type=list[Model])


def shipped() -> Extract:
    """The price lists that come with this version."""
    content = resources.files(__package__).joinpath("catalogue.json").read_bytes()
    return msgspec.json.decode(content, type=Extract)


def installed() -> PriceLists:
    """The price lists of the installed package, which this imports."""
    from genai_prices.data_snapshot import get_snapshot

    return plain(get_snapshot().providers)


def plain(providers: Sequence[types.Provider]) -> PriceLists:
    """The package's price lists in plain form, with a line per model.

    What a later version of the package may state in a form that is not known here leaves the model, or the variant,
    without a price.
    """
    encode = msgspec.json.encode
    return {
        provider.id: msgspec.Raw(b"[\n" + b",\n".join(encode(_model(model)) for model in provider.models) + b"\n]")
        for provider in providers
    }


class _UnknownFormError(Exception):
    """The package states something in a way that is not known here."""


def _model(model: types.ModelInfo) -> Model:
    return Model(model.id, _clause(model.match), tuple(_prices(model)), tuple(_variants(model)))


def _prices(model: types.ModelInfo) -> list[Price]:
    prices: list[Price] = []
    try:
        if not isinstance(model.prices, list):
            return [Price(_rates(model.prices))]
        for condition in model.prices:
            # The first price stands in for days before all others, so it stays even if it never holds by itself.
            if _holds_at_noon(condition.constraint) or not prices:
                prices.append(Price(_rates(condition.prices), _start(condition.constraint)))
    except _UnknownFormError:
        return []
    return prices


def _variants(model: types.ModelInfo) -> Iterator[Price]:
    for variant in model.price_variants or ():
        try:
            if _holds_at_noon(variant.constraint):
                yield Price(_rates(variant.prices), _start(variant.constraint), dict(variant.when))
        except _UnknownFormError:
            continue


def _clause(clause: types.MatchLogic) -> Clause:
    (key, value), *_ = vars(clause).items()
    if key in ("or_", "and_"):
        parts = tuple(_clause(part) for part in value)
        return Clause(any_of=parts) if key == "or_" else Clause(all_of=parts)
    if key == "regex":
        return Clause(regex=value)
    return Clause(**{key: value.lower()}) if key in Clause.__struct_fields__ else Clause()


def _start(constraint: object) -> date | None:
    start: date | None = getattr(constraint, "start_date", None)
    return start


def _holds_at_noon(constraint: object) -> bool:
    """Whether a price can count at all: hours of the day are read at 12:00 UTC."""
    from genai_prices import types

    if constraint is None or isinstance(constraint, types.StartDateConstraint):
        return True
    if isinstance(constraint, types.TimeOfDateConstraint):
        return constraint.active(_ANY_DAY_AT_NOON)
    raise _UnknownFormError


def _rates(price: object) -> dict[str, Decimal | Tiered]:
    return {key: _rate(value) for key, value in vars(price).items() if key in _KEPT and value is not None}


def _rate(value: object) -> Decimal | Tiered:
    from genai_prices import types

    if isinstance(value, types.TieredPrices):
        return Tiered(value.base, tuple(Tier(tier.start, tier.price) for tier in value.tiers))
    if isinstance(value, Decimal | int):
        return Decimal(value)
    raise _UnknownFormError
