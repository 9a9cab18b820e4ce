"""Single requests as vendors show them: one usage event each, however many accounts show it.

A team's account and a member's own show the same request. Those with the same instant, model and conversation are one
family, and only the items of one account count: of the one that shows most, then of an official connector, then of
the first by name. Without a conversation nothing says that requests of two accounts are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from kharcha_pipeline.records import SettledVendorUsage
from kharcha_pipeline.sources.vendor_versions import VendorRequest, VendorVersion, by_account, newest

BY_COOKIE = frozenset({"cursor-dashboard"})
"""Connectors that read what a vendor shows in its own pages. An official interface is believed first."""

_CHOSEN_BY_VENDOR = frozenset({"", "auto", "default"})
"""Names with which a vendor says that it chose the model, and not which."""


def family(version: VendorVersion) -> str:
    """What may be the same request: source, instant, model and conversation, else the account's own."""
    at_ms, model_raw, conversation_id = version.group[:3]
    whose = "" if conversation_id else version.account
    names = ["event", version.source, at_ms, model_raw, conversation_id, whose]
    return msgspec.json.encode(names).decode()


def settled(family: str, said: Sequence[VendorVersion]) -> list[SettledVendorUsage]:
    """The requests that count.

    An item keeps its place in the family when others vanish, and has the place of its counterpart in another account,
    so that identities stay.
    """
    best: tuple[int, bool, str, str] | None = None
    chosen: list[tuple[int, VendorVersion, VendorRequest]] = []
    for (account, connector), versions in by_account(said).items():
        shown = [
            (place, version, version.content)
            for place, version in enumerate(newest(versions))
            if version.is_counted and isinstance(version.content, VendorRequest)
        ]
        rank = (-len(shown), connector in BY_COOKIE, account, connector)
        if best is None or rank < best:
            best, chosen = rank, shown
    return [_event(f"{family}\t{place}", version, request) for place, version, request in chosen]


def _event(identity: str, version: VendorVersion, request: VendorRequest) -> SettledVendorUsage:
    _, model_raw, conversation_id = version.group[:3]
    counts = (request.input_tokens, request.output_tokens, request.cache_read_tokens, request.cache_write_tokens)
    given, output, read, written = (count or 0 for count in counts)
    return SettledVendorUsage(
        identity,
        version.at_ms,
        account=version.account,
        session_id=conversation_id,
        provider_raw=version.source,
        model_raw=model_raw,
        model_quality="none" if model_raw.strip().lower() in _CHOSEN_BY_VENDOR else "exact",
        input_tokens=given,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_5m_tokens=written,
        premium_request_count=request.request_units or Decimal(0),
        reported_cost_usd=request.charged_usd,
        source=version.source,
        evidence="charge" if all(count is None for count in counts) else "vendor",
    )
