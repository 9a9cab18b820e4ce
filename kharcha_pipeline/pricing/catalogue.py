"""Rates from the genai-prices catalogue: exact ids, the price of the very day, and nothing it does not state.

The catalogue is read for its *rates*, once per model and dated price, never asked for the price of an event. Five of
its habits are kept out here: it prices days before a model existed (`releases.toml` knows first days), it applies
peak hours to all dates (they come from the corrections, so a day is read at 12:00 UTC), it answers an unknown request
option with the standard price, it takes a price list without rates for a price of 0, and its matching by beginnings
would price names nobody ever sold.

Where the installed package has the data that `catalogue.json` was made from, it is not imported: see `price_lists`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from bisect import bisect_right
from collections import ChainMap
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache, cached_property
from pathlib import Path

from kharcha_pipeline.pricing import price_lists
from kharcha_pipeline.pricing.price_lists import (
    NOT_BY_TOKENS,
    TOKEN_RATES,
    Clause,
    Model,
    Price,
    PriceLists,
    Tier,
    Tiered,
)
from kharcha_pipeline.pricing.rates import BASE_TIER, RATE_STEP, Rates, refusal, with_prompt_limits

SOURCE = "genai-prices"

_LISTS = {"xai": "x-ai", "amazon-bedrock": "aws", "google-vertex": "google"}
"""The catalogue's name of a price list, where it differs from ours."""

_CONTEXTS = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("speed", "fast"): "fast",
}
"""Request options of the catalogue and the variant they mean."""

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")

_Price = dict[str, Decimal | Tiered]


class CatalogueModel:
    """One model of one price list."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._rates: dict[int, tuple[Rates, ...] | str] = {}

    @property
    def id(self) -> str:
        """The id inside the catalogue."""
        return self._model.id

    @property
    def match(self) -> Clause:
        """How the catalogue recognizes names of the model."""
        return self._model.match

    @cached_property
    def _boundaries(self) -> list[date]:
        """Days on which any of the model's prices or variants starts."""
        starts = (price.start for price in (*self._model.prices, *self._model.variants))
        return sorted({start for start in starts if start is not None})

    def period(self, day: date) -> int:
        """Number of the span of days with equal rates in which the day lies."""
        return bisect_right(self._boundaries, day)

    def effective_from(self, day: date) -> date | None:
        """First day of the rates of a day, where the catalogue dates them."""
        period = self.period(day)
        return self._boundaries[period - 1] if period else None

    def rates(self, day: date) -> tuple[Rates, ...] | str:
        """All rates of a UTC day, or a phrase that says why there are none."""
        period = self.period(day)
        if period not in self._rates:
            self._rates[period] = self._evaluated(day)
        return self._rates[period]

    def _evaluated(self, day: date) -> tuple[Rates, ...] | str:
        holding = [price for price in self._model.prices if price.holds(day)] or list(self._model.prices[:1])
        standard = holding[-1].rates if holding else {}
        if not {"input_mtok", "output_mtok"} <= standard.keys():
            return "the catalogue lists the model without input or output rates"
        if NOT_BY_TOKENS & standard.keys():
            return "the catalogue prices the model by more than its tokens"
        rows = list(_tiers("standard", standard))
        declared = [price for price in self._model.variants if price.holds(day)]
        for price in declared:
            variant = _CONTEXTS.get(next(iter(price.when.items()))) if len(price.when) == 1 else None
            if variant and not price.rates.keys().isdisjoint(TOKEN_RATES):
                rows += _tiers(variant, _with_option(standard, declared, price.when))
        unique = {(row.variant, row.prompt_over): row for row in rows}
        return refusal(unique.values()) or tuple(with_prompt_limits(unique.values()))


class Catalogue:
    """The data of the installed genai-prices package, unless other price lists are given."""

    def __init__(self, lists: PriceLists | None = None) -> None:
        self._given = lists
        self._found: dict[tuple[str, str], CatalogueModel | None] = {}
        self._opened: dict[str, _PriceList] = {}

    @cached_property
    def version(self) -> str:
        """Version of the installed package."""
        return importlib.metadata.version(SOURCE)

    @cached_property
    def _lists(self) -> PriceLists:
        if self._given is not None:
            return self._given
        shipped = price_lists.shipped()
        return shipped.lists if shipped.data_sha256 == data_sha256() else price_lists.installed()

    def find(self, provider: str, model: str) -> CatalogueModel | None:
        """The model with exactly this id, in exactly this price list.

        An id counts when the catalogue writes it out, alone or as the beginning of longer ids, or when a pattern
        describes it from end to end. That an unknown name begins like a known one says nothing about its price.
        """
        key = (provider, model)
        if key not in self._found:
            listed = self._list(provider)
            self._found[key] = listed.exact(model) if listed is not None else None
        return self._found[key]

    def ids(self, provider: str) -> Iterator[str]:
        """The ids that a price list has for its models; names that only mean one of them are not among them."""
        listed = self._list(provider)
        yield from listed.ids() if listed is not None else ()

    def contradicts(self, provider: str, name: str, found: CatalogueModel) -> bool:
        """Whether the catalogue itself takes a name for another model than the one found under a shorter name."""
        return self.matched(provider, name) not in (None, found)

    def matched(self, provider: str, name: str) -> CatalogueModel | None:
        """The model that the catalogue itself takes a name for, by whatever likeness it goes."""
        listed = self._list(provider)
        return listed.matched(name) if listed is not None else None

    def _list(self, provider: str) -> _PriceList | None:
        name = _LISTS.get(provider, provider)
        if name not in self._opened and name in self._lists:
            self._opened[name] = _PriceList(price_lists.models(self._lists[name]))
        return self._opened.get(name)


class _PriceList:
    """The models of one price list, by name."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = [CatalogueModel(model) for model in models]

    def ids(self) -> Iterator[str]:
        """The models' ids."""
        return (model.id for model in self._models)

    @cached_property
    def _written(self) -> dict[str, CatalogueModel]:
        """Ids that the catalogue spells out. The first model in its order has a name that several list."""
        written: dict[str, CatalogueModel] = {}
        for model in self._models:
            for name in (model.id.lower(), *_spelled_out(model.match)):
                written.setdefault(name, model)
        return written

    def exact(self, name: str) -> CatalogueModel | None:
        """The model that has this very name, if the catalogue itself takes the name for that model, too."""
        found = self._written.get(name) or next(
            (model for model in self._models if _described(model.match, name)), None
        )
        return found if found is not None and self.matched(name) is found else None

    def matched(self, name: str) -> CatalogueModel | None:
        """The model that the catalogue itself takes a name for, as its `Provider.find_model` does."""
        for spelling in dict.fromkeys((name.lower(), _with_dashed_date(name.lower()))):
            for model in self._models:
                if model.match.matches(spelling):
                    return model
        return None


@cache
def data_sha256() -> str:
    """SHA-256 of the catalogue's data, without importing it; `''` when it is not installed."""
    spec = importlib.util.find_spec("genai_prices")
    if spec is None or not spec.submodule_search_locations:
        return ""
    return hashlib.sha256((Path(spec.submodule_search_locations[0]) / "data.py").read_bytes()).hexdigest()


def _with_dashed_date(name: str) -> str:
    """The name with a date like `-20251211` in the form that price lists have, `-2025-12-11`."""

    def dashed(date_in_name: re.Match[str]) -> str:
        year, month, day = (int(digits) for digits in date_in_name.groups())
        try:
            return f"-{date(year, month, day)}"
        except ValueError:
            return date_in_name[0]

    return _COMPACT_DATE.sub(dashed, name)


def _spelled_out(clause: Clause) -> Iterator[str]:
    for part in (*(clause.any_of or ()), *(clause.all_of or ())):
        yield from _spelled_out(part)
    for text in (clause.equals, clause.starts_with, clause.ends_with, clause.contains):
        if text is not None:
            yield text


def _described(clause: Clause, name: str) -> bool:
    """Whether a pattern that covers names from end to end describes this one."""
    if any(_described(part, name) for part in (*(clause.any_of or ()), *(clause.all_of or ()))):
        return True
    pattern = clause.regex or ""
    from_end_to_end = pattern.startswith("^") and pattern.endswith("$") and "(?!" not in pattern
    return from_end_to_end and re.search(pattern, name) is not None


def _with_option(standard: _Price, declared: Iterable[Price], option: dict[str, str]) -> _Price:
    """The standard rates with those of a request option over them; the first that states a rate has it."""
    stated = [price.rates for price in declared if price.when == option]
    return dict(ChainMap(*stated, standard))


def _tiers(variant: str, price: _Price) -> Iterator[Rates]:
    """A row for the base rates and one per context threshold; the catalogue's thresholds are exclusive, as ours."""
    thresholds = {tier.start for key in TOKEN_RATES for tier in _steps(price.get(key))}
    for threshold in [BASE_TIER, *sorted(thresholds)]:
        at = {key: _at(value, threshold) for key, value in price.items()}
        yield Rates(
            variant=variant,
            prompt_over=threshold,
            input=at["input_mtok"],
            output=at["output_mtok"],
            cache_read=at.get("cache_read_mtok"),
            cache_write_5m=at.get("cache_write_5m_mtok", at.get("cache_write_mtok")),
            cache_write_1h=at.get("cache_write_1h_mtok"),
            web_search_per_k=at.get("web_searches_kcount"),
            basis="exact_day",
            source=SOURCE,
        )


def _at(value: Decimal | Tiered, threshold: int) -> Decimal:
    """The rate that holds above a threshold, rounded once and for all to what is stored."""
    rate = value.base if isinstance(value, Tiered) else value
    for tier in _steps(value):
        if tier.start <= threshold:
            rate = tier.rate
    return rate.quantize(RATE_STEP, ROUND_HALF_EVEN)


def _steps(value: Decimal | Tiered | None) -> tuple[Tier, ...]:
    return value.tiers if isinstance(value, Tiered) else ()
