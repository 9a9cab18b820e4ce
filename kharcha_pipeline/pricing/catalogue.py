"""Rates from the genai-prices catalogue: exact ids, the price of the very day, and nothing it does not state.

The catalogue is read for its *rates*, once per model and dated price, never asked for the price of an event. Five of
its habits are kept out here: it prices days before a model existed (`releases.toml` knows first days), it applies
peak hours to all dates (they come from the corrections, so a day is read at 12:00 UTC), it answers an unknown request
option with the standard price, it takes a price list without rates for a price of 0, and its matching by beginnings
would price names nobody ever sold.

Importing the catalogue takes a third of a second, so it happens on first use and only when a snapshot is missing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kharcha_pipeline.pricing.rates import BASE_TIER, RATE_STEP, Rates, refusal, with_prompt_limits

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, Provider

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

_TOKEN_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
_NOT_BY_TOKENS = frozenset({"requests_kcount", "output_reasoning_mtok", "output_citation_mtok"})
"""Parts of a price that usage events have no count for: a cost without them would be too low."""


class CatalogueModel:
    """One model of one price list."""

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self._rates: dict[int, tuple[Rates, ...] | str] = {}

    @property
    def id(self) -> str:
        """The id inside the catalogue."""
        return self._model.id

    @cached_property
    def _boundaries(self) -> list[date]:
        """Days on which any of the model's prices or variants starts."""
        conditions = [*(self._model.prices if isinstance(self._model.prices, list) else ()), *self._variants]
        starts = (getattr(condition.constraint, "start_date", None) for condition in conditions)
        return sorted({start for start in starts if start is not None})

    @property
    def _variants(self) -> list[Any]:
        return list(self._model.price_variants or ())

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
        noon = datetime.combine(day, time(12), UTC)
        standard = self._model.get_prices(noon)
        if not _stated(standard, "input_mtok") or not _stated(standard, "output_mtok"):
            return "the catalogue lists the model without input or output rates"
        if _NOT_BY_TOKENS & {key for key, value in vars(standard).items() if value is not None}:
            return "the catalogue prices the model by more than its tokens"
        rows = list(_tiers("standard", standard))
        for declared in self._variants:
            variant = _CONTEXTS.get(next(iter(declared.when.items()))) if len(declared.when) == 1 else None
            active = declared.constraint is None or declared.constraint.active(noon)
            if variant and active and any(_stated(declared.prices, key) for key in _TOKEN_RATES):
                rows += _tiers(variant, self._model.get_prices(noon, declared.when))
        unique = {(row.variant, row.prompt_over): row for row in rows}
        return refusal(unique.values()) or tuple(with_prompt_limits(unique.values()))


class Catalogue:
    """The installed genai-prices package."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], CatalogueModel | None] = {}
        self._names: dict[str, Mapping[str, ModelInfo]] = {}
        self._models: dict[int, CatalogueModel] = {}

    @cached_property
    def version(self) -> str:
        """Version of the installed package."""
        return importlib.metadata.version(SOURCE)

    @cached_property
    def _providers(self) -> dict[str, Provider]:
        from genai_prices.data_snapshot import get_snapshot

        return {provider.id: provider for provider in get_snapshot().providers}

    def find(self, provider: str, model: str) -> CatalogueModel | None:
        """The model with exactly this id, in exactly this price list.

        An id counts when the catalogue writes it out, alone or as the beginning of longer ids, or when a pattern
        describes it from end to end. That an unknown name begins like a known one says nothing about its price.
        """
        key = (provider, model)
        if key not in self._found:
            self._found[key] = self._exact(provider, model)
        return self._found[key]

    def contradicts(self, provider: str, name: str, found: CatalogueModel) -> bool:
        """Whether the catalogue itself takes a name for another model than the one found under a shorter name."""
        listed = self._providers[_LISTS.get(provider, provider)].find_model(name)
        return listed is not None and self._wrapped(listed) is not found

    def _exact(self, provider: str, model: str) -> CatalogueModel | None:
        listed = self._providers.get(_LISTS.get(provider, provider))
        if listed is None:
            return None
        if provider not in self._names:
            self._names[provider] = _written_names(listed)
        found = self._names[provider].get(model) or next(
            (candidate for candidate in listed.models if _described(candidate.match, model)), None
        )
        if found is None or listed.find_model(model) is not found:
            return None
        return self._wrapped(found)

    def _wrapped(self, model: ModelInfo) -> CatalogueModel:
        return self._models.setdefault(id(model), CatalogueModel(model))


@cache
def data_sha256() -> str:
    """SHA-256 of the catalogue's data, without importing it; `''` when it is not installed."""
    spec = importlib.util.find_spec("genai_prices")
    if spec is None or not spec.submodule_search_locations:
        return ""
    return hashlib.sha256((Path(spec.submodule_search_locations[0]) / "data.py").read_bytes()).hexdigest()


def _written_names(provider: Provider) -> dict[str, ModelInfo]:
    """Ids that the catalogue spells out. The first model in its order has a name that several list."""
    written: dict[str, ModelInfo] = {}
    for model in provider.models:
        for name in (model.id, *_spelled_out(model.match)):
            written.setdefault(name.lower(), model)
    return written


def _spelled_out(clause: MatchLogic) -> Iterator[str]:
    for key, value in vars(clause).items():
        if key in ("or_", "and_"):
            for part in value:
                yield from _spelled_out(part)
        elif key != "regex":
            yield value


def _described(clause: MatchLogic, name: str) -> bool:
    """Whether a pattern that covers names from end to end describes this one."""
    for key, value in vars(clause).items():
        if key in ("or_", "and_"):
            return any(_described(part, name) for part in value)
        if key == "regex" and value.startswith("^") and value.endswith("$") and "(?!" not in value:
            return re.search(value, name) is not None
    return False


def _stated(price: ModelPrice, key: str) -> bool:
    return vars(price).get(key) is not None


def _tiers(variant: str, price: ModelPrice) -> Iterator[Rates]:
    """A row for the base rates and one per context threshold; the catalogue's thresholds are exclusive, as ours."""
    listed = {key: value for key, value in vars(price).items() if value is not None}
    thresholds = {tier.start for key in _TOKEN_RATES for tier in getattr(listed.get(key), "tiers", ())}
    for threshold in [BASE_TIER, *sorted(thresholds)]:
        at = {
            key: _at(value, threshold)
            for key, value in listed.items()
            if key in (*_TOKEN_RATES, "cache_write_5m_mtok")
        }
        yield Rates(
            variant=variant,
            prompt_over=threshold,
            input=at["input_mtok"],
            output=at["output_mtok"],
            cache_read=at.get("cache_read_mtok"),
            cache_write_5m=at.get("cache_write_5m_mtok", at.get("cache_write_mtok")),
            cache_write_1h=at.get("cache_write_1h_mtok"),
            web_search_per_k=_at(listed["web_searches_kcount"], threshold)
            if "web_searches_kcount" in listed
            else None,
            basis="exact_day",
            source=SOURCE,
        )


def _at(price: Any, threshold: int) -> Decimal:
    """The rate that holds above a threshold, rounded once and for all to what is stored."""
    rate = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if tier.start <= threshold:
            rate = tier.price
    return Decimal(rate).quantize(RATE_STEP, ROUND_HALF_EVEN)
