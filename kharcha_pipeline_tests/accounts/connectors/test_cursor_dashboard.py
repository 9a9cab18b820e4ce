"""Cursor's dashboard with one's own cookie: periods, invoices, limits, whose session it is, what is never kept."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kharcha_pipeline.accounts.configuration import load_accounts
from kharcha_pipeline.accounts.connectors.cursor_dashboard import CURSOR_DASHBOARD, CursorDashboardSettings
from kharcha_pipeline.accounts.failures import (
    AccountsUsageError,
    Blocked,
    Denied,
    Drifted,
    Failure,
    Misconfigured,
    Moved,
    SessionExpired,
    Unauthorized,
)
from kharcha_pipeline.accounts.items import BillingPeriod, Invoice, Limit, Member
from kharcha_pipeline_tests.accounts.connectors import cursor_reading
from kharcha_pipeline_tests.accounts.connectors.cursor_reading import YESTERDAY, Cursor
from kharcha_pipeline_tests.accounts.cursor_vendor import APP, CANARY_INVOICE, CYCLE_MS, Person, invoice
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Fault, Reply, page, redirect

SETTINGS = CursorDashboardSettings(secret="env:CURSOR", accept_unofficial=True)
LIST = "/api/dashboard/list-invoices"
MONTHLY = "/api/dashboard/get-monthly-invoice"


def invoices(cursor: Cursor) -> list[Invoice]:
    """All invoices and statements."""
    return [item for item in cursor.said("invoices").items if isinstance(item, Invoice)]


# --------------------------------------------------------------------------------------------------- credential


@pytest.mark.parametrize("accepts", [{}, {"accept_unofficial": False}])
def test_it_has_to_be_asked_for_and_warns_otherwise(accepts: dict[str, bool]) -> None:
    with pytest.raises(msgspec.ValidationError, match="accept_unofficial = true is missing") as error:
        msgspec.convert({"connector": "cursor-dashboard", "secret": "env:CURSOR", **accepts}, CursorDashboardSettings)
    assert "Use it for your own account only" in str(error.value)
    assert CURSOR_DASHBOARD.warning.removesuffix(".") in str(error.value)


def test_accounts_toml_without_the_consent_is_refused_with_the_warning(tmp_path: Path) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text('[accounts.mine]\nconnector = "cursor-dashboard"\nsecret = "env:CURSOR_SESSION"\n')
    with pytest.raises(AccountsUsageError, match="accept_unofficial = true is missing"):
        load_accounts(file, {})
    file.write_text(file.read_text() + "accept_unofficial = true\n")
    assert load_accounts(file, {}).accounts["mine"].connector is CURSOR_DASHBOARD


@pytest.mark.parametrize("form", ["{}", "WorkosCursorSessionToken={}", " {}\n", "WorkosCursorSessionToken={};"])
def test_cookie_is_taken_as_browsers_show_it(form: str) -> None:
    person = Person()
    for cookie in (person.cookie, person.cookie.replace("%3A%3A", "::")):
        sent = CURSOR_DASHBOARD.authorization(form.format(cookie), SETTINGS)
        assert sent == {"Cookie": f"WorkosCursorSessionToken={person.cookie}"}


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "crsr_canary_0123456789",
        "user_EXAMPLE01%3A%3A",
        "user_EXAMPLE01%3A%3Acanary.bm90IGpzb24.canary",
        "user_EXAMPLE01%3A%3Acanary.W10.canary",
        f"{Person().cookie}; other=canary",
        f"{Person().cookie}\r\nX-Canary: 1",
        Person().token,
    ],
)
def test_what_cannot_be_the_cookie_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(AccountsUsageError) as error:
        CURSOR_DASHBOARD.authorization(secret, SETTINGS)
    assert "canary" not in str(error.value)
    assert CURSOR_DASHBOARD.expires_ms(secret) is None


def test_cookie_of_another_user_than_its_token_is_refused() -> None:
    """Cursor answers it with zeros and 200."""
    person = Person()
    with pytest.raises(AccountsUsageError, match="different users"):
        CURSOR_DASHBOARD.authorization(person.cookie.replace("user_EXAMPLE01", "user_EXAMPLE02"), SETTINGS)


def test_expiry_is_what_the_token_says() -> None:
    assert CURSOR_DASHBOARD.expires_ms(Person(expires_s=1_800_000_000).cookie) == 1_800_000_000_000


@pytest.mark.parametrize("claims", [{}, {"exp": "soon"}, {"exp": -1}, {"exp": 10**40}, {"exp": None}, {"exp": 1.5}])
def test_expiry_that_is_not_told_is_unknown(claims: dict[str, Any]) -> None:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    assert CURSOR_DASHBOARD.expires_ms(f"user_EXAMPLE01%3A%3Aabc.{payload}.def") is None


def test_probe_tells_whose_session_it_is(dashboard: Cursor) -> None:
    assert CURSOR_DASHBOARD.probe(dashboard.session, SETTINGS) == [
        Member(member_id="user_EXAMPLE01", user="asha@example.com", name="Asha Example", role="account")
    ]
    assert [received.path for received in dashboard.server.log] == ["/api/auth/me"]


def test_200_with_zeros_for_a_wrong_user_id_is_a_configuration_error(dashboard: Cursor) -> None:
    configured = msgspec.structs.replace(SETTINGS, user_id="user_EXAMPLE99")
    with pytest.raises(Misconfigured, match="another user"):
        CURSOR_DASHBOARD.probe(dashboard.session, configured)
    with pytest.raises(AccountsUsageError, match="another user"):
        CURSOR_DASHBOARD.authorization(dashboard.secret, configured)
    same = msgspec.structs.replace(SETTINGS, user_id="user_EXAMPLE01")
    assert CURSOR_DASHBOARD.probe(dashboard.session, same)


def test_session_that_ended_is_not_accepted(dashboard: Cursor) -> None:
    dashboard.vendor.people[0].has_ended = True
    with pytest.raises(Unauthorized):
        CURSOR_DASHBOARD.probe(dashboard.session, SETTINGS)


# ------------------------------------------------------------------------------------- what is no expired session


def test_every_post_has_an_origin(dashboard: Cursor) -> None:
    for name in ("events", "invoices", "limits"):
        dashboard.answers(name)
    posts = [received for received in dashboard.server.log if received.method == "POST"]
    assert {received.headers.get("origin") for received in posts} == {"https://cursor.com"}
    assert {received.status for received in posts} == {200}


def test_403_invalid_origin(dashboard: Cursor) -> None:
    reply = Reply(403, {"error": "Invalid origin for state-changing request"})
    dashboard.server.faults.append(Fault("/api/dashboard/get-hard-limit", reply))
    with pytest.raises(Misconfigured, match="Origin"):
        dashboard.answers("limits")


def test_400_or_401_on_an_endpoint_for_admins_while_the_probe_is_fine() -> None:
    with cursor_reading.dashboard(team_id=4242) as dashboard:
        for name in ("events", "limits"):
            with pytest.raises(Denied, match="team_id"):
                dashboard.answers(name)
        assert CURSOR_DASHBOARD.probe(dashboard.session, dashboard.settings)


def test_owner_of_a_team_reads_it_by_its_id() -> None:
    with cursor_reading.dashboard(team_id=4242) as dashboard:
        dashboard.vendor.people[0].is_team_owner = True
        dashboard.happened(YESTERDAY.from_ms)
        assert len(dashboard.said().items) == 1
        assert {received.json["teamId"] for received in dashboard.event_requests()} == {4242}


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (redirect("/login", 302), SessionExpired),
        (redirect("https://authenticator.cursor.sh/?client_id=1"), SessionExpired),
        (page("<html><title>Sign in</title><input type=password></html>"), SessionExpired),
        (page("<html><title>Vercel Security Checkpoint</title></html>", 429), Blocked),
        (APP, Moved),
    ],
    ids=["login path", "login host", "login page", "bot page", "app page"],
)
def test_answers_that_are_none_are_told_apart(dashboard: Cursor, reply: Reply, failure: type[Failure]) -> None:
    dashboard.server.faults.append(Fault("/api/dashboard/get-filtered-usage-events", reply, sticky=True))
    with pytest.raises(failure):
        dashboard.answers()


# ------------------------------------------------------------------------------------------------------ periods


def test_open_period(dashboard: Cursor) -> None:
    said = dashboard.said("periods")
    assert said.items == [
        BillingPeriod(
            at_ms=CYCLE_MS,
            until_ms=1_796_860_800_000,
            plan="pro",
            included_usd=Decimal("14.50"),
            on_demand_usd=Decimal("6.63"),
            total_usd=Decimal("21.13"),
            included_limit_usd=Decimal("20.00"),
            on_demand_limit_usd=Decimal("50.00"),
        )
    ]
    assert said.notes == {}


def test_open_period_without_limits(dashboard: Cursor) -> None:
    usage = dashboard.vendor.summary["individualUsage"]
    usage["plan"]["limit"] = usage["onDemand"]["limit"] = None
    (period,) = dashboard.said("periods").items
    assert isinstance(period, BillingPeriod)
    assert (period.included_limit_usd, period.on_demand_limit_usd) == (None, None)


def test_open_period_of_a_teams_member(dashboard: Cursor) -> None:
    dashboard.vendor.summary["individualUsage"] = {"overall": {"enabled": True, "used": 1234, "limit": None}}
    (period,) = dashboard.said("periods").items
    assert isinstance(period, BillingPeriod)
    assert (period.total_usd, period.included_usd, period.on_demand_usd) == (Decimal("12.34"), None, None)


def test_usage_summary_that_moved_is_replaced_by_the_current_periods_usage(dashboard: Cursor) -> None:
    (before,) = dashboard.said("periods").items
    dashboard.server.faults.append(Fault("/api/usage-summary", APP, sticky=True))
    said = dashboard.said("periods")
    (after,) = said.items
    assert isinstance(before, BillingPeriod)
    assert after == msgspec.structs.replace(before, plan="")
    assert said.notes == {}


@pytest.mark.parametrize("begin", [None, "soon", "2026-11-10T00:00:00", "1970-01-01T00:00:00Z", 1_794_268_800_000])
def test_period_without_a_begin_is_no_period(dashboard: Cursor, begin: Any) -> None:
    dashboard.vendor.summary["billingCycleStart"] = begin
    with pytest.raises(Drifted):
        dashboard.said("periods")


# ----------------------------------------------------------------------------------------------------- invoices


def test_invoices_and_statements(dashboard: Cursor) -> None:
    dashboard.vendor.invoices.append(invoice("in_EXAMPLE02", CYCLE_MS + 1, 1999, currency="eur", status="open"))
    found = invoices(dashboard)
    listed = [one for one in found if not one.is_preview]
    assert listed == [
        Invoice(
            invoice_id="in_EXAMPLE01",
            at_ms=CYCLE_MS,
            issued_ms=CYCLE_MS,
            amount=Decimal("20.00"),
            status="paid",
        ),
        Invoice(
            invoice_id="in_EXAMPLE02",
            at_ms=CYCLE_MS + 1,
            issued_ms=CYCLE_MS + 1,
            amount=Decimal("19.99"),
            currency="EUR",
            status="open",
        ),
    ]
    assert next(one for one in found if one.is_preview) == Invoice(
        invoice_id=f"period-{CYCLE_MS}",
        at_ms=CYCLE_MS,
        until_ms=NOON_MS,
        amount=Decimal("1.63"),
        lines=(
            ("synthetic line: example-large, 41 requests", Decimal("6.63")),
            ("synthetic line: mid-month payment", Decimal("-5.00")),
        ),
        is_preview=True,
    )


@pytest.mark.parametrize(
    ("now", "months"),
    [
        (datetime(2026, 11, 20, 12, tzinfo=UTC), [(2026, 10), (2026, 9), (2026, 8)]),
        (datetime(2027, 1, 10, tzinfo=UTC), [(2027, 0), (2026, 11), (2026, 10)]),
    ],
)
def test_month_0_is_january(dashboard: Cursor, now: datetime, months: list[tuple[int, int]]) -> None:
    dashboard.clock.turn_to(int(now.timestamp()) * 1000)
    statements = [one for one in invoices(dashboard) if one.is_preview]
    asked = [(received.json["year"], received.json["month"]) for received in dashboard.server.requests(MONTHLY)]
    assert asked == months
    begins = [datetime.fromtimestamp(one.at_ms / 1000, UTC) for one in statements]
    assert [(begin.year, begin.month - 1) for begin in begins] == months


def test_statement_of_a_period_that_has_not_begun_is_none(dashboard: Cursor) -> None:
    dashboard.clock.turn_to(int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 1000)
    said = dashboard.said("invoices")
    assert [one.is_preview for one in said.items if isinstance(one, Invoice)].count(True) == 2
    assert (said.notes, list(said.rejects)) == ({"statement of a period that has not begun": 1}, [])


def test_period_end_moves_each_poll_and_it_stays_one_statement(dashboard: Cursor) -> None:
    before = invoices(dashboard)
    dashboard.clock.advance(3600)
    after = invoices(dashboard)
    assert [one.group for one in after] == [one.group for one in before]
    assert after != before


def test_invoice_open_then_paid_is_one_invoice(dashboard: Cursor) -> None:
    dashboard.vendor.invoices = [invoice("in_EXAMPLE01", CYCLE_MS, 2000, status="open")]
    before = invoices(dashboard)[0]
    dashboard.vendor.invoices[0]["status"] = "paid"
    after = invoices(dashboard)[0]
    assert (before.group, before.status, after.group, after.status) == (
        ("in_EXAMPLE01",),
        "open",
        before.group,
        "paid",
    )


def test_invoices_on_several_pages(dashboard: Cursor) -> None:
    dashboard.vendor.largest_page = 2
    dashboard.vendor.invoices = [invoice(f"in_{n}", CYCLE_MS + n, n) for n in range(5)]
    assert [one.invoice_id for one in invoices(dashboard) if not one.is_preview] == [f"in_{n}" for n in range(5)]
    assert len(dashboard.server.requests(LIST)) == 3


def test_two_months_that_show_one_period_are_one_statement(dashboard: Cursor) -> None:
    answer = dashboard.vendor.answer

    def same(received: Any) -> Any:
        reply = answer(received)
        return Reply(content=reply.content | {"periodStartMs": str(CYCLE_MS)}) if received.path == MONTHLY else reply

    dashboard.server.answer = same
    assert [one.invoice_id for one in invoices(dashboard) if one.is_preview] == [f"period-{CYCLE_MS}"]


def test_statement_without_lines_is_not_known_to_be_zero(dashboard: Cursor) -> None:
    reply = Reply(content={"periodStartMs": str(CYCLE_MS)})
    dashboard.server.faults.append(Fault(MONTHLY, reply, sticky=True))
    assert [one.amount for one in invoices(dashboard) if one.is_preview] == [None]


@pytest.mark.parametrize("denied", [LIST, MONTHLY])
@pytest.mark.parametrize("reply", [Reply(403, {"error": "plan"}), Reply(401, {"error": "admins only"})])
def test_statements_without_a_list_and_a_list_without_statements(
    dashboard: Cursor, denied: str, reply: Reply
) -> None:
    dashboard.server.faults.append(Fault(denied, reply, sticky=True))
    assert {one.is_preview for one in invoices(dashboard)} == {denied == LIST}


def test_neither_list_nor_statements(dashboard: Cursor) -> None:
    for path in (LIST, MONTHLY):
        dashboard.server.faults.append(Fault(path, Reply(403, {"error": "plan"}), sticky=True))
    with pytest.raises(Denied):
        dashboard.answers("invoices")


def test_list_of_invoices_by_another_name_is_no_empty_list(dashboard: Cursor) -> None:
    reply = Reply(content={"bills": [invoice("in_1", CYCLE_MS, 1)], "hasMore": False})
    dashboard.server.faults.append(Fault(LIST, reply, sticky=True))
    with pytest.raises(Drifted):
        dashboard.answers("invoices")


# ------------------------------------------------------------------------------------------------------- limits


def test_hard_limit_is_whole_dollars(dashboard: Cursor) -> None:
    assert dashboard.said("limits").items == [
        Limit(name="hard limit", limit_usd=Decimal(50), is_allowed=True),
        Limit(name="hard limit per user", limit_usd=Decimal(25)),
    ]


def test_account_without_on_demand_spending_tells_only_that(dashboard: Cursor) -> None:
    dashboard.vendor.hard_limit = {"noUsageBasedAllowed": True}
    assert dashboard.said("limits").items == [Limit(name="hard limit", is_allowed=False)]


def test_empty_object_says_nothing_of_limits(dashboard: Cursor) -> None:
    dashboard.vendor.hard_limit = {}
    said = dashboard.said("limits")
    assert (list(said.items), said.is_suspicious) == ([], True)


# ------------------------------------------------------------------------------------------------------ privacy


def test_stored_requests_and_answers_hold_no_cookie_and_no_address_of_an_invoice(dashboard: Cursor) -> None:
    dashboard.happened(YESTERDAY.from_ms)
    dashboard.vendor.invoices[0]["invoicePdf"] = f"pay.example.com/{CANARY_INVOICE}"
    dashboard.vendor.invoices[0]["memo"] = f"see https://pay.example.com/{CANARY_INVOICE}"
    person = dashboard.vendor.people[0]
    answers = [
        answer for resource in CURSOR_DASHBOARD.resources(SETTINGS) for answer in dashboard.answers(resource.name)
    ]
    kept = msgspec.json.encode(answers) + b"".join(answer.body for answer in answers)
    for secret in (person.token, person.session, CANARY_INVOICE):
        assert secret.encode() not in kept
    assert b"hostedInvoiceUrl" in kept and b"(address removed)" in kept


def test_taking_addresses_out_changes_no_number(dashboard: Cursor) -> None:
    shown = {"amountCents": Decimal("2000.10"), "big": 2**60, "tiny": Decimal("1.5E-9")}
    dashboard.vendor.invoices[0].update(shown)
    (answer, *_) = dashboard.answers("invoices")
    told = json.loads(answer.body, parse_float=Decimal)["invoices"][0]
    assert {name: told[name] for name in shown} == shown


def test_warnings_and_failures_hold_no_secret(dashboard: Cursor) -> None:
    other = dashboard.signed_in(Person(session="canary").cookie)
    with pytest.raises(Unauthorized) as error:
        CURSOR_DASHBOARD.probe(other, SETTINGS)
    assert "canary" not in str(error.value) + repr(SETTINGS) + CURSOR_DASHBOARD.warning
