"""Pricing snapshots: one per model and UTC day of use, first capture wins, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from copy import copy
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import data_snapshot

from kharcha_pipeline.pricing import price_lists
from kharcha_pipeline.pricing.catalogue import Catalogue
from kharcha_pipeline.pricing.price_sources import PriceSources, price_sources_digest
from kharcha_pipeline.pricing.snapshots import unpriced_days
from kharcha_pipeline_tests.pricing.conftest import TODAY, Ledger

KEYS = "SELECT price_provider, price_model, snapshot_day, revision, basis FROM pricing_snapshots ORDER BY ALL"


def forgotten(provider_id: str, model_id: str) -> PriceSources:
    """The shipped prices, with a model taken out of the catalogue."""
    providers = []
    for provider in data_snapshot.get_snapshot().providers:
        if provider.id == provider_id:
            provider = copy(provider)
            provider.models = [model for model in provider.models if model.id != model_id]
        providers.append(provider)
    return replace(PriceSources.load(today=TODAY), catalogue=Catalogue(price_lists.plain(providers)))


def test_a_snapshot_exists_for_exactly_the_models_and_utc_days_that_are_used(ledger: Ledger) -> None:
    ledger.add("gpt-5", "2026-03-01T10:00", input_tokens=1)
    ledger.add("gpt-5", "2026-03-01T11:00", input_tokens=1)
    ledger.add("claude-opus-4-6", "2026-03-03T10:00", input_tokens=1)
    ledger.capture()
    assert ledger.query(KEYS) == [
        ("anthropic", "claude-opus-4-6", date(2026, 3, 3), 1, "exact_day"),
        ("openai", "gpt-5", date(2026, 3, 1), 1, "exact_day"),
    ]


def test_the_day_of_a_price_is_the_utc_day_not_the_local_one(ledger: Ledger) -> None:
    event = ledger.add("gpt-5.6-luna", "2026-07-30T00:30", day=date(2026, 7, 29), input_tokens=1_000_000)
    ledger.price()
    assert ledger.priced(event)["snapshot_day"] == date(2026, 7, 30)
    assert ledger.cost(event) == Decimal("0.4")  # a prompt of a million tokens is in the long-context tier


def test_a_second_capture_changes_nothing(ledger: Ledger) -> None:
    ledger.add("gpt-5", "2026-03-01T10:00", input_tokens=1)
    ledger.capture()
    before = ledger.query("SELECT * FROM pricing_snapshots"), ledger.query("SELECT * FROM pricing_rates ORDER BY ALL")
    result = ledger.capture()
    assert (result.snapshots, result.named, result.unpriced) == (0, 0, 0)
    after = ledger.query("SELECT * FROM pricing_snapshots"), ledger.query("SELECT * FROM pricing_rates ORDER BY ALL")
    assert after == before


def test_the_first_capture_wins_over_a_source_that_rewrites_its_past(ledger: Ledger, prices_file: Any) -> None:
    first = ledger.add("gpt-5", "2026-03-01T10:00", input_tokens=1_000_000)
    ledger.price()
    rewritten = prices_file(
        '[[price]]\nprovider="openai"\nmodel="gpt-5"\neffective_from=2026-01-01\ninput="7"\noutput="8"\n'
    )
    late = ledger.add("gpt-5", "2026-03-01T23:00", input_tokens=2_000_000)
    other_day = ledger.add("gpt-5", "2026-03-02T10:00", input_tokens=1_000_000)
    ledger.price(prices=rewritten)
    assert ledger.cost(first) == Decimal("1.25")
    assert ledger.cost(late) == Decimal("2.5")
    assert ledger.cost(other_day) == Decimal(7)
    assert ledger.priced(other_day)["price_basis"] == "override"


def test_a_forgotten_model_keeps_the_price_of_its_last_day_of_use(ledger: Ledger) -> None:
    ledger.add("claude-opus-4-1", "2026-03-01T10:00", input_tokens=1)
    ledger.price()
    later = ledger.add("claude-opus-4-1", "2026-03-09T10:00", input_tokens=1_000_000)
    ledger.price(prices=forgotten("anthropic", "claude-opus-4-1"))
    assert ledger.cost(later) == Decimal(15)
    assert ledger.priced(later)["price_basis"] == "carried"
    assert ledger.query("SELECT carried_from FROM pricing_snapshots WHERE basis = 'carried'") == [(date(2026, 3, 1),)]


def test_a_price_is_not_carried_back(ledger: Ledger) -> None:
    ledger.add("claude-opus-4-1", "2026-03-09T10:00", input_tokens=1)
    ledger.price()
    earlier = ledger.add("claude-opus-4-1", "2026-03-01T10:00", input_tokens=1)
    ledger.price(prices=forgotten("anthropic", "claude-opus-4-1"))
    assert ledger.cost(earlier) is None


def test_what_the_user_stated_is_not_carried_past_its_end(ledger: Ledger, prices_file: Any) -> None:
    prices = prices_file(
        '[[price]]\nprovider="openai"\nmodel="secret-1"\neffective_from=2026-03-01\neffective_to=2026-03-02\n'
        'input="7"\noutput="8"\n'
    )
    inside = ledger.add("secret-1", "2026-03-01T10:00", source="codex", input_tokens=1_000_000)
    outside = ledger.add("secret-1", "2026-03-02T10:00", source="codex", input_tokens=1_000_000)
    ledger.price(prices=prices)
    assert (ledger.cost(inside), ledger.cost(outside)) == (Decimal(7), None)


def test_no_price_before_a_model_was_offered(ledger: Ledger) -> None:
    event = ledger.add("claude-opus-5-5", "2026-09-20T23:59", input_tokens=1)
    first_day = ledger.add("claude-opus-5-5", "2026-09-21T00:00", input_tokens=1)
    result = ledger.price()
    assert ledger.cost(event) is None
    assert ledger.cost(first_day) is not None
    assert any("first offered on 2026-09-21" in warning for warning in result.warnings)


def test_no_price_for_a_day_that_has_not_come_yet(ledger: Ledger) -> None:
    event = ledger.add("gemini-3.6-flash", "2027-01-01T10:00", source="gemini", input_tokens=1_000_000)
    ledger.price()
    assert ledger.cost(event) is None
    assert ledger.query(KEYS) == []
    ledger.price(prices=PriceSources.load(today=date(2027, 1, 1)))
    assert ledger.cost(event) == Decimal("1.5")


def test_a_price_announced_for_later_is_not_used_before(ledger: Ledger) -> None:
    event = ledger.add("gemini-3.6-flash", "2026-11-22T10:00", source="gemini", input_tokens=1_000_000)
    ledger.price()
    assert ledger.cost(event) == Decimal("0.75")


@pytest.mark.parametrize(
    "model",
    [
        "gpt-5.3-codex-spark",
        "codex-auto-review",
        "kimi-for-coding",
        "k2p5",
        "composer-1",
        "auto",
        "claude-opus-4-9",
        "gpt-5.9",
        "grok-9",
        "deepseek-v5",
        "gemini-9-pro",
        "an-invented-name",
        "",
    ],
)
def test_invented_and_hidden_names_have_no_price(ledger: Ledger, model: str) -> None:
    event = ledger.add(model, "2026-09-01T10:00", source="opencode", input_tokens=1000, output_tokens=1000)
    ledger.price()
    assert ledger.cost(event) is None
    assert ledger.priced(event)["pricing_status"] == "unpriced"


def test_what_has_no_price_is_not_tried_again_until_a_source_changes(ledger: Ledger, prices_file: Any) -> None:
    event = ledger.add("an-invented-name", "2026-09-01T10:00", source="codex", input_tokens=1_000_000)
    assert ledger.price().unpriced == 1
    assert ledger.price() == (0, 0, 0, ())
    assert unpriced_days(ledger.connection) == [date(2026, 9, 1)]
    text = '[[price]]\nprovider="openai"\nmodel="an-invented-name"\neffective_from=2026-01-01\ninput=3\noutput=4\n'
    assert ledger.price(prices=prices_file(text)).named == 1
    assert ledger.cost(event) == 3
    assert unpriced_days(ledger.connection) == []
    assert ledger.query("SELECT count(*) FROM operations.unpriced_names") == [(0,)]


def test_what_has_no_price_is_remembered_once_and_with_the_sources_that_had_none(
    ledger: Ledger, prices_file: Any
) -> None:
    for name, day in (("an-invented-name", 1), ("another-name", 1), ("an-invented-name", 5)):
        ledger.add(name, f"2026-09-0{day}T10:00", source="codex", input_tokens=1)
    ledger.price()
    before = price_sources_digest(None)
    changed = prices_file('[[price]]\nprovider="openai"\nmodel="m"\neffective_from=2026-01-01\ninput=3\noutput=4\n')
    assert ledger.price([date(2026, 9, 1)], prices=changed).unpriced == 2
    assert ledger.query(
        "SELECT model, day(snapshot_day), price_sources_sha256 FROM operations.unpriced_names ORDER BY ALL"
    ) == [
        ("an-invented-name", 1, changed.digest),
        ("an-invented-name", 5, before),
        ("another-name", 1, changed.digest),
    ]


def test_a_price_that_becomes_known_is_logged(ledger: Ledger, prices_file: Any) -> None:
    event = ledger.add("an-invented-name", "2026-09-01T10:00", source="codex", input_tokens=1_000_000)
    ledger.price()
    ledger.price(
        prices=prices_file(
            '[[price]]\nprovider="openai"\nmodel="an-invented-name"\neffective_from=2026-01-01\ninput=3\noutput=4\n'
        )
    )
    ledger.build()
    assert ledger.query(
        "SELECT CAST(event_id AS VARCHAR), subject, reason, before->>'cost_usd', after->>'cost_usd' "
        "FROM event_changes"
    ) == [(event, "price", "price became known", None, "3.000000000000")]


def test_the_digest_of_the_sources_follows_the_users_file(prices_file: Any) -> None:
    text = '[[price]]\nprovider="openai"\nmodel="m"\neffective_from=2026-01-01\ninput=3\noutput=4\n'
    first = prices_file(text).digest
    assert first != price_sources_digest(None)
    assert prices_file(text).digest == first
    assert prices_file(text.replace("3", "5")).digest != first


def test_a_refused_price_is_a_warning_that_names_the_model_once(ledger: Ledger) -> None:
    for hour in (10, 11):
        ledger.add("z-ai/glm-4.5-air:free", f"2026-09-01T{hour}:00", source="opencode", provider_raw="openrouter")
    result = ledger.capture()
    assert len([warning for warning in result.warnings if "glm-4.5-air:free" in warning]) == 1


def test_capture_is_the_same_in_any_order_of_days(ledger: Ledger) -> None:
    for day in ("2026-03-01", "2026-05-20", "2026-08-21", "2026-10-12"):
        for model in ("gpt-5.6-sol", "grok-code-fast-1", "claude-opus-4-6", "deepseek-v4-pro"):
            ledger.add(model, f"{day}T02:30", input_tokens=250_000, output_tokens=10)
    days = ledger.days
    for day in days:
        ledger.capture([day])
    one_by_one = ledger.query("SELECT * EXCLUDE captured_at FROM pricing_snapshots ORDER BY ALL")
    for table in ("pricing_snapshots", "pricing_rates", "operations.price_names", "operations.unpriced_names"):
        ledger.connection.execute(f"DELETE FROM {table}")
    ledger.capture(days[::-1])
    assert ledger.query("SELECT * EXCLUDE captured_at FROM pricing_snapshots ORDER BY ALL") == one_by_one


def test_nothing_missing_means_no_import_of_the_catalogue(tmp_path: Any) -> None:
    code = """
import sys
from datetime import date
from kharcha_pipeline_tests.pricing.conftest import Ledger, warehouse
ledger = Ledger(warehouse())
ledger.add("gpt-5", "2026-03-01T10:00", input_tokens=1, reported_cost_usd="0.5")
ledger.price()
assert "genai_prices" not in sys.modules, "imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_alias_of_the_user_chooses_the_price_and_not_the_name(ledger: Ledger, prices_file: Any) -> None:
    prices = prices_file('[[alias]]\nmatch = "codex-auto-review"\nprovider = "openai"\nmodel = "gpt-5.4"\n')
    event = ledger.add("codex-auto-review", "2026-04-01T10:00", source="codex", input_tokens=1_000_000)
    ledger.price(prices=prices)
    row = ledger.priced(event)
    assert (row["model"], row["price_model"], row["cost_usd"]) == ("codex-auto-review", "gpt-5.4", Decimal(5))


def test_an_alias_may_be_meant_for_one_agent(ledger: Ledger, prices_file: Any) -> None:
    prices = prices_file('[[alias]]\nmatch = "auto"\ntool = "cursor"\nprovider = "openai"\nmodel = "gpt-5.4"\n')
    meant = ledger.add("auto", "2026-04-01T10:00", source="cursor", input_tokens=1)
    other = ledger.add("auto", "2026-04-01T10:00", source="opencode", input_tokens=1)
    ledger.price(prices=prices)
    assert ledger.cost(meant) is not None
    assert ledger.cost(other) is None


def test_a_snapshot_can_be_checked_by_its_digest(ledger: Ledger) -> None:
    ledger.add("claude-sonnet-4-5", "2026-03-01T10:00", input_tokens=1)
    ledger.capture()
    orphans = "SELECT count(*) FROM pricing_snapshots ANTI JOIN pricing_rates USING (rates_sha256)"
    assert ledger.query(orphans) == [(0,)]
    assert ledger.query("SELECT DISTINCT length(rates_sha256), length(source_sha256) FROM pricing_snapshots") == [
        (64, 64)
    ]
