"""The catalogue: exact ids, the price of the day, and nothing that it does not state."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider

from kharcha_pipeline.pricing import price_lists
from kharcha_pipeline.pricing.catalogue import Catalogue, CatalogueModel, data_sha256
from kharcha_pipeline.pricing.rates import Rates

CATALOGUE = Catalogue()
DAY = date(2026, 11, 1)


def rates(provider: str, model: str, day: date = DAY) -> dict[tuple[str, int], Rates]:
    found = CATALOGUE.find(provider, model)
    assert found is not None
    listed = found.rates(day)
    assert not isinstance(listed, str), listed
    return {(row.variant, row.prompt_over): row for row in listed}


@pytest.mark.parametrize(
    ("provider", "model", "catalogue_id"),
    [
        ("anthropic", "claude-opus-4-5", "claude-opus-4-5"),
        ("anthropic", "claude-opus-4", "claude-opus-4-0"),
        ("openai", "gpt-5-codex", "gpt-5"),
        ("openai", "gpt-5.6", "gpt-5.6-sol"),
        ("openai", "gpt-5.6-sol-2026-07-09", "gpt-5.6-sol"),
        ("xai", "grok-4.5", "grok-4.5"),
        ("zai", "glm-4.6", "GLM-4.6"),
        ("minimax", "minimax-m2.1", "MiniMax-M2"),
        ("amazon-bedrock", "us.anthropic.claude-opus-4-5", "regional.anthropic.claude-opus-4-5-v1:0"),
        ("openrouter", "anthropic/claude-sonnet-4.6", "anthropic/claude-sonnet-4.6"),
    ],
)
def test_an_id_that_is_written_out_is_found(provider: str, model: str, catalogue_id: str) -> None:
    found = CATALOGUE.find(provider, model)
    assert found is not None and found.id == catalogue_id


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-opus-4-9"),
        ("anthropic", "claude-opus-4-5-invented"),
        ("anthropic", "claude-opus-4-50"),
        ("openai", "gpt-5.9"),
        ("openai", "gpt-5.3-codex-spark"),
        ("google", "gemini-9-pro"),
        ("google", "gemini-2.5-pro-invented"),
        ("deepseek", "deepseek-v4-pro-max"),
        ("zhipu-somewhere", "glm-4.6"),
        ("openai", "claude-opus-4-5"),
        ("", "gpt-5"),
    ],
)
def test_a_name_that_only_begins_like_a_known_one_is_not_found(provider: str, model: str) -> None:
    assert CATALOGUE.find(provider, model) is None


def test_a_price_holds_from_its_first_utc_day() -> None:
    before = rates("openai", "gpt-5.6-luna", date(2026, 7, 29))["standard", -1]
    after = rates("openai", "gpt-5.6-luna", date(2026, 7, 30))["standard", -1]
    assert (before.input, after.input) == (Decimal(1), Decimal("0.2"))


def test_tiers_keep_the_vendors_own_thresholds() -> None:
    assert ("standard", 200000) in rates("anthropic", "claude-sonnet-4-5")
    assert ("standard", 199999) in rates("xai", "grok-4.5")
    assert ("standard", 272000) in rates("openai", "gpt-5.5")
    assert rates("openai", "gpt-5.5")["standard", -1].prompt_up_to == 272000


def test_a_variant_is_there_only_when_and_while_it_is_declared() -> None:
    assert ("priority", -1) not in rates("openai", "gpt-5.5", date(2026, 10, 11))
    assert rates("openai", "gpt-5.5", date(2026, 10, 12))["priority", -1].input == Decimal("12.5")
    assert ("fast", -1) not in rates("anthropic", "claude-haiku-4-5")
    assert rates("anthropic", "claude-opus-4-8")["fast", -1].output == 50


def test_hours_of_the_day_are_not_the_price_of_the_day() -> None:
    assert rates("deepseek", "deepseek-v4-pro", date(2026, 5, 10))["standard", -1].input == Decimal("0.435")


def test_a_list_without_rates_is_no_price() -> None:
    found = CATALOGUE.find("github-copilot", "gpt-4.1")
    assert found is not None and isinstance(found.rates(DAY), str)


def test_what_is_billed_by_more_than_tokens_has_no_price() -> None:
    found = CATALOGUE.find("perplexity", "sonar")
    assert found is not None and "more than its tokens" in str(found.rates(DAY))


def with_model(**described: Any) -> CatalogueModel:
    """The model `new-model`, described in the package's own terms, as a catalogue that lists it has it."""
    model = ModelInfo(**{"id": "new-model", "match": ClauseEquals(equals="new-model")} | described)
    openai = Provider(id="openai", name="OpenAI", api_pattern="", models=[model])
    found = Catalogue(price_lists.plain([openai])).find("openai", "new-model")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        ({"input_mtok": Decimal(0), "output_mtok": Decimal(0)}, "all rates are zero"),
        ({"input_mtok": Decimal(1)}, "without input or output rates"),
        ({"input_mtok": Decimal(1), "output_mtok": Decimal(2001)}, "above 2,000"),
    ],
)
def test_unbelievable_rates_are_refused(prices: dict[str, Decimal], reason: str) -> None:
    assert reason in with_model(prices=ModelPrice(**prices)).rates(DAY)


def test_rates_are_rounded_once_half_to_even() -> None:
    price = ModelPrice(input_mtok=Decimal("0.0000025"), output_mtok=Decimal("0.0000035"))
    (row,) = with_model(prices=price).rates(DAY)
    assert (row.input, row.output) == (Decimal("0.000002"), Decimal("0.000004"))


def test_the_digest_needs_no_import_of_the_catalogue() -> None:
    code = (
        "import sys; from kharcha_pipeline.pricing.price_sources import price_sources_digest as d; "
        "assert len(d()) == 64; assert 'genai_prices.data' not in sys.modules; assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(data_sha256()) == 64
