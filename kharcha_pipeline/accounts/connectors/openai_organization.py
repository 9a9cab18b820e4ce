"""OpenAI, by an Admin key of the organization: usage of every kind and costs by day, the spend limit, members.

What is read, with units and gaps: docs/accounts/openai-organization.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from kharcha_pipeline.accounts.buckets import day_bucket, inside, whole_days
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
from kharcha_pipeline.accounts.cursor_pages import (
    each,
    expired_cursor,
    following,
    listed,
    read_cursor_pages,
    required_objects,
)
from kharcha_pipeline.accounts.failures import AccountsUsageError, Denied, Failure
from kharcha_pipeline.accounts.items import Limit, Member, ReportRow, VendorItem
from kharcha_pipeline.accounts.values import Fields, document, required_id

_COSTS_PATH = "/v1/organization/costs"
_SPEND_LIMIT = "/v1/organization/spend_limit"
_USERS = "/v1/organization/users"
_KEY = ("project_id", "user_id", "api_key_id")


class UsageReport(NamedTuple):
    """One kind of usage, and how it is asked for.

    Attributes:
        endpoint: below `/v1/organization/usage/`; also the report's name.
        grouping: every dimension that the endpoint has.
        counted: the field of what is counted besides tokens and requests, and its unit.
        passed_over: fields that say again, in more detail, what is read.
    """

    endpoint: str
    grouping: tuple[str, ...]
    counted: tuple[str, str] = ("", "")
    passed_over: tuple[str, ...] = ()


COMPLETIONS = UsageReport(
    "completions",
    (*_KEY, "model", "batch", "service_tier"),
    passed_over=(
        "input_text_tokens",
        "input_audio_tokens",
        "input_image_tokens",
        "input_cached_text_tokens",
        "input_cached_audio_tokens",
        "input_cached_image_tokens",
        "output_text_tokens",
        "output_audio_tokens",
        "output_image_tokens",
    ),
)

OTHER_USAGE = (
    UsageReport("embeddings", (*_KEY, "model")),
    UsageReport("moderations", (*_KEY, "model")),
    UsageReport("images", (*_KEY, "model", "size", "source"), ("images", "images")),
    UsageReport("audio_speeches", (*_KEY, "model"), ("characters", "characters")),
    UsageReport("audio_transcriptions", (*_KEY, "model"), ("seconds", "seconds")),
    UsageReport("vector_stores", ("project_id",), ("usage_bytes", "bytes")),
    UsageReport("code_interpreter_sessions", ("project_id",), ("num_sessions", "sessions")),
    UsageReport("file_search_calls", (*_KEY, "vector_store_id"), ("num_requests", "calls")),
    UsageReport("web_search_calls", (*_KEY, "model", "context_level")),
)
"""Usage that few organizations have much of: asked every six hours."""

COST_GROUPING = ("api_key_id", "line_item", "project_id")
"""Not by user: the vendor refuses that beside projects for some organizations and times."""

_WEEK = timedelta(days=7)  # a large organization has thousands of rows a day
_COMPLETIONS = Resource("completions", "report", span=_WEEK)
_COSTS = Resource("costs", "report", span=_WEEK, lookback=timedelta(days=7))
_LIMIT = Resource("limits", "limit", every=timedelta(hours=6), is_optional=True)
_MEMBERS = Resource("members", "member", every=timedelta(days=1), is_optional=True)
_REPORTS = {
    _COMPLETIONS: COMPLETIONS,
    **{
        Resource(
            report.endpoint.replace("_", "-"),
            "report",
            span=timedelta(days=31),
            every=timedelta(hours=6),
            is_optional=True,
        ): report
        for report in OTHER_USAGE
    },
}


class OpenAIOrganizationSettings(
    AccountSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="openai-organization"
):
    """An organization of OpenAI's."""


class OpenAIOrganization:
    """The organization's usage and costs interface."""

    name = "openai-organization"
    title = "OpenAI (organization)"
    vendor = "openai"
    source = "openai"
    warning = ""
    settings_type: type[AccountSettings] = OpenAIOrganizationSettings
    base_url = "https://api.openai.com"
    schedule = "12 * * * *"
    # No limit is documented for these endpoints: prudent.
    rates: Mapping[str, Rate] = {"default": Rate(60, 60.0)}
    is_counted = False
    local_sources: Sequence[str] = ("codex", "provider:openai")

    def resources(self, settings: OpenAIOrganizationSettings) -> Sequence[Resource]:
        """What can be asked."""
        others = [resource for resource in _REPORTS if resource != _COMPLETIONS]
        return (_COMPLETIONS, _COSTS, _LIMIT, _MEMBERS, *others)

    def authorization(self, secret: str, settings: OpenAIOrganizationSettings) -> Mapping[str, str]:
        """The Admin key as a bearer."""
        check_key(secret, self.name)
        if secret.startswith(("sk-proj-", "sk-svcacct-")):
            raise AccountsUsageError(
                "The secret of an openai-organization account is a project's key. Usage and costs need an Admin key "
                "(sk-admin-…), which an owner of the organization makes under Organization, Admin keys."
            )
        return {"authorization": f"Bearer {secret}"}

    def expires_ms(self, secret: str) -> int | None:
        """Keys do not say when they expire."""
        return None

    def probe(self, session: Session, settings: OpenAIOrganizationSettings) -> Sequence[Member]:
        """Asks for today's costs. Whose organization it is, no documented endpoint tells."""
        today = session.now_ms() // DAY_MS * DAY_MS
        session.send(Request(path=_COSTS_PATH, query=(("start_time", str(today // 1000)), ("limit", "1"))))
        return ()

    def classify(self, answer: Answer) -> Failure | None:
        """An expired page, and organizations without a spend limit."""
        if expired := expired_cursor(answer):
            return expired
        if answer.request.path == _SPEND_LIMIT and answer.status == 404:
            return Denied("The organization has no spend limit, or the key may not see it.")
        return None

    def read(
        self, session: Session, settings: OpenAIOrganizationSettings, resource: Resource, window: Window
    ) -> Sequence[Answer]:
        """All pages of a window, or of what describes the present."""
        if resource == _LIMIT:
            return [session.send(Request(path=_SPEND_LIMIT))]
        if resource == _MEMBERS:
            first = Request(path=_USERS, query=(("limit", "100"),))
            return read_cursor_pages(session, first, following("last_id"), parameter="after", contents=each("id"))
        if resource == _COSTS:
            return _read_buckets(session, _COSTS_PATH, COST_GROUPING, window)
        report = _REPORTS[resource]
        return _read_buckets(session, f"/v1/organization/usage/{report.endpoint}", report.grouping, window)

    def normalize(
        self, settings: OpenAIOrganizationSettings, resource: Resource, window: Window, answers: Sequence[Answer]
    ) -> Normalized:
        """What the answers of one window say."""
        notes: Counter[str] = Counter()
        items: Sequence[VendorItem]
        if resource == _LIMIT:
            return _spend_limit(answers, notes)
        if resource == _MEMBERS:
            items = _users(answers, notes)
        elif resource == _COSTS:
            rows = [_cost_row(day, fields) for day, fields in _results(answers, notes)]
            items = inside(window, rows, notes)
        else:
            report = _REPORTS[resource]
            rows = [_usage_row(day, fields, report) for day, fields in _results(answers, notes)]
            items = inside(window, rows, notes)
        return Normalized(items, dict(notes))


OPENAI_ORGANIZATION = OpenAIOrganization()


# ----------------------------------------------------------------------------------------------------- reading


def _read_buckets(session: Session, path: str, grouping: Sequence[str], window: Window) -> list[Answer]:
    days = whole_days(window)
    first = Request(
        path=path,
        query=(
            ("start_time", str(days.from_ms // 1000)),
            ("end_time", str(days.until_ms // 1000)),
            ("bucket_width", "1d"),
            ("limit", str(_WEEK.days)),
            # With brackets, as OpenAI's own clients send lists.
            *(("group_by[]", name) for name in grouping),
        ),
    )
    return read_cursor_pages(session, first, following("next_page"), contents=each("start_time"))


# ----------------------------------------------------------------------------------------------- understanding


def _results(answers: Sequence[Answer], notes: Counter[str]) -> list[tuple[Window, Fields]]:
    """Every row with its day."""
    found = []
    for answer in answers:
        for bucket in listed(answer, notes, f"a bucket of {answer.request.path}"):
            bucket.require("start_time", "end_time", "results")
            at_ms, until_ms = bucket.seconds("start_time"), bucket.seconds("end_time")
            day = day_bucket(bucket, at_ms, until_ms)
            rows = required_objects(bucket, "results", f"a row of {answer.request.path}")
            bucket.finish("object")
            found += [(day, fields) for fields in rows]
    return found


def _dimensions(fields: Fields, grouping: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and values; null, which is what a dimension has that does not apply, becomes `''`."""
    dimensions = []
    for name in sorted(grouping):
        if name == "batch":
            is_batch = fields.flag(name)
            dimensions.append((name, "" if is_batch is None else str(is_batch).lower()))
        else:
            dimensions.append((name, fields.text(name)))
    return tuple(dimensions)


def _usage_row(day: Window, fields: Fields, report: UsageReport) -> ReportRow:
    values: dict[str, Any] = {}
    counted, unit = report.counted
    if report.endpoint == "completions":
        fields.require("input_tokens", "output_tokens", "num_model_requests")
        values = _divided_input(fields)
        values["output_tokens"] = fields.count("output_tokens")
    elif report.endpoint in ("embeddings", "moderations"):
        fields.require("input_tokens", "num_model_requests")
        values["input_tokens"] = fields.count("input_tokens")  # nothing of it is ever cached
    elif report.endpoint == "web_search_calls":
        fields.require("num_requests")
        values["web_search_requests"] = fields.count("num_requests")
    else:
        fields.require(counted)
        amount = fields.decimal(counted)
        values = {"quantity": amount, "unit": unit}
    row = ReportRow(
        report=report.endpoint,
        grouping=",".join(report.grouping),
        at_ms=day.from_ms,
        until_ms=day.until_ms,
        dimensions=_dimensions(fields, report.grouping),
        model_raw=fields.text("model"),
        user=fields.text("user_id"),
        responses=fields.count("num_model_requests"),
        **values,
    )
    fields.finish("object", "api_source", *_KEY, *report.passed_over)
    return row


def _divided_input(fields: Fields) -> dict[str, Any]:
    """Input in disjoint parts: `input_tokens` holds all three of uncached, cached and written to the cache.

    One part that is missing is what the others leave. When more are missing, as in older data, or when they do not
    add up, the parts that are not told stay unknown, and the sum is kept as the row's quantity: a part that is
    guessed has another price.
    """
    total = fields.count("input_tokens")
    parts = {
        "input_tokens": fields.count("input_uncached_tokens"),
        "cache_read_tokens": fields.count("input_cached_tokens"),
        "cache_write_5m_tokens": fields.count("input_cache_write_tokens"),
    }
    told = sum(count for count in parts.values() if count is not None)
    missing = [name for name, count in parts.items() if count is None]
    if total is None:
        return dict(parts)
    if len(missing) == 1 and told <= total:
        parts[missing[0]] = total - told
        return dict(parts)
    if not missing and told == total:
        return dict(parts)
    if told > total or not missing:
        fields.notes["parts of the input do not add up"] += 1
        parts = dict.fromkeys(parts)
    return {**parts, "quantity": Decimal(total), "unit": "input tokens"}


def _cost_row(day: Window, fields: Fields) -> ReportRow:
    fields.require("amount")
    amount = fields.object("amount")
    row = ReportRow(
        report="costs",
        grouping=",".join(COST_GROUPING),
        at_ms=day.from_ms,
        until_ms=day.until_ms,
        dimensions=_dimensions(fields, COST_GROUPING),
        quantity=fields.decimal("quantity"),
        unit=fields.text("quantity_unit"),
        amount=amount.dollars("value") if amount else None,
        currency=(amount.text("currency") if amount else "").upper() or "USD",
    )
    if amount:
        amount.finish()
    fields.finish("object", "api_source", "user_id")
    return row


def _spend_limit(answers: Sequence[Answer], notes: Counter[str]) -> Normalized:
    limits: list[Limit] = []
    rejects: list[str] = []
    for answer in answers:
        limit = document(answer, notes)
        limit.require("threshold_amount", "currency")
        if limit.text("currency").upper() != "USD":
            rejects.append("a spend limit in another currency than USD")
            continue
        interval = limit.text("interval")
        name = f"hard limit, {interval}" if interval else "hard limit"
        limits.append(Limit(name=name, limit_usd=limit.cents("threshold_amount")))
        limit.finish("object", "enforcement")
    return Normalized(limits, dict(notes), rejects, is_suspicious=bool(rejects))


def _users(answers: Sequence[Answer], notes: Counter[str]) -> list[Member]:
    return [
        Member(
            member_id=required_id(row),
            user=row.text("email"),
            name=row.text("name"),
            role=row.text("role"),
        )
        for answer in answers
        for row in listed(answer, notes)
    ]
