"""Cursor's dashboard, read with the owner's own session cookie.

Cursor documents none of it and may change it any day: it is for one's own account, where there is no official way,
and only after saying so in the settings. See docs/accounts/cursor-dashboard.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kharcha_pipeline.accounts.connector import (
    AccountSettings,
    Answer,
    Normalized,
    Rate,
    Request,
    Resource,
    Session,
    Window,
)
from kharcha_pipeline.accounts.connectors.cursor_events import (
    EventsEndpoint,
    events_of,
    page_size_refused,
    read_events,
)
from kharcha_pipeline.accounts.failures import (
    AccountsUsageError,
    Denied,
    Drifted,
    Failure,
    Misconfigured,
    Moved,
    Unauthorized,
)
from kharcha_pipeline.accounts.items import BillingPeriod, Invoice, Limit, Member
from kharcha_pipeline.accounts.paging import CountedPage, read_counted_pages
from kharcha_pipeline.accounts.values import AHEAD, Fields, decoded, document, drifted, exact_sum, text_of, whole_of

EVENTS = Resource(name="events", kind="event", span=timedelta(days=1), lag=timedelta(minutes=5))
PERIODS = Resource(name="periods", kind="period")
INVOICES = Resource(name="invoices", kind="invoice", every=timedelta(hours=12), is_optional=True)
LIMITS = Resource(name="limits", kind="limit", every=timedelta(hours=6), is_optional=True)
MEMBERS = Resource(name="members", kind="member", every=timedelta(hours=6))

_COOKIE = "WorkosCursorSessionToken"
_HEADERS = (("Origin", "https://cursor.com"),)
"""Without it every POST is refused, as one that another site might have caused."""

_SUMMARY = "/api/usage-summary"
_CURRENT_PERIOD = "/api/dashboard/get-current-period-usage"
_LIST_INVOICES = "/api/dashboard/list-invoices"
_MONTHLY_INVOICE = "/api/dashboard/get-monthly-invoice"
_HARD_LIMIT = "/api/dashboard/get-hard-limit"
_IDENTITY = "/api/auth/me"

_MONTHS = 3
"""How many months' statements are read each time: the open one, and those that may still change."""

_A_YEAR_AHEAD = timedelta(days=400)
"""How far in the future the end of a billing period may lie."""

_END_OF_TIME = 253_402_300_800
"""The year 10000, in seconds since the epoch."""

_KINDS = frozenset(
    f"USAGE_EVENT_KIND_{name}"
    for name in (
        "USAGE_BASED",
        "INCLUDED_IN_PRO",
        "INCLUDED_IN_PRO_PLUS",
        "INCLUDED_IN_ULTRA",
        "INCLUDED_IN_BUSINESS",
        "CUSTOM_SUBSCRIPTION",
        "ERRORED_NOT_CHARGED",
        "ABORTED_NOT_CHARGED",
        "FREE_CREDIT",
    )
)
_VALUE = re.compile(
    r"([A-Za-z0-9_]{3,100})(?:%3A%3A|::)([A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+)", re.IGNORECASE
)
_NO_COOKIE = (
    "The credential is no session cookie of Cursor's dashboard. It is the value of WorkosCursorSessionToken, as the"
    " browser keeps it for cursor.com while its owner is signed in: a user's id, %3A%3A, and a token of three parts."
)
_WARNING = (
    "This reads Cursor's dashboard with the session cookie of its owner. Cursor promises nothing about it: it may"
    " change or stop working any day, Cursor's terms may not allow it, and the cookie opens the whole account to"
    " whoever has it. Use it for your own account only, and cursor-team where the plan has the Admin API."
)


class CursorDashboardSettings(AccountSettings, tag="cursor-dashboard", frozen=True, kw_only=True):
    """One's own account on Cursor's dashboard.

    Attributes:
        accept_unofficial: must be true: this way is not Cursor's official one, see the page of the connector.
        user_id: the account's id, `user_…`, to be sure that no other account's cookie is used; by default any.
        team_id: of a team whose owner one is, to read the team's instead of one's own; 0 for one's own.
    """

    accept_unofficial: bool = False
    user_id: str = ""
    team_id: int = 0

    def __post_init__(self) -> None:
        if not self.accept_unofficial:
            raise ValueError(f"accept_unofficial = true is missing. {_WARNING.removesuffix('.')}")


class CursorDashboard:
    """Cursor's dashboard, as people have seen it answer."""

    name = "cursor-dashboard"
    title = "Cursor dashboard"
    vendor = "cursor"
    source = "cursor"
    warning = _WARNING
    settings_type: type[AccountSettings] = CursorDashboardSettings
    base_url = "https://cursor.com"
    schedule = "53 * * * *"
    # Nothing is documented; long histories read at once led to pauses of hours.
    rates: Mapping[str, Rate] = {"default": Rate(10, 60)}
    is_counted = True
    local_sources: Sequence[str] = ()

    def resources(self, settings: CursorDashboardSettings) -> Sequence[Resource]:
        """Events, the open billing period, limits, invoices, and whose account it is."""
        return (EVENTS, PERIODS, LIMITS, INVOICES, MEMBERS)

    def authorization(self, secret: str, settings: CursorDashboardSettings) -> Mapping[str, str]:
        """The cookie, and nothing that a browser would send besides.

        Raises:
            AccountsUsageError: when it cannot be this cookie, or is another user's than configured.
        """
        user_id, token, claims = _parts(secret)
        if claims.get("sub", user_id).rpartition("|")[2] != user_id:
            raise AccountsUsageError(
                "The session cookie's two parts belong to different users: Cursor would answer it with zeros. Copy"
                " the cookie anew."
            )
        if settings.user_id and settings.user_id != user_id:
            raise AccountsUsageError(
                "The session cookie belongs to another user than `user_id` in accounts.toml. Sign in as that user and"
                " copy the cookie anew, or correct `user_id`."
            )
        return {"Cookie": f"{_COOKIE}={user_id}%3A%3A{token}"}

    def expires_ms(self, secret: str) -> int | None:
        """What the token inside the cookie says; signing out ends it earlier."""
        try:
            expires = whole_of(_parts(secret)[2].get("exp"))
        except AccountsUsageError:  # `authorization` says so
            return None
        return None if expires is None or not 0 < expires < _END_OF_TIME else expires * 1000

    def probe(self, session: Session, settings: CursorDashboardSettings) -> Sequence[Member]:
        """Asks whose session it is.

        Raises:
            Misconfigured: when it is another user's than configured.
        """
        members = _members([_without_links(session.send(Request(path=_IDENTITY)))], Counter())
        if settings.user_id and settings.user_id not in {member.member_id for member in members}:
            raise Misconfigured(
                "Cursor says that the session belongs to another user than `user_id` in accounts.toml. Sign in as"
                " that user and copy the cookie anew, or correct `user_id`."
            )
        return members

    def classify(self, answer: Answer) -> Failure | None:
        """None of these is an expired session, although some look like one."""
        if refused := page_size_refused(answer):
            return refused
        if answer.status == 403 and b"invalid origin" in answer.body.lower():
            return Misconfigured(
                f"Cursor refused {answer.request.path} for its Origin header: what it wants there has changed, and"
                " Kharcha Pipeline has to follow."
            )
        if answer.status == 400 and b"ERROR_UNAUTHORIZED" in answer.body:
            return Denied(
                f"Cursor refused {answer.request.path} as one that this account may not ask: a team's data need"
                " `team_id` and an owner's rights, one's own need no `team_id`."
            )
        return None

    def read(
        self, session: Session, settings: CursorDashboardSettings, resource: Resource, window: Window
    ) -> Sequence[Answer]:
        """All answers of one window."""
        if resource.name == EVENTS.name:
            return read_events(session, _events(settings), window)
        if resource.name == INVOICES.name:
            return _read_invoices(session, settings)
        if resource.name == LIMITS.name:
            return [session.send(_post(_HARD_LIMIT, _team(settings)))]
        if resource.name == MEMBERS.name:
            return [_without_links(session.send(Request(path=_IDENTITY)))]
        try:
            return [session.send(Request(path=_SUMMARY))]
        except (Denied, Moved):
            return [session.send(_post(_CURRENT_PERIOD, {}))]

    def normalize(
        self, settings: CursorDashboardSettings, resource: Resource, window: Window, answers: Sequence[Answer]
    ) -> Normalized:
        """What the answers of one window say."""
        if resource.name == EVENTS.name:
            return events_of(_events(settings), window, answers)
        notes: Counter[str] = Counter()
        if resource.name == INVOICES.name:
            return _invoices(answers, notes)
        if resource.name == LIMITS.name:
            return _limits(answers, notes)
        if resource.name == MEMBERS.name:
            return Normalized(_members(answers, notes), notes)
        return Normalized([_period(answer, notes) for answer in answers], notes)


CURSOR_DASHBOARD = CursorDashboard()


# --------------------------------------------------------------------------------------------------- credential


def _parts(secret: str) -> tuple[str, str, dict[str, Any]]:
    """The user's id, the token, and what the token claims. Cursor checks the token, nobody needs to here.

    Raises:
        AccountsUsageError: when it is no such cookie.
    """
    value = secret.strip().removeprefix(f"{_COOKIE}=").removesuffix(";")
    matched = _VALUE.fullmatch(value)
    if matched is None or len(value) > 8_000:
        raise AccountsUsageError(_NO_COOKIE)
    user_id, token, payload = matched.groups()
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise AccountsUsageError(_NO_COOKIE) from None
    if not isinstance(claims, dict) or not isinstance(claims.get("sub", ""), str):
        raise AccountsUsageError(_NO_COOKIE)
    return user_id, token, claims


# ------------------------------------------------------------------------------------------------------ reading


def _post(path: str, body: Mapping[str, Any]) -> Request:
    return Request(method="POST", path=path, body=dict(body), headers=_HEADERS)


def _team(settings: CursorDashboardSettings) -> dict[str, Any]:
    return {"teamId": settings.team_id} if settings.team_id else {}


def _events(settings: CursorDashboardSettings) -> EventsEndpoint:
    return EventsEndpoint(
        path="/api/dashboard/get-filtered-usage-events",
        budget="default",
        kinds=_KINDS,
        body={"teamId": settings.team_id},  # also where it is 0: without it, dates are answered by `{}`
        headers=_HEADERS,
        is_protobuf=True,
    )


def _read_invoices(session: Session, settings: CursorDashboardSettings) -> list[Answer]:
    """The list of invoices, and the statements of the last months. Either may be missing from a plan, not both."""

    def ask(page: int, size: int) -> Request:
        return _post(_LIST_INVOICES, {**_team(settings), "page": page, "pageSize": size})

    answers: list[Answer] = []
    denied: Failure | None = None
    try:
        answers += read_counted_pages(session, ask, _invoice_page, (100,))
    except (Denied, Moved, Unauthorized) as failure:  # a 401 is also for who is no admin of a team
        denied = failure
    now = datetime.fromtimestamp(session.now_ms() // 1000, UTC)
    last = now.year * 12 + now.month - 1
    try:
        for months in range(last, last - _MONTHS, -1):
            year, month = divmod(months, 12)  # 0 is January, as Cursor counts
            body = {**_team(settings), "month": month, "year": year, "includeUsageEvents": False}
            answers.append(session.send(_post(_MONTHLY_INVOICE, body)))
    except (Denied, Moved, Unauthorized):
        if denied is not None:
            raise
    return [_without_links(answer) for answer in answers]


def _invoice_page(answer: Answer) -> CountedPage:
    told = document(answer, Counter())
    rows = [row.values for row in _listed(told)]
    return CountedPage(rows, told.count("total"), False if told.is_empty else told.flag("hasMore"))


def _listed(told: Fields) -> list[Fields]:
    """The invoices of a page of the list; an empty list is left out.

    Raises:
        Drifted: when there is no list although there should be one.
    """
    rows = told.objects("invoices", "an invoice")
    if rows is None and not told.lacks_list("total"):
        raise drifted(told.where, "its list of invoices is missing", told.values)
    return rows or []


_ADDRESS = re.compile(r"(?:url|pdf|link|picture)$", re.IGNORECASE)
_EXACT_JSON = msgspec.json.Encoder(decimal_format="number")


def _without_links(answer: Answer) -> Answer:
    """The answer with its addresses taken out: who has an invoice's address can open the invoice.

    Raises:
        Drifted: when it is not JSON that can be written again.
    """
    try:
        body = _EXACT_JSON.encode(_unlinked(decoded(answer)))
    except (ValueError, OverflowError, RecursionError, UnicodeError):
        raise Drifted(f"The answer of {answer.request.path} is not the JSON that was expected.") from None
    return msgspec.structs.replace(answer, body=body)


def _unlinked(value: Any) -> Any:
    if isinstance(value, str):
        return "(address removed)" if "://" in value else text_of(value)
    if isinstance(value, list):
        return [_unlinked(inner) for inner in value]
    if isinstance(value, dict):
        return {
            text_of(name): "(address removed)" if _ADDRESS.search(name) and inner else _unlinked(inner)
            for name, inner in value.items()
        }
    return value


# ------------------------------------------------------------------------------------------------ understanding


def _members(answers: Sequence[Answer], notes: Counter[str]) -> list[Member]:
    members = []
    for answer in answers:
        told = document(answer, notes)
        told.require("sub")
        member = Member(member_id=told.text("sub"), user=told.text("email"), name=told.text("name"), role="account")
        if not member.member_id:
            raise drifted(f"the answer of {_IDENTITY}", "it names no user", told.values)
        members.append(member)
        told.finish("email_verified", "id", "created_at", "updated_at", "picture")
    return members


def _period(answer: Answer, notes: Counter[str]) -> BillingPeriod:
    return _summary(document(answer, notes)) if answer.request.path == _SUMMARY else _current(document(answer, notes))


def _summary(told: Fields) -> BillingPeriod:
    """From the usage summary. Amounts are cents; a team's members have `overall` in place of `plan`."""
    told.require("billingCycleStart", "individualUsage")
    at_ms = told.instant("billingCycleStart")
    if at_ms is None:
        raise drifted(told.where, "the begin of the cycle is no instant", told.values)
    usage = told.object("individualUsage")
    parts = [usage.object(name) for name in ("plan", "onDemand", "overall")] if usage else [None] * 3
    plan, on_demand, overall = parts
    included = plan.cents("used") if plan else None
    beyond = on_demand.cents("used") if on_demand else None
    total = overall.cents("used") if overall else None
    if total is None and included is not None and beyond is not None:
        total = exact_sum((included, beyond))
    period = BillingPeriod(
        at_ms=at_ms,
        until_ms=told.instant("billingCycleEnd", _A_YEAR_AHEAD),
        plan=told.text("membershipType"),
        included_usd=included,
        on_demand_usd=beyond,
        total_usd=total,
        included_limit_usd=plan.cents("limit") if plan else None,
        on_demand_limit_usd=on_demand.cents("limit") if on_demand else None,
    )
    percents = ("autoPercentUsed", "apiPercentUsed", "totalPercentUsed")
    for part in parts:
        if part:
            part.finish("enabled", "used", "limit", "remaining", "breakdown", *percents)
    if usage:
        usage.finish()
    messages = ("autoModelSelectedDisplayMessage", "namedModelSelectedDisplayMessage")
    told.finish("limitType", "isUnlimited", "teamUsage", *messages)
    return period


def _current(told: Fields) -> BillingPeriod:
    """From the current period's usage, which says the same in other words, instants as text of milliseconds."""
    told.require("billingCycleStart", "planUsage")
    at_ms = told.milliseconds("billingCycleStart")
    if at_ms is None:
        raise drifted(told.where, "the begin of the cycle is no instant", told.values)
    plan, limit = told.object("planUsage"), told.object("spendLimitUsage")
    included = plan.cents("includedSpend") if plan else None
    beyond = limit.cents("individualUsed") if limit else None
    total = None if included is None or beyond is None else exact_sum((included, beyond))
    period = BillingPeriod(
        at_ms=at_ms,
        until_ms=told.milliseconds("billingCycleEnd", _A_YEAR_AHEAD),
        included_usd=included,
        on_demand_usd=beyond,
        total_usd=total,
        included_limit_usd=plan.cents("limit") if plan else None,
        on_demand_limit_usd=limit.cents("individualLimit") if limit else None,
    )
    if plan:
        plan.finish("totalSpend", "bonusSpend", "remaining", "totalPercentUsed")
    if limit:
        limit.finish("totalSpend", "individualRemaining", "limitType")
    told.finish("autoBucketModels", "displayMessage", "enabled")
    return period


def _invoices(answers: Sequence[Answer], notes: Counter[str]) -> Normalized:
    items: dict[str, Invoice] = {}  # two months may show one period, and two pages one invoice
    rejects: list[str] = []
    is_suspicious = False
    for answer in answers:
        told = document(answer, notes)
        is_suspicious |= told.is_empty
        if answer.request.path == _MONTHLY_INVOICE:
            if not told.is_empty:
                _take_statement(told, items, rejects)
            continue
        for row in _listed(told):
            invoice = _invoice(row)
            if invoice is None:
                rejects.append("an invoice without a number or a possible date")
            else:
                items.setdefault(invoice.invoice_id, invoice)
        told.finish("total", "totalPages", "hasMore")
    return Normalized(list(items.values()), notes, rejects, is_suspicious or bool(rejects))


def _invoice(row: Fields) -> Invoice | None:
    row.require("invoiceId", "date", "amountCents")
    invoice_id, issued_ms = row.text("invoiceId"), row.milliseconds("date")
    amount = row.cents("amountCents")
    currency, status = row.text("currency").upper() or "USD", row.text("status")
    row.finish("hostedInvoiceUrl", "description")
    if not invoice_id or issued_ms is None:
        return None
    return Invoice(
        invoice_id=invoice_id, at_ms=issued_ms, issued_ms=issued_ms, amount=amount, currency=currency, status=status
    )


def _take_statement(told: Fields, items: dict[str, Invoice], rejects: list[str]) -> None:
    """A month's statement. It has no number, and what it sums up is billed by invoices of the list: it is a preview
    of them, never to be added to them. Its end is the present while the period is open, so its begin names it.
    """
    told.require("periodStartMs")
    at_ms = told.milliseconds("periodStartMs", _A_YEAR_AHEAD)
    until_ms = told.milliseconds("periodEndMs", _A_YEAR_AHEAD)
    rows = told.objects("items", "a line of a month's statement")
    lines = []
    is_complete = rows is not None
    for row in rows or ():
        cents = row.cents("cents")
        if cents is None:
            is_complete = False
        else:
            lines.append((row.text("description"), cents))
        row.finish("description")
    told.finish("pricingDescription", "hasUnpaidMidMonthInvoice", "isUsageEventsMaybeCutoff", "usageEvents")
    if at_ms is None:
        rejects.append("a month's statement without a possible begin")
    elif at_ms > told.fetched_ms + AHEAD // timedelta(milliseconds=1):
        told.notes["statement of a period that has not begun"] += 1
    else:
        statement = Invoice(
            invoice_id=f"period-{at_ms}",
            at_ms=at_ms,
            until_ms=until_ms,
            amount=exact_sum(cents for _, cents in lines) if is_complete else None,
            lines=tuple(lines),
            is_preview=True,
        )
        items.setdefault(statement.invoice_id, statement)


def _limits(answers: Sequence[Answer], notes: Counter[str]) -> Normalized:
    """Whole dollars. `{}` says nothing, not even that there is no limit."""
    items: list[Limit] = []
    is_suspicious = False
    for answer in answers:
        told = document(answer, notes)
        is_suspicious |= told.is_empty
        forbidden = told.flag("noUsageBasedAllowed")
        is_allowed = None if forbidden is None else not forbidden
        if not told.is_empty:
            items.append(Limit(name="hard limit", limit_usd=told.dollars("hardLimit"), is_allowed=is_allowed))
        if "hardLimitPerUser" in told:
            items.append(Limit(name="hard limit per user", limit_usd=told.dollars("hardLimitPerUser")))
        told.finish("hardLimit", "hardLimitPerUser")
    return Normalized(items, notes, (), is_suspicious)
