from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline.accounts.connector import Window
from kharcha_pipeline.accounts.connectors.github_copilot import GITHUB_COPILOT, GitHubCopilotSettings
from kharcha_pipeline.accounts.failures import (
    AccountsUsageError,
    Denied,
    Drifted,
    Inconsistent,
    Misconfigured,
    RateLimited,
    Unauthorized,
)
from kharcha_pipeline.accounts.items import BillingPeriod, Limit, Member, ReportRow
from kharcha_pipeline_tests.accounts.connectors.reading import TODAY, WEEK, YESTERDAY, Reading, reading
from kharcha_pipeline_tests.accounts.github_vendor import (
    TOKEN,
    GitHubVendor,
    budget,
    credits_used,
    requests_used,
    seat,
)
from kharcha_pipeline_tests.accounts.storing import standing
from kharcha_pipeline_tests.accounts.vendor_server import Fault, Reply, TurnedClock

CREDITS = "/organizations/octo-example/settings/billing/ai_credit/usage"


def month(year: int, number: int) -> int:
    return int(datetime(year, number, 1, tzinfo=UTC).timestamp()) * 1000


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def vendor(clock: TurnedClock) -> GitHubVendor:
    return GitHubVendor(clock)


@pytest.fixture
def account(vendor: GitHubVendor, clock: TurnedClock, tmp_path: Path) -> Iterator[Reading]:
    with reading(GITHUB_COPILOT, vendor, TOKEN, tmp_path, clock, login="octo-example") as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------- units


def test_amounts_are_dollars_and_what_is_billed_is_net(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(YESTERDAY.from_ms + HOUR_MS)]
    normalized = account.normalized("ai-credits", YESTERDAY)
    billed, before = normalized.items
    assert billed == ReportRow(
        report="ai_credits",
        grouping="model,product,sku,unitType",
        at_ms=YESTERDAY.from_ms,
        until_ms=YESTERDAY.until_ms,
        dimensions=(
            ("model", "example-large"),
            ("product", "Copilot"),
            ("sku", "Copilot AI Credit"),
            ("unitType", "ai-credits"),
        ),
        model_raw="example-large",
        quantity=Decimal(250),
        unit="ai-credits",
        amount=Decimal("0.50"),
    )
    assert isinstance(before, ReportRow)
    assert (before.report, before.quantity, before.unit) == ("ai_credits_before_discounts", Decimal("2.50"), "USD")
    assert before.amount is None  # or a sum of amounts would count both
    assert not normalized.notes


def test_premium_requests_are_a_unit_of_their_own(account: Reading, vendor: GitHubVendor) -> None:
    vendor.requests = [requests_used(YESTERDAY.from_ms, gross="10.5", covered="10")]
    billed, _ = account.items("premium-requests", YESTERDAY)
    assert (billed.report, billed.quantity, billed.unit, billed.amount) == (
        "premium_requests",
        Decimal("10.5"),
        "requests",
        Decimal("0.020"),
    )


def test_time_is_year_month_and_day_in_the_query(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(TODAY - day * DAY_MS, gross=str(day), covered="0") for day in range(1, 8)]
    rows = [row for row in account.items("ai-credits", WEEK) if row.report == "ai_credits"]
    assert [received.parameters for received in account.server.log] == [
        {"year": "2026", "month": "11", "day": str(day)} for day in range(13, 20)
    ]
    assert [(row.at_ms, row.quantity) for row in rows] == [
        (TODAY - day * DAY_MS, Decimal(day)) for day in range(7, 0, -1)
    ]


def test_days_are_utc_over_the_end_of_a_month_and_of_summer_time(
    account: Reading, vendor: GitHubVendor, clock: TurnedClock
) -> None:
    turned = month(2026, 11)
    vendor.credits = [credits_used(turned - DAY_MS), credits_used(turned - 1), credits_used(turned)]
    rows = account.items("ai-credits", Window(turned - 8 * DAY_MS, turned + DAY_MS))
    sums = {row.at_ms: row.quantity for row in rows if row.report == "ai_credits"}
    assert sums == {turned - DAY_MS: Decimal(500), turned: Decimal(250)}


# ----------------------------------------------------------------------------------------------------- periods


def test_periods_are_calendar_months(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [
        credits_used(month(2026, 10)),
        credits_used(month(2026, 11) - 1, model="example-small", gross="10", covered="0"),
        credits_used(TODAY),
    ]
    october, november = account.items("periods", Window(month(2026, 10), account.clock.now_ms()))
    assert october == BillingPeriod(
        at_ms=month(2026, 10),
        until_ms=month(2026, 11),
        included_usd=Decimal("2.00"),
        on_demand_usd=Decimal("0.60"),
        total_usd=Decimal("2.60"),
        requests=Decimal(0),
    )
    assert (november.at_ms, november.until_ms, november.total_usd) == (
        month(2026, 11),
        month(2026, 12),
        Decimal("2.50"),
    )


def test_month_in_both_units_is_counted_once(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(TODAY)]
    vendor.requests = [requests_used(TODAY, gross="3", covered="0")]
    (period,) = account.items("periods", Window(month(2026, 11), account.clock.now_ms()))
    assert (period.on_demand_usd, period.requests) == (Decimal("0.50"), Decimal(3))


def test_month_before_ai_credits_is_billed_in_requests(account: Reading, vendor: GitHubVendor) -> None:
    vendor.requests = [requests_used(month(2026, 5), gross="30", covered="10")]
    (period,) = account.items("periods", Window(month(2026, 5), month(2026, 6)))
    assert (period.on_demand_usd, period.total_usd, period.requests) == (
        Decimal("0.80"),
        Decimal("1.20"),
        Decimal(30),
    )


def test_periods_do_without_premium_requests(account: Reading, vendor: GitHubVendor) -> None:
    vendor.rights.remove("premium")
    vendor.credits = [credits_used(TODAY)]
    (period,) = account.items("periods", Window(month(2026, 11), account.clock.now_ms()))
    assert (period.on_demand_usd, period.requests) == (Decimal("0.50"), None)


def test_period_moves_while_it_is_open(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(TODAY), credits_used(TODAY + 13 * HOUR_MS)]
    vendor.credits[1].visible_from_ms = TODAY + 13 * HOUR_MS
    account.poll("periods", Window(month(2026, 11), account.clock.now_ms()))
    account.clock.advance(7200)
    applied = account.poll("periods", Window(month(2026, 11), account.clock.now_ms()))
    assert (applied.inserted, applied.changed) == (0, 1)
    (period,) = standing(account.store, "period")
    assert isinstance(period, BillingPeriod)
    assert period.total_usd == Decimal("5.00")


# ---------------------------------------------------------------------------------------------------- revision


def test_rows_are_sums_of_the_day_and_replace_it(account: Reading, vendor: GitHubVendor) -> None:
    """The vendor tells the sum so far: a second reading is not added to the first."""
    vendor.credits = [credits_used(TODAY + HOUR_MS), credits_used(TODAY + 13 * HOUR_MS)]
    vendor.credits[1].visible_from_ms = TODAY + 13 * HOUR_MS
    account.poll("ai-credits", Window(TODAY, account.clock.now_ms()))
    account.clock.advance(7200)
    applied = account.poll("ai-credits", Window(TODAY, account.clock.now_ms()))
    assert (applied.inserted, applied.changed, applied.vanished) == (0, 2, 0)
    rows = [row for row in standing(account.store, "report") if isinstance(row, ReportRow)]
    assert [row.amount for row in rows if row.report == "ai_credits"] == [Decimal("1.00")]


def test_same_answer_twice_changes_nothing(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(TODAY - DAY_MS, model=model) for model in ("a", "b")]
    first = account.poll("ai-credits", YESTERDAY)
    account.clock.advance(3600)
    again = account.poll("ai-credits", YESTERDAY)
    assert (first.inserted, again.inserted, again.changed, again.vanished) == (4, 0, 0, 0)


def test_bucket_is_replaced_as_a_whole(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(YESTERDAY.from_ms, model="old name"), credits_used(YESTERDAY.from_ms, model="b")]
    vendor.credits[0].revisions = [(account.clock.now_ms() + HOUR_MS, "model", "new name")]
    account.poll("ai-credits", YESTERDAY)
    account.clock.advance(3600)
    applied = account.poll("ai-credits", YESTERDAY)
    assert (applied.inserted, applied.vanished) == (2, 2)


# ---------------------------------------------------------------------------------------------- whose bill it is


@pytest.mark.parametrize(
    ("level", "path"),
    [
        ("organization", "/organizations/octo-example/settings/billing/ai_credit/usage"),
        ("user", "/users/octo-example/settings/billing/ai_credit/usage"),
        ("enterprise", "/enterprises/octo-example/settings/billing/ai_credit/usage"),
    ],
)
def test_level_decides_where_is_asked(
    level: str, path: str, vendor: GitHubVendor, clock: TurnedClock, tmp_path: Path
) -> None:
    vendor.level = level
    vendor.credits = [credits_used(YESTERDAY.from_ms)]
    with reading(GITHUB_COPILOT, vendor, TOKEN, tmp_path, clock, login="octo-example", level=level) as opened:
        rows = opened.items("ai-credits", YESTERDAY)
        assert [received.path for received in opened.server.log] == [path]
    assert {row.user for row in rows} == ({"octo-example"} if level == "user" else {""})


def test_what_can_be_asked_depends_on_the_level() -> None:
    def names(level: Any) -> list[str]:
        settings = GitHubCopilotSettings(secret="env:KEY", login="octo", level=level)
        return [resource.name for resource in GITHUB_COPILOT.resources(settings)]

    usage = ["periods", "ai-credits", "premium-requests"]
    assert names("organization") == [*usage, "budgets", "account", "seats"]
    assert names("enterprise") == [*usage, "budgets", "seats"]
    assert names("user") == [*usage, "account"]


@pytest.mark.parametrize("login", ["", "../orgs/other", "a/b", "a b", "-a", "a?b"])
def test_login_that_would_lead_elsewhere_is_refused(login: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="login is the name"):
        msgspec.convert({"connector": "github-copilot", "secret": "env:K", "login": login}, GitHubCopilotSettings)


def test_probe_of_an_organization_counts_against_no_limit(account: Reading) -> None:
    assert account.probe() == ()
    assert [received.path for received in account.server.log] == ["/rate_limit"]


def test_probe_of_a_user_tells_who_it_is(vendor: GitHubVendor, clock: TurnedClock, tmp_path: Path) -> None:
    vendor.level = "user"
    with reading(GITHUB_COPILOT, vendor, TOKEN, tmp_path, clock, login="Octo-Example", level="user") as opened:
        (member,) = opened.probe()
    assert member == Member(member_id="583231", user="octo-example", name="Octo Example", role="account", plan="pro")


def test_probe_notices_the_token_of_another_user(vendor: GitHubVendor, clock: TurnedClock, tmp_path: Path) -> None:
    vendor.level = "user"
    with (
        reading(GITHUB_COPILOT, vendor, TOKEN, tmp_path, clock, login="somebody-else", level="user") as opened,
        pytest.raises(Misconfigured) as caught,
    ):
        opened.probe()
    assert "octo-example" not in str(caught.value)


# -------------------------------------------------------------------------------------- rights and rate limits


def test_404_because_of_a_missing_scope_is_a_missing_right_and_loses_nothing(
    account: Reading, vendor: GitHubVendor
) -> None:
    vendor.credits = [credits_used(YESTERDAY.from_ms)]
    account.poll("ai-credits", YESTERDAY)
    vendor.rights.remove("billing")
    account.clock.advance(3600)
    with pytest.raises(Denied, match="Administration"):
        account.poll("ai-credits", YESTERDAY)
    assert len(standing(account.store, "report")) == 2


def test_403_with_x_ratelimit_remaining_0_is_a_rate_limit_until_its_reset(
    account: Reading, vendor: GitHubVendor
) -> None:
    vendor.requests_an_hour = 3
    with pytest.raises(RateLimited) as caught:
        account.answers("ai-credits", WEEK)
    assert caught.value.until_ms == TODAY + 13 * HOUR_MS
    assert [received.status for received in account.server.log] == [200, 200, 200, 403]


def test_secondary_limit_with_retry_after_is_waited_for(account: Reading) -> None:
    reply = Reply(403, {"message": "synthetic"}, {"Retry-After": "40"})
    account.server.faults.append(Fault(CREDITS, reply))
    began = account.clock.now_ms()
    account.answers("ai-credits", YESTERDAY)
    assert account.clock.now_ms() - began >= 40_000


def test_secondary_limit_that_only_says_so_is_waited_for_a_minute(account: Reading) -> None:
    reply = Reply(403, {"message": "You have exceeded a secondary rate limit."})
    account.server.faults.append(Fault(CREDITS, reply))
    began = account.clock.now_ms()
    account.answers("ai-credits", YESTERDAY)
    assert account.clock.now_ms() - began >= 60_000


def test_403_that_says_nothing_of_limits_is_denied(account: Reading) -> None:
    account.server.faults.append(Fault(CREDITS, Reply(403, {"message": "Resource not accessible"})))
    with pytest.raises(Denied):
        account.answers("ai-credits", YESTERDAY)


def test_bad_credentials_are_unauthorized(vendor: GitHubVendor, clock: TurnedClock, tmp_path: Path) -> None:
    with (
        reading(GITHUB_COPILOT, vendor, "ghp_other", tmp_path, clock, login="octo-example") as opened,
        pytest.raises(Unauthorized),
    ):
        opened.probe()


def test_requests_a_minute_stay_below_5000_an_hour() -> None:
    rate = GITHUB_COPILOT.rates["default"]
    assert rate.requests * 3600 / rate.seconds < 5000


def test_version_and_accept_go_with_every_request(account: Reading) -> None:
    account.answers("account")
    account.answers("ai-credits", YESTERDAY)
    for received in account.server.log:
        assert received.headers["x-github-api-version"] == "2026-03-10"
        assert received.headers["accept"] == "application/vnd.github+json"
        assert received.headers["user-agent"]


@pytest.mark.parametrize(
    ("level", "secret"),
    [
        ("organization", ""),
        ("organization", "canary canary"),
        ("user", "canary\n"),
        ("enterprise", "github_pat_canary"),
    ],
)
def test_what_cannot_be_a_token_is_refused_without_being_quoted(level: Any, secret: str) -> None:
    settings = GitHubCopilotSettings(secret="env:KEY", login="octo", level=level)
    with pytest.raises(AccountsUsageError) as caught:
        GITHUB_COPILOT.authorization(secret, settings)
    assert "canary" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ schema drift


def items_reshaped(change: Any) -> Any:
    return lambda path, content: {**content, "usageItems": [change(item) for item in content["usageItems"]]}


def test_answer_about_another_time_rejects_the_window(account: Reading, vendor: GitHubVendor) -> None:
    """A vendor that passes over `day` would tell the month's sum for every day of it."""
    vendor.credits = [credits_used(YESTERDAY.from_ms)]
    vendor.reshape = lambda path, content: {**content, "timePeriod": {"year": 2026, "month": 11}}
    with pytest.raises(Drifted):
        account.normalized("ai-credits", YESTERDAY)


def test_new_field_and_new_unit_are_kept_and_noted(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(YESTERDAY.from_ms)]
    vendor.reshape = items_reshaped(lambda item: {**item, "unitType": "moon-credits", "region": "eu"})
    normalized = account.normalized("ai-credits", YESTERDAY)
    assert normalized.items[0].unit == "moon-credits"  # type: ignore[union-attr]
    assert normalized.notes == {'new field "region"': 1}


def test_amounts_that_do_not_add_up_are_noted(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(YESTERDAY.from_ms)]
    vendor.reshape = items_reshaped(lambda item: {**item, "netAmount": Decimal("0.51")})
    normalized = account.normalized("ai-credits", YESTERDAY)
    assert normalized.notes == {"gross, discount and net do not add up": 1}
    assert normalized.items[0].amount == Decimal("0.51")  # type: ignore[union-attr]


def test_missing_amount_is_unknown_and_so_is_its_month(account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(YESTERDAY.from_ms), credits_used(YESTERDAY.from_ms, model="b")]
    vendor.reshape = lambda path, content: {
        **content,
        "usageItems": [
            {**item, "netAmount": None} if item["model"] == "b" else item for item in content["usageItems"]
        ],
    }
    rows = account.items("ai-credits", YESTERDAY)
    assert [row.amount for row in rows if row.report == "ai_credits"] == [Decimal("0.50"), None]
    (period,) = account.items("periods", Window(month(2026, 11), account.clock.now_ms()))
    assert (period.on_demand_usd, period.total_usd) == (None, Decimal("5.00"))


@pytest.mark.parametrize(
    "reshape",
    [
        lambda path, content: {**content, "usageItems": {}},
        lambda path, content: {"timePeriod": content["timePeriod"], "items": content["usageItems"]},
        items_reshaped(lambda item: {name: value for name, value in item.items() if name != "netAmount"}),
        lambda path, content: [content],
    ],
    ids=["array became an object", "renamed", "required field renamed", "object became an array"],
)
def test_changed_shape_rejects_the_window(reshape: Any, account: Reading, vendor: GitHubVendor) -> None:
    vendor.credits = [credits_used(YESTERDAY.from_ms)]
    vendor.reshape = reshape
    with pytest.raises(Drifted):
        account.normalized("ai-credits", YESTERDAY)


# ------------------------------------------------------------------------------------------- budgets and seats


def test_budgets_are_whole_dollars_over_pages(account: Reading, vendor: GitHubVendor) -> None:
    vendor.rows_a_page = 2
    vendor.budgets = [
        budget(1, 30, consumed_amount=Decimal("12.5")),
        budget(2, 0, prevent_further_usage=False),
        budget(3, 5, budget_scope="user", user="octo"),
    ]
    assert account.items("budgets") == [
        Limit(
            name="budget, ai_credits",
            subject="budget-1",
            user="octo-example",
            limit_usd=Decimal(30),
            used_usd=Decimal("12.5"),
            is_allowed=False,
        ),
        Limit(
            name="budget, ai_credits",
            subject="budget-2",
            user="octo-example",
            limit_usd=Decimal(0),
            is_allowed=True,
        ),
        Limit(name="budget, ai_credits", subject="budget-3", user="octo", limit_usd=Decimal(5), is_allowed=False),
    ]
    assert [received.parameters.get("page") for received in account.server.log] == [None, "2"]


def test_budgets_whose_next_page_never_ends(account: Reading, vendor: GitHubVendor) -> None:
    vendor.budgets = [budget(1, 30)]
    vendor.reshape = lambda path, content: {**content, "budgets": [budget(1, 30)], "has_next_page": True}
    with pytest.raises(Inconsistent):
        account.answers("budgets")
    assert len(account.server.log) == 6


def test_empty_page_that_promises_more(account: Reading, vendor: GitHubVendor) -> None:
    vendor.reshape = lambda path, content: {**content, "has_next_page": True}
    with pytest.raises(Inconsistent):
        account.answers("budgets")
    assert len(account.server.log) == 1


def test_seats_follow_the_link_header(account: Reading, vendor: GitHubVendor) -> None:
    vendor.rows_a_page = 2
    vendor.seats = [seat(number, f"person{number}") for number in range(5)]
    members = account.items("seats")
    assert [member.user for member in members] == [f"person{number}" for number in range(5)]
    assert members[0] == Member(member_id="0", user="person0", role="seat", plan="business")
    assert [received.parameters.get("page") for received in account.server.log] == [None, "2", "3"]


def test_somebody_with_two_seats_is_one_person_and_a_seat_of_nobody_is_told(
    account: Reading, vendor: GitHubVendor
) -> None:
    vendor.seats = [seat(1, "octo"), seat(1, "octo"), {**seat(2, "gone"), "assignee": None}]
    normalized = account.normalized("seats")
    assert [member.group for member in normalized.items] == [("1",)]
    assert normalized.rejects == ["a seat of nobody"]


def test_account_tells_the_plan(account: Reading) -> None:
    assert account.items("account") == [
        Member(member_id="octo-example", user="octo-example", role="account", plan="business")
    ]
