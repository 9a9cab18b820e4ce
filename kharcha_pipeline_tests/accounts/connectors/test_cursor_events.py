"""What Cursor's events mean, and what becomes of them when their form changes."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.accounts.connector import Answer, Request
from kharcha_pipeline.accounts.failures import Drifted
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline_tests.accounts.connectors import cursor_reading
from kharcha_pipeline_tests.accounts.connectors.cursor_reading import YESTERDAY, Cursor
from kharcha_pipeline_tests.accounts.cursor_vendor import LEFT_OUT
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS

START, END = YESTERDAY
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def usage(**changes: Any) -> dict[str, Any]:
    """The token usage of an event."""
    whole = {"inputTokens": 1200, "outputTokens": 850, "cacheWriteTokens": 4000, "cacheReadTokens": 32_000}
    shown = {**whole, "totalCents": Decimal("6.125"), **changes}
    return {name: value for name, value in shown.items() if value is not LEFT_OUT}


def tokens(event: VendorEvent) -> list[int | None]:
    """Input, output, cache reads and cache writes of an event."""
    return [getattr(event, name) for name in TOKENS]


# --------------------------------------------------------------------------------------------------- meaning


def test_event_of_the_admin_api(team: Cursor) -> None:
    team.happened(START, cloudAgentId="bc-1")
    assert team.event() == VendorEvent(
        at_ms=START,
        model_raw="example-large",
        conversation_id="conv-aaaa",
        cloud_agent_id="bc-1",
        user="asha@example.com",
        kind="Usage-based",
        input_tokens=1200,
        output_tokens=850,
        cache_read_tokens=32_000,
        cache_write_tokens=4000,
        model_cost_usd=Decimal("0.06125"),
        fee_usd=Decimal("0.005"),
        charged_usd=Decimal("0.06625"),
        request_units=Decimal("1.4"),
        is_chargeable=True,
        is_headless=False,
        is_max_mode=True,
    )
    assert team.said().notes == {}


def test_event_of_the_dashboard(dashboard: Cursor) -> None:
    dashboard.happened(START)
    event = dashboard.event()
    assert (event.owner_id, event.user) == ("100001", "")
    assert event.kind == "USAGE_EVENT_KIND_USAGE_BASED"
    assert event.charged_usd == Decimal("0.06625")
    assert tokens(event) == [1200, 850, 32_000, 4000]
    assert dashboard.said().notes == {}


def test_service_account_is_owner_and_user(team: Cursor) -> None:
    team.happened(START, userEmail=LEFT_OUT, serviceAccountId="sa-1", serviceAccountName="nightly")
    assert (team.event().owner_id, team.event().user) == ("sa-1", "nightly")
    assert team.said().notes == {}


def test_email_becomes_null_on_old_events_and_they_stay_the_same(team: Cursor) -> None:
    team.happened(START)
    before = team.event()
    team.vendor.events[0].revisions.append((0, "userEmail", None))
    assert team.event().user == ""
    assert team.event().group == before.group


def test_a_call_that_is_not_token_based_has_no_tokens_and_may_cost_nothing(team: Cursor) -> None:
    team.happened(START, tokenUsage=LEFT_OUT, kind="Errored, Not Charged", chargedCents=0, cursorTokenFee=LEFT_OUT)
    event = team.event()
    assert tokens(event) == [None] * 4
    assert (event.charged_usd, event.fee_usd, event.model_cost_usd) == (Decimal(0), None, None)


# ------------------------------------------------------------------------------------------------------ money


@pytest.mark.parametrize(
    ("cents", "dollars"),
    [
        (-500, "-5"),
        (Decimal("412.375"), "4.12375"),
        (Decimal("0.30000000000000004"), "0.0030000000000000004"),
        (Decimal("1.25E-7"), "1.25E-9"),
        (Decimal("1E+3"), "1E+1"),
        ("6.625", "0.06625"),
        (Decimal("12345678901234567.123456789012345678901"), "123456789012345.67123456789012345678901"),
        (0, "0"),
        (Decimal("-0.0"), "0"),
    ],
    ids=str,
)
def test_negative_cents_fractional_cents_and_exponent_floats(cursor: Cursor, cents: Any, dollars: str) -> None:
    cursor.happened(START, chargedCents=cents)
    assert cursor.event().charged_usd == Decimal(dollars)  # decimals compare exactly


@pytest.mark.parametrize("cents", ["abc", True, {"cents": 1}, [1], "1_000", "NaN", "٣", Decimal("1E+40"), "1" * 200])
def test_what_is_no_amount_is_unknown_and_never_zero(cursor: Cursor, cents: Any) -> None:
    cursor.happened(START, chargedCents=cents)
    said = cursor.said()
    assert [item.charged_usd for item in said.items if isinstance(item, VendorEvent)] == [None]
    assert said.notes['unreadable field "chargedCents"'] == 1


@pytest.mark.parametrize(
    ("shown", "note"),
    [
        ("$0.07", None),
        ("-", None),
        ("Included", None),
        ("", None),
        (None, None),
        ("$0.03", '"usageBasedCosts" is another amount than "chargedCents"'),
        ("$1,234.50", '"usageBasedCosts" is another amount than "chargedCents"'),
        ("Gratis", 'unreadable field "usageBasedCosts"'),
        (7, 'unreadable field "usageBasedCosts"'),
    ],
)
def test_dollars_and_words_for_people_are_parsed_by_rule(dashboard: Cursor, shown: Any, note: str | None) -> None:
    dashboard.happened(START, usageBasedCosts=shown)
    assert dashboard.event().charged_usd == Decimal("0.06625")  # to the last digit, whatever people are shown
    assert dashboard.said().notes == ({} if note is None else {note: 1})


def test_amounts_of_a_history_set_to_zero_are_zero_and_contradicted(dashboard: Cursor) -> None:
    dashboard.happened(START, chargedCents=0, usageBasedCosts="$0.07")
    assert dashboard.event().charged_usd == 0
    assert dashboard.said().notes == {'"usageBasedCosts" is another amount than "chargedCents"': 1}


# ------------------------------------------------------------------------------------------------ schema drift


def test_new_field_is_ignored_and_reported_once_per_field(cursor: Cursor) -> None:
    cursor.happened(START, START + 1, carbonGrams=3, tokenUsage=usage(reasoningTokens=7))
    said = cursor.said()
    assert len(said.items) == 2
    assert said.notes == {'new field "carbonGrams"': 2, 'new field "reasoningTokens"': 2}


def test_new_field_with_an_unusual_name_is_not_quoted(cursor: Cursor) -> None:
    cursor.happened(START, **{"asha@example.com": 3})
    assert cursor.said().notes == {"new field (an unusual name)": 1}


def test_new_kind_and_new_model(cursor: Cursor) -> None:
    cursor.happened(START, kind="Paid By Barter", model="example-unheard-of (auto)")
    event = cursor.event()
    assert (event.kind, event.model_raw) == ("Paid By Barter", "example-unheard-of (auto)")
    assert cursor.said().notes == {"kind that is not known yet": 1}


def test_number_as_string_and_string_as_number(cursor: Cursor) -> None:
    cursor.happened(
        START,
        chargedCents="6.625",
        requestsCosts="1.4",
        conversationId=4711,
        maxMode="true",
        tokenUsage=usage(inputTokens="1200", outputTokens=Decimal("850.0"), totalCents="6.125"),
    )
    cursor.vendor.show = lambda shown: shown | {"timestamp": int(shown["timestamp"])}
    event = cursor.event()
    assert (event.at_ms, event.conversation_id, event.is_max_mode) == (START, "4711", True)
    assert (event.charged_usd, event.request_units) == (Decimal("0.06625"), Decimal("1.4"))
    assert tokens(event) == [1200, 850, 32_000, 4000]
    assert cursor.said().notes == {}


@pytest.mark.parametrize("counter", [Decimal("12.5"), -1, "many", True, {"n": 1}, None])
def test_one_unreadable_counter_makes_all_four_unknown(cursor: Cursor, counter: Any) -> None:
    cursor.happened(START, tokenUsage=usage(cacheReadTokens=counter))
    assert tokens(cursor.event()) == [None] * 4
    assert cursor.said().notes["token counters that are not all known"] == 1


@pytest.mark.parametrize("instant", [START // 1000, START * 1000, "soon", "", "-5", {"ms": 1}, Decimal("1.5")])
def test_seconds_instead_of_milliseconds(cursor: Cursor, instant: Any) -> None:
    cursor.happened(START, START + 1)
    cursor.vendor.show = lambda shown: shown | {"timestamp": instant} if shown["timestamp"].endswith("1") else shown
    said = cursor.said()
    assert [item.at_ms for item in said.items if isinstance(item, VendorEvent)] == [START]
    assert list(said.rejects) == ["a usage event without a possible instant"]
    assert said.is_suspicious  # the row may be one that is stored: nothing counts as vanished


def test_missing_token_usage_is_unknown(cursor: Cursor) -> None:
    cursor.happened(START, tokenUsage=LEFT_OUT)
    assert tokens(cursor.event()) == [None] * 4
    assert cursor.said().notes == {}


def test_missing_counter_is_zero_where_zeros_are_left_out(dashboard: Cursor) -> None:
    dashboard.happened(START, tokenUsage=usage(cacheWriteTokens=LEFT_OUT))
    assert tokens(dashboard.event()) == [1200, 850, 32_000, 0]
    assert dashboard.said().notes == {}


def test_missing_counter_is_unknown_where_all_are_told(team: Cursor) -> None:
    team.happened(START, tokenUsage=usage(cacheWriteTokens=LEFT_OUT))
    assert tokens(team.event()) == [None] * 4


def test_missing_charged_cents_is_pending(cursor: Cursor) -> None:
    cursor.happened(START, chargedCents=LEFT_OUT)
    assert cursor.event().charged_usd is None
    assert cursor.said().notes == {"charge that is not known yet": 1}


def test_usage_events_instead_of_usage_events_display(dashboard: Cursor) -> None:
    dashboard.vendor.list_name = "usageEvents"
    dashboard.happened(START)
    assert dashboard.event().charged_usd == Decimal("0.06625")


def test_list_of_events_by_another_name_is_no_empty_window(cursor: Cursor) -> None:
    cursor.happened(START)
    answer = cursor.vendor.answer

    def renamed(received: Any) -> Any:
        reply = answer(received)
        reply.content["events"] = reply.content.pop("usageEvents", None) or reply.content.pop("usageEventsDisplay")
        reply.content.pop("totalUsageEventsCount")
        return reply

    cursor.server.answer = renamed
    with pytest.raises(Drifted):
        cursor.said()


@pytest.mark.parametrize(
    "changed",
    [
        {"timestamp": LEFT_OUT},
        {"model": LEFT_OUT, "modelName": "example-large"},
        {"tokenUsage": [1200, 850]},
        {"tokenUsage": "1200"},
        {"tokenUsage": {"promptTokens": 1200, "outputTokens": 850, "cacheReadTokens": 1, "cacheWriteTokens": 1}},
    ],
    ids=["timestamp", "model", "list", "text", "counter"],
)
def test_array_replaced_by_object_and_required_field_renamed(cursor: Cursor, changed: dict[str, Any]) -> None:
    cursor.happened(START, conversationId="conv-canary")

    def show(shown: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in (shown | changed).items() if value is not LEFT_OUT}

    cursor.vendor.show = show
    with pytest.raises(Drifted) as failure:
        cursor.said()
    assert "canary" not in str(failure.value) + failure.value.sample
    assert failure.value.sample


def test_rows_that_are_no_objects(cursor: Cursor) -> None:
    cursor.happened(START)
    cursor.vendor.show = lambda shown: list(shown.values())  # type: ignore[assignment,return-value]
    with pytest.raises(Drifted):
        cursor.said()


# -------------------------------------------------------------------------------------------- pure and total


@pytest.fixture(scope="module")
def ways() -> Iterator[dict[str, Cursor]]:
    """Both of Cursor's ways, for properties that need no fresh world."""
    with ExitStack() as stack:
        yield {
            "team": stack.enter_context(cursor_reading.team()),
            "dashboard": stack.enter_context(cursor_reading.dashboard()),
        }


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["1795046400000", "1e400", "-0", "$5", "-", 10**400, 1e308, "\ud800", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside of JSON."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [at, *(place for name, part in inner for place in places(part, (*at, name)))]


@st.composite
def broken(draw: st.DrawFn, whole: Any) -> Any:
    """An answer of which up to three places are replaced, renamed or taken out."""
    told = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        *outer, last = draw(st.sampled_from([place for place in places(told) if place] or [("x",)]))
        inner = told
        for name in outer:
            inner = inner[name]
        happens = draw(st.sampled_from(["replace", "take out", "rename"]))
        if happens == "replace" or not isinstance(inner, dict) or last not in inner:
            if isinstance(inner, list) and last >= len(inner):
                continue
            inner[last] = draw(junk)
        elif happens == "take out":
            del inner[last]
        else:
            inner[draw(st.text(string.ascii_letters, max_size=8))] = inner.pop(last)
    return told


EVENT = {
    "timestamp": str(START),
    "userEmail": "asha@example.com",
    "conversationId": "conv-aaaa",
    "model": "example-large",
    "kind": "Usage-based",
    "requestsCosts": 1.4,
    "usageBasedCosts": "$0.07",
    "isChargeable": True,
    "tokenUsage": {
        "inputTokens": 1,
        "outputTokens": 2,
        "cacheWriteTokens": 3,
        "cacheReadTokens": 4,
        "totalCents": 0.5,
    },
    "cursorTokenFee": 0.5,
    "chargedCents": 6.625,
}
TOLD: dict[str, dict[str, dict[str, Any]]] = {
    "team": {
        "events": {"totalUsageEventsCount": 2, "pagination": {"hasNextPage": False}, "usageEvents": [EVENT, EVENT]},
        "periods": {
            "teamMemberSpend": [{"userId": "u", "email": "e", "spendCents": 0.5, "hardLimitOverrideDollars": 0}],
            "subscriptionCycleStart": START,
            "totalMembers": 1,
            "totalPages": 1,
        },
        "members": {"teamMembers": [{"id": "u", "name": "n", "email": "e", "role": "owner", "isRemoved": False}]},
        "daily usage": {
            "data": [{"userId": "u", "email": "e", "date": START, "agentRequests": 3, "totalLinesAdded": 5}],
            "pagination": {"hasNextPage": False},
        },
    },
    "dashboard": {
        "events": {"totalUsageEventsCount": 2, "usageEventsDisplay": [EVENT, EVENT]},
        "periods": {
            "billingCycleStart": "2026-11-10T00:00:00.000Z",
            "billingCycleEnd": "2026-12-10T00:00:00.000Z",
            "individualUsage": {"plan": {"used": 1450, "limit": 2000}, "onDemand": {"used": 663, "limit": None}},
        },
        "invoices": {
            "invoices": [{"invoiceId": "in_1", "date": str(START), "amountCents": 2000, "currency": "usd"}],
            "items": [{"description": "d", "cents": -500}],
            "periodStartMs": str(START),
            "periodEndMs": str(NOON_MS),
            "total": 1,
        },
        "limits": {"hardLimit": 50, "hardLimitPerUser": 25, "noUsageBasedAllowed": False},
        "members": {"email": "e", "name": "n", "sub": "user_1", "id": 1},
    },
}
PATHS = {
    "periods": "/api/usage-summary",
    "invoices": "/api/dashboard/get-monthly-invoice",
}


@given(data=st.data(), way=st.sampled_from(["team", "dashboard"]))
def test_normalize_is_pure_and_total(ways: dict[str, Cursor], data: st.DataObject, way: str) -> None:
    cursor = ways[way]
    name = data.draw(st.sampled_from(sorted(TOLD[way])))
    resource = cursor.resource("periods" if name == "limits" and way == "team" else name)
    path = data.draw(st.sampled_from([PATHS.get(name, "/x"), "/api/dashboard/list-invoices", "/other"]))
    told = data.draw(broken(TOLD[way][name]))
    answer = Answer(
        request=Request(path=path, body={"startDate": str(START), "endDate": str(END - 1)}),
        status=200,
        headers={},
        body=json.dumps(told).encode(),
        fetched_ms=NOON_MS,
    )
    resources = [resource, cursor.resource("limits")] if resource.name == "periods" and way == "team" else [resource]
    for asked in resources:
        try:
            said = cursor.connector.normalize(cursor.settings, asked, YESTERDAY, [answer])
        except Drifted as failure:
            assert str(failure).endswith(".")
            continue
        assert said == cursor.connector.normalize(cursor.settings, asked, YESTERDAY, [answer])
        for item in said.items:
            assert msgspec.json.decode(msgspec.json.encode(item), type=type(item)) == item
            assert all(value.is_finite() for value in msgspec.structs.astuple(item) if isinstance(value, Decimal))


@given(body=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
@pytest.mark.parametrize("way", ["team", "dashboard"])
def test_any_bytes_are_drifted_or_understood(ways: dict[str, Cursor], way: str, body: bytes) -> None:
    cursor = ways[way]
    answer = Answer(request=Request(path="/x"), status=200, headers={}, body=body, fetched_ms=NOON_MS)
    for resource in cursor.connector.resources(cursor.settings):
        try:
            cursor.connector.normalize(cursor.settings, resource, YESTERDAY, [answer])
        except Drifted as failure:
            assert failure.sample == "" or body


@given(
    amounts=st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9),
        min_size=1,
        max_size=9,
    )
)
def test_conversion_to_dollars_has_no_rounding(ways: dict[str, Cursor], amounts: list[Decimal]) -> None:
    """A hundred times the dollars are the cents, to the last digit that was written."""
    cursor = ways["team"]
    amounts = [amount for amount in amounts if not amount or int(amount.as_tuple().exponent) >= -60]
    rows = [{**EVENT, "chargedCents": amount} for amount in amounts]
    told = {"totalUsageEventsCount": len(rows), "pagination": {"hasNextPage": False}, "usageEvents": rows}
    answer = Answer(
        request=Request(path="/x"),
        status=200,
        headers={},
        body=msgspec.json.Encoder(decimal_format="number").encode(told),
        fetched_ms=NOON_MS,
    )
    items = cursor.connector.normalize(cursor.settings, cursor.events, YESTERDAY, [answer]).items
    assert [Fraction(item.charged_usd) * 100 for item in items] == [Fraction(amount) for amount in amounts]
