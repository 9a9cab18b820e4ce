"""Buckets of vendors' usage reports: aggregates, which count where the account's single requests are not known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from kharcha_pipeline.records import SettledVendorUsage
from kharcha_pipeline.sources.vendor_versions import VendorBucket, VendorVersion, by_account, newest

INPUT_IN_ONE = "input tokens"
"""Unit of the quantity in which a row tells its input where the parts, which have different prices, are not known."""

_CLAUDE_CODE = "claude_code"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000
_NOON_MS = _DAY_MS // 2


def family(version: VendorVersion) -> str:
    """One account's row: its report, grouping, bucket and dimensions."""
    return msgspec.json.encode(["report", version.source, version.account, version.resource, *version.group]).decode()


def is_usage(version: VendorVersion) -> bool:
    """Whether a row tells what was used, in tokens, and no other report of the account tells it too.

    A row that only tells an amount is one of a cost report. Claude Code's report repeats what the report of messages
    has of keys; what was used under a subscription is in no other.
    """
    bucket = version.content
    if not isinstance(bucket, VendorBucket) or bucket.unit == INPUT_IN_ONE:
        return False
    if version.group[0] == _CLAUDE_CODE:
        names, values = version.group[4::2], version.group[5::2]
        if dict(zip(names, values, strict=True)).get("customer_type") != "subscription":
            return False
    counts = (
        bucket.input_tokens,
        bucket.output_tokens,
        bucket.cache_read_tokens,
        bucket.cache_write_5m_tokens,
        bucket.cache_write_1h_tokens,
    )
    return any(count is not None for count in counts)


def settled(family: str, said: Sequence[VendorVersion]) -> list[SettledVendorUsage]:
    """The rows that count: of an account that was read by another connector before, what the newest one says."""
    versions = max(by_account(said).values(), key=lambda versions: max(version.age for version in versions))
    return [
        _aggregate(f"{family}\t{place}", version, version.content)
        for place, version in enumerate(newest(versions))
        if version.is_counted and isinstance(version.content, VendorBucket) and is_usage(version)
    ]


def _aggregate(identity: str, version: VendorVersion, bucket: VendorBucket) -> SettledVendorUsage:
    day_ms = version.at_ms // _DAY_MS * _DAY_MS
    counts = (
        bucket.input_tokens or 0,
        bucket.output_tokens or 0,
        bucket.cache_read_tokens or 0,
        bucket.cache_write_5m_tokens or 0,
        bucket.cache_write_1h_tokens or 0,
    )
    given, output, read, written_5m, written_1h = counts
    return SettledVendorUsage(
        identity,
        day_ms + _NOON_MS,
        account=version.account,
        provider_raw=version.source,
        model_raw=bucket.model_raw,
        model_quality="exact" if bucket.model_raw else "none",
        input_tokens=given,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_5m_tokens=written_5m,
        cache_write_1h_tokens=written_1h,
        reasoning_tokens=bucket.reasoning_tokens or 0,
        web_search_requests=bucket.web_search_requests or 0,
        reported_cost_usd=bucket.amount if bucket.currency == "USD" else None,
        source=version.source,
        evidence="aggregate",
        day=(_EPOCH + timedelta(milliseconds=day_ms)).date().isoformat(),
        responses=max(bucket.responses or 0, 1),  # else its unknown cost would be that of no response
        reported_total_tokens=sum(counts),
    )
