"""Amounts and numbers as people read them, never through a float."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.cli.output import as_text, plain
from kharcha_pipeline.cli.texts import bytes_of, counted, dollars, exact, short_path

amounts = st.decimals(min_value=0, max_value=10**20, places=12, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "unpriced"),
        ("0", "0.00"),
        ("0.000000000001", "<0.01"),
        ("0.004999999999", "<0.01"),
        ("0.005", "<0.01"),
        ("0.005000000001", "0.01"),
        ("0.015", "0.02"),
        ("1234.565000000001", "1,234.57"),
        ("-3.456", "-3.46"),
    ],
)
def test_dollars_are_rounded_to_cents_and_unknown_is_said(amount: str | None, shown: str) -> None:
    assert dollars(None if amount is None else Decimal(amount)) == shown


@given(amounts)
def test_rounding_is_at_most_half_a_cent_off(amount: Decimal) -> None:
    shown = dollars(amount)
    if shown != "<0.01":
        assert abs(Decimal(shown.replace(",", "")) - amount) <= Decimal("0.005")


@given(amounts)
def test_exact_amounts_keep_every_digit(amount: Decimal) -> None:
    text = exact(amount)
    assert text is not None
    assert "E" not in text
    assert Decimal(text) == amount


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (277_449, "277.4 kB"),
        (999_999, "999.9 kB"),
        (1_000_000, "1.0 MB"),
        (3_456_000_000_000_000, "3,456.0 TB"),
    ],
)
def test_sizes_have_the_unit_that_suits_them(size: int, shown: str) -> None:
    assert bytes_of(size) == shown


def test_nouns_agree_with_their_numbers() -> None:
    assert (counted(1, "day"), counted(1_204, "day"), counted(0, "entry", "entries")) == (
        "1 day",
        "1,204 days",
        "0 entries",
    )


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/home/sam", "~"), ("/home/sam/shop", "~/shop"), ("/home/samira", "/home/samira"), ("", "")],
)
def test_the_home_directory_is_shortened(path: str, shown: str) -> None:
    assert short_path(path, "/home/sam") == shown


def test_json_holds_decimals_as_strings_and_times_in_iso_form() -> None:
    value = {
        "cost": Decimal("0.000000012300"),
        "at": datetime(2026, 11, 2, 9, tzinfo=UTC),
        "day": date(2026, 11, 2),
        "id": UUID(int=1),
        "several": [Decimal("1.50"), None],
        "bytes": b"\x00\xff",
        "endless": float("inf"),
    }
    assert plain(value) == {
        "cost": "0.000000012300",
        "at": "2026-11-02T09:00:00Z",
        "day": "2026-11-02",
        "id": "00000000-0000-0000-0000-000000000001",
        "several": ["1.50", None],
        "bytes": "00ff",
        "endless": "inf",
    }
    assert as_text(None) == "NULL"
    assert as_text([1, Decimal("2.0")]) == '[1, "2.0"]'
