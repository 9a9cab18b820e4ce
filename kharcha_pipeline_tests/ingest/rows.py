"""Rows and bodies as senders write them."""

from __future__ import annotations

import json
from typing import Any

SEED_ROW: dict[str, Any] = {
    "date": "2026-03-01",
    "agent": "claude",
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "inputTokens": 1200,
    "outputTokens": 420,
    "cacheReadTokens": 3000,
    "cacheWriteTokens": 250,
    "reasoningTokens": 0,
    "totalTokens": 5870,
    "costUsd": "0.0345131",
    "messages": 7,
}
"""The contract's own example: its total is not the sum, which is 4870."""


def row(**fields: Any) -> dict[str, Any]:
    """A row of 100 input tokens, with other fields; its total is the sum unless one is given."""
    counts = {
        "inputTokens": 100,
        "outputTokens": 0,
        "cacheReadTokens": 0,
        "cacheWriteTokens": 0,
        "reasoningTokens": 0,
    }
    counts |= {name: fields[name] for name in counts.keys() & fields.keys()}
    whole = [value for value in counts.values() if type(value) is int]
    return {**SEED_ROW, **counts, "totalTokens": sum(whole), "messages": 1, **fields}


def body(*rows: dict[str, Any], **fields: Any) -> bytes:
    """A body with rows."""
    return json.dumps({"rows": list(rows), **fields}).encode()
