"""OpenRouter, by a management key: activity by day and endpoint, the credits of the account, the limit of the key.

What is read, with units and gaps: docs/accounts/openrouter.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

from kharcha_pipeline.accounts.buckets import date_text, days_in, inside
from kharcha_pipeline.accounts.clock import DAY_MS
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
from kharcha_pipeline.accounts.cursor_pages import listed
from kharcha_pipeline.accounts.failures import Failure
from kharcha_pipeline.accounts.items import Limit, Member, ReportRow
from kharcha_pipeline.accounts.values import Fields, document, drifted, exact_sum

KEPT = timedelta(days=30)
"""The vendor tells of so many complete days: of none that still runs, and of none before."""

GROUPING = ("endpoint_id", "model_permaslug", "provider_name")

_ACTIVITY_PATH = "/api/v1/activity"
_CREDITS_PATH = "/api/v1/credits"
_KEY_PATH = "/api/v1/key"

_ACTIVITY = Resource(
    "activity",
    "report",
    span=timedelta(days=1),
    history=KEPT,
    retention=KEPT + timedelta(days=1),  # counted from within the running day
    lag=timedelta(days=1),
)
_CREDITS = Resource("credits", "limit")
_KEY = Resource("key", "limit")


class OpenRouterSettings(AccountSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="openrouter"):
    """An account at OpenRouter."""


class OpenRouter:
    """Activity and balances."""

    name = "openrouter"
    title = "OpenRouter"
    vendor = "openrouter"
    source = "openrouter"
    warning = ""
    settings_type: type[AccountSettings] = OpenRouterSettings
    base_url = "https://openrouter.ai"
    schedule = "35 */6 * * *"
    # No limit is documented for these endpoints: prudent.
    rates: Mapping[str, Rate] = {"default": Rate(30, 60.0)}
    is_counted = False
    local_sources: Sequence[str] = ("provider:openrouter",)

    def resources(self, settings: OpenRouterSettings) -> Sequence[Resource]:
        """What can be asked; activity and credits need a management key."""
        return (_ACTIVITY, _CREDITS, _KEY)

    def authorization(self, secret: str, settings: OpenRouterSettings) -> Mapping[str, str]:
        """The key as a bearer."""
        check_key(secret, self.name)
        return {"authorization": f"Bearer {secret}"}

    def expires_ms(self, secret: str) -> int | None:
        """Keys do not say when they expire."""
        return None

    def probe(self, session: Session, settings: OpenRouterSettings) -> Sequence[Member]:
        """Asks about the key itself, which every key may. Whose account it is, is not told."""
        session.send(Request(path=_KEY_PATH))
        return ()

    def classify(self, answer: Answer) -> Failure | None:
        """The general rules are right."""
        return None

    def read(
        self, session: Session, settings: OpenRouterSettings, resource: Resource, window: Window
    ) -> Sequence[Answer]:
        """One answer for each day that the vendor tells of: no running day, and none older than 30 days."""
        if resource == _CREDITS:
            return [session.send(Request(path=_CREDITS_PATH))]
        if resource == _KEY:
            return [session.send(Request(path=_KEY_PATH))]
        today = session.now_ms() // DAY_MS * DAY_MS
        return [
            session.send(Request(path=_ACTIVITY_PATH, query=(("date", date_text(day)),)))
            for day in days_in(window)
            if today - KEPT.days * DAY_MS <= day < today
        ]

    def normalize(
        self, settings: OpenRouterSettings, resource: Resource, window: Window, answers: Sequence[Answer]
    ) -> Normalized:
        """What the answers of one window say."""
        notes: Counter[str] = Counter()
        if resource == _CREDITS:
            return Normalized([_credits(answer, notes) for answer in answers], dict(notes))
        if resource == _KEY:
            return Normalized([_key_limit(answer, notes) for answer in answers], dict(notes))
        rows = [row for answer in answers for row in _activity(answer, notes)]
        # A day that the vendor no longer or not yet tells of was not asked for: nothing has vanished from it.
        is_partial = len(answers) < len(days_in(window))
        return Normalized(inside(window, rows, notes), dict(notes), is_suspicious=is_partial)


OPENROUTER = OpenRouter()


def _activity(answer: Answer, notes: Counter[str]) -> list[ReportRow]:
    rows = listed(answer, notes, "a row of the activity", passed_over=())
    return [row for fields in rows for row in _activity_rows(fields)]


def _activity_rows(fields: Fields) -> list[ReportRow]:
    fields.require("date", "model", *GROUPING, "usage", "requests", "prompt_tokens", "completion_tokens")
    day = fields.day("date")
    if day is None:
        raise drifted(fields.where, "its date is no UTC day", fields.raw("date"))
    row = ReportRow(
        report="activity",
        grouping=",".join(GROUPING),
        at_ms=day,
        until_ms=day + DAY_MS,
        dimensions=tuple((name, fields.text(name)) for name in GROUPING),
        model_raw=fields.text("model") or fields.text("model_permaslug"),
        responses=fields.count("requests"),
        input_tokens=fields.count("prompt_tokens"),
        output_tokens=fields.count("completion_tokens"),
        reasoning_tokens=fields.count("reasoning_tokens"),
        amount=fields.dollars("usage"),
    )
    rows = [row]
    elsewhere = fields.dollars("byok_usage_inference")
    if elsewhere:
        rows.append(
            ReportRow(
                report="activity_own_keys",
                grouping=row.grouping,
                at_ms=row.at_ms,
                until_ms=row.until_ms,
                dimensions=row.dimensions,
                model_raw=row.model_raw,
                quantity=elsewhere,
                unit="USD",
            )
        )
    fields.finish()
    return rows


def _inner(answer: Answer, notes: Counter[str]) -> Fields:
    page = document(answer, notes)
    inner = page.object("data")
    if inner is None:
        raise drifted(page.where, 'the field "data" is missing', None)
    page.finish()
    return inner


def _credits(answer: Answer, notes: Counter[str]) -> Limit:
    balance = _inner(answer, notes)
    balance.require("total_credits", "total_usage")
    limit = Limit(name="credits", limit_usd=balance.dollars("total_credits"), used_usd=balance.dollars("total_usage"))
    balance.finish()
    return limit


def _key_limit(answer: Answer, notes: Counter[str]) -> Limit:
    """The key's own limit. Its label, which holds a part of the key, and its usage are passed over."""
    key = _inner(answer, notes)
    key.require("limit", "limit_remaining")
    limit, remaining = key.dollars("limit"), key.dollars("limit_remaining")
    reset = key.text("limit_reset")
    used = None if limit is None or remaining is None else exact_sum((limit, remaining.copy_negate()))
    return Limit(name=f"key limit, {reset}" if reset else "key limit", limit_usd=limit, used_usd=used)
