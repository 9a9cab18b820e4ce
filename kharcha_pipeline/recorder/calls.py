"""What a recorded call is made of, and the check of what callers hand over.

Nothing here raises on account of a caller's values: what cannot be recorded becomes a `Refusal` with a fixed phrase,
which never quotes the value, because a proxy's values come from strangers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Literal, NamedTuple

Endpoint = Literal["chat.completions", "messages", "embeddings", "responses"]
UpstreamFormat = Literal["openai", "anthropic"]
Status = Literal["ok", "error", "aborted"]

ENDPOINTS = ("chat.completions", "messages", "embeddings", "responses")
UPSTREAM_FORMATS = ("openai", "anthropic")
STATUSES = ("ok", "error", "aborted")

LARGEST_COUNT = 10**11
"""No call has more tokens than this; a larger number is damage. Millions of the largest ones still add up."""

LONGEST_NAME = 500
"""Characters of an account, a model id or a request id."""

LONGEST_DURATION_MS = 10**11

EARLIEST_MS = 1_577_836_800_000
"""2020-01-01 in UTC: the pipeline keeps nothing older."""

A_DAY_MS = 86_400_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UsageCounts:
    """Tokens of one call. The counts are disjoint, but for `reasoning_tokens`, which are part of the output.

    Attributes:
        input_tokens: read at the full price: neither from a cache nor written into one.
        output_tokens: reasoning included.
        cache_read_tokens: read from a cache.
        cache_write_5m_tokens: written into a cache for five minutes, or for as long as the vendor likes.
        cache_write_1h_tokens: written into a cache for an hour.
        reasoning_tokens: for information: how much of the output was reasoning.
        web_search_requests: searches that the vendor ran.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    web_search_requests: int = 0


COUNTS = tuple(field.name for field in fields(UsageCounts))
_counts_of = attrgetter(*COUNTS)


class Refusal(NamedTuple):
    """Why something was not recorded, as a fixed phrase."""

    event_id: str
    occurred_at: int
    reason: str


class Call(NamedTuple):
    """A call as it is stored, but for what the store adds: day, prices and premium requests.

    `event_id` is a UUID that is made when the call comes in, so that a call that is stored twice counts once.
    `occurred_at` is in milliseconds since the epoch, UTC.
    """

    event_id: str
    occurred_at: int
    account_name: str
    model_id: str
    endpoint: str
    upstream_format: str
    is_streaming: bool
    status: str
    duration_ms: int | None
    request_id: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    web_search_requests: int

    @property
    def is_premium(self) -> bool:
        """Whether it counts as a premium request: a failed call is not billed, nor an aborted one without usage."""
        return self.status == "ok" or (self.status == "aborted" and any(self[-len(COUNTS) :]))


class RecordUsageInput:
    """One call of a model, as a caller tells it. Making one never raises; `Recorder.record_usage` checks it.

    All names may also be given in camel case (`modelId`, `upstreamFormat`, `isStreaming`, `durationMs`, …).

    Attributes:
        account: whose call it is: a label.
        model_id: the model's id, as it was asked for.
        endpoint: `chat.completions`, `messages`, `embeddings` or `responses`.
        upstream_format: `openai` or `anthropic`.
        is_streaming: whether the answer was streamed.
        usage: disjoint counts, as `UsageCounts` or a mapping of its fields. It may be missing when the call failed or
            was aborted.
        duration_ms: how long the call took, in milliseconds; `None` when that is not known.
        status: `ok`, `error` or `aborted`.
        request_id: a name of the call that is unique in the account: a call that is recorded again changes nothing.
        is_internal: whether the call is the proxy's own; then nothing is recorded.
        occurred_at: when the call happened: an aware `datetime`, or milliseconds since the epoch; `None` for now.
    """

    __slots__ = (
        "account",
        "duration_ms",
        "endpoint",
        "is_internal",
        "is_streaming",
        "model_id",
        "occurred_at",
        "request_id",
        "status",
        "unknown",
        "upstream_format",
        "usage",
    )

    def __init__(
        self,
        /,
        *,
        account: str | None = None,
        model_id: str | None = None,
        endpoint: Endpoint | None = None,
        upstream_format: UpstreamFormat | None = None,
        is_streaming: bool = False,
        usage: UsageCounts | Mapping[str, Any] | None = None,
        duration_ms: float | None = None,
        status: Status = "ok",
        request_id: str | None = None,
        is_internal: bool = False,
        occurred_at: datetime | int | None = None,
        **others: Any,
    ) -> None:
        self.account = account
        self.model_id = model_id
        self.endpoint = endpoint
        self.upstream_format = upstream_format
        self.is_streaming = is_streaming
        self.usage = usage
        self.duration_ms = duration_ms
        self.status = status
        self.request_id = request_id
        self.is_internal = is_internal
        self.occurred_at = occurred_at
        self.unknown = False
        for name, value in others.items():
            ours = _CAMEL_CASE.get(name)
            if ours is None:
                self.unknown = True
            else:
                setattr(self, ours, value)

    @classmethod
    def of(cls, given: RecordUsageInput | Mapping[str, Any] | None, named: Mapping[str, Any]) -> RecordUsageInput:
        """What a caller gave, in any of the accepted forms; keywords come over the rest."""
        if isinstance(given, cls):
            if not named:
                return given
            stated = {name: getattr(given, name) for name in cls.__slots__ if name != "unknown"}
            merged = cls(**stated | _in_snake_case(named))
            merged.unknown = merged.unknown or given.unknown
            return merged
        if given is None:
            return cls(**named)
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            return cls(not_understood=True)
        return cls(**_in_snake_case(given) | _in_snake_case(named))


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_CAMEL_CASE = {_camel_case(name): name for name in RecordUsageInput.__slots__ if "_" in name}
_COUNTS_BY_NAME = {spelling: name for name in COUNTS for spelling in (name, _camel_case(name))}


def _in_snake_case(named: Mapping[str, Any]) -> dict[str, Any]:
    return {_CAMEL_CASE.get(name, name): value for name, value in named.items()}


class _RefusedError(Exception):
    """Carries a fixed phrase to `checked`."""


def checked(given: RecordUsageInput, now_ms: int) -> Call | Refusal:
    """The call as it is stored, or why it cannot be."""
    event_id = new_event_id(now_ms)
    try:
        if given.unknown:
            raise _RefusedError("a field has an unknown name")
        if not isinstance(given.is_internal, bool):
            raise _RefusedError("is_internal is neither true nor false")
        status = _one_of(given.status, STATUSES, "status is none of ok, error and aborted")
        return Call(
            event_id,
            _instant(given.occurred_at, now_ms),
            _name(given.account, "account"),
            _name(given.model_id, "model_id"),
            _one_of(given.endpoint, ENDPOINTS, "endpoint is none of those that are known"),
            _one_of(given.upstream_format, UPSTREAM_FORMATS, "upstream_format is neither openai nor anthropic"),
            _flag(given.is_streaming),
            status,
            _duration(given.duration_ms),
            None if given.request_id in (None, "") else _name(given.request_id, "request_id"),
            *_counts(given.usage, status),
        )
    except _RefusedError as refused:
        return Refusal(event_id, now_ms, str(refused))


def new_event_id(now_ms: int) -> str:
    """A UUID of version 7: later ones are larger, so that an index of them grows at its end."""
    digits = f"{now_ms & 0xFFFF_FFFF_FFFF:012x}{os.urandom(10).hex()}"
    return (
        f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


def _one_of(value: object, allowed: tuple[str, ...], otherwise: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise _RefusedError(otherwise)
    return value


def _name(value: object, field: str) -> str:
    """A name as it can be stored. `field` is one of ours, so the phrases are fixed ones."""
    if value is None:
        raise _RefusedError(f"{field} is missing")
    if not isinstance(value, str):
        raise _RefusedError(f"{field} is no text")
    if len(value) > LONGEST_NAME:
        raise _RefusedError(f"{field} is too long")
    if not value.strip():
        raise _RefusedError(f"{field} is missing")
    if value.isascii() and "\0" not in value:
        return value
    # NUL characters and halves of surrogate pairs can be stored nowhere.
    return value.replace("\0", "?").encode("utf-8", errors="replace").decode("utf-8")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _RefusedError("is_streaming is neither true nor false")
    return value


def _duration(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_DURATION_MS:
        raise _RefusedError("duration_ms is no time in milliseconds")
    return round(value)


def _instant(value: object, now_ms: int) -> int:
    if value is None:
        return now_ms
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _RefusedError("occurred_at has no time zone")
        milliseconds = (value - _EPOCH) // timedelta(milliseconds=1)
    elif isinstance(value, int) and not isinstance(value, bool):
        milliseconds = value
    else:
        raise _RefusedError("occurred_at is no instant")
    if not EARLIEST_MS <= milliseconds <= now_ms + A_DAY_MS:
        raise _RefusedError("occurred_at is out of range")
    return milliseconds


def _counts(usage: object, status: str) -> tuple[int, ...]:
    if usage is None:
        if status == "ok":
            # As zeros it would be a call that costs nothing: nobody would see that something is missing.
            raise _RefusedError("a call that succeeded came without usage")
        return (0,) * len(COUNTS)
    if isinstance(usage, UsageCounts):
        counts = _counts_of(usage)
    elif isinstance(usage, Mapping):
        stated: dict[str, object] = {}
        for name, value in usage.items():
            ours = _COUNTS_BY_NAME.get(name) if isinstance(name, str) else None
            if ours is None:  # perhaps a provider's own object, whose counts overlap
                raise _RefusedError("usage has an unknown field")
            stated[ours] = value
        counts = tuple(stated.get(name, 0) for name in COUNTS)
    else:
        raise _RefusedError("usage is not understood")
    for count in counts:
        if type(count) is not int or not 0 <= count <= LARGEST_COUNT:
            raise _RefusedError("usage has a count that is no count")
    return counts
