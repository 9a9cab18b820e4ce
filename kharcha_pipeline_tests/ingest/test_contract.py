"""The contract: what is accepted, what is refused, and that a refusal names every mistake and its place."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.ingest.contract import (
    LARGEST,
    MOST_MISTAKES,
    MOST_ROWS,
    RefusedError,
    cost_text,
    latest_day,
    understood,
)
from kharcha_pipeline_tests.ingest.rows import SEED_ROW, body, row


def refused(data: bytes) -> list[tuple[str, str]]:
    """What is wrong with a body."""
    with pytest.raises(RefusedError) as error:
        understood(data)
    return [tuple(mistake) for mistake in error.value.mistakes]  # type: ignore[misc]


def test_the_contracts_own_example_is_accepted_with_both_totals() -> None:
    sending = understood(body(SEED_ROW))
    (sent,) = sending.rows
    assert (sent.agent, sent.sum, sent.total_tokens, sending.mismatched) == ("claude-code", 4870, 5870, 1)
    assert refused(body(SEED_ROW, strict=True)) == [
        ("rows[0].totalTokens", "This says 5870, but the five counts add up to 4870.")
    ]
    assert understood(body({**SEED_ROW, "totalTokens": 4870}, strict=True)).mismatched == 0


@pytest.mark.parametrize("field", SEED_ROW)
def test_every_field_of_the_twelve_is_required(field: str) -> None:
    without = {name: value for name, value in SEED_ROW.items() if name != field}
    assert refused(body(SEED_ROW, without)) == [(f"rows[1].{field}", "This field is missing.")]


COUNTS = (
    "inputTokens",
    "outputTokens",
    "cacheReadTokens",
    "cacheWriteTokens",
    "reasoningTokens",
    "totalTokens",
    "messages",
)


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [True, 1.0, 1.5, "1", None, -1, 2**63, 10**40, [], {}])
def test_a_count_is_a_whole_number_from_0_to_the_largest_bigint(field: str, value: Any) -> None:
    ((where, _),) = refused(body({**SEED_ROW, field: value}))
    assert where == f"rows[0].{field}"


@pytest.mark.parametrize("field", COUNTS)
def test_the_largest_bigint_is_a_count(field: str) -> None:
    counts = dict.fromkeys(COUNTS, 0) | {field: LARGEST}
    assert understood(body(row(**counts))).rows[0].sum in (0, LARGEST)


def test_the_sum_of_the_counts_must_be_a_bigint_too() -> None:
    assert refused(body(row(inputTokens=LARGEST, reasoningTokens=1, totalTokens=0))) == [
        ("rows[0]", f"The five token counts add up to more than {LARGEST}.")
    ]


@pytest.mark.parametrize(
    "date",
    [
        "2026-13-99", "2026-02-29", "2026-3-01", "20260301", "2026-03-01T00:00:00Z", " 2026-03-01", "2026-03-01\n",
        "٢٠٢٦-٠٣-٠١", "2026-W10-7", "", "yesterday", 20260301, None, "2019-12-31", "0000-01-01", "9999-12-31",
        (latest_day() + timedelta(days=2)).isoformat(),
    ],
)  # fmt: skip
def test_a_date_is_a_day_of_the_calendar_that_can_have_been(date: Any) -> None:
    ((where, _),) = refused(body(row(date=date)))
    assert where == "rows[0].date"


@pytest.mark.parametrize("date", ["2020-01-01", "2024-02-29", latest_day().isoformat()])
def test_days_from_2020_to_two_days_ahead_are_accepted(date: str) -> None:
    assert understood(body(row(date=date))).rows[0].date == date


@pytest.mark.parametrize(
    "cost",
    [
        0, 1.5, True, "", "1e5", "-1", "+1", "1.", ".5", "1,5", "1 ", "1\n", "NaN", "Infinity", "0x1", "١", "1" * 13,
        "0." + "1" * 13, "1_0", [],
    ],
)  # fmt: skip
def test_a_cost_is_a_fixed_point_decimal_in_quotes_or_null(cost: Any) -> None:
    ((where, what),) = refused(body(row(costUsd=cost)))
    assert (where, "decimal in quotes" in what) == ("rows[0].costUsd", True)


@pytest.mark.parametrize(
    ("cost", "kept"),
    [(None, None), ("0", "0"), ("0.00", "0"), ("000.10", "0.1"), ("100", "100"), ("9" * 12 + ".999999999999",) * 2],
)
def test_equal_costs_are_kept_in_one_form_and_null_is_not_zero(cost: str | None, kept: str | None) -> None:
    assert understood(body(row(costUsd=cost))).rows[0].cost_usd == kept


@given(st.decimals(0, 10**12 - 1, places=12))
def test_a_cost_keeps_every_digit(cost: Decimal) -> None:
    assert Decimal(understood(body(row(costUsd=format(cost, "f")))).rows[0].cost_usd or "") == cost
    assert Decimal(cost_text(cost)) == cost


@pytest.mark.parametrize("field", ["agent", "provider", "model", "machine"])
@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "\x7f", "\u0085", "\u2028", "\ud800", "x" * 257, None, 5])
def test_a_name_is_bounded_valid_text_without_control_characters(field: str, text: Any) -> None:
    ((where, _),) = refused(body(row(**{field: text})))
    assert where == f"rows[0].{field}"


def test_names_may_be_of_any_script_and_only_the_agent_must_be_there() -> None:
    (sent,) = understood(body(row(agent="编码 🤖", provider="", model="accounts/x/models/y", machine="ünïx"))).rows
    assert sent.key == ("2026-03-01", "编码 🤖", "", "accounts/x/models/y", "ünïx")
    assert refused(body(row(agent=""))) == [("rows[0].agent", "This must not be empty.")]


def test_unknown_fields_are_refused_wherever_they_are() -> None:
    assert refused(body(row(effort="high"), source="x")) == [
        ("rows[0].effort", "There is no such field."),
        ("source", "There is no such field."),
    ]
    assert refused(body(row(input_tokens=1))) == [("rows[0].input_tokens", "There is no such field.")]


def test_unknown_names_are_cut_and_cleaned_before_they_are_repeated() -> None:
    ((where, _),) = refused(body(row(**{"\x1b[31m\u202e" + "x" * 1_000: 1})))
    assert where.isprintable()
    assert len(where) <= 120


def test_one_to_20000_rows() -> None:
    assert refused(b'{"rows": []}') == [("rows", "There must be at least one row.")]
    rows = [row(model=str(number)) for number in range(MOST_ROWS + 1)]
    assert len(understood(body(*rows[:-1])).rows) == MOST_ROWS
    assert refused(body(*rows)) == [("rows", "There must be at most 20,000 rows.")]


def test_two_rows_with_one_key_are_refused_and_both_are_named() -> None:
    what = "This row has the same date, agent, provider, model and machine as rows[0]."
    assert refused(body(row(agent="claude"), row(model="x"), row(agent="claude-code", inputTokens=5))) == [
        ("rows[2]", what)
    ]
    assert len(understood(body(row(machine="a"), row(machine="b"))).rows) == 2


def test_rows_without_a_machine_get_the_senders_label() -> None:
    rows = understood(body(row(), row(machine="desk")), "laptop").rows
    assert [sent.machine for sent in rows] == ["laptop", "desk"]
    with pytest.raises(RefusedError):
        understood(body(row(), row(machine="laptop")), "laptop")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "The body is not JSON: line 1, column 1."),
        (b"{'rows': []}", "The body is not JSON: line 1, column 2."),
        (b"\xef\xbb\xbf{}", "The body is not JSON: line 1, column 1."),
        (b'{"rows": "\xff"}', "Byte 10 is not valid UTF-8."),
        (b'{"rows": NaN}', "The body has a number that JSON does not know, or one that is too long."),
        (b'{"rows": -Infinity}', "The body has a number that JSON does not know, or one that is too long."),
        (b"1" * 5_000, "The body has a number that JSON does not know, or one that is too long."),
        (b'{"rows": [], "rows": []}', "An object has the same key twice."),
        (b'{"rows": [{"date": 1, "date": 2}]}', "An object has the same key twice."),
        (b"[" * 200_000, "The body is nested too deeply."),
        (b'{"a":' * 200_000, "The body is nested too deeply."),
        (b"[" + b"{}," * 1_000_000, "The body has more than 1,000,000 values."),
        (b"[]", "This must be an object."),
        (b'"rows"', "This must be an object."),
    ],
)
def test_what_is_not_strictly_json_is_refused(data: bytes, what: str) -> None:
    assert refused(data) == [("body", what)]


@pytest.mark.parametrize("zone", ["+05:30", "EST", "Etc/GMT+5", "Nowhere/Land", "../UTC", "", 5])
def test_a_zone_is_the_name_of_a_place(zone: Any) -> None:
    ((where, _),) = refused(body(row(), timezone=zone))
    assert where == "timezone"


def test_a_zone_that_is_not_told_is_unknown() -> None:
    assert understood(body(row())).timezone == "unknown"
    assert understood(body(row(), timezone="Asia/Kolkata")).timezone == "Asia/Kolkata"


@pytest.mark.parametrize("field", ["strict", "correction"])
def test_switches_are_true_or_false(field: str) -> None:
    assert refused(body(row(), **{field: 1})) == [(field, "This must be true or false.")]


def test_the_first_mistakes_are_named_and_the_others_counted() -> None:
    with pytest.raises(RefusedError) as error:
        understood(body(*[row(model=str(number), date=None) for number in range(60)]))
    assert (len(error.value.mistakes), error.value.more) == (MOST_MISTAKES, 10)
    with pytest.raises(RefusedError) as error:
        understood(json.dumps({"rows": [{}] * MOST_ROWS}).encode())
    assert len(error.value.mistakes) == MOST_MISTAKES
    assert error.value.more == 12 * MOST_ROWS - MOST_MISTAKES
