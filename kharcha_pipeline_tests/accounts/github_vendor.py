"""GitHub's billing of Copilot, as its reference describes it: sums of what was asked for, 404 without the right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kharcha_pipeline.accounts.clock import HOUR_MS
from kharcha_pipeline_tests.accounts.recorded import Recorded, Refused, told
from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock

TOKEN = "ghp_canaryEXAMPLE"

_NUMBERS = (
    "grossQuantity",
    "grossAmount",
    "discountQuantity",
    "discountAmount",
    "netQuantity",
    "netAmount",
)
_KEY = ("product", "sku", "model", "unitType", "pricePerUnit")


@dataclass
class GitHubVendor:
    """Somebody who pays for Copilot.

    Attributes:
        clock: what it tells depends on it.
        token, login, level: whose bill it is; everything else is not found.
        credits, requests: what was used, in the two units; values as in `usageItems`.
        rights: what the token may see: `billing`, `premium`, `budgets`, `seats`, `account`.
        budgets, seats: as listed.
        rows_a_page: less than asked for, to force pages.
        requests_an_hour: the primary limit; `/rate_limit` does not count.
        reshape: changes an answer before it is sent.
    """

    clock: TurnedClock
    token: str = TOKEN
    login: str = "octo-example"
    level: str = "organization"
    credits: list[Recorded] = field(default_factory=list)
    requests: list[Recorded] = field(default_factory=list)
    rights: set[str] = field(default_factory=lambda: {"billing", "premium", "budgets", "seats", "account"})
    budgets: list[dict[str, Any]] = field(default_factory=list)
    seats: list[dict[str, Any]] = field(default_factory=list)
    rows_a_page: int = 100
    requests_an_hour: int = 5000
    reshape: Callable[[str, Any], Any] = lambda path, content: content

    def __post_init__(self) -> None:
        self._hour = 0
        self._counted = 0

    def __call__(self, received: Received) -> Reply:
        try:
            headers = self._rate(received)
            if received.headers.get("authorization") != f"Bearer {self.token}":
                raise Refused(_error(401, "Bad credentials"))
            if not received.headers.get("user-agent"):
                raise Refused(_error(403, "Request forbidden by administrative rules."))
            if received.headers.get("x-github-api-version") not in ("2026-03-10", "2022-11-28"):
                raise Refused(_error(400, "Unsupported version"))
            content, more = self._answer(received)
            return Reply(200, self.reshape(received.path, content), {**headers, **more})
        except Refused as refused:
            return refused.reply

    def _rate(self, received: Received) -> dict[str, str]:
        now_ms = self.clock.now_ms()
        if now_ms // HOUR_MS != self._hour:
            self._hour, self._counted = now_ms // HOUR_MS, 0
        reset = str((self._hour + 1) * HOUR_MS // 1000)
        if received.path != "/rate_limit":
            self._counted += 1
        if self._counted > self.requests_an_hour:
            raise Refused(
                _error(403, "API rate limit exceeded", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset})
            )
        left = self.requests_an_hour - self._counted
        return {"x-ratelimit-remaining": str(left), "x-ratelimit-reset": reset}

    def _answer(self, received: Received) -> tuple[Any, dict[str, str]]:
        family = {"organization": "organizations", "user": "users", "enterprise": "enterprises"}[self.level]
        billing = f"/{family}/{self.login}/settings/billing"
        owner = f"/enterprises/{self.login}" if self.level == "enterprise" else f"/orgs/{self.login}"
        path = received.path
        if path == "/rate_limit":
            return {"resources": {}, "rate": {}}, {}
        if path == "/user" and self.level == "user":
            person = {"id": 583231, "login": self.login, "name": "Octo Example", "type": "User"}
            return {**person, "plan": {"name": "pro"}}, {}
        if path == f"{billing}/ai_credit/usage" and "billing" in self.rights:
            return self._usage(received, self.credits), {}
        if path == f"{billing}/premium_request/usage" and "premium" in self.rights:
            return self._usage(received, self.requests), {}
        if path == f"{billing}/budgets" and "budgets" in self.rights:
            _only(received, "page", "per_page", "scope", "user")
            page, has_next = self._page(received, self.budgets)
            return {"budgets": page, "has_next_page": has_next, "total_count": len(self.budgets)}, {}
        if path == f"{owner}/copilot/billing/seats" and "seats" in self.rights:
            _only(received, "page", "per_page")
            page, has_next = self._page(received, self.seats)
            following = int(received.parameters.get("page", "1")) + 1
            link = f'<https://api.github.com{path}?per_page=100&page={following}>; rel="next"' if has_next else ""
            return {"total_seats": len(self.seats), "seats": page}, {"Link": link} if link else {}
        if path == f"{owner}/copilot/billing" and self.level == "organization" and "account" in self.rights:
            return {
                "seat_breakdown": {"total": len(self.seats)},
                "seat_management_setting": "assign_selected",
                "plan_type": "business",
            }, {}
        raise Refused(_error(404, "Not Found"))

    def _usage(self, received: Received, recorded: list[Recorded]) -> Any:
        _only(received, "year", "month", "day", "user", "model", "product", "cost_center_id")
        now = datetime.fromtimestamp(self.clock.now_ms() // 1000, UTC)
        asked = {name: int(value) for name, value in received.query if name in ("year", "month", "day")}
        period = asked or {"year": now.year, "month": now.month}
        if period["year"] < now.year - 2:
            raise Refused(_error(400, "too old"))
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for at_ms, values in told(recorded, self.clock.now_ms()):
            at = datetime.fromtimestamp(at_ms // 1000, UTC)
            if any(getattr(at, name) != number for name, number in period.items()):
                continue
            key = tuple(values[name] for name in _KEY)
            group = groups.setdefault(key, {**dict(zip(_KEY, key, strict=True)), **dict.fromkeys(_NUMBERS, 0)})
            for name in _NUMBERS:
                group[name] += values[name]
        whose = {"user": self.login} if self.level == "user" else {self.level: self.login}
        return {"timePeriod": period, **whose, "usageItems": list(groups.values())}

    def _page(self, received: Received, rows: list[Any]) -> tuple[list[Any], bool]:
        size = min(int(received.parameters.get("per_page", "10")), self.rows_a_page)
        begin = (int(received.parameters.get("page", "1")) - 1) * size
        return rows[begin : begin + size], begin + size < len(rows)


def credits_used(at_ms: int, model: str = "example-large", gross: str = "250", covered: str = "200") -> Recorded:
    """AI credits, of which a part is covered by the plan; a credit is a cent."""
    return _usage(
        at_ms, model, Decimal(gross), Decimal(covered), Decimal("0.01"), ("Copilot AI Credit", "ai-credits")
    )


def requests_used(at_ms: int, model: str = "example-large", gross: str = "10", covered: str = "10") -> Recorded:
    """Premium requests, of which a part is covered by the plan; one is four cents."""
    sku = ("Copilot Premium Request", "requests")
    return _usage(at_ms, model, Decimal(gross), Decimal(covered), Decimal("0.04"), sku)


def budget(number: int, dollars: int, **values: Any) -> dict[str, Any]:
    """A budget of the organization."""
    return {
        "id": f"budget-{number}",
        "budget_type": "BundlePricing",
        "budget_product_sku": "ai_credits",
        "budget_scope": "organization",
        "budget_entity_name": "octo-example",
        "budget_amount": dollars,
        "prevent_further_usage": True,
        "budget_alerting": {"will_alert": False, "alert_recipients": []},
        **values,
    }


def seat(number: int, login: str) -> dict[str, Any]:
    """A seat, and who has it."""
    return {
        "created_at": "2026-01-01T00:00:00Z",
        "assignee": {"login": login, "id": number, "type": "User", "site_admin": False},
        "plan_type": "business",
        "pending_cancellation_date": None,
        "last_activity_at": None,
    }


def _usage(
    at_ms: int, model: str, gross: Decimal, covered: Decimal, price: Decimal, unit: tuple[str, str]
) -> Recorded:
    return Recorded(
        at_ms,
        {
            "product": "Copilot",
            "sku": unit[0],
            "model": model,
            "unitType": unit[1],
            "pricePerUnit": price,
            "grossQuantity": gross,
            "grossAmount": gross * price,
            "discountQuantity": covered,
            "discountAmount": covered * price,
            "netQuantity": gross - covered,
            "netAmount": (gross - covered) * price,
        },
    )


def _only(received: Received, *names: str) -> None:
    """GitHub passes over what it does not know; the fake does not, so that a misspelt name is seen."""
    asked = [name for name, _ in received.query]
    if set(asked) - set(names) or len(set(asked)) < len(asked):
        raise Refused(_error(400, "Unknown parameter"))


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Reply:
    content = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    return Reply(status, content, headers or {})
