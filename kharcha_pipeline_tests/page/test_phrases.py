"""How numbers are said."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kharcha_pipeline.page import phrases


@pytest.mark.parametrize(
    ("amount", "rounded", "exact"),
    [
        (None, "unknown", "unknown"),
        ("0", "$0.00", "$0.00"),
        ("0.000000000001", "< $0.01", "$0.000000000001"),
        ("0.005", "< $0.01", "$0.005"),
        ("0.0051", "$0.01", "$0.0051"),
        ("1234.565000000000", "$1,234.56", "$1,234.565"),
        ("1234567.100000000000", "$1,234,567.10", "$1,234,567.10"),
        ("-12.345", "-$12.34", "-$12.345"),
    ],
)
def test_amounts(amount: str | None, rounded: str, exact: str) -> None:
    value = None if amount is None else Decimal(amount)
    assert phrases.dollars(value) == rounded
    assert phrases.exact_dollars(value) == exact


@given(some.decimals(min_value="0.000000000001", max_value="1e20", places=12))
def test_an_amount_that_is_not_zero_is_never_said_to_be(amount: Decimal) -> None:
    assert phrases.dollars(amount) != "$0.00"
    assert Decimal(phrases.exact_dollars(amount).replace("$", "").replace(",", "")) == amount


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0"), (999, "999"), (1_000, "1.00 k"), (12_345, "12.3 k"), (999_999, "999 k"), (1_000_000, "1.00 M"),
        (108_647_698, "108 M"), (2**63, "9,223 P"),
    ],
)  # fmt: skip
def test_tokens(number: int, said: str) -> None:
    assert phrases.tokens(number) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (None, "unknown"), ("0", "0 %"), ("0.0004", "< 0.1 %"), ("0.00099", "< 0.1 %"), ("0.123", "12.3 %"),
        ("0.999", "99.9 %"), ("0.9991", "> 99.9 %"), ("1", "100 %"), ("1.484", "148.4 %"),
    ],
)  # fmt: skip
def test_shares(share: str | None, said: str) -> None:
    assert phrases.percent(None if share is None else Decimal(share)) == said


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("2026-11-26", "2026-11-26", "26 Nov 2026"),
        ("2026-11-01", "2026-11-26", "1–26 Nov 2026"),
        ("2026-10-28", "2026-11-26", "28 Oct – 26 Nov 2026"),
        ("2025-12-31", "2026-01-01", "31 Dec 2025 – 1 Jan 2026"),
    ],
)
def test_spans_of_days(first: str, last: str, said: str) -> None:
    assert phrases.days(date.fromisoformat(first), date.fromisoformat(last)) == said


@pytest.mark.parametrize(
    ("then", "said"),
    [("2026-11-27", "today"), ("2026-11-26", "today"), ("2026-11-25", "yesterday"), ("2023-11-26", "1,096 days ago")],
)
def test_how_long_ago_a_day_was(then: str, said: str) -> None:
    assert phrases.days_ago(date.fromisoformat(then), date(2026, 11, 26)) == said
