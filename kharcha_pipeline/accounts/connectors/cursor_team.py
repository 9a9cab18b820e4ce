"""Cursor's Admin API: a team's usage with a key that an admin of the team makes. See docs/accounts/cursor-team.md."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

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
from kharcha_pipeline.accounts.connectors.cursor_events import (
    EventsEndpoint,
    events_of,
    page_size_refused,
    read_events,
)
from kharcha_pipeline.accounts.failures import AccountsUsageError, Denied, Failure, Unauthorized
from kharcha_pipeline.accounts.items import BillingPeriod, Limit, Member, ReportRow
from kharcha_pipeline.accounts.paging import CountedPage, read_counted_pages
from kharcha_pipeline.accounts.values import Fields, document, drifted, exact_sum

EVENTS = Resource(name="events", kind="event", span=timedelta(days=1), lag=timedelta(minutes=5))
PERIODS = Resource(name="periods", kind="period", every=timedelta(minutes=50))
LIMITS = Resource(name="limits", kind="limit", every=timedelta(hours=6))
MEMBERS = Resource(name="members", kind="member", every=timedelta(hours=6))
DAILY_USAGE = Resource(
    name="daily usage", kind="report", span=timedelta(days=30), every=timedelta(hours=6), is_optional=True
)

_EVENTS = EventsEndpoint(
    path="/teams/filtered-usage-events",
    budget="events",
    kinds=frozenset({"Usage-based", "Included in Business", "Errored, Not Charged"}),
)
_SPEND = "/teams/spend"
_MEMBERS = "/teams/members"
_DAILY_USAGE = "/teams/daily-usage-data"
_PAGE_SIZES = (1000, 100)

_REQUEST_COUNTERS = (
    "composerRequests",
    "chatRequests",
    "agentRequests",
    "cmdkUsages",
    "bugbotUsages",
    "subscriptionIncludedReqs",
    "apiKeyReqs",
    "usageBasedReqs",
)
_OTHER_COUNTERS = (
    "totalLinesAdded",
    "totalLinesDeleted",
    "acceptedLinesAdded",
    "acceptedLinesDeleted",
    "totalApplies",
    "totalAccepts",
    "totalRejects",
    "totalTabsShown",
    "totalTabsAccepted",
)
_KEY = re.compile(r"[!-9;-~]{8,512}")  # visible ASCII without the colon that would end a user name


class CursorTeamSettings(AccountSettings, tag="cursor-team", frozen=True, kw_only=True):
    """A team behind Cursor's Admin API."""


class CursorTeam:
    """Cursor's Admin API, as its documentation describes it."""

    name = "cursor-team"
    title = "Cursor team"
    vendor = "cursor"
    source = "cursor"
    warning = ""
    settings_type: type[AccountSettings] = CursorTeamSettings
    base_url = "https://api.cursor.com"
    schedule = "23 * * * *"  # the vendor asks for no more than one poll an hour: its data are made hourly
    # 60 and 20 a minute are documented; a few less, since requests do not arrive as evenly as they were sent.
    rates: Mapping[str, Rate] = {"default": Rate(18, 60), "events": Rate(54, 60)}
    is_counted = True
    local_sources: Sequence[str] = ()

    def resources(self, settings: AccountSettings) -> Sequence[Resource]:
        """Events, what the open cycle sums up to, limits, members, and counters of each day."""
        return (EVENTS, PERIODS, LIMITS, MEMBERS, DAILY_USAGE)

    def authorization(self, secret: str, settings: AccountSettings) -> Mapping[str, str]:
        """The key is the user name of basic authentication, with an empty password.

        Raises:
            AccountsUsageError: when it cannot be a key.
        """
        if not _KEY.fullmatch(secret) or "%3A" in secret.upper() or secret.startswith("eyJ"):
            raise AccountsUsageError(
                "The credential is no key of Cursor's Admin API. A key begins with crsr_ or key_ and is made by an"
                " admin of the team, in the dashboard's settings under API keys; cookies and tokens are not accepted."
            )
        return {"Authorization": "Basic " + base64.b64encode(f"{secret}:".encode()).decode()}

    def expires_ms(self, secret: str) -> int | None:
        """A key does not say when it expires."""
        return None

    def probe(self, session: Session, settings: AccountSettings) -> Sequence[Member]:
        """Asks for the members; a key whose scope is usage alone is asked for one event instead."""
        try:
            answer = session.send(Request(path=_MEMBERS))
        except (Denied, Unauthorized):
            now_ms = session.now_ms()
            body = {"startDate": now_ms - MINUTE_MS, "endDate": now_ms, "page": 1, "pageSize": 1}
            session.send(Request(method="POST", path=_EVENTS.path, body=body, budget="events"))
            return ()
        return _members(answer, Counter())

    def classify(self, answer: Answer) -> Failure | None:
        """A page that is too long is asked for again, shorter. What lacks a scope is denied, whatever the status."""
        if refused := page_size_refused(answer):
            return refused
        if answer.status in (401, 403) and b"scope" in answer.body.lower():
            return Denied(
                f"The key of Cursor's Admin API has no scope for {answer.request.path}: an admin of the team can make"
                " one that has."
            )
        return None

    def read(
        self, session: Session, settings: AccountSettings, resource: Resource, window: Window
    ) -> Sequence[Answer]:
        """All answers of one window."""
        if resource.name == EVENTS.name:
            return read_events(session, _EVENTS, window)
        if resource.name == MEMBERS.name:
            return [session.send(Request(path=_MEMBERS))]
        if resource.name == DAILY_USAGE.name:
            bounds = {"startDate": window.from_ms, "endDate": window.until_ms - 1}
            return read_counted_pages(session, partial(_asked, _DAILY_USAGE, bounds), _daily_page, _PAGE_SIZES)
        # By name, since amounts change while pages are read.
        order = {"sortBy": "user", "sortDirection": "asc"}
        return read_counted_pages(session, partial(_asked, _SPEND, order), _spend_page, _PAGE_SIZES)

    def normalize(
        self, settings: AccountSettings, resource: Resource, window: Window, answers: Sequence[Answer]
    ) -> Normalized:
        """What the answers of one window say."""
        if resource.name == EVENTS.name:
            return events_of(_EVENTS, window, answers)
        notes: Counter[str] = Counter()
        if resource.name == MEMBERS.name:
            return Normalized([member for answer in answers for member in _members(answer, notes)], notes)
        if resource.name == DAILY_USAGE.name:
            return _daily_usage(window, answers, notes)
        rows = {(row.cycle_ms, row.subject): row for answer in answers for row in _spenders(answer, notes)}
        if resource.name == LIMITS.name:
            return Normalized([limit for row in rows.values() for limit in _limits(row)], notes)
        return Normalized(_periods(list(rows.values())), notes)


CURSOR_TEAM = CursorTeam()


def _asked(path: str, body: Mapping[str, Any], page: int, size: int) -> Request:
    return Request(method="POST", path=path, body={**body, "page": page, "pageSize": size})


# ------------------------------------------------------------------------------------------------------ members


def _members(answer: Answer, notes: Counter[str]) -> list[Member]:
    told = document(answer, notes)
    told.require("teamMembers")
    members = []
    for row in told.objects("teamMembers", "a team member") or ():
        row.require("id")
        members.append(
            Member(
                member_id=row.text("id"),
                user=row.text("email"),
                name=row.text("name"),
                role=row.text("role"),
                is_removed=row.flag("isRemoved") or False,
            )
        )
        row.finish()
    told.finish()
    return [member for member in members if member.member_id]


# ------------------------------------------------------------------------------------------------ spend, limits


class _Spender:
    """One member's spending in the open cycle, with the cycle's begin."""

    def __init__(self, row: Fields, cycle_ms: int) -> None:
        self.cycle_ms = cycle_ms
        self.subject = row.text("userId")
        self.user = row.text("email")
        self.on_demand = row.cents("spendCents")
        self.included = row.cents("includedSpendCents")
        self.total = row.cents("overallSpendCents")
        self.requests = row.decimal("fastPremiumRequests")
        self.override = row.dollars("hardLimitOverrideDollars")
        self.monthly = row.dollars("monthlyLimitDollars")
        self.effective = row.dollars("effectivePerUserLimitDollars")
        self.told = row.values
        row.finish("name", "role", "profilePictureUrl")


def _spend_page(answer: Answer) -> CountedPage:
    told = document(answer, Counter())
    told.require("teamMemberSpend", "totalMembers", "totalPages")
    rows = [row.values for row in told.objects("teamMemberSpend") or ()]
    pages = told.count("totalPages")
    page = answer.request.body["page"] if isinstance(answer.request.body, dict) else 1
    return CountedPage(rows, told.count("totalMembers"), None if pages is None else page < pages)


def _spenders(answer: Answer, notes: Counter[str]) -> list[_Spender]:
    told = document(answer, notes)
    told.require("teamMemberSpend", "subscriptionCycleStart")
    cycle_ms = told.milliseconds("subscriptionCycleStart")
    if cycle_ms is None:
        raise drifted(f"the answer of {_SPEND}", "the begin of the cycle is no instant", told.values)
    spenders = []
    for row in told.objects("teamMemberSpend", "a member's spending") or ():
        row.require("userId", "spendCents")
        spenders.append(_Spender(row, cycle_ms))
    told.finish("totalMembers", "totalPages", "limitedUsersCount")
    return spenders


def _periods(spenders: Sequence[_Spender]) -> list[BillingPeriod]:
    """One row for each member, and their sum for each cycle."""
    periods = [
        BillingPeriod(
            at_ms=spender.cycle_ms,
            subject=spender.subject,
            user=spender.user,
            included_usd=spender.included,
            on_demand_usd=spender.on_demand,
            total_usd=spender.total,
            on_demand_limit_usd=spender.effective,
            requests=spender.requests,
        )
        for spender in spenders
        if spender.subject
    ]
    for cycle_ms in sorted({spender.cycle_ms for spender in spenders}):
        of_cycle = [spender for spender in spenders if spender.cycle_ms == cycle_ms]
        periods.append(
            BillingPeriod(
                at_ms=cycle_ms,
                included_usd=_sum(spender.included for spender in of_cycle),
                on_demand_usd=_sum(spender.on_demand for spender in of_cycle),
                total_usd=_sum(spender.total for spender in of_cycle),
                requests=_sum(spender.requests for spender in of_cycle),
            )
        )
    return periods


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The exact sum; not known when one of them is not."""
    known = list(amounts)
    return None if None in known else exact_sum(amount for amount in known if amount is not None)


def _limits(spender: _Spender) -> list[Limit]:
    """What may be spent by one member. An override of 0 means that there is none."""
    if not spender.subject:
        return []
    limits = []
    if "hardLimitOverrideDollars" in spender.told:
        limits.append(("hard limit override", spender.override or None))
    if "monthlyLimitDollars" in spender.told:
        limits.append(("monthly limit", spender.monthly))
    if "effectivePerUserLimitDollars" in spender.told:
        limits.append(("hard limit per user", spender.effective))
    return [
        Limit(name=name, subject=spender.subject, user=spender.user, limit_usd=limit, used_usd=spender.on_demand)
        for name, limit in limits
    ]


# -------------------------------------------------------------------------------------------------- daily usage


def _daily_page(answer: Answer) -> CountedPage:
    told = document(answer, Counter())
    told.require("data", "pagination")
    rows = [row.values for row in told.objects("data") or ()]
    pagination = told.object("pagination")
    # `totalUsers` counts people, not rows: a window of several days has more.
    return CountedPage(rows, None, pagination.flag("hasNextPage") if pagination else None)


def _daily_usage(window: Window, answers: Sequence[Answer], notes: Counter[str]) -> Normalized:
    """A row for each day, person and counter that is not 0."""
    items: list[ReportRow] = []
    rejects: list[str] = []
    for answer in answers:
        told = document(answer, notes)
        told.require("data")
        for row in told.objects("data", "a day of a member's usage") or ():
            row.require("date")
            at_ms = row.milliseconds("date")
            user = row.text("email")
            member = row.text("userId") or user
            if at_ms is None or not member:
                rejects.append("a day of usage without a possible day or without a person")
                continue
            if not window.from_ms <= at_ms < window.until_ms:
                notes["outside the window"] += 1
                continue
            counts = {counter: row.count(counter) for counter in (*_REQUEST_COUNTERS, *_OTHER_COUNTERS)}
            items += (_counted(at_ms, member, user, counter, count) for counter, count in counts.items() if count)
            row.finish(
                "day", "isActive", "mostUsedModel", "applyMostUsedExtension", "tabMostUsedExtension", "clientVersion"
            )
        told.finish("period", "pagination")
    return Normalized(items, notes, rejects, bool(rejects))


def _counted(at_ms: int, member: str, user: str, counter: str, count: int) -> ReportRow:
    return ReportRow(
        report="daily usage",
        grouping="counter,user",
        at_ms=at_ms,
        until_ms=at_ms + DAY_MS,
        dimensions=(("counter", counter), ("user", member)),
        user=user,
        quantity=Decimal(count),
        unit="requests" if counter in _REQUEST_COUNTERS else "lines" if "Lines" in counter else "actions",
    )
