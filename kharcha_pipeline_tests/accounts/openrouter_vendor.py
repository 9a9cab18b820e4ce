"""OpenRouter's activity, credits and keys, as its reference describes them: 30 complete days, management keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kharcha_pipeline.accounts.clock import DAY_MS
from kharcha_pipeline_tests.accounts.recorded import Recorded, Refused, told
from kharcha_pipeline_tests.accounts.vendor_server import Received, Reply, TurnedClock

MANAGEMENT_KEY = "sk-or-v1-canary-management-EXAMPLE"
NORMAL_KEY = "sk-or-v1-canary-normal-EXAMPLE"

_KEY = ("model", "model_permaslug", "endpoint_id", "provider_name")
_NUMBERS = (
    "usage",
    "byok_usage_inference",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
)


@dataclass
class OpenRouterVendor:
    """An account at OpenRouter.

    Attributes:
        clock: what it tells depends on it.
        activity: what was used; values as in an activity row, without `date`.
        credits: bought, and used.
        limit, remaining, limit_reset: of each key.
        reshape: changes an answer before it is sent.
    """

    clock: TurnedClock
    activity: list[Recorded] = field(default_factory=list)
    credits: tuple[Decimal, Decimal] = (Decimal("50.0"), Decimal("12.375"))
    limit: Decimal | None = Decimal("20")
    remaining: Decimal | None = Decimal("7.625")
    limit_reset: str | None = "monthly"
    reshape: Callable[[str, Any], Any] = lambda path, content: content

    def __call__(self, received: Received) -> Reply:
        try:
            key = received.credential
            if received.headers.get("authorization") not in (f"Bearer {MANAGEMENT_KEY}", f"Bearer {NORMAL_KEY}"):
                raise _refused(401)
            if received.path in ("/api/v1/activity", "/api/v1/credits") and key != MANAGEMENT_KEY:
                raise _refused(403)
            return Reply(200, self.reshape(received.path, {"data": self._data(received)}))
        except Refused as refused:
            return refused.reply

    def _data(self, received: Received) -> Any:
        if received.path == "/api/v1/activity":
            return self._activity(received)
        if received.query:
            raise _refused(400)
        if received.path == "/api/v1/credits":
            return {"total_credits": self.credits[0], "total_usage": self.credits[1]}
        if received.path == "/api/v1/key":
            used = None if self.limit is None or self.remaining is None else self.limit - self.remaining
            return {
                "label": "sk-or-v1-can...PLE",
                "limit": self.limit,
                "limit_remaining": self.remaining,
                "limit_reset": self.limit_reset,
                "usage": used,
                "usage_daily": Decimal("0.125"),
                "usage_weekly": Decimal("1.5"),
                "usage_monthly": Decimal("6.25"),
                "byok_usage": 0,
                "is_free_tier": False,
            }
        raise _refused(404)

    def _activity(self, received: Received) -> list[dict[str, Any]]:
        asked = received.parameters
        if set(asked) - {"date", "api_key_hash"} or len(asked) < len(received.query):
            raise _refused(400)
        today = self.clock.now_ms() // DAY_MS * DAY_MS
        days = [today - number * DAY_MS for number in range(1, 31)]
        if "date" in asked:
            try:
                day = datetime.strptime(asked["date"], "%Y-%m-%d").replace(tzinfo=UTC)
            except ValueError:
                raise _refused(400) from None
            begin = int(day.timestamp()) * 1000
            if begin not in days:  # "Date must be within the last 30 (completed) UTC days"
                raise _refused(400)
            days = [begin]
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for at_ms, values in told(self.activity, self.clock.now_ms()):
            begin = at_ms // DAY_MS * DAY_MS
            if begin not in days:
                continue
            key = (begin, *(values[name] for name in _KEY))
            date = datetime.fromtimestamp(begin // 1000, UTC).strftime("%Y-%m-%d")
            empty = {"date": date, **dict(zip(_KEY, key[1:], strict=True)), **dict.fromkeys(_NUMBERS, 0)}
            row = rows.setdefault(key, empty)
            for name in _NUMBERS:
                row[name] += values[name]
        return list(rows.values())


def used(at_ms: int, dollars: str = "0.125", **values: Any) -> Recorded:
    """Something used through an endpoint."""
    return Recorded(
        at_ms,
        {
            "model": "vendor/example-large",
            "model_permaslug": "vendor/example-large-2026-10-01",
            "endpoint_id": "11111111-1111-1111-1111-111111111111",
            "provider_name": "ExampleProvider",
            "usage": Decimal(dollars),
            "byok_usage_inference": 0,
            "requests": 9,
            "prompt_tokens": 52000,
            "completion_tokens": 4100,
            "reasoning_tokens": 900,
            **values,
        },
    )


def _refused(status: int) -> Refused:
    return Refused(Reply(status, {"error": {"code": status, "message": "synthetic: refused"}}))
