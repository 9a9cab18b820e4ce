"""Cursor's events of usage, which the team's API and the dashboard show in nearly the same form.

Both bounds of what is asked are inclusive, so a window ends one millisecond early. An event has no id, and two may
share millisecond and model: several public readers saw it, and identical twins too. Amounts are fractional cents;
`chargedCents` holds Cursor's own fee already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from kharcha_pipeline.accounts.clock import MINUTE_MS
from kharcha_pipeline.accounts.connector import Answer, Normalized, Request, Session, Window
from kharcha_pipeline.accounts.items import VendorEvent
from kharcha_pipeline.accounts.paging import CountedPage, Incomplete, PageSizeRefused, read_counted_pages
from kharcha_pipeline.accounts.values import Fields, document, drifted, shown_dollars

PAGE_SIZES = (1000, 100)
"""The largest page the vendor documents, and what it gives by default, where it refuses the former."""

_ONE_CENT = Decimal("0.01")
_COUNTERS = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")
_PASSED_OVER = (
    "automationId",
    "isFreeBugbot",
    "isTokenBasedCall",
    "owningTeam",
    "subscriptionProductId",
    "teamId",
)


class EventsEndpoint(NamedTuple):
    """Where events are asked for, and what differs between the two places.

    Attributes:
        path: of the endpoint.
        budget: by which rate its requests count.
        body: what is asked besides bounds and page.
        headers: what its requests need.
        is_protobuf: the form that leaves out zeros and empty lists, and writes long numbers as text.
        kinds: the words for how something was billed that are known.
    """

    path: str
    budget: str
    kinds: frozenset[str]
    body: Mapping[str, Any] = {}
    headers: tuple[tuple[str, str], ...] = ()
    is_protobuf: bool = False


def read_events(session: Session, endpoint: EventsEndpoint, window: Window) -> Sequence[Answer]:
    """All pages of a window. Where a vendor shows fewer events than it counts, as it seems to do with large windows,
    its halves are read on their own, down to a minute.

    Raises:
        Failure: whatever the session raises; `Inconsistent` when the pages do not fit together.
    """
    try:
        return read_counted_pages(
            session,
            lambda page, size: _request(endpoint, window, page, size),
            lambda answer: _page(endpoint, answer),
            PAGE_SIZES,
        )
    except Incomplete:
        middle = (window.from_ms + window.until_ms) // 2 // MINUTE_MS * MINUTE_MS
        if not window.from_ms < middle < window.until_ms:
            raise
        halves = Window(window.from_ms, middle), Window(middle, window.until_ms)
        return [answer for half in halves for answer in read_events(session, endpoint, half)]


def events_of(endpoint: EventsEndpoint, window: Window, answers: Sequence[Answer]) -> Normalized:
    """The events that answers show.

    Raises:
        Drifted: when an answer has not the shape that is known.
    """
    notes: Counter[str] = Counter()
    items: list[VendorEvent] = []
    rejects: list[str] = []
    is_suspicious = False
    rows: list[tuple[Fields, Window]] = []
    for answer in answers:
        told = document(answer, notes)
        is_suspicious |= told.is_empty
        found = _rows(endpoint, told)
        asked = _bounds(answer.request, window)
        if len(found) > _asked_size(answer.request):
            notes["page longer than asked for"] += 1
        rows += ((row, asked) for row in found)
        told.finish("pagination", "period", "totalUsageEventsCount")
    _check_renamed([row for row, _ in rows])
    for row, asked in rows:
        at_ms = row.milliseconds("timestamp")
        if at_ms is None:
            rejects.append("a usage event without a possible instant")
            continue
        event = _event(endpoint, row, at_ms)
        if asked.from_ms <= at_ms < asked.until_ms:
            items.append(event)
        else:
            notes["outside the window"] += 1
    # What could not be used may be something that is stored: it must not be taken for vanished.
    return Normalized(items, notes, rejects, is_suspicious or bool(rejects))


def page_size_refused(answer: Answer) -> PageSizeRefused | None:
    """Whether a 400 says that the page was too long, for `classify`."""
    body = answer.request.body
    if answer.status == 400 and isinstance(body, dict) and "pageSize" in body and b"pagesize" in answer.body.lower():
        return PageSizeRefused(f"Cursor refuses pages as long as asked for at {answer.request.path}.")
    return None


# -------------------------------------------------------------------------------------------------------- pages


def _request(endpoint: EventsEndpoint, window: Window, page: int, size: int) -> Request:
    first: int | str = window.from_ms
    last: int | str = window.until_ms - 1
    if endpoint.is_protobuf:
        first, last = str(first), str(last)
    body = {**endpoint.body, "startDate": first, "endDate": last, "page": page, "pageSize": size}
    return Request(method="POST", path=endpoint.path, body=body, budget=endpoint.budget, headers=endpoint.headers)


def _bounds(request: Request, window: Window) -> Window:
    """What a request asked for, inside its window."""
    body = request.body if isinstance(request.body, dict) else {}
    try:
        first, last = int(body["startDate"]), int(body["endDate"])
    except (KeyError, ValueError, TypeError):
        return window
    return Window(max(first, window.from_ms), min(last + 1, window.until_ms))


def _asked_size(request: Request) -> int:
    size = request.body.get("pageSize") if isinstance(request.body, dict) else None
    return size if isinstance(size, int) else PAGE_SIZES[0]


def _page(endpoint: EventsEndpoint, answer: Answer) -> CountedPage:
    told = document(answer, Counter())
    pagination = told.object("pagination")
    has_more = pagination.flag("hasNextPage") if pagination else None
    rows = [row.values for row in _rows(endpoint, told)]
    return CountedPage(rows, told.count("totalUsageEventsCount"), has_more)


def _rows(endpoint: EventsEndpoint, told: Fields) -> list[Fields]:
    where = f"a usage event of {endpoint.path}"
    if not endpoint.is_protobuf:
        told.require("totalUsageEventsCount")
    for name in ("usageEventsDisplay", "usageEvents"):
        if (rows := told.objects(name, where)) is not None:
            return rows
    if endpoint.is_protobuf and told.lacks_list("totalUsageEventsCount"):
        return []
    raise drifted(f"the answer of {endpoint.path}", "its list of usage events is missing", told.values)


# ------------------------------------------------------------------------------------------------------- events


def _check_renamed(rows: Sequence[Fields]) -> None:
    """Looks for fields that cannot be missing everywhere: by another name, they would be lost silently.

    Raises:
        Drifted: when one is.
    """
    for row in rows:
        row.require("timestamp")
    if rows and not any("model" in row for row in rows):
        raise drifted(rows[0].where, 'the field "model" is missing', rows[0].values)
    usages = [usage for row in rows if (usage := row.object("tokenUsage"))]
    names = {name for usage in usages for name in usage.values}
    are_new = any(name.endswith("Tokens") for name in names.difference(_COUNTERS))
    for name in ("inputTokens", "outputTokens"):
        if usages and are_new and name not in names:
            raise drifted(usages[0].where, f'the field "{name}" is missing', usages[0].values)


def _event(endpoint: EventsEndpoint, row: Fields, at_ms: int) -> VendorEvent:
    kind = row.text("kind")
    if kind and kind not in endpoint.kinds:
        row.notes["kind that is not known yet"] += 1
    model = row.text("model")
    if not model:
        row.notes['missing field "model"'] += 1
    service, service_name, owner, user = map(
        row.text, ("serviceAccountId", "serviceAccountName", "owningUser", "userEmail")
    )
    usage = row.object("tokenUsage")
    tokens = _tokens(endpoint, usage) if usage else {}
    model_cost = usage.cents("totalCents") if usage else None
    if usage:
        usage.finish(*_COUNTERS, "discountPercentOff")
    event = VendorEvent(
        at_ms=at_ms,
        model_raw=model,
        conversation_id=row.text("conversationId"),
        cloud_agent_id=row.text("cloudAgentId"),
        owner_id=owner or service,
        user=user or service_name,
        kind=kind,
        input_tokens=tokens.get("inputTokens"),
        output_tokens=tokens.get("outputTokens"),
        cache_read_tokens=tokens.get("cacheReadTokens"),
        cache_write_tokens=tokens.get("cacheWriteTokens"),
        model_cost_usd=model_cost,
        fee_usd=row.cents("cursorTokenFee"),
        charged_usd=_charged(row),
        request_units=row.decimal("requestsCosts"),
        is_chargeable=row.flag("isChargeable"),
        is_headless=row.flag("isHeadless"),
        is_max_mode=row.flag("maxMode"),
    )
    row.finish(*_PASSED_OVER)
    return event


def _tokens(endpoint: EventsEndpoint, usage: Fields) -> dict[str, int]:
    """The four counters, or none when one of them is not known: the others alone would look like all."""
    counts: dict[str, int] = {}
    for name in _COUNTERS:
        is_left_out = endpoint.is_protobuf and name not in usage.values
        count = 0 if is_left_out else usage.count(name)
        if count is None:
            usage.notes["token counters that are not all known"] += 1
            return {}
        counts[name] = count
    return counts


def _charged(row: Fields) -> Decimal | None:
    """What is charged, to the last digit. The table for people rounds it to cents: that is compared only."""
    charged = row.cents("chargedCents")
    if charged is None:
        row.notes["charge that is not known yet"] += 1
    shown, is_understood = shown_dollars(row.raw("usageBasedCosts"))
    if not is_understood:
        row.notes['unreadable field "usageBasedCosts"'] += 1
    elif shown is not None and charged is not None and abs(shown - charged) >= _ONE_CENT:
        row.notes['"usageBasedCosts" is another amount than "chargedCents"'] += 1
    return charged
