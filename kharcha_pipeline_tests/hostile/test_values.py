"""Numbers, instants and JSON that no agent would write, and that still must not stop a reader or keep it busy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.sources.values import (
    COST_STEP,
    LARGEST_COST,
    LARGEST_COUNT,
    MOST_VALUES,
    amount,
    count,
    document,
    instant,
    rounded,
    text,
)

A_SECOND = 1.0
"""Each of these takes microseconds; computing one of them as an integer took a minute."""


@pytest.fixture
def in_a_second() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < A_SECOND


@pytest.mark.usefixtures("in_a_second")
@pytest.mark.parametrize("seconds", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        Decimal("1E+999999"),
        Decimal("1E-999999"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        10**6000,
        float("inf"),
        float("nan"),
        "0001-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999-23:59",
        "2026-03-04T09:15:²².481Z",
        "2026-03-04T09:15:22.²²²Z",
        "2026-03-04T09:15:61.000Z",
        "2026-03-04T99:99:22.481Z",
        "2026-03-04\0T09:15:22.48Z",
        "\ud800026-03-04T09:15:22.48Z",
        [],
        True,
    ],
    ids=type,
)
def test_what_is_no_instant_of_our_time_is_none_or_a_plain_number(value: object, seconds: bool) -> None:
    moment = instant(value, seconds=seconds)
    assert moment is None or 0 < moment < 253_402_387_200_000


@pytest.mark.parametrize(
    "value", ["1e999999999", "9" * 100_000, "sNaN", "١٢", Decimal("1E+999999"), 10**6000, -1], ids=type
)
def test_what_is_no_count_is_nothing(value: object) -> None:
    assert 0 <= count(value) <= 12


def test_integers_of_any_length_do_not_cost_the_record_they_stand_in() -> None:
    said = document(b'{"huge": 1' + b"0" * 6000 + b', "tokens": 7, "tiny": 1e-99999999999999999999}')
    assert (count(said["huge"]), said["tokens"], said["tiny"]) == (0, 7, None)


def test_a_text_of_too_many_values_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(ValueError, match="too many values"):
        document(b"[" + b"[]," * MOST_VALUES + b"[]]")
    assert len(document(b'["' + b",,," * 100_000 + b'"]')) == 1


@pytest.mark.usefixtures("in_a_second")
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a":['])
def test_nesting_without_end_is_no_json(opening: bytes) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply"):
        document(opening * 100_000)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("0.123456789012345678901234567890", "0.123456789012"),
        ("0.0000000000015", "0.000000000002"),
        ("0.0000000000025", "0.000000000002"),
        ("0.1234567890120000000", "0.123456789012"),
        ("999999999999.9999999999994", "999999999999.999999999999"),
        ("0.1", "0.1"),
    ],
)
def test_costs_are_exact_to_twelve_places_and_rounded_half_even_beyond(written: str, kept: str) -> None:
    assert rounded(amount(written)) == Decimal(kept)


@pytest.mark.parametrize("written", ["1E-999999", "0.0000000000004", "0.0000000000005"])
def test_a_cost_of_which_nothing_is_left_is_unknown(written: str) -> None:
    assert rounded(amount(written)) is None


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(0, 10**13, places=20))
@settings(max_examples=200)
def test_rounding_moves_a_cost_by_half_a_step_at_most(cost: Decimal) -> None:
    known = amount(cost)
    kept = rounded(known)
    assert known is None or known <= LARGEST_COST
    assert abs((kept or 0) - (known or 0)) <= COST_STEP / 2
    assert kept is None or (kept > 0 and kept == kept.quantize(COST_STEP))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(), st.lists))
@settings(max_examples=200)
def test_no_value_is_too_strange(value: object) -> None:
    assert 0 <= count(value) <= LARGEST_COUNT
    moment = instant(value)
    assert moment is None or moment > 0
    assert text(value).encode() is not None
    assert "\0" not in text(value)
