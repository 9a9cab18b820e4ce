"""How the published tables of accounts are made of what vendors said: a column each, in SQL, from an item's JSON."""

from __future__ import annotations

from typing import NamedTuple


class MirroredTable(NamedTuple):
    """A table of items of one kind.

    Attributes:
        name: of the table.
        columns: what each column of its own is made of, from `now`, with the item as JSON in `now.content`.
        order: how its rows lie.
        instant: the column by which old rows can be passed over; `''` for what describes the present.
    """

    name: str
    columns: dict[str, str]
    order: str
    instant: str = ""

    @property
    def selected(self) -> str:
        """The columns for a SELECT."""
        return ", ".join(f"{expression} AS {name}" for name, expression in self.columns.items())


def _said(field: str) -> str:
    return f"(now.content ->> '$.{field}')"


def _text(field: str) -> str:
    return f"coalesce({_said(field)}, '')"


def _count(field: str) -> str:
    return f"TRY_CAST({_said(field)} AS BIGINT)"


def _amount(field: str) -> str:
    return f"TRY_CAST({_said(field)} AS DECIMAL(38, 12))"


def _flag(field: str) -> str:
    return f"TRY_CAST({_said(field)} AS BOOLEAN)"


def _instant(field: str) -> str:
    return f"make_timestamptz({_count(field)} * 1000)"


_AT = "make_timestamptz(now.at_ms * 1000)"
_COUNTED = {"is_counted": "now.is_counted"}
_WHO = {"subject": _text("subject"), "user_name": _text("user")}

TABLES = {
    "event": MirroredTable(
        "vendor_events",
        {
            "occurred_at": _AT,
            "ordinal": "now.ordinal",
            **{name: _text(name) for name in ("model_raw", "conversation_id", "cloud_agent_id", "owner_id")},
            "user_name": _text("user"),
            "kind": _text("kind"),
            **{
                name: _count(name)
                for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
            },
            **{name: _amount(name) for name in ("model_cost_usd", "fee_usd", "charged_usd", "request_units")},
            **{name: _flag(name) for name in ("is_chargeable", "is_headless", "is_max_mode")},
            **_COUNTED,
        },
        "occurred_at, account, item_id",
        "occurred_at",
    ),
    "report": MirroredTable(
        "vendor_reports",
        {
            "report": _text("report"),
            "grouped_by": _text("grouping"),
            "starts_at": _AT,
            "ends_at": _instant("until_ms"),
            "ordinal": "now.ordinal",
            "dimensions": "coalesce(now.content -> '$.dimensions', '[]'::JSON)",
            "model_raw": _text("model_raw"),
            "user_name": _text("user"),
            **{
                name: _count(name)
                for name in (
                    "responses",
                    "input_tokens",
                    "output_tokens",
                    "cache_read_tokens",
                    "cache_write_5m_tokens",
                    "cache_write_1h_tokens",
                    "reasoning_tokens",
                    "web_search_requests",
                )
            },
            "quantity": _amount("quantity"),
            "unit": _text("unit"),
            "amount": _amount("amount"),
            "currency": f"coalesce({_said('currency')}, 'USD')",
            **_COUNTED,
        },
        "starts_at, account, report, item_id",
        "starts_at",
    ),
    "period": MirroredTable(
        "billing_periods",
        {
            "starts_at": _AT,
            "ends_at": _instant("until_ms"),
            **_WHO,
            "plan": _text("plan"),
            **{
                name: _amount(name)
                for name in (
                    "included_usd",
                    "on_demand_usd",
                    "total_usd",
                    "included_limit_usd",
                    "on_demand_limit_usd",
                    "requests",
                )
            },
        },
        "account, starts_at, subject, item_id",
    ),
    "invoice": MirroredTable(
        "invoices",
        {
            "invoice_id": _text("invoice_id"),
            "starts_at": _AT,
            "ends_at": _instant("until_ms"),
            "issued_at": _instant("issued_ms"),
            "amount": _amount("amount"),
            "currency": f"coalesce({_said('currency')}, 'USD')",
            "status": _text("status"),
            "lines": "coalesce(now.content -> '$.lines', '[]'::JSON)",
            "is_preview": f"coalesce({_flag('is_preview')}, false)",
        },
        "account, starts_at, invoice_id, item_id",
    ),
    "limit": MirroredTable(
        "account_limits",
        {
            "name": _text("name"),
            **_WHO,
            "limit_usd": _amount("limit_usd"),
            "used_usd": _amount("used_usd"),
            "is_allowed": _flag("is_allowed"),
        },
        "account, name, subject, item_id",
    ),
    "member": MirroredTable(
        "account_members",
        {
            "member_id": _text("member_id"),
            "user_name": _text("user"),
            "name": _text("name"),
            "role": _text("role"),
            "plan": _text("plan"),
            "is_removed": f"coalesce({_flag('is_removed')}, false)",
        },
        "account, member_id, item_id",
    ),
}
"""By the kind of their items."""
