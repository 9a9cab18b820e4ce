"""The extract of the catalogue: it says what the pinned package says, and any other version is asked itself."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ConditionalPrice,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TimeOfDateConstraint,
    calc_unit_price,
)

from kharcha_pipeline.pricing import price_lists
from kharcha_pipeline.pricing.catalogue import Catalogue, CatalogueModel
from kharcha_pipeline.pricing.rates import RATE_STEP, Rates
from kharcha_pipeline_tests import write_catalogue

OURS = {"x-ai": "xai", "aws": "amazon-bedrock", "google": "google-vertex"}
"""Our name of a price list, where it differs from the package's."""
TODAY = date(2026, 11, 26)
CONTEXTS: dict[str, list[dict[str, str]]] = {
    "standard": [{}],
    "batch": [{"processing": "batch"}],
    "flex": [{"service_tier": "flex"}],
    "priority": [{"service_tier": "priority"}],
    "fast": [{"service_tier": "fast"}, {"speed": "fast"}],
}
MUTATIONS: list[Callable[[str], str]] = [
    lambda name: f"{name}-fast",
    lambda name: f"{name}-20251211",
    lambda name: f"{name}-2025-12-11",
    lambda name: f"{name}-20260230:free",
    lambda name: f"us.anthropic/{name}",
    lambda name: name.upper(),
    lambda name: name[:-1],
    lambda name: name.rpartition("/")[2],
    lambda name: f"{name}\n",
]
BOTH = [(provider, OURS.get(provider.id, provider.id)) for provider in providers]


def test_the_file_is_what_the_pinned_package_says() -> None:
    shipped = price_lists.shipped()
    constraints = (Path(__file__).parents[2] / "constraints.txt").read_text("utf-8").split()
    assert f"genai-prices=={shipped.version}" in constraints
    assert write_catalogue.FILE.read_text("utf-8") == write_catalogue.extract(), "out of date: run `make catalogue`"


def written(clause: MatchLogic) -> Iterator[str]:
    for value in vars(clause).values():
        if isinstance(value, str):
            yield value
        else:
            for part in value:
                yield from written(part)


@pytest.mark.parametrize(("provider", "listed"), BOTH, ids=[provider.id for provider, _ in BOTH])
def test_a_name_is_taken_for_the_same_model_as_by_the_package(provider: Provider, listed: str) -> None:
    catalogue = Catalogue()
    known = sorted({name for model in provider.models for name in (model.id, *written(model.match))})
    invented = ["", "gpt", "no-such-model", "claude-opus-9", "ünïcödé", "-20251211"]
    chance = random.Random(provider.id)
    mutated = [mutate(name) for name in known for mutate in MUTATIONS]
    for name in [*known, *invented, *chance.sample(mutated, min(len(mutated), 1_500))]:
        model = provider.find_model(name)
        taken = catalogue.matched(listed, name)
        assert (taken and taken.id) == (model and model.id), name
        found = catalogue.find(listed, name)
        assert found is None or found is taken, name
        if found is not None:
            assert not catalogue.contradicts(listed, name, found)
            longer = provider.find_model(f"{name}-fast")
            assert catalogue.contradicts(listed, f"{name}-fast", found) == (longer not in (None, model)), name


@pytest.mark.parametrize("provider", providers, ids=[provider.id for provider in providers])
def test_a_model_has_the_rates_that_the_package_has_on_every_day(provider: Provider) -> None:
    plain = price_lists.models(price_lists.shipped().lists[provider.id])
    for model, found in zip(provider.models, map(CatalogueModel, plain), strict=True):
        assert found.id == model.id
        starts = sorted(started(model))
        for day in {TODAY, date(2020, 1, 1), *(start + timedelta(n) for start in starts for n in (-1, 0, 1))}:
            assert found.effective_from(day) == max((start for start in starts if start <= day), default=None)
            rates = found.rates(day)
            expected = stated(model, datetime.combine(day, time(12), UTC))
            if isinstance(rates, str):
                highest = [max(rate for rate in row[:5] if rate is not None) for row in expected.values()]
                assert not expected or 0 in highest or max(highest) > 2_000, (model.id, day, rates)
            else:
                assert {(row.variant, row.prompt_over): amounts(row) for row in rates} == expected, (model.id, day)


def started(model: ModelInfo) -> set[date]:
    """The days on which the package lets a price of the model begin."""
    conditions = [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
    constraints = (condition.constraint for condition in conditions)
    return {constraint.start_date for constraint in constraints if isinstance(constraint, StartDateConstraint)}


Amounts = tuple[Decimal | None, ...]


def amounts(row: Rates) -> Amounts:
    return (
        row.input,
        row.output,
        row.cache_read,
        row.cache_write_5m,
        row.cache_write_1h,
        row.web_search_per_k,
    )


def stated(model: ModelInfo, moment: datetime) -> dict[tuple[str, int], Amounts]:
    """What the package asks for, by variant and tier; nothing for what cannot be priced by tokens alone."""
    standard = vars(model.get_prices(moment))
    if None in (standard.get("input_mtok"), standard.get("output_mtok")):
        return {}
    if any(standard.get(key) is not None for key in price_lists.NOT_BY_TOKENS):
        return {}
    options: list[tuple[str, dict[str, str]]] = [("standard", {})]
    for declared in model.price_variants or ():
        variants = [variant for variant, contexts in CONTEXTS.items() if declared.when in contexts]
        active = declared.constraint is None or declared.constraint.active(moment)
        if variants and active and any(vars(declared.prices).get(key) is not None for key in price_lists.TOKEN_RATES):
            options.append((variants[0], declared.when))
    rows: dict[tuple[str, int], Amounts] = {}
    for variant, context in options:
        price = vars(model.get_prices(moment, context))
        tiered = [getattr(price.get(key), "tiers", ()) for key in price_lists.TOKEN_RATES]
        writes = "cache_write_5m_mtok" if price.get("cache_write_5m_mtok") is not None else "cache_write_mtok"
        for over in {-1, *(tier.start for tiers in tiered for tier in tiers)}:
            rows[variant, over] = tuple(
                charged(price.get(key), over + 1)
                for key in (
                    *("input_mtok", "output_mtok", "cache_read_mtok"),
                    *(writes, "cache_write_1h_mtok", "web_searches_kcount"),
                )
            )
    return rows


def charged(price: Any, prompt: int) -> Decimal | None:
    """What the package's own arithmetic makes of a million tokens (or a thousand searches) after such a prompt."""
    return None if price is None else calc_unit_price(price, 10**6, prompt, 10**6).quantize(RATE_STEP)


INPUT_AND_OUTPUT = {"input_mtok": Decimal(1), "output_mtok": Decimal(2)}


def described(**values: Any) -> CatalogueModel | None:
    """The model `new-1`, described in the package's terms, as a catalogue that has it finds it."""
    model = ModelInfo(
        **{"id": "new-1", "match": ClauseEquals(equals="new-1"), "prices": ModelPrice(**INPUT_AND_OUTPUT)} | values
    )
    openai = Provider(id="openai", name="OpenAI", api_pattern="", models=[model])
    return Catalogue(price_lists.plain([openai])).find("openai", "new-1")


@pytest.mark.parametrize(
    ("match", "is_found"),
    [
        (ClauseAnd(and_=[ClauseStartsWith(starts_with="NEW"), ClauseContains(contains="-1")]), True),
        (ClauseAnd(and_=[ClauseStartsWith(starts_with="new"), ClauseContains(contains="-2")]), False),
        (ClauseOr(or_=[ClauseEquals(equals="old"), ClauseEquals(equals="New-1")]), True),
        (ClauseOr(or_=[]), False),
        (SimpleNamespace(sounds_like="new-1"), False),
    ],
)
def test_clauses_mean_what_they_mean_in_the_package(match: Any, is_found: bool) -> None:
    assert (described(match=match) is not None) == is_found


def test_hours_count_where_they_hold_at_noon() -> None:
    def rate(first: int, end: int) -> Decimal:
        hours = ConditionalPrice(
            constraint=TimeOfDateConstraint(time(first), time(end)),
            prices=ModelPrice(input_mtok=Decimal(7), output_mtok=Decimal(8)),
        )
        found = described(prices=[ConditionalPrice(prices=ModelPrice(**INPUT_AND_OUTPUT)), hours])
        assert found is not None
        (row,) = found.rates(TODAY)
        assert isinstance(row, Rates)
        return row.input

    assert (rate(11, 13), rate(13, 14), rate(16, 13), rate(12, 13), rate(11, 12)) == (7, 1, 7, 7, 1)


def test_the_first_price_stands_in_for_days_before_all_others() -> None:
    dated = [
        ConditionalPrice(constraint=StartDateConstraint(date(2026, 5, day)), prices=ModelPrice(**prices))
        for day, prices in ((10, INPUT_AND_OUTPUT), (20, {"input_mtok": Decimal(3), "output_mtok": Decimal(4)}))
    ]
    found = described(prices=dated)
    assert found is not None
    first_rates = [found.rates(date(2026, 5, day))[0] for day in (1, 10, 19, 20)]
    assert [row.input for row in first_rates if isinstance(row, Rates)] == [1, 1, 1, 3]
    assert [found.effective_from(date(2026, 5, day)) for day in (1, 19, 20)] == [
        *(None, date(2026, 5, 10)),
        date(2026, 5, 20),
    ]


def test_what_a_later_version_says_in_an_unknown_form_has_no_price() -> None:
    weekends = SimpleNamespace(weekdays=[5, 6])
    per_image = ModelPrice(**INPUT_AND_OUTPUT | {"output_mtok": SimpleNamespace(per_image=Decimal(1))})
    for prices in (
        per_image,
        [ConditionalPrice(constraint=weekends, prices=ModelPrice(**INPUT_AND_OUTPUT))],  # type: ignore[arg-type]
        [],
    ):
        found = described(prices=prices)
        assert found is not None and isinstance(found.rates(TODAY), str)

    variant = PriceVariant({"processing": "batch"}, ModelPrice(input_mtok=Decimal(1)), weekends)  # type: ignore[arg-type]
    found = described(price_variants=[variant])
    assert found is not None
    assert [row.variant for row in found.rates(TODAY) if isinstance(row, Rates)] == ["standard"]


ASK = """
import sys
from datetime import date
from kharcha_pipeline.pricing.catalogue import Catalogue
found = Catalogue().find("anthropic", "claude-2")
print(found.rates(date(2026, 3, 1))[0].input, "genai_prices" in sys.modules, "pydantic" in sys.modules)
"""


def asked(**environment: str) -> list[str]:
    """What claude-2 costs, and whether the package and pydantic were imported to say so."""
    finished = subprocess.run(
        [sys.executable, "-c", ASK], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return finished.stdout.split()


def test_another_version_of_the_package_is_asked_itself(tmp_path: Path) -> None:
    assert asked() == ["8.000000", "False", "False"]

    package = shutil.copytree(Path(genai_prices.__file__).parent, tmp_path / "genai_prices")
    assert asked(PYTHONPATH=str(tmp_path)) == ["8.000000", "False", "False"]

    data = package / "data.py"
    cheaper = data.read_text("utf-8").replace("input_mtok=Decimal('8')", "input_mtok=Decimal('7.5')")
    data.write_text(cheaper, "utf-8")
    assert asked(PYTHONPATH=str(tmp_path)) == ["7.500000", "True", "True"]
