"""What providers call usage, as disjoint counts; also from streams.

OpenAI's input includes what came from the cache and its output includes the reasoning; Anthropic's counts are apart.
Raw objects may be mappings (decoded JSON) or objects with attributes (the providers' own Python clients). Nothing
here raises: what is no usage, or has a count that is no count, is `None`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kharcha_pipeline.recorder.calls import LARGEST_COUNT, UsageCounts

LONGEST_EVENT = 16 * 1024 * 1024
"""Bytes of one line of a stream. A longer one is skipped: it holds an answer, not usage."""


class _NoCountError(Exception):
    """A count is negative, no whole number, or damaged."""


def openai_usage(raw: object) -> UsageCounts | None:
    """The usage of chat completions, embeddings or responses.

    - Cached and cache-written tokens are part of the input, unless they are more than it has.
    - Reasoning is part of the output, unless there is more of it than output, or the total says that it is apart
      (xAI).
    - DeepSeek's `prompt_cache_hit_tokens` count where the details are missing.

    Args:
        raw: the `usage` of an answer.
    """
    try:
        return _openai(raw)
    except _NoCountError:
        return None


def anthropic_usage(raw: object) -> UsageCounts | None:
    """The usage of a message. What the split by lifetime does not cover was written for five minutes.

    Args:
        raw: the `usage` of a message.
    """
    try:
        return _anthropic(raw)
    except _NoCountError:
        return None


def _openai(raw: object) -> UsageCounts | None:
    prompt, completion = (
        _first(raw, "prompt_tokens", "input_tokens"),
        _first(raw, "completion_tokens", "output_tokens"),
    )
    if prompt is None and completion is None:
        return None
    whole_input, output = prompt or 0, completion or 0
    of_input = _part(raw, "prompt_tokens_details", "input_tokens_details")
    of_output = _part(raw, "completion_tokens_details", "output_tokens_details")
    cached = _count(of_input, "cached_tokens")
    if cached is None:
        cached = _count(raw, "prompt_cache_hit_tokens") or 0
    written = _count(of_input, "cache_write_tokens") or 0
    reasoning = _count(of_output, "reasoning_tokens") or 0
    inside = cached + written
    total = _count(raw, "total_tokens")
    is_apart = total is not None and total == whole_input + output + reasoning and reasoning > 0
    return UsageCounts(
        input_tokens=whole_input - inside if inside <= whole_input else whole_input,
        output_tokens=output + reasoning if is_apart or reasoning > output else output,
        cache_read_tokens=cached,
        cache_write_5m_tokens=written,
        reasoning_tokens=reasoning,
        web_search_requests=_count(_part(raw, "server_tool_use"), "web_search_requests") or 0,
    )


def _anthropic(raw: object) -> UsageCounts | None:
    read, written_output = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    if read is None and written_output is None:
        return None
    split = _part(raw, "cache_creation")
    hour = _count(split, "ephemeral_1h_input_tokens") or 0
    five_minutes = _count(split, "ephemeral_5m_input_tokens") or 0
    return UsageCounts(
        input_tokens=read or 0,
        output_tokens=written_output or 0,
        cache_read_tokens=_count(raw, "cache_read_input_tokens") or 0,
        cache_write_5m_tokens=max(five_minutes, (_count(raw, "cache_creation_input_tokens") or 0) - hour),
        cache_write_1h_tokens=hour,
        web_search_requests=_count(_part(raw, "server_tool_use"), "web_search_requests") or 0,
    )


def _field(raw: object, name: str) -> object:
    return raw.get(name) if isinstance(raw, Mapping) else getattr(raw, name, None)


def _part(raw: object, *names: str) -> object:
    """The first of the fields that is there."""
    return next((found for name in names if (found := _field(raw, name)) is not None), None)


def _first(raw: object, *names: str) -> int | None:
    return next((found for name in names if (found := _count(raw, name)) is not None), None)


def _count(raw: object, name: str) -> int | None:
    """A count, `None` where it is missing.

    Raises:
        _NoCountError: when something else is in its place.
    """
    value = _field(raw, name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
        raise _NoCountError
    return value


class _Stream:
    """Finds the usage in a stream of server-sent events, given as bytes or as decoded events."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_skipping = False

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the stream, cut anywhere."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if self._is_skipping:
                self._is_skipping = False
            else:
                self._line(line)
        if len(self._rest) > LONGEST_EVENT:
            self._rest, self._is_skipping = b"", True

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:") or b'"usage"' not in line:  # most events are text
            return
        try:
            event = json.loads(line[5:])
        except (ValueError, RecursionError):
            return
        self.add(event)

    def add(self, event: object) -> None:
        """Takes the next event."""
        raise NotImplementedError


class OpenAIStream(_Stream):
    """The usage of a stream of chat completions or responses.

    Chat completions tell it in their last chunk, and only when the request has
    `"stream_options": {"include_usage": true}`; responses tell it in the event that ends them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: UsageCounts | None = None

    @property
    def usage(self) -> UsageCounts | None:
        """What the latest event that told any says; `None` while there was none."""
        return self._last

    def add(self, event: object) -> None:
        """Takes the next chunk or event."""
        raw = _part(event, "usage")
        if raw is None:
            raw = _part(_part(event, "response"), "usage")
        if raw is not None:
            self._last = openai_usage(raw) or self._last


class AnthropicStream(_Stream):
    """The usage of a streamed message: `message_start` tells the input, and every `message_delta` all output so far.

    The counts are cumulative, so the largest of each is taken: a sum would count the beginning many times, and the
    first alone would miss nearly all output.
    """

    def __init__(self) -> None:
        super().__init__()
        self._largest: dict[str, Any] = {}

    @property
    def usage(self) -> UsageCounts | None:
        """What is known so far, also of a stream that breaks off; `None` before the first event with usage."""
        return anthropic_usage(self._largest) if self._largest else None

    def add(self, event: object) -> None:
        """Takes the next event."""
        for raw in (_part(_part(event, "message"), "usage"), _part(event, "usage")):
            if raw is not None:
                _raise_to(self._largest, raw)


_CUMULATIVE = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "web_search_requests",
)
_NESTED = ("cache_creation", "server_tool_use")


def _raise_to(largest: dict[str, Any], raw: object) -> None:
    """Raises every count to what is told now. What is no count is left out: the other events tell it, too."""
    for name in _CUMULATIVE:
        try:
            told = _count(raw, name)
        except _NoCountError:
            continue
        if told is not None:
            largest[name] = max(told, largest.get(name, 0))
    for name in _NESTED:
        if (part := _part(raw, name)) is not None:
            _raise_to(largest.setdefault(name, {}), part)
