"""Which rates a model has on a day: the user's prices, else the corrections, else the catalogue.

`PriceSources` answers for one name and one UTC day, from files that do not change while it lives. It writes nothing;
`snapshots` freezes its answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from kharcha_pipeline.events.names import MatchRule, PriceCandidate, names, price_candidates, shipped_aliases
from kharcha_pipeline.pricing import catalogue
from kharcha_pipeline.pricing.catalogue import Catalogue, CatalogueModel
from kharcha_pipeline.pricing.price_book import (
    Premium,
    PriceBook,
    PriceRow,
    corrections_bytes,
    read_corrections,
    read_overrides,
)
from kharcha_pipeline.pricing.rates import (
    BASE_TIER,
    MINUTES_OF_DAY,
    Basis,
    Rates,
    as_records,
    digest,
    multiplied,
    refusal,
    with_prompt_limits,
)

_ZERO = Decimal(0)
_FREE = Rates("standard", BASE_TIER, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, "free", "overrides")


class UsedName(NamedTuple):
    """A model as it was used: what a price depends on, apart from the day."""

    source: str
    provider: str
    model: str
    route: str
    model_raw: str


class RateCard(NamedTuple):
    """All rates of one price model on one day, and where they come from.

    Attributes:
        rates: every variant, tier and time of day.
        records: the same in their canonical spelling, as they are stored.
        sha256: digest of the records.
        basis: where the standard rates come from.
        source: `genai-prices`, `corrections` or `overrides`.
        source_version: version of the source; `''` for files, which have a digest only.
        source_model_id: the model's id inside the source.
        source_effective_from: first day of these rates, where the source dates them.
        source_sha256: digest of the file, or of the catalogue's data.
    """

    rates: tuple[Rates, ...]
    records: list[dict[str, str | int | None]]
    sha256: str
    basis: Basis
    source: str
    source_version: str
    source_model_id: str
    source_effective_from: date | None
    source_sha256: str


class Resolution(NamedTuple):
    """What a used name costs on a day, and why it is that price.

    `vendor_equivalent` says that the model was bought elsewhere at a price nobody publishes, so that the vendor's
    own list stands in. `tier_in_name` says that the price model already names the tier (`claude-opus-4.8-fast`).
    """

    price_provider: str
    price_model: str
    rule: MatchRule
    vendor_equivalent: bool
    tier_in_name: bool
    card: RateCard


class Unpriceable(NamedTuple):
    """Why a used name has no price on a day, as a phrase; a warning when a price was there but was refused."""

    reason: str
    warning: str | None = None


@dataclass(frozen=True)
class PriceSources:
    """The user's prices, the shipped corrections and the catalogue, together.

    Attributes:
        overrides: the user's own prices.
        overrides_path: where they come from.
        today: the present UTC day; no later day is ever priced.
        corrections: the shipped corrections, unless others are given.
        catalogue: the installed catalogue, unless another is given.
    """

    overrides: PriceBook
    overrides_path: Path | None = None
    today: date = field(default_factory=lambda: datetime.now(UTC).date())
    corrections: PriceBook | None = None
    catalogue: Catalogue | None = None
    _cards: dict[Any, RateCard | str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, overrides_path: Path | None = None, today: date | None = None) -> PriceSources:
        """Reads and checks the user's prices; everything else is read when it is needed.

        Raises:
            PriceFileError: when the prices file is missing or wrong.
        """
        overrides = read_overrides(overrides_path)
        if today is None:
            return cls(overrides, overrides_path)
        return cls(overrides, overrides_path, today)

    @property
    def digest(self) -> str:
        """Changes whenever any price could have changed: see `price_sources_digest`."""
        return price_sources_digest(self.overrides_path)

    @cached_property
    def _corrections(self) -> PriceBook:
        return self.corrections if self.corrections is not None else read_corrections()

    @cached_property
    def _catalogue(self) -> Catalogue:
        return self.catalogue if self.catalogue is not None else Catalogue()

    @cached_property
    def _first_days(self) -> dict[str, dict[str, date]]:
        import tomllib

        text = resources.files(__package__).joinpath("releases.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)

    def resolve(self, used: UsedName, day: date) -> Resolution | Unpriceable:
        """The price of a used name on a UTC day, from the first of its exact ids that has one."""
        if day > self.today:
            return Unpriceable("the day is in the future")
        refused: str | None = None
        for candidate in self._candidates(used, day):
            card = self._candidate_card(used, candidate, day)
            if isinstance(card, RateCard):
                return Resolution(
                    candidate.provider,
                    candidate.model,
                    candidate.rule,
                    vendor_equivalent=bool(used.route) and candidate.provider != used.route,
                    tier_in_name=candidate.tier_in_name,
                    card=card,
                )
            if card and refused is None:
                refused = f"{candidate.provider} {candidate.model}: {card}"
        if refused is None:
            return Unpriceable("no price list has this exact name")
        return Unpriceable(refused, warning=f"No price for {refused}.")

    def premium(self, used: UsedName, day: date) -> Premium | None:
        """What the user says about premium requests of a used name on a UTC day."""
        for candidate in self._candidates(used, day):
            if (premium := self.overrides.premium(candidate.provider, candidate.model, day)) is not None:
                return premium
        return None

    def listed(self, provider: str) -> Iterable[str]:
        """The ids that the catalogue has in a vendor's own list."""
        return self._catalogue.ids(provider)

    def candidates(self, used: UsedName, day: date) -> list[PriceCandidate]:
        """The exact ids a used name may be priced under on a day, best first."""
        return list(self._candidates(used, day))

    def card(self, provider: str, model: str, day: date) -> RateCard | str | None:
        """The rates of an exact id on a UTC day, a phrase why they were refused, or `None` when nobody lists it."""
        found = self._catalogue.find(provider, model)
        list_from = self._first_days["list"].get(provider)
        if list_from is not None and day < list_from:
            found = None
        if found is None and not self._priced_by_file(provider, model, day):
            return None
        ids = (model,) if found is None or found.id.lower() == model else (model, found.id.lower())
        overrides = self.overrides.rows_on(provider, [model], day)
        corrections = self._corrections.rows_on(provider, ids, day)
        key = (
            provider,
            model,
            found.period(day) if found else None,
            *(id(row) for row in (*overrides, *corrections)),
            *(id(row) for row in self._corrections.multipliers_on(provider, ids, day)),
        )
        if key not in self._cards:
            self._cards[key] = self._composed(provider, ids, day, found, overrides, corrections)
        return self._cards[key]

    def _candidates(self, used: UsedName, day: date) -> Iterable[PriceCandidate]:
        """The user's aliases come first; a shipped one counts after the model's own name, if that has no price."""
        spellings = {used.model, used.model_raw.strip().lower().removesuffix("[1m]")}
        for alias in self.overrides.aliases:
            if any(alias.holds(used.source, spelling, day) for spelling in spellings):
                yield PriceCandidate(alias.provider, alias.model, "alias")
        listed = price_candidates(used.provider, used.model, used.route, used.model_raw)
        yield from (candidate for candidate in listed if candidate.rule in ("route", "exact"))
        on_list = not any(candidate.only_overrides for candidate in listed)
        for alias in shipped_aliases() if on_list else ():
            if alias.provider == used.provider and alias.holds(used.source, used.model, day):
                yield PriceCandidate(alias.provider, alias.model, "alias")
        yield from (candidate for candidate in listed if candidate.rule in ("date", "effort"))

    def _candidate_card(self, used: UsedName, candidate: PriceCandidate, day: date) -> RateCard | str | None:
        if candidate.only_overrides and not self.overrides.prices(candidate.provider, candidate.model, day):
            return None
        if candidate.rule in ("date", "effort") and not self._priced_by_file(
            candidate.provider, candidate.model, day
        ):
            found = self._catalogue.find(candidate.provider, candidate.model)
            if found is None or self._catalogue.contradicts(candidate.provider, used.model, found):
                return None
        first_day = self._first_day(used, candidate)
        if first_day and day < first_day and not self.overrides.prices(candidate.provider, candidate.model, day):
            return f"the model was first offered on {first_day}"
        return self.card(candidate.provider, candidate.model, day)

    def _priced_by_file(self, provider: str, model: str, day: date) -> bool:
        return self.overrides.prices(provider, model, day) or self._corrections.prices(provider, model, day)

    def _first_day(self, used: UsedName, candidate: PriceCandidate) -> date | None:
        """When the model was first offered, by the vendor or under the candidate's id, whichever is known."""
        by_maker = self._first_days.get(used.provider, {})
        if used.model in by_maker:
            return by_maker[used.model]
        listed = self._first_days.get(candidate.provider, {})
        found = self._catalogue.find(candidate.provider, candidate.model)
        return listed.get(candidate.model) or (listed.get(found.id.lower()) if found else None)

    def _composed(
        self,
        provider: str,
        ids: tuple[str, ...],
        day: date,
        found: CatalogueModel | None,
        overrides: list[PriceRow],
        corrections: list[PriceRow],
    ) -> RateCard | str:
        """Lays the corrections over the catalogue and the user's prices over both."""
        if any(row.free for row in overrides):
            return self._as_card([_FREE], "free", ids[0], None, day, overrides)
        listed = found.rates(day) if found is not None else ()
        rows: list[Rates] = [] if isinstance(listed, str) else list(listed)
        rows = _overlaid(rows, corrections, "correction")
        for multiplier in self._corrections.multipliers_on(provider, ids, day):
            if not any(row.variant == multiplier.variant for row in corrections):
                standard = [row for row in rows if row.variant == "standard"]
                rows = [row for row in rows if row.variant != multiplier.variant]
                rows += [
                    multiplied(
                        row,
                        multiplier.factor,
                        variant=multiplier.variant,
                        basis="correction",
                        source=multiplier.source,
                    )
                    for row in standard
                ]
        rows = _overlaid(rows, overrides, "override")
        base = next((row for row in rows if row.variant == "standard" and row.prompt_over == BASE_TIER), None)
        if base is None:
            return listed if isinstance(listed, str) else "no source states its standard rates"
        if provider == "anthropic":
            rows = [_with_hour_writes(row) for row in rows]
        if base.basis != "override":
            rows = _with_hours(rows, [row for row in corrections if row.windows])
        rows = with_prompt_limits(rows)
        return refusal(rows) or self._as_card(rows, base.basis, ids[-1], found, day, [*overrides, *corrections])

    def _as_card(
        self,
        rows: list[Rates],
        basis: Basis,
        model_id: str,
        found: CatalogueModel | None,
        day: date,
        stated: Iterable[PriceRow] = (),
    ) -> RateCard:
        records = as_records(rows)
        if basis == "exact_day" and found is not None:
            source, version, sha256 = catalogue.SOURCE, self._catalogue.version, catalogue.data_sha256()
            model_id, effective_from = found.id, found.effective_from(day)
        else:
            book, source = (
                (self._corrections, "corrections") if basis == "correction" else (self.overrides, "overrides")
            )
            version, sha256 = "", book.sha256
            effective_from = next((row.period.first for row in stated if row.variant == "standard"), None)
        return RateCard(
            tuple(rows), records, digest(records), basis, source, version, model_id, effective_from, sha256
        )


def price_sources_digest(overrides_path: Path | None = None) -> str:
    """SHA-256 over everything a price can come from, without importing or parsing any of it.

    It covers the catalogue's data, the shipped corrections, first days and aliases, and the user's file. When it is
    the same as at the last build, trying again to price what had no price is of no use.
    """
    own = resources.files(__package__)
    parts = [
        catalogue.data_sha256().encode(),
        corrections_bytes(),
        own.joinpath("releases.toml").read_bytes(),
        resources.files("kharcha_pipeline.events").joinpath("aliases.toml").read_bytes(),
        overrides_path.read_bytes() if overrides_path is not None and overrides_path.exists() else b"",
    ]
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def used_name(provider: str, model: str, source: str = "") -> UsedName:
    """The name that a provider and a model in any spelling stand for, as `kharcha prices show` takes them."""
    spelled = names(source, provider, model)
    return UsedName(source, spelled.provider, spelled.model, spelled.route, model)


def _overlaid(below: list[Rates], above: list[PriceRow], basis: Basis) -> list[Rates]:
    """A file's rows over what is stated below them.

    A base row replaces its variant as a whole, tiers included, for it describes the price anew; a tier alone is
    added to the variant as it is.
    """
    stated = [row for row in above if not row.windows]
    replaced = {row.variant for row in stated if row.prompt_over == BASE_TIER}
    added = {(row.variant, row.prompt_over) for row in stated}
    kept = [row for row in below if row.variant not in replaced and (row.variant, row.prompt_over) not in added]
    return kept + [_as_rates(row, basis) for row in stated]


def _as_rates(row: PriceRow, basis: Basis) -> Rates:
    return Rates(
        variant=row.variant,
        prompt_over=row.prompt_over,
        input=row.rates["input"],
        output=row.rates["output"],
        cache_read=row.rates.get("cache_read"),
        cache_write_5m=row.rates.get("cache_write_5m"),
        cache_write_1h=row.rates.get("cache_write_1h"),
        web_search_per_k=row.web_search_per_k,
        basis=basis,
        source=row.source or f"{basis}s",
    )


def _with_hour_writes(row: Rates) -> Rates:
    """Anthropic bills a cache write for one hour at twice the input rate, whether or not a list says so."""
    return row if row.cache_write_1h is not None else row._replace(cache_write_1h=row.input * 2)


def _with_hours(rows: list[Rates], hours: list[PriceRow]) -> list[Rates]:
    """Splits the day where other rates hold for some hours of it."""
    for stated in hours:
        split: list[Rates] = []
        for row in rows:
            if (row.variant, row.prompt_over) != (stated.variant, stated.prompt_over):
                split.append(row)
                continue
            special = _as_rates(stated, "correction")
            edges = sorted({0, MINUTES_OF_DAY, *(minute for window in stated.windows for minute in window)})
            for first, end in pairwise(edges):
                inside = any(start <= first and end <= stop for start, stop in stated.windows)
                split.append((special if inside else row)._replace(from_minute=first, until_minute=end))
        rows = split
    return rows
