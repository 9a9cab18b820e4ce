"""What `kharcha prices` shows."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from kharcha_pipeline.pricing.price_sources import Resolution, Unpriceable
from kharcha_pipeline.pricing.queries import present_price, price_spans, stored_rates, unpriced_uses
from kharcha_pipeline_tests.pricing.conftest import Ledger


@pytest.fixture
def used(ledger: Ledger) -> Ledger:
    for day in ("2026-08-19", "2026-08-20", "2026-08-21", "2026-08-25"):
        ledger.add("gpt-5.6-sol", f"{day}T12:00", source="codex", input_tokens=10)
    ledger.add("claude-opus-4-5-20251101", "2026-08-20T12:00", input_tokens=10)
    ledger.add("an-invented-name", "2026-08-20T12:00", source="codex", input_tokens=500)
    ledger.add("claude-haiku-4-5", "2026-08-20T12:00", service_tier="fast", input_tokens=20)
    ledger.add("", "2026-08-20T12:00", source="opencode", input_tokens=1)
    ledger.price()
    return ledger


def test_a_price_list_shows_spans_of_equal_rates(used: Ledger) -> None:
    spans = [span for span in price_spans(used.connection) if span.price_model == "gpt-5.6-sol"]
    assert [(span.first_day, span.last_day, span.days, span.input_per_mtok) for span in spans] == [
        (date(2026, 8, 19), date(2026, 8, 20), 2, Decimal(5)),
        (date(2026, 8, 21), date(2026, 8, 25), 2, Decimal(4)),
    ]


def test_stored_rates_are_found_under_any_spelling(used: Ledger) -> None:
    for spelling in ("claude-opus-4-5", "claude-opus-4.5", "Claude-Opus-4-5-20251101"):
        rows = stored_rates(used.connection, spelling)
        assert rows[0].price_model == "claude-opus-4-5" and rows[0].variant == "standard"
    assert stored_rates(used.connection, "claude-opus-4-5", provider="openai") == []


def test_stored_rates_of_a_day_are_those_of_that_day(used: Ledger) -> None:
    assert stored_rates(used.connection, "gpt-5.6-sol", day=date(2026, 8, 20))[0].output_per_mtok == 30
    assert stored_rates(used.connection, "gpt-5.6-sol")[0].snapshot_day == date(2026, 8, 25)
    assert stored_rates(used.connection, "gpt-5.6-sol", day=date(2026, 8, 22)) == []


def test_a_price_can_be_asked_for_before_it_is_used(used: Ledger) -> None:
    found = present_price(used.prices, "openrouter/anthropic/claude-sonnet-4.6", "", date(2026, 8, 1))
    assert isinstance(found, Resolution) and found.price_provider == "openrouter"
    missing = present_price(used.prices, "kimi-for-coding", "", date(2026, 8, 1))
    assert isinstance(missing, Unpriceable)


def test_what_has_no_price_is_listed_with_its_reason(used: Ledger) -> None:
    rows = unpriced_uses(used.connection)
    assert [(row.model, row.service_tier, row.events, row.tokens, row.reason) for row in rows] == [
        ("an-invented-name", "standard", 1, 500, "no price list has this exact name"),
        ("claude-haiku-4-5", "fast", 1, 20, "no rates are known for the tier fast"),
        ("", "standard", 1, 1, "the log names no model"),
    ]
