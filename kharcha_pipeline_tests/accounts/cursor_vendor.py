"""Cursor on loopback: a team behind the Admin API and people with their dashboards, one world seen in two forms.

The world is what is visible at the server's clock: events come into view, are revised and vanish. Both forms are as
strict as people found them to be: an unknown parameter, a date of the wrong type, a missing Origin is an error.

    vendor = CursorVendor(clock)
    vendor.events.append(Usage(event("1795168800123", chargedCents=Decimal("6.625"))))
    with VendorServer(vendor.answer, clock) as server: ...
"""

from __future__ import annotations

import base64
import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock, page

DAY_MS = 86_400_000
CYCLE_MS = 1_794_268_800_000
"""2026-11-10 00:00 UTC: where the open billing cycle begins."""

CANARY_INVOICE = "invoice-canary-5f1c"
"""Part of every address of an invoice: whoever has it can open the invoice."""

APP = page("<!doctype html><html><head><title>Cursor</title></head><body><div id=root>" + " " * 100_000)
"""What Cursor answers where there is nothing: the page of its application, with 200."""

LEFT_OUT = object()
"""In a revision: the field is no longer there."""

_COUNTERS = (
    "totalLinesAdded",
    "totalLinesDeleted",
    "acceptedLinesAdded",
    "acceptedLinesDeleted",
    "totalApplies",
    "totalAccepts",
    "totalRejects",
    "totalTabsShown",
    "totalTabsAccepted",
    "composerRequests",
    "chatRequests",
    "agentRequests",
    "cmdkUsages",
    "subscriptionIncludedReqs",
    "apiKeyReqs",
    "usageBasedReqs",
    "bugbotUsages",
)

_DASHBOARD_KINDS = {
    "Usage-based": "USAGE_EVENT_KIND_USAGE_BASED",
    "Included in Business": "USAGE_EVENT_KIND_INCLUDED_IN_BUSINESS",
    "Errored, Not Charged": "USAGE_EVENT_KIND_ERRORED_NOT_CHARGED",
}


def event(at_ms: int, **changes: Any) -> dict[str, Any]:
    """A usage event as the Admin API shows it; a change to `LEFT_OUT` takes a field out."""
    shown: dict[str, Any] = {
        "timestamp": str(at_ms),
        "userEmail": "asha@example.com",
        "conversationId": "conv-aaaa",
        "model": "example-large",
        "kind": "Usage-based",
        "maxMode": True,
        "requestsCosts": Decimal("1.4"),
        "isTokenBasedCall": True,
        "isChargeable": True,
        "isHeadless": False,
        "tokenUsage": {
            "inputTokens": 1200,
            "outputTokens": 850,
            "cacheWriteTokens": 4000,
            "cacheReadTokens": 32_000,
            "totalCents": Decimal("6.125"),
        },
        "cursorTokenFee": Decimal("0.5"),
        "chargedCents": Decimal("6.625"),
    }
    return _without_left_out(shown | changes)


@dataclass
class Usage:
    """An event in the world.

    Attributes:
        shown: as the Admin API shows it.
        visible_from, hidden_from: from when it can be seen, and from when no longer.
        revisions: instant, field (dots lead inside) and what it is from then on.
    """

    shown: dict[str, Any]
    visible_from: int = 0
    hidden_from: int | None = None
    revisions: list[tuple[int, str, Any]] = field(default_factory=list)

    def as_of(self, now_ms: int) -> dict[str, Any] | None:
        """What can be seen of it."""
        if now_ms < self.visible_from or (self.hidden_from is not None and now_ms >= self.hidden_from):
            return None
        shown = copy.deepcopy(self.shown)
        for at_ms, path, value in self.revisions:
            if at_ms <= now_ms:
                *outer, last = path.split(".")
                inner = shown
                for name in outer:
                    inner = inner[name]
                inner[last] = value
        return _without_left_out(shown)


@dataclass
class Person:
    """Somebody with a dashboard."""

    user_id: str = "user_EXAMPLE01"
    number: int = 100_001
    email: str = "asha@example.com"
    name: str = "Asha Example"
    expires_s: int = 1_800_000_000
    session: str = "session-canary-91ae"
    has_ended: bool = False
    is_team_owner: bool = False

    @property
    def cookie(self) -> str:
        """The value of the session cookie, as browsers keep it."""
        return f"{self.user_id}%3A%3A{self.token}"

    @property
    def token(self) -> str:
        """The token inside it."""
        claims = {"sub": f"auth0|{self.user_id}", "exp": self.expires_s, "session": self.session}
        parts = ({"alg": "HS256", "typ": "JWT"}, claims, {"signature": self.session})
        return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


class CursorVendor:
    """The world of one team, and of people.

    Attributes:
        keys: keys of the Admin API, and the paths that each may ask.
        people: who has a dashboard.
        largest_page: rows of a page at most.
        refuses_long_pages: whether a longer one is an error instead of being cut silently.
        page_lengths: how many rows a page has, by its number, where it is not as many as asked for.
        is_wordy: whether a dashboard says that there is nothing; otherwise it answers `{}`.
        list_name: how the dashboard calls the list of events.
        after_page: called after each page of events with its number; the world may change then.
        per_minute: requests in a minute, by path; the others by `default`.
        show: changes an event before it is told, whichever form it has.
    """

    def __init__(self, clock: TurnedClock) -> None:
        self._clock = clock
        self.events: list[Usage] = []
        self.keys: dict[str, str] = {"crsr_key_canary_77d0": "/"}
        self.people: list[Person] = [Person()]
        self.members: list[dict[str, Any]] = [
            {"id": "user_EXAMPLE01", "name": "Asha Example", "email": "asha@example.com", "role": "owner"},
            {"id": "user_EXAMPLE02", "name": "Ben Example", "email": "ben@example.com", "role": "member"},
        ]
        self.spend: list[dict[str, Any]] = [
            spending("user_EXAMPLE01", "asha@example.com", Decimal("412.375"), hardLimitOverrideDollars=0),
            spending("user_EXAMPLE02", "ben@example.com", Decimal("0.0625"), hardLimitOverrideDollars=75),
        ]
        self.days: list[dict[str, Any]] = []
        self.cycle_ms = CYCLE_MS
        self.invoices: list[dict[str, Any]] = [invoice("in_EXAMPLE01", CYCLE_MS, 2000)]
        self.statements: dict[tuple[int, int], list[dict[str, Any]]] = {
            (2026, 10): [
                {"description": "synthetic line: example-large, 41 requests", "cents": 663},
                {"description": "synthetic line: mid-month payment", "cents": -500},
            ]
        }
        self.hard_limit: dict[str, Any] = {"hardLimit": 50, "hardLimitPerUser": 25, "noUsageBasedAllowed": False}
        self.summary: dict[str, Any] = _summary()
        self.largest_page = 1000
        self.refuses_long_pages = False
        self.page_lengths: dict[int, int] = {}
        self.is_wordy = False
        self.list_name = "usageEventsDisplay"
        self.after_page: Callable[[int], None] = lambda _: None
        self.per_minute: dict[str, int] = {}
        self.show: Callable[[dict[str, Any]], dict[str, Any]] = lambda shown: shown
        self._asked: Counter[tuple[str, str, int]] = Counter()

    def answer(self, received: Received) -> Reply:
        """What Cursor answers."""
        if received.path.startswith("/teams/"):
            return self._team(received)
        return self._dashboard(received)

    def _visible(self) -> list[dict[str, Any]]:
        """The events of now, the newest first; of one instant, the later told first."""
        now_ms = self._clock.now_ms()
        seen = [shown for usage in self.events if (shown := usage.as_of(now_ms)) is not None]
        return sorted(seen, key=lambda shown: -int(shown["timestamp"]))

    def _is_too_much(self, received: Received) -> bool:
        budget = received.path if received.path in self.per_minute else "default"
        minute = (received.credential, budget, received.at_ms // 60_000)
        self._asked[minute] += 1
        return self._asked[minute] > self.per_minute.get(budget, 10**9)

    def _page(self, rows: list[Any], number: int, size: int) -> list[Any]:
        lengths = [self.page_lengths.get(before, size) for before in range(1, number + 1)]
        begin = sum(lengths[:-1])
        return rows[begin : begin + lengths[-1]]

    # -------------------------------------------------------------------------------------------- Admin API

    def _team(self, received: Received) -> Reply:
        allowed = self.keys.get(received.credential)
        if not received.headers.get("authorization", "").startswith("Basic ") or allowed is None:
            return _error(401, "Unauthorized", "Invalid team API key")
        if not received.path.startswith(allowed):
            return _error(401, "Unauthorized", "The API key lacks the scope for this endpoint")
        if self._is_too_much(received):
            return _error(429, "Too Many Requests", "Rate limit exceeded, retry later")
        if received.path == "/teams/members" and received.method == "GET":
            return Reply(content={"teamMembers": self.members})
        answers = {
            "/teams/filtered-usage-events": (self._team_events, {"startDate", "endDate"}),
            "/teams/spend": (self._team_spend, {"searchTerm", "sortBy", "sortDirection"}),
            "/teams/daily-usage-data": (self._team_days, {"startDate", "endDate"}),
        }
        if received.path not in answers or received.method != "POST":
            return _error(404, "Not Found", "No such endpoint")
        answer, names = answers[received.path]
        body = received.json
        if unknown := set(body) - names - {"page", "pageSize"}:
            return _error(400, "Bad Request", f"Unknown parameter {sorted(unknown)[0]}")
        for name in {"startDate", "endDate", "page", "pageSize"} & set(body):
            if type(body[name]) is not int:
                return _error(400, "Bad Request", f"{name} must be a number")
        if body["pageSize"] > self.largest_page and self.refuses_long_pages:
            return _error(400, "Bad Request", f"pageSize must not exceed {self.largest_page}")
        reply = answer(body, body.get("page", 1), min(body["pageSize"], self.largest_page))
        self.after_page(body.get("page", 1))
        return reply

    def _team_events(self, body: dict[str, Any], number: int, size: int) -> Reply:
        first, last = body["startDate"], body["endDate"]
        rows = [shown for shown in self._visible() if first <= int(shown["timestamp"]) <= last]
        shown = self._page(rows, number, size)
        pages = -(-len(rows) // size)
        has_more = sum(self.page_lengths.get(before, size) for before in range(1, number + 1)) < len(rows)
        return Reply(
            content={
                "totalUsageEventsCount": len(rows),
                "pagination": {
                    "numPages": pages,
                    "currentPage": number,
                    "pageSize": size,
                    "hasNextPage": has_more,
                    "hasPreviousPage": number > 1,
                },
                "usageEvents": [self.show(row) for row in shown],
                "period": {"startDate": first, "endDate": last},
            }
        )

    def _team_spend(self, body: dict[str, Any], number: int, size: int) -> Reply:
        rows = sorted(self.spend, key=lambda row: row["email"])
        return Reply(
            content={
                "teamMemberSpend": self._page(rows, number, size),
                "subscriptionCycleStart": self.cycle_ms,
                "totalMembers": len(rows),
                "totalPages": -(-len(rows) // size),
            }
        )

    def _team_days(self, body: dict[str, Any], number: int, size: int) -> Reply:
        first, last = body["startDate"], body["endDate"]
        if last - first >= 30 * DAY_MS:
            return _error(400, "Bad Request", "Date range must not exceed 30 days")
        rows = [day for day in self.days if first <= day["date"] <= last]
        return Reply(
            content={
                "data": self._page(rows, number, size),
                "period": {"startDate": first, "endDate": last},
                "pagination": {
                    "page": number,
                    "pageSize": size,
                    "totalUsers": len({day["userId"] for day in rows}),
                    "hasNextPage": number * size < len(rows),
                    "hasPreviousPage": number > 1,
                },
            }
        )

    # -------------------------------------------------------------------------------------------- dashboard

    def _dashboard(self, received: Received) -> Reply:
        whose = [one for one in self.people if received.headers.get("cookie", "").endswith(f"%3A%3A{one.token}")]
        if not whose or whose[0].has_ended or whose[0].expires_s * 1000 <= received.at_ms:
            return Reply(401, {"error": "not_authenticated"})
        person = whose[0]
        is_own = received.headers["cookie"] == f"WorkosCursorSessionToken={person.cookie}"
        if received.method == "POST" and received.headers.get("origin") != "https://cursor.com":
            return Reply(403, {"error": "Invalid origin for state-changing request"})
        if self._is_too_much(received):
            return _error(429, "Too Many Requests", "Rate limit exceeded, retry later")
        body = received.json if received.method == "POST" else {}
        if body.get("teamId") and not person.is_team_owner:
            return Reply(400, {"error": {"code": "invalid_argument", "details": [{"error": "ERROR_UNAUTHORIZED"}]}})
        answers: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", "/api/auth/me"): lambda: self._identity(person),
            ("GET", "/api/usage-summary"): lambda: self.summary,
            ("POST", "/api/dashboard/get-current-period-usage"): self._current_period,
            ("POST", "/api/dashboard/list-invoices"): lambda: self._list_invoices(body),
            ("POST", "/api/dashboard/get-monthly-invoice"): lambda: self._statement(body, received.at_ms),
            ("POST", "/api/dashboard/get-hard-limit"): lambda: self.hard_limit,
        }
        if received.path == "/api/dashboard/get-filtered-usage-events" and received.method == "POST":
            reply = self._dashboard_events(person if is_own else Person(email=""), body)
            self.after_page(body.get("page", 1))
            return reply
        answer = answers.get((received.method, received.path))
        if answer is None:
            return APP
        return Reply(content=answer())

    def _dashboard_events(self, person: Person, body: dict[str, Any]) -> Reply:
        if not all(isinstance(body.get(name), str) and body[name].isdigit() for name in ("startDate", "endDate")):
            return Reply(500, {"error": "Internal Server Error"})
        if body["pageSize"] > self.largest_page and self.refuses_long_pages:
            return Reply(400, {"error": {"message": f"pageSize must be at most {self.largest_page}"}})
        if "teamId" not in body:
            return Reply(content={})
        first, last = int(body["startDate"]), int(body["endDate"])
        rows = [
            self.show(_as_dashboard(shown, person))
            for shown in self._visible()
            if first <= int(shown["timestamp"]) <= last and shown.get("userEmail") == person.email
        ]
        if not rows:
            return Reply(content={"totalUsageEventsCount": 0, self.list_name: []} if self.is_wordy else {})
        shown = self._page(rows, body["page"], min(body["pageSize"], self.largest_page))
        return Reply(content={"totalUsageEventsCount": len(rows), self.list_name: shown})

    def _identity(self, person: Person) -> dict[str, Any]:
        return {
            "email": person.email,
            "email_verified": True,
            "name": person.name,
            "sub": person.user_id,
            "id": person.number,
            "created_at": "2025-01-02T03:04:05.000Z",
            "updated_at": "2026-11-20T10:00:00.000Z",
            "picture": None,
        }

    def _current_period(self) -> dict[str, Any]:
        usage = self.summary["individualUsage"]
        return {
            "billingCycleStart": str(self.cycle_ms),
            "billingCycleEnd": "1796860800000",
            "planUsage": {
                "totalSpend": usage["plan"]["used"],
                "includedSpend": usage["plan"]["used"],
                "bonusSpend": 0,
                "remaining": usage["plan"]["remaining"],
                "limit": usage["plan"]["limit"],
                "totalPercentUsed": Decimal("72.5"),
            },
            "spendLimitUsage": {
                "totalSpend": usage["onDemand"]["used"],
                "individualLimit": usage["onDemand"]["limit"],
                "individualUsed": usage["onDemand"]["used"],
                "individualRemaining": usage["onDemand"]["remaining"],
                "limitType": "user",
            },
            "autoBucketModels": ["default"],
        }

    def _list_invoices(self, body: dict[str, Any]) -> dict[str, Any]:
        number, size = body["page"], min(body["pageSize"], self.largest_page)
        return {
            "invoices": self._page(self.invoices, number, size),
            "total": len(self.invoices),
            "totalPages": -(-len(self.invoices) // size),
            "hasMore": number * size < len(self.invoices),
        }

    def _statement(self, body: dict[str, Any], now_ms: int) -> dict[str, Any]:
        """A month's statement; that of the open month ends now. Month 0 is January."""
        year, month = body["year"], body["month"]
        begin = datetime(year, month + 1, 10, tzinfo=UTC)
        end = datetime(year + (month == 11), (month + 1) % 12 + 1, 10, tzinfo=UTC)
        return {
            "items": self.statements.get((year, month), []),
            "pricingDescription": {"id": "pricing-example"},
            "hasUnpaidMidMonthInvoice": False,
            "periodStartMs": str(int(begin.timestamp()) * 1000),
            "periodEndMs": str(min(int(end.timestamp()) * 1000, now_ms)),
            "isUsageEventsMaybeCutoff": False,
        }


def spending(user_id: str, email: str, cents: Decimal, **changes: Any) -> dict[str, Any]:
    """A member's spending in the open cycle."""
    shown = {
        "userId": user_id,
        "name": email.partition("@")[0].title(),
        "email": email,
        "role": "member",
        "spendCents": cents,
        "includedSpendCents": 2000,
        "overallSpendCents": cents + 2000,
        "fastPremiumRequests": 0,
        "hardLimitOverrideDollars": 0,
        "monthlyLimitDollars": None,
        "effectivePerUserLimitDollars": 50,
    }
    return _without_left_out(shown | changes)


def day_of_usage(user_id: str, email: str, at_ms: int, **counters: int) -> dict[str, Any]:
    """A member's counters of one day; all that are not named are 0."""
    about = {
        "userId": user_id,
        "email": email,
        "day": datetime.fromtimestamp(at_ms // 1000, UTC).date().isoformat(),
        "date": at_ms,
        "isActive": bool(counters),
        "mostUsedModel": "example-large" if counters else None,
        "applyMostUsedExtension": ".py",
        "tabMostUsedExtension": ".py",
        "clientVersion": "9.9.9",
    }
    return about | dict.fromkeys(_COUNTERS, 0) | counters


def invoice(invoice_id: str, at_ms: int, cents: int, **changes: Any) -> dict[str, Any]:
    """An invoice as the dashboard lists it."""
    shown = {
        "invoiceId": invoice_id,
        "date": str(at_ms),
        "amountCents": cents,
        "currency": "usd",
        "status": "paid",
        "hostedInvoiceUrl": f"https://invoice.example.com/i/{CANARY_INVOICE}/{invoice_id}",
        "description": "synthetic",
    }
    return _without_left_out(shown | changes)


def _summary() -> dict[str, Any]:
    return {
        "billingCycleStart": "2026-11-10T00:00:00.000Z",
        "billingCycleEnd": "2026-12-10T00:00:00.000Z",
        "membershipType": "pro",
        "limitType": "user",
        "isUnlimited": False,
        "autoModelSelectedDisplayMessage": "synthetic text",
        "individualUsage": {
            "plan": {
                "enabled": True,
                "used": 1450,
                "limit": 2000,
                "remaining": 550,
                "breakdown": {"included": 1450, "bonus": 0, "total": 1450},
                "autoPercentUsed": Decimal("12.5"),
                "apiPercentUsed": Decimal("60.0"),
                "totalPercentUsed": Decimal("72.5"),
            },
            "onDemand": {"enabled": True, "used": 663, "limit": 5000, "remaining": 4337},
        },
        "teamUsage": {},
    }


def _as_dashboard(shown: dict[str, Any], person: Person) -> dict[str, Any]:
    """An event as its owner's dashboard shows it: without the person, with what a table for people says it costs."""
    told = {name: value for name, value in shown.items() if name not in ("userEmail", "serviceAccountName")}
    kind = str(shown.get("kind", ""))
    cents = shown.get("chargedCents")
    is_billed = kind == "Usage-based" and isinstance(cents, int | Decimal)
    told["kind"] = _DASHBOARD_KINDS.get(kind, kind)
    told.setdefault("usageBasedCosts", f"${Decimal(cents or 0) / 100:.2f}" if is_billed else "-")
    told["owningUser"] = str(person.number)
    return told


def _without_left_out(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if value is not LEFT_OUT}


def _error(status: int, error: str, message: str) -> Reply:
    return Reply(status, {"error": error, "message": message})
