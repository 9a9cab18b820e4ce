"""The types every room shares: what a source reads, and what its records settle to.

A *usage record* is what one source said about one model response, unnormalized and without any prompt or
code text. A *settled record* is the outcome of comparing all copies of one response: disjoint token counts,
one identity. A *reject* is what could not be used, with its reason. Nothing here knows DuckDB or Dagster.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec

TimeQuality = Literal["exact", "neighbour", "mtime"]
"""How an instant is known: written on the record, taken from a neighbouring record, or the file's time."""

ModelQuality = Literal["exact", "configured", "fallback", "none"]
"""How a model is known: written beside the usage, from the agent's configuration, guessed, or not at all."""

EARLIEST_MS = 1_577_836_800_000
"""2020-01-01 in UTC, in milliseconds since the epoch. No local day before 2020-01-01 is kept."""

ServiceTier = Literal["standard", "batch", "flex", "priority", "fast"]

CallStatus = Literal["ok", "error", "aborted"]
"""How a recorded call ended."""

VendorEvidence = Literal["vendor", "charge", "aggregate"]
"""What a vendor shows: one request with its tokens, one of which only the charge is told, or a bucket of a report."""


class LogFile(msgspec.Struct, frozen=True):
    """A file a source shall read now, and how far it was read before.

    `offset` and `line` are where reading starts (0 for a first or a full reading), `state` is what the source
    returned last time for the same file (empty on a first or a full reading), `sequence` names this
    incarnation of the file: it changes when the file was rewritten, never when it only grew or moved. What claims
    to be older than `earliest_ms`, the first instant of 2020 in the reporting zone, is a reject.
    """

    path: str
    sequence: str = ""
    account: str = ""
    offset: int = 0
    line: int = 0
    modified_ms: int = 0
    earliest_ms: int = EARLIEST_MS
    state: dict[str, Any] = {}


class UsageRecord(msgspec.Struct, frozen=True):
    """One usage record with its provenance; `said` is the source's own struct, stored as JSON for ever.

    `family` names the identity group: records that must be compared to know what was billed. Families of two
    sources never meet. `position` is the byte offset (or row number) of the record and `line` its line number,
    counted from 1, or `None` where the file has no lines.
    """

    family: str
    said: msgspec.Struct
    position: int = 0
    line: int | None = None


class Reject(msgspec.Struct, frozen=True):
    """Something that could not be used. `reason` is a fixed phrase: it never quotes the input."""

    reason: str
    line: int | None = None
    position: int | None = None


class Reading(msgspec.Struct):
    """What a source found in one file, from `LogFile.offset` to `offset`.

    `offset` is where the next reading starts: the end of the last whole line. `pending` bytes after it belong
    to a line that is still being written. `state` is handed back to the source with the next reading. `is_partial`
    says that there is more to read from there on: a reader of very many records hands them out in parts.
    """

    records: list[UsageRecord] = []
    rejects: list[Reject] = []
    offset: int = 0
    line: int = 0
    pending: int = 0
    state: dict[str, Any] = {}
    is_partial: bool = False


class SettledRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One billed model response of one source: the raw material of a usage event.

    `identity` is unique within the source and holds no day, no path and no time zone. Token counts are
    disjoint; `output_tokens` includes `reasoning_tokens`. `occurred_at` is in milliseconds since the epoch,
    UTC. Names are as logged.
    """

    identity: str
    occurred_at: int
    time_quality: TimeQuality = "exact"
    account: str = ""
    session_id: str = ""
    project: str = ""
    git_branch: str = ""
    is_subagent: bool = False
    provider_raw: str = ""
    model_raw: str = ""
    model_quality: ModelQuality = "exact"
    service_tier: ServiceTier = "standard"
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    web_search_requests: int = 0
    reported_cost_usd: Decimal | None = None


class SettledCall(SettledRecord, frozen=True, omit_defaults=True):
    """A model response seen by whoever passed the call on: a proxy knows more of it than an agent's log.

    `premium_request_count` counts requests of plans that bill by them.
    """

    endpoint: str = ""
    status: CallStatus = "ok"
    premium_request_count: Decimal = Decimal(0)


class SettledAggregate(SettledRecord, frozen=True, omit_defaults=True, kw_only=True):
    """A sum that somebody else made: evidence for `responses` billed responses of one agent, machine and local day.

    `day` (`YYYY-MM-DD`) is the sender's own and never moves with the reporting zone; `occurred_at` is noon in UTC of
    it. `reported_total_tokens` is the sender's total, whether or not it is the sum of the five counts. A reported
    cost of 0 is one.
    """

    source: str
    machine: str
    day: str
    responses: int
    reported_total_tokens: int


class SettledVendorUsage(SettledCall, frozen=True, omit_defaults=True, kw_only=True):
    """What a vendor's own record shows of an account: one request, or a bucket of a report.

    It belongs to no machine, since any host may poll the account. `source` is the account's, e.g. `cursor`. A
    reported cost of 0 is one. With the evidence `charge` the token counts are unknown: the zeros here are no
    statement. `day` (`YYYY-MM-DD`) is set for buckets alone: the UTC day that the vendor means, which never moves
    with the reporting zone.
    """

    source: str
    evidence: VendorEvidence
    day: str | None = None
    responses: int = 1
    reported_total_tokens: int | None = None
