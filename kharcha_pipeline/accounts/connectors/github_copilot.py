"""GitHub Copilot, by a token: AI credits and premium requests by day, months, budgets, seats.

What is read, with units and gaps: docs/accounts/github-copilot.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

from kharcha_pipeline.accounts.buckets import Month, datetime_of, days_in, inside, month_of, months_in
from kharcha_pipeline.accounts.clock import DAY_MS, MINUTE_MS
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
from kharcha_pipeline.accounts.connectors.keys import check_key
from kharcha_pipeline.accounts.cursor_pages import listed, read_cursor_pages
from kharcha_pipeline.accounts.failures import (
    AccountsUsageError,
    Denied,
    Failure,
    Inconsistent,
    Misconfigured,
    RateLimited,
)
from kharcha_pipeline.accounts.items import BillingPeriod, Limit, Member, ReportRow
from kharcha_pipeline.accounts.values import Fields, document, drifted, exact_sum, required_id

VERSION = "2026-03-10"
"""The value of `X-GitHub-Api-Version` whose formats are known here."""

GROUPING = ("model", "product", "sku", "unitType")

_NEXT_PAGE = re.compile(r"<[^<>]*[?&]page=([0-9]{1,9})[^<>]*>;\s*rel=\"next\"")
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_LEVELS = {"organization": "organizations", "user": "users", "enterprise": "enterprises"}


class UsageReport(NamedTuple):
    """A unit that Copilot is billed in: the report's name, and the part of its address."""

    report: str
    part: str


_CREDITS = Resource(
    "ai-credits",
    "report",
    span=timedelta(days=1),
    lookback=timedelta(days=5),
    deep_lookback=timedelta(days=36),  # this month, and the one before until its 5th day
    history=timedelta(days=180),
    retention=timedelta(days=720),  # 24 months are documented
)
_REQUESTS = _CREDITS._replace(name="premium-requests", is_optional=True)
_PERIODS = Resource(
    "periods",
    "period",
    span=timedelta(days=31),
    lookback=timedelta(days=36),
    deep_lookback=timedelta(days=36),
    history=timedelta(days=365),
    retention=timedelta(days=720),
    alignment="month",
)
_BUDGETS = Resource("budgets", "limit", is_optional=True)
_ACCOUNT = Resource("account", "member", every=timedelta(days=1), is_optional=True)
_SEATS = Resource("seats", "member", every=timedelta(days=1), is_optional=True)
_REPORTS = {
    _CREDITS: UsageReport("ai_credits", "ai_credit"),
    _REQUESTS: UsageReport("premium_requests", "premium_request"),
}


class GitHubCopilotSettings(
    AccountSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="github-copilot"
):
    """Whose bill it is.

    Attributes:
        login: the organization's name, the user's login, or the enterprise's short name.
        level: which of the three it is; the one that pays.
    """

    login: str
    level: Literal["organization", "user", "enterprise"] = "organization"

    def __post_init__(self) -> None:
        if not _LOGIN.fullmatch(self.login):
            raise ValueError("login is the name as in github.com/NAME: letters, digits, hyphens and underscores")


class GitHubCopilot:
    """Copilot in GitHub's billing interface."""

    name = "github-copilot"
    title = "GitHub Copilot"
    vendor = "github"
    source = "github-copilot"
    warning = ""
    settings_type: type[AccountSettings] = GitHubCopilotSettings
    base_url = "https://api.github.com"
    schedule = "25 5 * * *"
    # Documented: 5000 an hour.
    rates: Mapping[str, Rate] = {"default": Rate(80, 60.0)}
    is_counted = False
    local_sources: Sequence[str] = ("provider:github-copilot",)

    def resources(self, settings: GitHubCopilotSettings) -> Sequence[Resource]:
        """What can be asked at the account's level."""
        usage = (_PERIODS, _CREDITS, _REQUESTS)
        return {
            "organization": (*usage, _BUDGETS, _ACCOUNT, _SEATS),
            "enterprise": (*usage, _BUDGETS, _SEATS),
            "user": (*usage, _ACCOUNT),
        }[settings.level]

    def authorization(self, secret: str, settings: GitHubCopilotSettings) -> Mapping[str, str]:
        """The token as a bearer, and the version of the formats."""
        check_key(secret, self.name)
        if settings.level == "enterprise" and secret.startswith("github_pat_"):
            raise AccountsUsageError(
                "The billing of an enterprise cannot be read with a fine-grained token. Make a classic one (ghp_…) "
                "with the scope manage_billing:enterprise."
            )
        return {
            "authorization": f"Bearer {secret}",
            "accept": "application/vnd.github+json",
            "x-github-api-version": VERSION,
        }

    def expires_ms(self, secret: str) -> int | None:
        """Tokens do not say when they expire."""
        return None

    def probe(self, session: Session, settings: GitHubCopilotSettings) -> Sequence[Member]:
        """Asks who the token is where that is who pays, else for the limits, which counts against none."""
        if settings.level != "user":
            session.send(Request(path="/rate_limit"))
            return ()
        (user,) = _user([session.send(Request(path="/user"))], Counter())
        if user.user.lower() != settings.login.lower():
            raise Misconfigured(
                "The token belongs to another user than the account's login says. "
                "Correct one of them in accounts.toml."
            )
        return [user]

    def classify(self, answer: Answer) -> Failure | None:
        """The limit that only its words tell; and 404, which is a missing right."""
        if answer.status == 403 and b"secondary rate limit" in answer.body.lower():
            return _pause(answer)
        if answer.status == 404:
            return Denied(
                "GitHub says that there is no such thing, which is also what a token gets that lacks the right: "
                "Administration (read) for an organization, Plan (read) for a user, manage_billing:enterprise for an "
                "enterprise. It may also be that the level or login in accounts.toml is not the one that pays."
            )
        return None

    def read(
        self, session: Session, settings: GitHubCopilotSettings, resource: Resource, window: Window
    ) -> Sequence[Answer]:
        """One answer for each day or month, or all pages of what describes the present."""
        billing = f"/{_LEVELS[settings.level]}/{settings.login}/settings/billing"
        if resource in _REPORTS:
            path = f"{billing}/{_REPORTS[resource].part}/usage"
            return [session.send(Request(path=path, query=_asked_day(day))) for day in days_in(window)]
        if resource == _PERIODS:
            return _read_months(session, billing, window)
        if resource == _BUDGETS:
            first = Request(path=f"{billing}/budgets", query=(("per_page", "100"),))
            return read_cursor_pages(session, first, _following_budgets, contents=_budget_ids)
        if resource == _SEATS:
            owner = "enterprises" if settings.level == "enterprise" else "orgs"
            first = Request(path=f"/{owner}/{settings.login}/copilot/billing/seats", query=(("per_page", "100"),))
            return read_cursor_pages(session, first, _following_seats)
        path = "/user" if settings.level == "user" else f"/orgs/{settings.login}/copilot/billing"
        return [session.send(Request(path=path))]

    def normalize(
        self, settings: GitHubCopilotSettings, resource: Resource, window: Window, answers: Sequence[Answer]
    ) -> Normalized:
        """What the answers of one window say."""
        notes: Counter[str] = Counter()
        if resource in _REPORTS:
            report = _REPORTS[resource].report
            user = settings.login if settings.level == "user" else ""
            rows = [row for answer in answers for row in _usage_rows(answer, report, user, notes)]
            return Normalized(inside(window, rows, notes), dict(notes))
        if resource == _PERIODS:
            return Normalized(inside(window, _periods(answers, settings, notes), notes), dict(notes))
        if resource == _BUDGETS:
            limits = [limit for answer in answers for limit in _budgets(answer, notes)]
            return Normalized(limits, dict(notes))
        if resource == _SEATS:
            return _seats(answers, notes)
        if settings.level == "user":
            return Normalized(_user(answers, notes), dict(notes))
        return Normalized([_organization(answer, settings, notes) for answer in answers], dict(notes))


GITHUB_COPILOT = GitHubCopilot()


# ----------------------------------------------------------------------------------------------------- reading


def _asked_day(at_ms: int) -> tuple[tuple[str, str], ...]:
    day = datetime_of(at_ms)
    return (("year", str(day.year)), ("month", str(day.month)), ("day", str(day.day)))


def _read_months(session: Session, billing: str, window: Window) -> list[Answer]:
    """Both units for each month; an account that has no premium requests has a month without them."""
    answers = []
    for month in months_in(window):
        query = (("year", str(month.year)), ("month", str(month.month)))
        answers.append(session.send(Request(path=f"{billing}/ai_credit/usage", query=query)))
        try:
            answers.append(session.send(Request(path=f"{billing}/premium_request/usage", query=query)))
        except Denied:
            continue
    return answers


def _following_budgets(answer: Answer) -> str | None:
    page = document(answer, Counter())
    return _next_number(answer, bool(page.flag("has_next_page")), bool(page.raw("budgets")))


def _following_seats(answer: Answer) -> str | None:
    page = document(answer, Counter())
    return _next_number(
        answer, _NEXT_PAGE.search(answer.headers.get("link", "")) is not None, bool(page.raw("seats"))
    )


def _next_number(answer: Answer, has_next: bool, has_rows: bool) -> str | None:
    if not has_next:
        return None
    if not has_rows:
        raise Inconsistent(f"A page of {answer.request.path} is empty and says that more follow. Nothing was stored.")
    return str(int(dict(answer.request.query).get("page", "1")) + 1)


def _budget_ids(answer: Answer) -> list[str]:
    return [budget.text("id") for budget in document(answer, Counter()).objects("budgets") or ()]


def _pause(answer: Answer) -> RateLimited | None:
    """A secondary limit without a header that says for how long: a minute at least.

    Source: GitHub's "Rate limits for the REST API". With headers, the general rules are right.
    """
    if "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0":
        return None
    return RateLimited("GitHub asks for a pause between requests.", answer.fetched_ms + MINUTE_MS)


# ----------------------------------------------------------------------------------------------- understanding


def _usage_items(answer: Answer, notes: Counter[str]) -> tuple[Month, int | None, list[Fields]]:
    """The rows of a usage answer with the month and the day it is about, which must be those that were asked for.

    Raises:
        Drifted: when the answer is about another time: amounts of a month would be taken for those of a day.
    """
    page = document(answer, notes)
    page.require("timePeriod", "usageItems")
    period = page.object("timePeriod")
    items = page.objects("usageItems", f"a row of {answer.request.path}")
    asked = dict(answer.request.query)
    if period is None or items is None:
        raise drifted(page.where, "it has no period or no rows", page.values)
    told = {name: period.whole(name) for name in ("year", "month", "day")}
    wanted = {name: int(asked[name]) if name in asked else None for name in ("year", "month", "day")}
    if told != wanted:
        raise drifted(page.where, "it is about another time than was asked for", {name: told[name] for name in told})
    period.finish()
    page.finish("organization", "enterprise", "user", "product", "model", "costCenter")
    return month_of(int(asked["year"]), int(asked["month"])), wanted["day"], items


def _usage_rows(answer: Answer, report: str, user: str, notes: Counter[str]) -> Iterable[ReportRow]:
    """Two rows for each of the vendor's: what is billed, and what it would be before discounts."""
    month, day, items = _usage_items(answer, notes)
    at_ms = month.at_ms + ((day or 1) - 1) * DAY_MS
    for fields in items:
        fields.require("product", "sku", "model", "unitType", "grossQuantity", "grossAmount", "netAmount")
        gross, net = fields.dollars("grossAmount"), fields.dollars("netAmount")
        discount = fields.dollars("discountAmount")
        if (
            gross is not None
            and net is not None
            and discount is not None
            and exact_sum((gross, discount.copy_negate())) != net
        ):
            notes["gross, discount and net do not add up"] += 1
        billed = ReportRow(
            report=report,
            grouping=",".join(GROUPING),
            at_ms=at_ms,
            until_ms=at_ms + DAY_MS,
            dimensions=tuple((name, fields.text(name)) for name in GROUPING),
            model_raw=fields.text("model"),
            user=user,
            quantity=fields.decimal("grossQuantity"),
            unit=fields.text("unitType"),
            amount=net,
        )
        yield billed
        yield ReportRow(
            report=f"{report}_before_discounts",
            grouping=billed.grouping,
            at_ms=billed.at_ms,
            until_ms=billed.until_ms,
            dimensions=billed.dimensions,
            model_raw=billed.model_raw,
            user=user,
            quantity=gross,
            unit="USD",
        )
        fields.finish("pricePerUnit", "discountQuantity", "netQuantity", "costCenterId")


def _periods(answers: Sequence[Answer], settings: GitHubCopilotSettings, notes: Counter[str]) -> list[BillingPeriod]:
    """A period for each month. Dollars are those of AI credits, and of premium requests only in a month without any
    AI credit: since June 2026 the one unit replaces the other, so their sum might hold a request twice.
    """
    by_month: dict[Month, dict[str, list[Fields]]] = {}
    for answer in answers:
        month, _, items = _usage_items(answer, notes)
        unit = "ai_credit" if answer.request.path.endswith("/ai_credit/usage") else "premium_request"
        by_month.setdefault(month, {}).setdefault(unit, []).extend(items)
    periods = []
    for month, units in by_month.items():
        requests = units.get("premium_request", [])
        billed = units.get("ai_credit") or requests
        periods.append(
            BillingPeriod(
                at_ms=month.at_ms,
                until_ms=month.until_ms,
                user=settings.login if settings.level == "user" else "",
                included_usd=_total(billed, "discountAmount"),
                on_demand_usd=_total(billed, "netAmount"),
                total_usd=_total(billed, "grossAmount"),
                requests=_total(requests, "grossQuantity") if "premium_request" in units else None,
            )
        )
    return periods


def _total(items: Sequence[Fields], name: str) -> Decimal | None:
    """The sum of a field; not known when it is not known of one row."""
    for fields in items:
        fields.require(name)
    amounts = [fields.decimal(name) for fields in items]
    known = [amount for amount in amounts if amount is not None]
    return exact_sum(known) if len(known) == len(amounts) else None


def _budgets(answer: Answer, notes: Counter[str]) -> list[Limit]:
    known = ("has_next_page", "total_count", "user", "effective_budget")
    budgets = listed(answer, notes, "a budget", name="budgets", passed_over=known)
    limits = []
    for budget in budgets:
        budget.require("id", "budget_scope", "budget_amount", "prevent_further_usage")
        is_stopping = budget.flag("prevent_further_usage")
        product = budget.raw("budget_product_sku") or budget.raw("budget_product_skus")
        products = product if isinstance(product, list) else [product]
        words = ", ".join(sorted(word for word in products if isinstance(word, str) and word.isascii()))
        limits.append(
            Limit(
                name=f"budget, {words}" if words else "budget",
                subject=budget.text("id"),
                user=budget.text("user") or budget.text("budget_entity_name"),
                limit_usd=budget.dollars("budget_amount"),
                used_usd=budget.dollars("consumed_amount"),
                is_allowed=None if is_stopping is None else not is_stopping,
            )
        )
        budget.finish(
            "budget_type",
            "budget_scope",
            "budget_entity_name",
            "budget_alerting",
            "created_at",
            "budget_product_skus",
        )
    return limits


def _seats(answers: Sequence[Answer], notes: Counter[str]) -> Normalized:
    """Everybody with a seat, once: an enterprise pays a person's seats in several organizations as one."""
    members: dict[str, Member] = {}
    rejects: list[str] = []
    for answer in answers:
        for seat in listed(answer, notes, "a seat", name="seats", passed_over=("total_seats",)):
            seat.require("assignee")
            person = seat.object("assignee")
            known = person.text("id") if person else ""
            if person is None or not known:
                rejects.append("a seat of nobody")
                continue
            members[known] = Member(
                member_id=known, user=person.text("login"), role="seat", plan=seat.text("plan_type")
            )
    return Normalized(list(members.values()), dict(notes), rejects)


def _organization(answer: Answer, settings: GitHubCopilotSettings, notes: Counter[str]) -> Member:
    billing = document(answer, notes)
    billing.require("seat_breakdown")
    return Member(
        member_id=settings.login.lower(), user=settings.login, role="account", plan=billing.text("plan_type")
    )


def _user(answers: Sequence[Answer], notes: Counter[str]) -> list[Member]:
    members = []
    for answer in answers:
        person = document(answer, notes)
        person.require("id", "login")
        known = required_id(person)
        plan = person.object("plan")
        members.append(
            Member(
                member_id=known,
                user=person.text("login"),
                name=person.text("name"),
                role="account",
                plan=plan.text("name") if plan else "",
            )
        )
    return members
