"""What stands in answers, read exactly or not at all."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.connector import Answer, Request
from kharcha_pipeline.accounts.failures import Drifted
from kharcha_pipeline.accounts.values import (
    Fields,
    day_of_text,
    decimal_of,
    decoded,
    document,
    dollars_of_cents,
    exact_sum,
    flag_of,
    instant_of_number,
    instant_of_text,
    shown_dollars,
    structure,
    text_of,
    whole_of,
)

NOW = 1_795_176_000_000
"""2026-11-20 12:00 UTC."""

finite = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def answer(body: bytes) -> Answer:
    """An answer of a body."""
    return Answer(request=Request(path="/usage"), status=200, headers={}, body=body, fetched_ms=NOW)


def fields(value: Any, notes: Counter[str] | None = None) -> Fields:
    """An object of an answer."""
    return Fields(value, "a row of /usage", Counter() if notes is None else notes, NOW)


# ---------------------------------------------------------------------------------------------------- documents


def test_numbers_are_as_written() -> None:
    assert decoded(answer(b'{"a": 0.1, "b": 12345678901234567890, "c": 1E-7, "d": 6.6250}')) == {
        "a": Decimal("0.1"),
        "b": 12_345_678_901_234_567_890,
        "c": Decimal("1E-7"),
        "d": Decimal("6.6250"),
    }


def test_bom_is_passed_over() -> None:
    assert decoded(answer(b'\xef\xbb\xbf{"a": 1}')) == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1',
        b'{"a": "\xff"}',
        b'{"canary": 1} trailing',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"a": 1e9999999999999999999}',
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=range(12),
)
def test_what_is_no_json_is_drifted(body: bytes) -> None:
    with pytest.raises(Drifted) as failure:
        decoded(answer(body))
    assert str(failure.value) == "The answer of /usage is not the JSON that was expected."


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"canary"'])
def test_a_document_is_an_object(body: bytes) -> None:
    with pytest.raises(Drifted) as failure:
        document(answer(body), Counter())
    assert "canary" not in str(failure.value) + failure.value.sample


# ------------------------------------------------------------------------------------------------------- values


@given(finite)
def test_decimals_are_exact_also_as_text(number: Decimal) -> None:
    is_beyond_reason = bool(number) and int(number.as_tuple().exponent) < -60
    for form in (number, str(number)):
        assert decimal_of(form) == (None if is_beyond_reason else number)


@pytest.mark.parametrize(
    "value",
    ["", " 1", "1 ", "1_0", "0x1", "NaN", "inf", "1,5", "١", "1e99999", "--1", True, None, [], {}, 1.5, 10**18],
)
def test_what_is_no_number(value: Any) -> None:
    assert decimal_of(value) is None


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (3, 3),
        ("3", 3),
        (Decimal("3.0"), 3),
        ("3e2", 300),
        (-1, -1),
        (0, 0),
        ("3.5", None),
        (True, None),
        (2**63, None),
    ],
)
def test_whole_numbers(value: Any, whole: int | None) -> None:
    assert whole_of(value) == whole


@given(finite)
def test_cents_become_dollars_without_rounding(cents: Decimal) -> None:
    with localcontext() as context:
        context.prec = 3  # whatever the surroundings round to
        dollars = dollars_of_cents(cents)
    assert Fraction(dollars) * 100 == Fraction(cents)


@given(st.lists(finite.filter(lambda number: int(number.as_tuple().exponent) >= -60), max_size=20))
def test_sums_are_exact_and_the_order_does_not_matter(amounts: list[Decimal]) -> None:
    assert Fraction(exact_sum(amounts)) == sum(map(Fraction, amounts))
    assert exact_sum(reversed(amounts)) == exact_sum(amounts)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("$0.03", (Decimal("0.03"), True)),
        ("-$1,234.50", (Decimal("-1234.50"), True)),
        ("$7", (Decimal(7), True)),
        ("-", (None, True)),
        ("Included", (None, True)),
        ("", (None, True)),
        (None, (None, True)),
        ("Gratis", (None, False)),
        ("€0.03", (None, False)),
        ("$1,23", (None, False)),
        ("$", (None, False)),
        (3, (None, False)),
        ({"a": 1}, (None, False)),
    ],
)
def test_what_a_table_for_people_shows(shown: Any, expected: tuple[Decimal | None, bool]) -> None:
    assert shown_dollars(shown) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (NOW, "ms", NOW),
        (str(NOW), "ms", NOW),
        (Decimal(NOW), "ms", NOW),
        (NOW // 1000, "s", NOW),
        (Decimal(NOW) / 1000, "s", NOW),
        ("1795175999.5", "s", NOW - 500),
        (NOW // 1000, "ms", None),
        (NOW, "s", None),
        (1_577_836_799_999, "ms", None),
        (1_577_836_800_000, "ms", 1_577_836_800_000),
        (NOW + 1, "ms", None),
        ("2026-11-20", "ms", None),
        (-NOW, "ms", None),
        (True, "ms", None),
    ],
)
def test_instants_of_numbers(value: Any, unit: Any, expected: int | None) -> None:
    assert instant_of_number(value, unit, NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-20T12:00:00Z", NOW),
        ("2026-11-20T12:00:00.000Z", NOW),
        ("2026-11-20T17:30:00+05:30", NOW),
        ("2026-11-20T11:59:59.999999Z", NOW - 1),
        ("2026-11-20T12:00:00", None),
        ("2026-11-20", None),
        ("2019-12-31T23:59:59Z", None),
        ("2026-11-20T12:00:00.001Z", None),
        ("9999-12-31T23:59:59-23:00", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("soon", None),
        (NOW, None),
    ],
)
def test_instants_of_text(value: Any, expected: int | None) -> None:
    assert instant_of_text(value, NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-20", NOW - 43_200_000),
        ("2026-11-21", None),
        ("2019-12-31", None),
        ("2026-02-30", None),
        ("2026-W47-5", None),
        ("20261120", None),
        (20261120, None),
    ],
)
def test_days(value: Any, expected: int | None) -> None:
    assert day_of_text(value, NOW) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (42, "42"), ("\ud800x\x00", "\ufffdx\ufffd"), (True, None), ([], None), (10**30, None)],
)
def test_words(value: Any, text: str | None) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), (False, False), ("true", True), ("false", False), ("yes", None), (1, None), (0, None)],
)
def test_flags(value: Any, flag: bool | None) -> None:
    assert flag_of(value) is flag


# ------------------------------------------------------------------------------------------------------ objects


def test_missing_and_null_are_unknown_without_a_note() -> None:
    notes: Counter[str] = Counter()
    row = fields({"null": None}, notes)
    for name in ("null", "missing"):
        known = [row.whole(name), row.decimal(name), row.cents(name), row.flag(name), row.milliseconds(name)]
        assert known == [None] * 5
        assert (row.text(name), row.object(name), row.objects(name)) == ("", None, None)
    assert notes == {}


def test_what_is_there_and_cannot_be_read_is_noted_by_name() -> None:
    notes: Counter[str] = Counter()
    row = fields({"tokens": "canary", "at": "canary", "is": "canary", "name": ["canary"], "count": -1}, notes)
    assert [row.whole("tokens"), row.seconds("at"), row.flag("is"), row.count("count")] == [None] * 4
    assert row.text("name") == ""
    assert notes == {f'unreadable field "{name}"': 1 for name in ("tokens", "at", "is", "name", "count")}


def test_fields_that_nobody_asked_for_are_new() -> None:
    notes: Counter[str] = Counter()
    row = fields({"known": 1, "passed": 2, "fresh": 3, "asha@example.com": 4}, notes)
    row.whole("known")
    row.finish("passed")
    assert notes == {'new field "fresh"': 1, "new field (an unusual name)": 1}


@pytest.mark.parametrize("value", [[], [1], "x", 1, True, None])
def test_another_shape_is_drifted(value: Any) -> None:
    with pytest.raises(Drifted):
        fields(value)
    row = fields({"inner": value, "rows": {"a": 1}})
    if value is not None:
        with pytest.raises(Drifted):
            row.object("inner")
    with pytest.raises(Drifted):
        row.objects("rows")


def test_required_field_is_named_and_the_sample_holds_no_value() -> None:
    row = fields({"at": 1, "who": {"email": "canary@example.com", "canary@example.com": 1}, "rows": [1, "canary"]})
    with pytest.raises(
        Drifted, match='The shape of a row of /usage changed: the field "model" is missing'
    ) as failure:
        row.require("at", "model")
    assert failure.value.sample == (
        '{"at": number, "who": {"email": text, (an unusual name): number}, "rows": [number | text]}'
    )


@given(anything)
def test_structure_is_of_bounded_size_and_holds_no_value(value: Any) -> None:
    shape = structure(value)
    assert len(Drifted("x", sample=shape).sample) <= 2_000
    if isinstance(value, str):
        assert shape == "text"


@given(anything)
def test_every_reader_is_total(value: Any) -> None:
    row = fields({"x": value})
    for name in (
        "text",
        "whole",
        "count",
        "decimal",
        "dollars",
        "cents",
        "flag",
        "milliseconds",
        "seconds",
        "instant",
        "day",
    ):
        getattr(row, name)("x")
    for name in ("object", "objects"):
        try:
            getattr(row, name)("x")
        except Drifted as failure:
            assert str(failure)
