"""OpenAI's organization usage and costs, as its reference describes them: strict about parameters and their form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline_tests.accounts.recorded import Cursors, Recorded, Refused, summed, told
from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock

ADMIN_KEY = "sk-admin-canary-EXAMPLE"

_KEY = ("project_id", "user_id", "api_key_id")
_DIMENSIONS = {
    "completions": (*_KEY, "model", "batch", "service_tier"),
    "embeddings": (*_KEY, "model"),
    "moderations": (*_KEY, "model"),
    "images": (*_KEY, "model", "size", "source"),
    "audio_speeches": (*_KEY, "model"),
    "audio_transcriptions": (*_KEY, "model"),
    "vector_stores": ("project_id",),
    "code_interpreter_sessions": ("project_id",),
    "file_search_calls": (*_KEY, "vector_store_id"),
    "web_search_calls": (*_KEY, "model", "context_level"),
}
_NUMBERS = {
    "completions": (
        "input_tokens",
        "input_cached_tokens",
        "input_uncached_tokens",
        "input_cache_write_tokens",
        "input_audio_tokens",
        "output_tokens",
        "output_text_tokens",
        "num_model_requests",
    ),
    "embeddings": ("input_tokens", "num_model_requests"),
    "moderations": ("input_tokens", "num_model_requests"),
    "images": ("images", "num_model_requests"),
    "audio_speeches": ("characters", "num_model_requests"),
    "audio_transcriptions": ("seconds", "num_model_requests"),
    "vector_stores": ("usage_bytes",),
    "code_interpreter_sessions": ("num_sessions",),
    "file_search_calls": ("num_requests",),
    "web_search_calls": ("num_requests", "num_model_requests"),
}
_COSTS = ("project_id", "user_id", "line_item", "api_key_id", "api_source")


@dataclass
class OpenAIVendor:
    """An organization at OpenAI.

    Attributes:
        clock: what it tells depends on it.
        key: the Admin key; others are refused.
        usage: by endpoint; values are dimensions and numbers. A number that no row has is not told at all.
        costs: values are `project_id`, `api_key_id`, `line_item`, `quantity`, `quantity_unit`, `value`, `currency`.
        users: as listed.
        spend_limit_cents: `None` for none.
        buckets_a_page, rows_a_page: less than asked for, to force pages.
        reshape: changes an answer before it is sent.
    """

    clock: TurnedClock
    key: str = ADMIN_KEY
    usage: dict[str, list[Recorded]] = field(default_factory=dict)
    costs: list[Recorded] = field(default_factory=list)
    users: list[dict[str, Any]] = field(default_factory=list)
    spend_limit_cents: int | None = None
    buckets_a_page: int = 31
    rows_a_page: int = 100
    reshape: Callable[[str, Any], Any] = lambda path, content: content

    def __post_init__(self) -> None:
        self.cursors = Cursors(self.clock)

    def __call__(self, received: Received) -> Reply:
        try:
            if received.headers.get("authorization") != f"Bearer {self.key}":
                raise _refused(401, "invalid_api_key")
            if received.method != "GET":
                raise _refused(405, None)
            return Reply(200, self.reshape(received.path, self._answer(received)))
        except Refused as refused:
            return refused.reply

    def _answer(self, received: Received) -> Any:
        prefix, _, endpoint = received.path.rpartition("/")
        if prefix == "/v1/organization/usage" and endpoint in _DIMENSIONS:
            return self._usage(received, endpoint)
        if received.path == "/v1/organization/costs":
            return self._costs_page(received)
        if received.path == "/v1/organization/users":
            return self._users(received)
        if received.path == "/v1/organization/spend_limit":
            return self._spend_limit(received)
        raise _refused(404, None)

    def _usage(self, received: Received, endpoint: str) -> Any:
        grouping = _checked(received, ("bucket_width",), ("project_ids[]", "models[]"), _DIMENSIONS[endpoint])

        def results(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            found = []
            for group in summed(rows, grouping, _NUMBERS[endpoint]):
                numbers = {name: group[name] for name in _NUMBERS[endpoint] if group[name] is not None}
                dimensions = {name: group.get(name) for name in _DIMENSIONS[endpoint]}
                found.append({"object": f"organization.usage.{endpoint}.result", **numbers, **dimensions})
            return found

        return self._buckets(received, self.usage.get(endpoint, []), results, most=31)

    def _costs_page(self, received: Received) -> Any:
        grouping = _checked(received, ("bucket_width",), ("project_ids[]",), _COSTS)
        if {"user_id", "project_id"} <= set(grouping):
            raise _refused(400, None)

        def results(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            is_by_line = "line_item" in grouping
            return [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": group["value"], "currency": group["currency"]},
                    "line_item": group.get("line_item"),
                    "quantity": group["quantity"] if is_by_line else None,
                    "quantity_unit": group["quantity_unit"] if is_by_line else None,
                    "project_id": group.get("project_id"),
                    "api_key_id": group.get("api_key_id"),
                }
                for group in summed(rows, (*grouping, "quantity_unit", "currency"), ("value", "quantity"))
            ]

        return self._buckets(received, self.costs, results, most=180)

    def _buckets(
        self,
        received: Received,
        recorded: list[Recorded],
        results: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
        most: int,
    ) -> Any:
        asked = received.parameters
        limit = int(asked.get("limit", "7"))
        if asked.get("bucket_width", "1d") != "1d" or not 1 <= limit <= most or not asked.get("start_time"):
            raise _refused(400, None)
        if not asked["start_time"].isdigit() or not asked.get("end_time", "0").isdigit():
            raise _refused(400, None)
        now_ms = self.clock.now_ms()
        begin = int(asked["start_time"]) * 1000
        end = int(asked["end_time"]) * 1000 if "end_time" in asked else now_ms
        rows = told(recorded, now_ms)
        buckets = []
        day = begin // DAY_MS * DAY_MS
        while day < min(end, now_ms):
            inside = [values for at_ms, values in rows if day <= at_ms < day + DAY_MS]
            buckets.append(
                {
                    "object": "bucket",
                    "start_time": day // 1000,
                    "end_time": min(day + DAY_MS, end) // 1000,
                    "results": results(inside),
                }
            )
            day += DAY_MS
        try:
            page, cursor = self.cursors.page(received, buckets, min(limit, self.buckets_a_page))
        except LookupError:
            raise _refused(410, None) from None
        except ValueError:
            raise _refused(400, None) from None
        return {"object": "page", "data": page, "has_more": cursor is not None, "next_page": cursor}

    def _users(self, received: Received) -> Any:
        asked = received.parameters
        if set(asked) - {"limit", "after", "emails[]"} or not 1 <= int(asked.get("limit", "20")) <= 100:
            raise _refused(400, None)
        begin = 0
        if "after" in asked:
            begin = [user["id"] for user in self.users].index(asked["after"]) + 1
        end = begin + min(int(asked.get("limit", "20")), self.rows_a_page)
        page = self.users[begin:end]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"object": "list", "data": page, **ends, "has_more": end < len(self.users)}

    def _spend_limit(self, received: Received) -> Any:
        if received.query:
            raise _refused(400, None)
        if self.spend_limit_cents is None:
            raise _refused(404, None)
        return {
            "object": "organization.spend_limit",
            "threshold_amount": self.spend_limit_cents,
            "currency": "USD",
            "interval": "month",
            "enforcement": {"status": "inactive"},
        }


def used(at_ms: int, **values: Any) -> Recorded:
    """Something used, in a project."""
    return Recorded(at_ms, {"project_id": "proj_EXAMPLE", "model": "gpt-example-1", **values})


def cost(at_ms: int, line_item: str, dollars: str, **values: Any) -> Recorded:
    """A cost in dollars."""
    usual = {"project_id": "proj_EXAMPLE", "currency": "usd", "quantity": 10000, "quantity_unit": "tokens"}
    return Recorded(at_ms, {**usual, "line_item": line_item, "value": Decimal(dollars), **values})


def user(number: int) -> dict[str, Any]:
    """A member of the organization."""
    return {
        "object": "organization.user",
        "id": f"user-{number}",
        "name": f"Person {number}",
        "email": f"person{number}@example.com",
        "role": "reader",
        "added_at": 1_795_132_800,
    }


def _checked(
    received: Received, single: tuple[str, ...], lists: tuple[str, ...], dimensions: tuple[str, ...]
) -> list[str]:
    """The grouping that is asked for; every parameter must be known, lists have brackets and the rest stands once."""
    once = ("start_time", "end_time", "limit", "page", *single)
    names = [name for name, _ in received.query]
    grouping = [value for name, value in received.query if name == "group_by[]"]
    is_wrong = (
        set(names) - {*once, *lists, "group_by[]"}
        or any(names.count(name) > 1 for name in once)
        or set(grouping) - set(dimensions)
        or len(set(grouping)) < len(grouping)
    )
    if is_wrong:
        raise _refused(400, None)
    return grouping


def _refused(status: int, code: str | None) -> Refused:
    error = {"message": "synthetic: refused", "type": "invalid_request_error", "param": None, "code": code}
    return Refused(Reply(status, {"error": error}))
