"""Cursor's Admin API: spending, limits, members and daily counters of a team, and whose key it is."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import pytest

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.connectors.cursor_team import CURSOR_TEAM, CursorTeamSettings
from kharcha_pipeline.accounts.failures import AccountsUsageError, Denied, Drifted, Inconsistent, Unauthorized
from kharcha_pipeline.accounts.items import BillingPeriod, Limit, Member, ReportRow
from kharcha_pipeline_tests.accounts.connectors.cursor_reading import YESTERDAY, Cursor
from kharcha_pipeline_tests.accounts.cursor_vendor import CYCLE_MS, LEFT_OUT, day_of_usage, spending
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Reply

START, END = YESTERDAY
SETTINGS = CursorTeamSettings(secret="env:CURSOR")


# ------------------------------------------------------------------------------------------------- credential


def test_key_is_user_name_of_basic_authentication(team: Cursor) -> None:
    team.answers()
    sent = team.server.log[0].headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == f"{team.secret}:".encode()
    assert CURSOR_TEAM.expires_ms(team.secret) is None


@pytest.mark.parametrize(
    "secret",
    ["", "short", "with space 12345678", "a:b:c:d:e:f", "user_1%3A%3AeyJcanary", "eyJcanary.abc.def", "ké" * 9],
)
def test_what_cannot_be_a_key_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(AccountsUsageError) as error:
        CURSOR_TEAM.authorization(secret, SETTINGS)
    assert not secret or secret not in str(error.value)


def test_probe_tells_the_members(team: Cursor) -> None:
    assert [member.user for member in CURSOR_TEAM.probe(team.session, SETTINGS)] == [
        "asha@example.com",
        "ben@example.com",
    ]
    assert len(team.server.log) == 1


def test_probe_with_a_key_whose_scope_is_usage(team: Cursor) -> None:
    team.vendor.keys["crsr_usage_only"] = "/teams/filtered"
    assert list(CURSOR_TEAM.probe(team.signed_in("crsr_usage_only"), SETTINGS)) == []


@pytest.mark.parametrize("status", [401, 403])
def test_probe_with_a_key_that_may_not_see_the_members(team: Cursor, status: int) -> None:
    reply = Reply(status, {"error": "Unauthorized", "message": "not for this key"})
    team.server.faults.append(Fault("/teams/members", reply, sticky=True))
    assert list(CURSOR_TEAM.probe(team.session, SETTINGS)) == []


def test_probe_with_a_key_that_is_not_accepted(team: Cursor) -> None:
    with pytest.raises(Unauthorized):
        CURSOR_TEAM.probe(team.signed_in("crsr_revoked_key"), SETTINGS)


def test_401_on_an_endpoint_outside_the_keys_scope_is_no_bad_key(team: Cursor) -> None:
    team.vendor.keys["crsr_usage_only"] = "/teams/filtered"
    with pytest.raises(Denied, match="no scope for /teams/spend"):
        CURSOR_TEAM.read(team.signed_in("crsr_usage_only"), SETTINGS, team.resource("periods"), Window(0, 0))


def test_rates_are_below_what_is_documented() -> None:
    assert {name: (rate.requests, rate.seconds) for name, rate in CURSOR_TEAM.rates.items()} == {
        "default": (18, 60),
        "events": (54, 60),
    }


# ---------------------------------------------------------------------------------------------------- spending


def test_spending_of_every_member_and_of_the_team(team: Cursor) -> None:
    said = team.said("periods")
    assert said.items == [
        BillingPeriod(
            at_ms=CYCLE_MS,
            subject="user_EXAMPLE01",
            user="asha@example.com",
            included_usd=Decimal("20.00"),
            on_demand_usd=Decimal("4.12375"),
            total_usd=Decimal("24.12375"),
            on_demand_limit_usd=Decimal(50),
            requests=Decimal(0),
        ),
        BillingPeriod(
            at_ms=CYCLE_MS,
            subject="user_EXAMPLE02",
            user="ben@example.com",
            included_usd=Decimal("20.00"),
            on_demand_usd=Decimal("0.000625"),
            total_usd=Decimal("20.000625"),
            on_demand_limit_usd=Decimal(50),
            requests=Decimal(0),
        ),
        BillingPeriod(
            at_ms=CYCLE_MS,
            included_usd=Decimal("40.00"),
            on_demand_usd=Decimal("4.124375"),
            total_usd=Decimal("44.124375"),
            requests=Decimal(0),
        ),
    ]
    assert said.notes == {}


def test_sum_of_the_team_is_unknown_when_a_members_spending_is(team: Cursor) -> None:
    team.vendor.spend[0]["includedSpendCents"] = None
    whole = team.said("periods").items[-1]
    assert isinstance(whole, BillingPeriod)
    assert (whole.subject, whole.included_usd, whole.on_demand_usd) == ("", None, Decimal("4.124375"))


def test_sum_of_many_long_fractions_is_exact(team: Cursor) -> None:
    cents = Decimal("999999.0000000000000000000000001")
    team.vendor.spend = [spending(f"user_{n}", f"{n}@example.com", cents) for n in range(1000)]
    whole = team.said("periods").items[-1]
    assert isinstance(whole, BillingPeriod)
    assert whole.on_demand_usd == Decimal("9999990.000000000000000000000001")


def test_spending_on_several_pages(team: Cursor) -> None:
    team.vendor.largest_page = 2
    team.vendor.spend = [spending(f"user_{n}", f"{n}@example.com", Decimal(n)) for n in range(5)]
    assert len(team.said("periods").items) == 6
    assert [received.json["page"] for received in team.server.log] == [1, 2, 3]


def test_somebody_joins_while_spending_is_read(team: Cursor) -> None:
    team.vendor.largest_page = 1
    joined = spending("user_EXAMPLE03", "carla@example.com", Decimal(0))

    def join(number: int) -> None:
        team.vendor.after_page = lambda _: None
        team.vendor.spend.append(joined)

    team.vendor.after_page = join
    assert [item.subject for item in team.said("periods").items if isinstance(item, BillingPeriod)] == [
        "user_EXAMPLE01",
        "user_EXAMPLE02",
        "user_EXAMPLE03",
        "",
    ]


def test_somebody_joins_again_and_again(team: Cursor) -> None:
    team.vendor.largest_page = 1
    team.vendor.after_page = lambda number: team.vendor.spend.append(spending("user_X", "x@example.com", Decimal(0)))
    with pytest.raises(Inconsistent):
        team.answers("periods")


@pytest.mark.parametrize("field", ["subscriptionCycleStart", "teamMemberSpend", "totalMembers"])
def test_required_field_of_spending_renamed(team: Cursor, field: str) -> None:
    answer = team.vendor.answer

    def renamed(received: Any) -> Any:
        reply = answer(received)
        reply.content["renamed"] = reply.content.pop(field)
        return reply

    team.server.answer = renamed
    with pytest.raises(Drifted, match=field):
        team.said("periods")


# ------------------------------------------------------------------------------------------------------- limits


def test_override_of_zero_dollars_means_none(team: Cursor) -> None:
    limits = {(item.name, item.subject): item for item in team.said("limits").items if isinstance(item, Limit)}
    assert limits["hard limit override", "user_EXAMPLE01"].limit_usd is None
    assert limits["hard limit override", "user_EXAMPLE02"].limit_usd == 75  # dollars, beside cents
    assert limits["hard limit per user", "user_EXAMPLE01"].limit_usd == 50
    assert limits["monthly limit", "user_EXAMPLE01"].limit_usd is None
    assert limits["hard limit per user", "user_EXAMPLE01"].used_usd == Decimal("4.12375")


def test_limit_that_is_not_told_is_no_limit_row(team: Cursor) -> None:
    team.vendor.spend = [spending("u", "u@example.com", Decimal(0), hardLimitOverrideDollars=LEFT_OUT)]
    assert [item.name for item in team.said("limits").items if isinstance(item, Limit)] == [
        "monthly limit",
        "hard limit per user",
    ]


# ------------------------------------------------------------------------------------------------------ members


def test_members(team: Cursor) -> None:
    team.vendor.members[1]["isRemoved"] = True
    assert team.said("members").items == [
        Member(member_id="user_EXAMPLE01", user="asha@example.com", name="Asha Example", role="owner"),
        Member(
            member_id="user_EXAMPLE02", user="ben@example.com", name="Ben Example", role="member", is_removed=True
        ),
    ]


def test_integer_id_becomes_string(team: Cursor) -> None:
    team.vendor.members = [{"id": 42, "name": "N", "email": "n@example.com", "role": "member"}]
    before = team.said("members").items
    team.vendor.members[0]["id"] = "42"
    assert team.said("members").items == before


# -------------------------------------------------------------------------------------------------- daily usage


def test_daily_usage_is_counters_without_money(team: Cursor) -> None:
    team.vendor.days = [
        day_of_usage("user_EXAMPLE01", "asha@example.com", START, agentRequests=17, acceptedLinesAdded=210),
        day_of_usage("user_EXAMPLE02", "ben@example.com", START),
    ]
    said = team.said("daily usage")
    assert said.items == [
        ReportRow(
            report="daily usage",
            grouping="counter,user",
            at_ms=START,
            until_ms=END,
            dimensions=(("counter", counter), ("user", "user_EXAMPLE01")),
            user="asha@example.com",
            quantity=Decimal(quantity),
            unit=unit,
        )
        for counter, quantity, unit in (("agentRequests", 17, "requests"), ("acceptedLinesAdded", 210, "lines"))
    ]
    assert said.notes == {}


def test_daily_usage_of_thirty_days_on_several_pages(team: Cursor) -> None:
    team.vendor.largest_page = 4
    window = Window(END - 30 * DAY_MS, END)
    team.vendor.days = [
        day_of_usage("user_EXAMPLE01", "asha@example.com", END - n * DAY_MS, agentRequests=n) for n in range(1, 31)
    ]
    items = team.said("daily usage", window).items
    assert sorted(item.quantity for item in items if isinstance(item, ReportRow) and item.quantity) == [
        Decimal(n) for n in range(1, 31)
    ]
    assert len({item.group for item in items}) == 30


def test_no_window_of_daily_usage_is_longer_than_the_vendor_allows(team: Cursor) -> None:
    span = team.resource("daily usage").span
    assert span is not None and span.days <= 30
