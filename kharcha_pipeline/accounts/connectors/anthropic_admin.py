"""Anthropic, by an Admin key of the organization: messages, costs and Claude Code by day, spend limits, members.

What is read, with units and gaps: docs/accounts/anthropic-admin.md. The three reports are those that Anthropic calls
legacy since October 2026; they go on, need no beta header, and have no limit on the number of dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from kharcha_pipeline.accounts.buckets import date_text, day_bucket, days_in, inside, instant_text, whole_days
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
from kharcha_pipeline.accounts.cursor_pages import (
    each,
    expired_cursor,
    following,
    listed,
    read_cursor_pages,
    required_objects,
)
from kharcha_pipeline.accounts.failures import AccountsUsageError, Denied, Failure, Misconfigured
from kharcha_pipeline.accounts.items import Limit, Member, ReportRow, VendorItem
from kharcha_pipeline.accounts.values import Fields, document, required_id

VERSION = "2023-06-01"
"""The value of `anthropic-version` whose formats are known here."""

MESSAGES_GROUPING = (
    "account_id",
    "api_key_id",
    "context_window",
    "inference_geo",
    "model",
    "service_account_id",
    "service_tier",
    "workspace_id",
)
"""All dimensions but `speed`, which needs a beta header. Another grouping is another report: rows keep it."""

COST_GROUPING = ("description", "workspace_id")

_ALWAYS_TOLD = frozenset({"api_key_id", "description", "model", "service_tier", "workspace_id"})
"""Dimensions that every row has had from the beginning, be it as null; without them it is another report."""

_MESSAGES = "/v1/organizations/usage_report/messages"
_COST = "/v1/organizations/cost_report"
_CLAUDE_CODE = "/v1/organizations/usage_report/claude_code"
_SPEND_LIMITS = "/v1/organizations/spend_limits/effective"
_ORGANIZATION = "/v1/organizations/me"
_USERS = "/v1/organizations/users"

_WEEK = timedelta(days=7)  # a large organization has thousands of rows a day
_USAGE = Resource("usage", "report", span=_WEEK)
_COSTS = Resource("costs", "report", span=_WEEK)
_ACCOUNT = Resource("account", "member", every=timedelta(days=1))
_MEMBERS = Resource("members", "member", every=timedelta(days=1), is_optional=True)
_LIMITS = Resource("limits", "limit", every=timedelta(hours=6), is_optional=True)
_CLAUDE = Resource("claude-code", "report", span=timedelta(days=1), lag=timedelta(hours=1), is_optional=True)


RowOf = Callable[[Window, Fields, Sequence[str]], ReportRow]


class AnthropicAdminSettings(
    AccountSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="anthropic-admin"
):
    """An organization of Anthropic's.

    Attributes:
        organization_id: the organization's id; when given, a key of another organization is refused.
    """

    organization_id: str = ""


class AnthropicAdmin:
    """The Admin API of an organization."""

    name = "anthropic-admin"
    title = "Anthropic (organization)"
    vendor = "anthropic"
    source = "anthropic"
    warning = ""
    settings_type: type[AccountSettings] = AnthropicAdminSettings
    base_url = "https://api.anthropic.com"
    schedule = "7 * * * *"
    # Documented: one request a minute for ever, and bursts for pages.
    rates: Mapping[str, Rate] = {"default": Rate(60, 3600.0)}
    is_counted = False
    local_sources: Sequence[str] = ("claude-code", "provider:anthropic")

    def resources(self, settings: AnthropicAdminSettings) -> Sequence[Resource]:
        """What can be asked; Claude Code last, since it takes a request for every day."""
        return (_USAGE, _COSTS, _ACCOUNT, _LIMITS, _MEMBERS, _CLAUDE)

    def authorization(self, secret: str, settings: AnthropicAdminSettings) -> Mapping[str, str]:
        """The Admin key in its own header, or the token of an organization's sign-in as a bearer."""
        check_key(secret, self.name)
        if secret.startswith("sk-ant-api"):
            raise AccountsUsageError(
                "The secret of an anthropic-admin account is an ordinary API key. Usage and costs need an Admin key "
                "(sk-ant-admin…), which an organization's admin makes in the Console under Settings, Admin keys."
            )
        key = {"authorization": f"Bearer {secret}"} if secret.startswith("sk-ant-oat") else {"x-api-key": secret}
        return {**key, "anthropic-version": VERSION}

    def expires_ms(self, secret: str) -> int | None:
        """Keys do not say when they expire."""
        return None

    def probe(self, session: Session, settings: AnthropicAdminSettings) -> Sequence[Member]:
        """Asks whose key it is."""
        (organization,) = _organization([session.send(Request(path=_ORGANIZATION))], Counter())
        if settings.organization_id and settings.organization_id != organization.member_id:
            raise Misconfigured(
                "The key belongs to another organization than the account's organization_id says. "
                "Correct one of them in accounts.toml."
            )
        return [organization]

    def classify(self, answer: Answer) -> Failure | None:
        """An expired page, and organizations that have no spend limits, which is told as a wrong request."""
        if expired := expired_cursor(answer):
            return expired
        if answer.request.path == _SPEND_LIMITS and answer.status in (400, 404):
            return Denied("Spend limits of members are told to Claude Enterprise organizations only.")
        return None

    def read(
        self, session: Session, settings: AnthropicAdminSettings, resource: Resource, window: Window
    ) -> Sequence[Answer]:
        """All pages of a window, or of what describes the present."""
        if resource == _USAGE:
            return _read_buckets(session, _MESSAGES, MESSAGES_GROUPING, window)
        if resource == _COSTS:
            return _read_buckets(session, _COST, COST_GROUPING, window)
        if resource == _CLAUDE:
            answers: list[Answer] = []
            for day in days_in(window):
                first = Request(path=_CLAUDE_CODE, query=(("starting_at", date_text(day)), ("limit", "1000")))
                answers += read_cursor_pages(session, first, following("next_page"))
            return answers
        if resource == _LIMITS:
            first = Request(path=_SPEND_LIMITS, query=(("limit", "1000"),))
            return read_cursor_pages(session, first, _following_spend_limits)
        if resource == _MEMBERS:
            first = Request(path=_USERS, query=(("limit", "1000"),))
            return read_cursor_pages(session, first, following("last_id"), parameter="after_id", contents=each("id"))
        return [session.send(Request(path=_ORGANIZATION))]

    def normalize(
        self, settings: AnthropicAdminSettings, resource: Resource, window: Window, answers: Sequence[Answer]
    ) -> Normalized:
        """What the answers of one window say."""
        notes: Counter[str] = Counter()
        items: Sequence[VendorItem]
        if resource == _USAGE:
            items = inside(window, _bucket_rows(answers, MESSAGES_GROUPING, _messages_row, notes), notes)
        elif resource == _COSTS:
            items = inside(window, _bucket_rows(answers, COST_GROUPING, _cost_row, notes), notes)
        elif resource == _CLAUDE:
            items = inside(window, _claude_code_rows(answers, notes), notes)
        elif resource == _LIMITS:
            return _spend_limits(answers, notes)
        elif resource == _MEMBERS:
            items = _users(answers, notes)
        else:
            items = _organization(answers, notes)
        return Normalized(items, dict(notes))


ANTHROPIC_ADMIN = AnthropicAdmin()


# ----------------------------------------------------------------------------------------------------- reading


def _read_buckets(session: Session, path: str, grouping: Sequence[str], window: Window) -> list[Answer]:
    days = whole_days(window)
    first = Request(
        path=path,
        query=(
            ("starting_at", instant_text(days.from_ms)),
            ("ending_at", instant_text(days.until_ms)),
            ("bucket_width", "1d"),
            ("limit", str(_WEEK.days)),
            *(("group_by[]", name) for name in grouping),
        ),
    )
    return read_cursor_pages(session, first, following("next_page"), contents=each("starting_at"))


def _following_spend_limits(answer: Answer) -> str | None:
    return document(answer, Counter()).text("next_page") or None


# ----------------------------------------------------------------------------------------------- understanding


def _bucket_rows(
    answers: Sequence[Answer], grouping: Sequence[str], row_of: RowOf, notes: Counter[str]
) -> list[ReportRow]:
    rows = []
    for answer in answers:
        for bucket in listed(answer, notes, f"a bucket of {answer.request.path}"):
            bucket.require("starting_at", "ending_at", "results")
            at_ms, until_ms = bucket.instant("starting_at"), bucket.instant("ending_at")
            day = day_bucket(bucket, at_ms, until_ms)
            results = required_objects(bucket, "results", f"a row of {answer.request.path}")
            bucket.finish()
            rows += [row_of(day, fields, grouping) for fields in results]
    return rows


def _dimensions(fields: Fields, grouping: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and values; the vendor's null (the Console for a key, the default workspace) becomes `''`."""
    fields.require(*(name for name in grouping if name in _ALWAYS_TOLD))
    return tuple((name, fields.text(name)) for name in sorted(grouping))


def _messages_row(day: Window, fields: Fields, grouping: Sequence[str]) -> ReportRow:
    fields.require("uncached_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens")
    writes = fields.object("cache_creation")
    tools = fields.object("server_tool_use")
    dimensions = _dimensions(fields, grouping)
    row = ReportRow(
        report="messages",
        grouping=",".join(grouping),
        at_ms=day.from_ms,
        until_ms=day.until_ms,
        dimensions=dimensions,
        model_raw=fields.text("model"),
        user=fields.text("account_id") or fields.text("service_account_id"),
        input_tokens=fields.count("uncached_input_tokens"),
        output_tokens=fields.count("output_tokens"),
        cache_read_tokens=fields.count("cache_read_input_tokens"),
        cache_write_5m_tokens=writes.count("ephemeral_5m_input_tokens") if writes else None,
        cache_write_1h_tokens=writes.count("ephemeral_1h_input_tokens") if writes else None,
        web_search_requests=tools.count("web_search_requests") if tools else None,
    )
    for part in (writes, tools):
        if part:
            part.finish()
    fields.finish("speed")
    return row


def _cost_row(day: Window, fields: Fields, grouping: Sequence[str]) -> ReportRow:
    fields.require("amount", "currency")
    row = ReportRow(
        report="costs",
        grouping=",".join(grouping),
        at_ms=day.from_ms,
        until_ms=day.until_ms,
        dimensions=_dimensions(fields, grouping),
        model_raw=fields.text("model"),
        amount=fields.cents("amount"),
        currency=fields.text("currency").upper() or "USD",
    )
    # Said again in the description, which is part of the key; some of it is filled in later.
    fields.finish("cost_type", "token_type", "service_tier", "context_window", "inference_geo", "speed")
    return row


def _claude_code_rows(answers: Sequence[Answer], notes: Counter[str]) -> list[ReportRow]:
    rows = []
    for answer in answers:
        for record in listed(answer, notes, f"a record of {answer.request.path}"):
            rows += _claude_code_record(record)
    return rows


def _claude_code_record(record: Fields) -> list[ReportRow]:
    record.require("date", "actor", "customer_type", "terminal_type", "model_breakdown")
    at_ms = record.instant("date")
    day = day_bucket(record, at_ms, None if at_ms is None else at_ms + 1)
    actor = _actor(record)
    shared: dict[str, Any] = {"at_ms": day.from_ms, "until_ms": day.until_ms, "user": actor[1]}
    who = {
        "actor": actor[1],
        "actor_type": actor[0],
        "customer_type": record.text("customer_type"),
        "terminal_type": record.text("terminal_type"),
    }
    rows = []
    core = record.object("core_metrics")
    sessions = core.count("num_sessions") if core else None
    if core and sessions is not None:
        rows.append(
            ReportRow(
                report="claude_code_sessions",
                grouping=",".join(who),
                dimensions=tuple(who.items()),
                quantity=Decimal(sessions),
                unit="sessions",
                **shared,
            )
        )
    for used in required_objects(record, "model_breakdown"):
        used.require("model", "tokens")
        model = used.text("model")
        tokens = used.object("tokens")
        cost = used.object("estimated_cost")
        rows.append(
            ReportRow(
                report="claude_code",
                grouping=",".join(sorted((*who, "model"))),
                dimensions=tuple(sorted((*who.items(), ("model", model)))),
                model_raw=model,
                input_tokens=tokens.count("input") if tokens else None,
                output_tokens=tokens.count("output") if tokens else None,
                cache_read_tokens=tokens.count("cache_read") if tokens else None,
                # How long they are kept is not told; five minutes is Claude's default.
                cache_write_5m_tokens=tokens.count("cache_creation") if tokens else None,
                amount=cost.cents("amount") if cost else None,
                currency=(cost.text("currency") if cost else "").upper() or "USD",
                **shared,
            )
        )
        for part in (used, tokens, cost):
            if part:
                part.finish()
    if core:
        core.finish("lines_of_code", "commits_by_claude_code", "pull_requests_by_claude_code")
    record.finish("organization_id", "subscription_type", "tool_actions")
    return rows


def _actor(record: Fields) -> tuple[str, str]:
    """Kind and name of who it was; both `''` when the vendor does not say."""
    actor = record.object("actor")
    if actor is None:
        return "", ""
    kind = actor.text("type")
    names = {"user_actor": "email_address", "api_actor": "api_key_name"}
    if kind not in names:
        actor.notes["unknown kind of actor"] += 1
        return kind, ""
    name = actor.text(names[kind])
    actor.finish()
    return kind, name


def _spend_limits(answers: Sequence[Answer], notes: Counter[str]) -> Normalized:
    limits: list[Limit] = []
    rejects: list[str] = []
    for answer in answers:
        for row in listed(answer, notes):
            row.require("actor", "amount", "currency", "period", "period_to_date_spend")
            actor = row.object("actor")
            subject = (actor.text("user_id") or actor.text("scoped_api_key_id")) if actor else ""
            if not subject or row.text("currency").upper() != "USD":
                rejects.append(
                    "a spend limit of nobody" if not subject else "a spend limit in another currency than USD"
                )
                continue
            spent = row.cents("period_to_date_spend")
            period = row.text("period")
            limits.append(
                Limit(
                    name=f"spending limit, {period}" if period else "spending limit",
                    subject=subject,
                    user=actor.text("email_address") if actor else "",
                    limit_usd=row.cents("amount"),
                    # "0" is also what is told while the spend cannot be read.
                    used_usd=spent or None,
                )
            )
            row.finish("scope", "source", "spend_limit_id")
    return Normalized(limits, dict(notes), rejects, is_suspicious=bool(rejects))


def _users(answers: Sequence[Answer], notes: Counter[str]) -> list[Member]:
    members = []
    for answer in answers:
        for row in listed(answer, notes):
            row.require("id", "email", "role")
            members.append(
                Member(
                    member_id=required_id(row),
                    user=row.text("email"),
                    name=row.text("name"),
                    role=row.text("role"),
                )
            )
            row.finish("type", "added_at")
    return members


def _organization(answers: Sequence[Answer], notes: Counter[str]) -> list[Member]:
    members = []
    for answer in answers:
        organization = document(answer, notes)
        members.append(Member(member_id=required_id(organization), name=organization.text("name"), role="account"))
        organization.finish("type")
    return members
