"""Raw usage of providers as disjoint counts: whole, streamed, strange."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kharcha_pipeline.recorder import AnthropicStream, OpenAIStream, UsageCounts, anthropic_usage, openai_usage

counts = st.integers(0, 10**9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "server_tool_use",
    "web_search_requests",
)
strange_usage = st.recursive(
    json_values | counts,
    lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=12,
)


def as_objects(value: Any) -> Any:
    """A mapping as the providers' Python clients hand it over: an object with attributes."""
    if isinstance(value, Mapping):
        return SimpleNamespace(**{name: as_objects(inner) for name, inner in value.items()})
    return value


def total(usage: UsageCounts) -> int:
    return (
        usage.input_tokens
        + usage.output_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
    )


# ------------------------------------------------------------------------------------------------------- OpenAI


def test_chat_completions_include_the_cache_in_the_prompt_and_reasoning_in_the_completion() -> None:
    raw = {
        "prompt_tokens": 1200,
        "completion_tokens": 430,
        "total_tokens": 1630,
        "prompt_tokens_details": {"cached_tokens": 1000, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 250, "accepted_prediction_tokens": 0},
    }
    expected = UsageCounts(input_tokens=200, output_tokens=430, cache_read_tokens=1000, reasoning_tokens=250)
    assert openai_usage(raw) == openai_usage(as_objects(raw)) == expected


def test_responses_name_the_same_things_differently() -> None:
    raw = {
        "input_tokens": 1200,
        "input_tokens_details": {"cached_tokens": 1000},
        "output_tokens": 430,
        "output_tokens_details": {"reasoning_tokens": 250},
        "total_tokens": 1630,
    }
    assert openai_usage(raw) == UsageCounts(200, 430, 1000, reasoning_tokens=250)


def test_embeddings_have_no_completion() -> None:
    assert openai_usage({"prompt_tokens": 8, "total_tokens": 8}) == UsageCounts(8)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (  # xAI: reasoning beside the completion
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 22,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            UsageCounts(10, 12, reasoning_tokens=7),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 7}},
            UsageCounts(10, 12, reasoning_tokens=7),
        ),
        (  # DeepSeek
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_cache_hit_tokens": 8,
                "prompt_cache_miss_tokens": 2,
            },
            UsageCounts(2, 5, 8),
        ),
        (  # OpenRouter
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 3},
            },
            UsageCounts(1, 5, 6, 3),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 30}},
            UsageCounts(10, 5, 30),
        ),
        ({"prompt_tokens": 10.0, "completion_tokens": None, "prompt_tokens_details": None}, UsageCounts(10)),
    ],
)
def test_dialects(raw: dict[str, Any], expected: UsageCounts) -> None:
    assert openai_usage(raw) == expected


@given(counts, counts, counts, counts, st.booleans())
def test_openais_counts_add_up_to_the_total(
    uncached: int, cached: int, answer: int, reasoning: int, as_response: bool
) -> None:
    given, taken = ("input", "output") if as_response else ("prompt", "completion")
    raw = {
        f"{given}_tokens": uncached + cached,
        f"{given}_tokens_details": {"cached_tokens": cached},
        f"{taken}_tokens": answer + reasoning,
        f"{taken}_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": uncached + cached + answer + reasoning,
    }
    usage = openai_usage(raw)
    assert usage == UsageCounts(uncached, answer + reasoning, cached, reasoning_tokens=reasoning)
    assert total(usage) == raw["total_tokens"]


# ---------------------------------------------------------------------------------------------------- Anthropic


def test_anthropics_counts_are_apart() -> None:
    raw = {
        "input_tokens": 12,
        "output_tokens": 340,
        "cache_read_input_tokens": 9000,
        "cache_creation_input_tokens": 700,
        "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 200},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "standard",
    }
    expected = UsageCounts(12, 340, 9000, 500, 200, 0, 2)
    assert anthropic_usage(raw) == anthropic_usage(as_objects(raw)) == expected


def test_a_write_into_the_cache_without_a_lifetime_is_one_for_five_minutes() -> None:
    assert anthropic_usage({"input_tokens": 1, "cache_creation_input_tokens": 700}) == UsageCounts(
        1, cache_write_5m_tokens=700
    )
    raw = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 700,
        "cache_creation": {"ephemeral_1h_input_tokens": 600},
    }
    assert anthropic_usage(raw) == UsageCounts(1, cache_write_5m_tokens=100, cache_write_1h_tokens=600)


# ------------------------------------------------------------------------------------------------------ strange


@given(strange_usage)
def test_whatever_it_is_it_is_usage_or_none(raw: Any) -> None:
    for normalize in (openai_usage, anthropic_usage):
        for form in (raw, as_objects(raw)):
            usage = normalize(form)
            assert usage is None or all(
                type(count) is int and count >= 0
                for count in (total(usage), usage.reasoning_tokens, usage.web_search_requests, usage.input_tokens)
            )


@pytest.mark.parametrize("damaged", [-1, 1.5, "7", True, 10**12, [1], float("nan")])
def test_a_damaged_count_makes_the_usage_unknown_and_not_smaller(damaged: Any) -> None:
    assert openai_usage({"prompt_tokens": damaged, "completion_tokens": 5}) is None
    assert openai_usage({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": damaged}}) is None
    assert anthropic_usage({"input_tokens": 5, "output_tokens": damaged}) is None


@pytest.mark.parametrize("raw", [None, {}, [], "usage", 7, {"total_tokens": 7}])
def test_what_has_no_counts_is_no_usage(raw: Any) -> None:
    assert openai_usage(raw) is None
    assert anthropic_usage(raw) is None


# ------------------------------------------------------------------------------------------------------ streams


def events(said: Sequence[dict[str, Any]], end: bytes = b"") -> bytes:
    """Server-sent events."""
    return (
        b"".join(f"event: {event.get('type', 'message')}\ndata: {json.dumps(event)}\n\n".encode() for event in said)
        + end
    )


CHAT = [
    {"choices": [{"delta": {"content": 'he said "usage"'}}], "usage": None},
    {"choices": [{"delta": {"content": " and went"}}], "usage": None},
    {
        "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
    },
]
RESPONSES = [
    {"type": "response.created", "response": {"id": "resp_1", "usage": None}},
    {"type": "response.output_text.delta", "delta": "usage"},
    {"type": "response.completed", "response": {"usage": {"input_tokens": 9, "output_tokens": 4}}},
]
MESSAGE = [
    {
        "type": "message_start",
        "message": {
            "usage": {
                "input_tokens": 25,
                "output_tokens": 1,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 70,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 70},
            }
        },
    },
    {"type": "content_block_delta", "delta": {"text": '"usage"'}},
    {"type": "message_delta", "usage": {"output_tokens": 15}},
    {"type": "message_delta", "usage": {"output_tokens": 40, "cache_creation_input_tokens": 70}},
    {"type": "message_stop"},
]


def fed(stream: OpenAIStream | AnthropicStream, content: bytes, size: int) -> UsageCounts | None:
    for start in range(0, len(content), size):
        stream.feed(content[start : start + size])
    return stream.usage


@given(st.integers(1, 500))
def test_a_stream_tells_its_usage_however_it_is_cut(size: int) -> None:
    assert fed(OpenAIStream(), events(CHAT, b"data: [DONE]\n\n"), size) == UsageCounts(3, 4, 6)
    assert fed(OpenAIStream(), events(RESPONSES), size) == UsageCounts(9, 4)
    message = events(MESSAGE).replace(b"\n", b"\r\n")
    assert fed(AnthropicStream(), message, size) == UsageCounts(25, 40, 3, 0, 70)


def test_decoded_events_and_the_clients_objects_are_understood() -> None:
    for convert in (lambda event: event, as_objects):
        chat, message = OpenAIStream(), AnthropicStream()
        for event in CHAT:
            chat.add(convert(event))
        for event in MESSAGE:
            message.add(convert(event))
        assert (chat.usage, message.usage) == (UsageCounts(3, 4, 6), UsageCounts(25, 40, 3, 0, 70))


def test_a_message_that_breaks_off_keeps_what_was_told_so_far() -> None:
    assert fed(AnthropicStream(), events(MESSAGE[:3]), 7) == UsageCounts(25, 15, 3, 0, 70)


def test_a_stream_without_usage_has_none() -> None:
    assert fed(OpenAIStream(), events(CHAT[:2]), 11) is None
    assert AnthropicStream().usage is None


@given(st.lists(st.builds(dict, input_tokens=counts, output_tokens=counts), min_size=1, max_size=6), st.randoms())
def test_cumulative_counts_are_taken_at_their_largest_in_any_order(told: list[dict[str, int]], random: Any) -> None:
    random.shuffle(told)
    stream = AnthropicStream()
    for usage in told:
        stream.add({"type": "message_delta", "usage": usage})
    assert stream.usage == UsageCounts(*(max(usage[name] for usage in told) for name in told[0]))


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_stream_makes_it_fail(content: bytes, size: int) -> None:
    hostile = b'data: {"usage": ' + content + b'\ndata: {"usage": 7}\ndata: {"usage": {"input_tokens": []}}\n'
    assert fed(OpenAIStream(), hostile, size) is None
    fed(AnthropicStream(), hostile, size)


def test_a_line_without_an_end_is_not_kept() -> None:
    stream = OpenAIStream()
    for _ in range(20):
        stream.feed(b"x" * 1024 * 1024)
    stream.feed(b"\n" + events(CHAT))
    assert stream.usage == UsageCounts(3, 4, 6)
