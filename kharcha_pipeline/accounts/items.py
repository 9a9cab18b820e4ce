"""What vendors tell, normalized: exact decimals, instants in milliseconds, names as the vendor wrote them.

An *item* is one thing a vendor says of an account. Its `group` holds what never changes about it; several items may
share a group (two requests in one millisecond), so the store numbers them within it. All other fields may be revised
by the vendor, and the latest value wins. Unknown is `None`, never 0. Amounts are dollars unless a currency stands
beside them. Items are stored as JSON for ever: fields may be added with defaults, never renamed or removed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec


class VendorEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="event"):
    """One request as the vendor's record of usage shows it.

    Attributes:
        at_ms: its instant.
        model_raw: model as the vendor wrote it, `''` where it wrote none.
        conversation_id, cloud_agent_id, owner_id: immutable ids, `''` where the vendor gives none.
        user: whose request it was (an e-mail address or a service account's name); may vanish when people leave.
        kind: the vendor's word for how it was billed; an open set.
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens: disjoint; all `None` when unknown.
        model_cost_usd: cost of the model, before the vendor's fee.
        fee_usd: the vendor's own fee.
        charged_usd: what the vendor counts for it, fee included; `None` while it has not settled.
        request_units: requests of plans that count them.
        is_chargeable, is_headless, is_max_mode: as the vendor says.
    """

    at_ms: int
    model_raw: str = ""
    conversation_id: str = ""
    cloud_agent_id: str = ""
    owner_id: str = ""
    user: str = ""
    kind: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    model_cost_usd: Decimal | None = None
    fee_usd: Decimal | None = None
    charged_usd: Decimal | None = None
    request_units: Decimal | None = None
    is_chargeable: bool | None = None
    is_headless: bool | None = None
    is_max_mode: bool | None = None

    @property
    def group(self) -> tuple[str, ...]:
        """What never changes. The user is no part of it: a vendor may forget who it was."""
        return (str(self.at_ms), self.model_raw, self.conversation_id, self.cloud_agent_id, self.owner_id)


class ReportRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="report"):
    """One row of a report by buckets of time: what was used or what it cost.

    Attributes:
        report: which report, e.g. `messages`, `costs`.
        grouping: what the report was grouped by, in the order asked: another grouping is another report.
        at_ms, until_ms: the bucket, half-open.
        dimensions: names and values of all that was grouped by, sorted by name; a missing value is `''`.
        model_raw, user: of these, the model and the person, where grouped by them.
        responses: number of requests.
        input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens: disjoint, output
            including reasoning.
        quantity, unit: whatever else the vendor counts (credits, premium requests, sessions).
        amount: what it cost, in `currency` (upper case); `None` where the report tells no cost.
    """

    report: str
    grouping: str = ""
    at_ms: int
    until_ms: int
    dimensions: tuple[tuple[str, str], ...] = ()
    model_raw: str = ""
    user: str = ""
    responses: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    web_search_requests: int | None = None
    quantity: Decimal | None = None
    unit: str = ""
    amount: Decimal | None = None
    currency: str = "USD"

    @property
    def group(self) -> tuple[str, ...]:
        """Report, grouping, bucket and dimensions."""
        flat = [text for pair in self.dimensions for text in pair]
        return (self.report, self.grouping, str(self.at_ms), str(self.until_ms), *flat)


class BillingPeriod(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="period"):
    """The vendor's own summary of one billing period, of the account or of one member of it.

    Attributes:
        at_ms: where the period begins.
        until_ms: where it ends, `None` while the vendor does not say.
        subject: the member's id, `''` for the whole account.
        user: the member's name or address.
        plan: name of the plan.
        included_usd: used of what the plan includes.
        on_demand_usd: used beyond it, and billed.
        total_usd: both, as the vendor says.
        included_limit_usd, on_demand_limit_usd: how much may be used.
        requests: premium requests.
    """

    at_ms: int
    until_ms: int | None = None
    subject: str = ""
    user: str = ""
    plan: str = ""
    included_usd: Decimal | None = None
    on_demand_usd: Decimal | None = None
    total_usd: Decimal | None = None
    included_limit_usd: Decimal | None = None
    on_demand_limit_usd: Decimal | None = None
    requests: Decimal | None = None

    @property
    def group(self) -> tuple[str, ...]:
        """Begin and subject; never the end, which moves while a period is open."""
        return (str(self.at_ms), self.subject)


class Invoice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="invoice"):
    """An invoice, or the vendor's preview of one.

    Attributes:
        invoice_id: the vendor's number, or one made of its period where it has none.
        at_ms: where the invoiced period begins, else when the invoice was issued.
        until_ms: where the period ends, if known.
        issued_ms: date of the invoice.
        amount: in `currency` (upper case).
        status: the vendor's word: `draft`, `open`, `paid`, `void`.
        lines: description and amount of each line, in the vendor's order.
        is_preview: whether it is the vendor's statement of a period, and no invoice.
    """

    invoice_id: str
    at_ms: int
    until_ms: int | None = None
    issued_ms: int | None = None
    amount: Decimal | None = None
    currency: str = "USD"
    status: str = ""
    lines: tuple[tuple[str, Decimal], ...] = ()
    is_preview: bool = False

    @property
    def group(self) -> tuple[str, ...]:
        """The invoice's number."""
        return (self.invoice_id,)


class Limit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="limit"):
    """A limit on what may be spent, or a balance: as of now.

    Attributes:
        name: `hard limit`, `hard limit per user`, `spending limit`, `credits` …
        subject: the member's id, `''` for the whole account.
        limit_usd: the limit; `None` when none is set.
        used_usd: how much of it is used, where the vendor says so.
        is_allowed: whether spending beyond the plan is allowed at all, where the vendor says so.
    """

    name: str
    subject: str = ""
    user: str = ""
    limit_usd: Decimal | None = None
    used_usd: Decimal | None = None
    is_allowed: bool | None = None

    @property
    def group(self) -> tuple[str, ...]:
        """Name and subject."""
        return (self.name, self.subject)


class Member(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="member"):
    """Account metadata: the account itself (`role` = `account`), or somebody who belongs to it.

    Attributes:
        member_id: the vendor's id, as text.
        user: e-mail address or login.
        name: display name.
        role: `account`, or the vendor's word.
        plan: name of the plan, for the account itself.
        is_removed: whether the vendor says that the member left.
    """

    member_id: str
    user: str = ""
    name: str = ""
    role: str = ""
    plan: str = ""
    is_removed: bool = False

    @property
    def group(self) -> tuple[str, ...]:
        """The vendor's id."""
        return (self.member_id,)


VendorItem = VendorEvent | ReportRow | BillingPeriod | Invoice | Limit | Member
ItemKind = Literal["event", "report", "period", "invoice", "limit", "member"]
"""The tag of an item's class."""


def kind_of(item: VendorItem) -> ItemKind:
    """The kind of an item."""
    kind: ItemKind = type(item).__struct_config__.tag  # type: ignore[assignment]
    return kind


def instant_of(item: VendorItem) -> int:
    """The instant by which an item lies inside a window, in milliseconds; 0 for what describes the present."""
    return 0 if isinstance(item, Limit | Member) else item.at_ms
