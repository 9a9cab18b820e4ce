"""A bad field never costs the record it stands in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kharcha_pipeline.sources.claude_code import claude_code
from kharcha_pipeline.sources.kimi import kimi
from kharcha_pipeline_tests.sources.kimi_logs import write
from kharcha_pipeline_tests.sources.reading import read
from kharcha_pipeline_tests.sources.test_claude_code import line, only, transcript, usage

HALF_A_PAIR = json.loads('"\\ud83d"')
"""Half of an emoji, as it is left when a text is cut in the middle; agents write it as an escape."""


def nested_iterations(depth: int) -> dict[str, Any]:
    """Passes within passes, which the API does not know."""
    inside: dict[str, Any] = {"output_tokens": 1}
    for _ in range(depth):
        inside = {"iterations": [inside]}
    return inside


@pytest.mark.parametrize(
    "fields",
    [
        {"isSidechain": 1},
        {"isApiErrorMessage": 0},
        {"isApiErrorMessage": "no"},
        {"costUSD": "much"},
        {"costUSD": -1},
        {"forkedFrom": "elsewhere"},
        {"agentId": 7},
        {"data": [], "event": 3},
        {"content": HALF_A_PAIR},
        {"gitBranch": HALF_A_PAIR},
        {"cwd": ["/"]},
        {"used": usage(iterations=[nested_iterations(440)], speed=1)},
        {"used": usage(cache_creation="none", server_tool_use=[])},
        {"used": usage(input_tokens=1.5)},
        {"used": usage(cache_read_input_tokens=10**400)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_bad_field_of_a_transcript_costs_nothing_but_itself(tmp_path: Path, fields: dict[str, Any]) -> None:
    transcript(tmp_path, line(**fields))
    response = only(tmp_path)
    assert (response.output_tokens, response.session_id, response.model_raw) == (
        318,
        "0b7c9a10-1111-4222-8333-944455556666",
        "claude-opus-4-6",
    )


@pytest.mark.parametrize("fields", [{"isSidechain": "yes"}, {"used": usage(input_tokens=1.5)}, {"text": HALF_A_PAIR}])
def test_nor_does_it_in_a_line_within_a_line(tmp_path: Path, fields: dict[str, Any]) -> None:
    transcript(tmp_path, {"type": "progress", "sessionId": "s", "data": {"message": line(**fields)}})
    assert only(tmp_path).output_tokens == 318


def test_nor_in_an_event_of_a_stream(tmp_path: Path) -> None:
    message = {"id": "msg_s", "model": "claude-opus-4-6", "usage": {"input_tokens": 1.5, "output_tokens": 2}}
    event = {"type": "message_start", "message": message, "text": HALF_A_PAIR}
    at = "2026-03-04T09:15:22.481Z"
    transcript(tmp_path, {"type": "stream_event", "session_id": "s", "timestamp": at, "event": event})
    assert only(tmp_path).output_tokens == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"default_model": "a", "models": {HALF_A_PAIR: {"model": "x"}, "\0": {}}}),
        ("workspaces.json", {"workspaces": {HALF_A_PAIR: {"root": "/home/sam"}}}),
    ],
)
def test_names_that_no_table_can_hold_are_made_storable(tmp_path: Path, name: str, content: Any) -> None:
    reading = read(kimi, write(tmp_path / name, content))
    assert reading.records
    assert all(msgspec.json.encode(record.said) for record in reading.records)
    assert reading.rejects == []


def test_a_line_that_cannot_be_used_at_all_is_told(tmp_path: Path) -> None:
    path = transcript(tmp_path, '{"type": "assistant", "message": {"usage": ', line())
    reading = read(claude_code, path)
    assert [(reject.reason, reject.line) for reject in reading.rejects] == [("not JSON", 1)]
    assert len(reading.records) == 1
