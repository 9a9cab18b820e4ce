"""Anthropic's Admin API, as its reference describes it: strict about headers, parameters and the form of lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kharcha_pipeline.accounts.clock import DAY_MS, HOUR_MS
from kharcha_pipeline_tests.accounts.recorded import Cursors, Recorded, Refused, summed, told
from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock

ADMIN_KEY = "sk-ant-admin01-canary-EXAMPLE"

_DIMENSIONS = (
    "account_id",
    "api_key_id",
    "context_window",
    "inference_geo",
    "model",
    "service_account_id",
    "service_tier",
    "workspace_id",
)
_TOKENS = (
    "uncached_input_tokens",
    "cache_read_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "output_tokens",
    "web_search_requests",
)
_COST_DETAILS = ("cost_type", "model", "token_type", "service_tier", "context_window", "inference_geo")


@dataclass
class AnthropicVendor:
    """An organization at Anthropic.

    Attributes:
        clock: what it tells depends on it.
        key: the Admin key; others are refused.
        messages: what was used; values are dimensions and token counts by their own names.
        costs: values are `workspace_id`, `description`, its details and `amount` in cents.
        claude_code: whole records, without `date`.
        users, spend_limits: as listed.
        is_enterprise: whether spend limits are told.
        buckets_a_page, rows_a_page: less than asked for, to force pages.
        reshape: changes an answer before it is sent.
    """

    clock: TurnedClock
    key: str = ADMIN_KEY
    organization: dict[str, Any] = field(
        default_factory=lambda: {
            "id": "00000000-0000-0000-0000-000000000001",
            "type": "organization",
            "name": "Example Organization",
        }
    )
    messages: list[Recorded] = field(default_factory=list)
    costs: list[Recorded] = field(default_factory=list)
    claude_code: list[Recorded] = field(default_factory=list)
    users: list[dict[str, Any]] = field(default_factory=list)
    spend_limits: list[dict[str, Any]] = field(default_factory=list)
    is_enterprise: bool = True
    buckets_a_page: int = 31
    rows_a_page: int = 1000
    reshape: Callable[[str, Any], Any] = lambda path, content: content

    def __post_init__(self) -> None:
        self.cursors = Cursors(self.clock)
        self._endpoints: dict[str, Callable[[Received], Any]] = {
            "/v1/organizations/usage_report/messages": self._messages,
            "/v1/organizations/cost_report": self._cost_report,
            "/v1/organizations/usage_report/claude_code": self._claude_code,
            "/v1/organizations/spend_limits/effective": self._spend_limits,
            "/v1/organizations/users": self._users,
            "/v1/organizations/me": self._me,
        }

    def __call__(self, received: Received) -> Reply:
        try:
            if received.headers.get("x-api-key") != self.key:
                raise _refused(401, "authentication_error")
            if received.headers.get("anthropic-version") != "2023-06-01":
                raise _refused(400, "invalid_request_error")
            endpoint = self._endpoints.get(received.path)
            if endpoint is None or received.method != "GET":
                raise _refused(404, "not_found_error")
            return Reply(200, self.reshape(received.path, endpoint(received)))
        except Refused as refused:
            return refused.reply

    def _messages(self, received: Received) -> Any:
        filters = ("api_key_ids[]", "workspace_ids[]", "models[]", "service_tiers[]", "context_window[]")
        grouping = _checked(received, single=("bucket_width",), lists=filters, dimensions=_DIMENSIONS)

        def result(group: dict[str, Any]) -> dict[str, Any]:
            counts = {name: group[name] or 0 for name in _TOKENS}
            return {
                **{name: group.get(name) for name in _DIMENSIONS},
                "uncached_input_tokens": counts["uncached_input_tokens"],
                "cache_read_input_tokens": counts["cache_read_input_tokens"],
                "cache_creation": {
                    "ephemeral_5m_input_tokens": counts["ephemeral_5m_input_tokens"],
                    "ephemeral_1h_input_tokens": counts["ephemeral_1h_input_tokens"],
                },
                "output_tokens": counts["output_tokens"],
                "server_tool_use": {"web_search_requests": counts["web_search_requests"]},
            }

        return self._buckets(
            received, self.messages, lambda rows: [result(group) for group in summed(rows, grouping, _TOKENS)]
        )

    def _cost_report(self, received: Received) -> Any:
        grouping = _checked(received, single=("bucket_width",), lists=(), dimensions=("workspace_id", "description"))

        def results(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            details = _COST_DETAILS if "description" in grouping else ()
            found = []
            for group in summed(rows, (*grouping, *details), ("amount",)):
                shown = {name: group.get(name) for name in ("workspace_id", "description", *_COST_DETAILS)}
                found.append({"currency": "USD", **shown, "amount": str(group["amount"])})
            return found

        return self._buckets(received, self.costs, results)

    def _buckets(
        self,
        received: Received,
        recorded: list[Recorded],
        results: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    ) -> Any:
        """Days between `starting_at` and `ending_at`, empty ones too; only those that end by `ending_at`."""
        asked = received.parameters
        if asked.get("bucket_width", "1d") != "1d":
            raise _refused(400, "invalid_request_error")
        limit = int(asked.get("limit", "7"))
        if not 1 <= limit <= 31:
            raise _refused(400, "invalid_request_error")
        begin = _instant(asked.get("starting_at", "")) // DAY_MS * DAY_MS
        end = _instant(asked["ending_at"]) if "ending_at" in asked else self.clock.now_ms() + DAY_MS
        now_ms = self.clock.now_ms()
        rows = told(recorded, now_ms)
        buckets = []
        day = begin
        while day + DAY_MS <= end and day <= now_ms:
            inside = [values for at_ms, values in rows if day <= at_ms < day + DAY_MS]
            buckets.append({"starting_at": _text(day), "ending_at": _text(day + DAY_MS), "results": results(inside)})
            day += DAY_MS
        return self._paged(received, buckets, min(limit, self.buckets_a_page))

    def _claude_code(self, received: Received) -> Any:
        asked = received.parameters
        if set(asked) - {"starting_at", "limit", "page"} or "starting_at" not in asked:
            raise _refused(400, "invalid_request_error")
        limit = int(asked.get("limit", "20"))
        try:
            day = int(datetime.strptime(asked["starting_at"], "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1000
        except ValueError:
            raise _refused(400, "invalid_request_error") from None
        if not 1 <= limit <= 1000:
            raise _refused(400, "invalid_request_error")
        now_ms = self.clock.now_ms()
        records = [
            {"date": _text(day), **values}
            for at_ms, values in told(self.claude_code, now_ms)
            if day <= at_ms < min(day + DAY_MS, now_ms - HOUR_MS)
        ]
        return self._paged(received, records, min(limit, self.rows_a_page))

    def _spend_limits(self, received: Received) -> Any:
        if not self.is_enterprise:
            raise _refused(400, "invalid_request_error")
        if {name for name, _ in received.query} - {"limit", "page", "period[]", "user_ids[]"}:
            raise _refused(400, "invalid_request_error")
        limit = int(received.parameters.get("limit", "20"))
        content = self._paged(received, self.spend_limits, min(limit, self.rows_a_page))
        return {"data": content["data"], "next_page": content["next_page"]}

    def _users(self, received: Received) -> Any:
        asked = received.parameters
        if set(asked) - {"limit", "after_id", "before_id", "email"} or not 1 <= int(asked.get("limit", "20")) <= 1000:
            raise _refused(400, "invalid_request_error")
        begin = 0
        if "after_id" in asked:
            ids = [user["id"] for user in self.users]
            begin = ids.index(asked["after_id"]) + 1
        end = begin + min(int(asked.get("limit", "20")), self.rows_a_page)
        page = self.users[begin:end]
        return {
            "data": page,
            "has_more": end < len(self.users),
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }

    def _me(self, received: Received) -> Any:
        if received.query:
            raise _refused(400, "invalid_request_error")
        return self.organization

    def _paged(self, received: Received, rows: list[Any], size: int) -> dict[str, Any]:
        try:
            page, cursor = self.cursors.page(received, rows, size)
        except LookupError:
            raise _refused(410, "invalid_request_error") from None
        except ValueError:
            raise _refused(400, "invalid_request_error") from None
        return {"data": page, "has_more": cursor is not None, "next_page": cursor}


def used(at_ms: int, **values: Any) -> Recorded:
    """Something used, with dimensions as most of them are."""
    usual = {
        "api_key_id": "apikey_EXAMPLE",
        "model": "claude-example-1",
        "service_tier": "standard",
        "context_window": "0-200k",
        "inference_geo": "global",
    }
    return Recorded(at_ms, {**usual, **values})


def cost(at_ms: int, description: str, cents: str, **values: Any) -> Recorded:
    """A cost in cents."""
    return Recorded(at_ms, {"description": description, "amount": Decimal(cents), **values})


def claude_code(at_ms: int, email: str, **values: Any) -> Recorded:
    """A record of a day of somebody's Claude Code."""
    return Recorded(
        at_ms,
        {
            "actor": {"type": "user_actor", "email_address": email},
            "organization_id": "00000000-0000-0000-0000-000000000001",
            "customer_type": "api",
            "subscription_type": None,
            "terminal_type": "vscode",
            "core_metrics": {
                "num_sessions": 3,
                "lines_of_code": {"added": 210, "removed": 40},
                "commits_by_claude_code": 2,
                "pull_requests_by_claude_code": 1,
            },
            "tool_actions": {"edit_tool": {"accepted": 20, "rejected": 1}},
            "model_breakdown": [
                {
                    "model": "claude-example-1",
                    "tokens": {"input": 1500, "output": 800, "cache_read": 200000, "cache_creation": 1000},
                    "estimated_cost": {"currency": "USD", "amount": 123},
                }
            ],
            **values,
        },
    )


def _checked(
    received: Received, single: tuple[str, ...], lists: tuple[str, ...], dimensions: tuple[str, ...]
) -> list[str]:
    """The grouping that is asked for; every parameter must be known, lists have brackets and the rest stands once."""
    once = ("starting_at", "ending_at", "limit", "page", *single)
    names = [name for name, _ in received.query]
    grouping = [value for name, value in received.query if name == "group_by[]"]
    is_wrong = (
        set(names) - {*once, *lists, "group_by[]"}
        or any(names.count(name) > 1 for name in once)
        or set(grouping) - set(dimensions)
        or len(set(grouping)) < len(grouping)
    )
    if is_wrong:
        raise _refused(400, "invalid_request_error")
    return grouping


def _refused(status: int, kind: str) -> Refused:
    error = {"type": kind, "message": "synthetic: refused"}
    return Refused(Reply(status, {"type": "error", "error": error, "request_id": "req_EXAMPLE"}))


def _instant(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise _refused(400, "invalid_request_error") from None
    if instant.tzinfo is None:
        raise _refused(400, "invalid_request_error")
    return int(instant.timestamp()) * 1000


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
