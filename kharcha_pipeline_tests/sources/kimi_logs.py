"""Logs as kimi-cli and kimi-code write them, for the tests of their source."""

from __future__ import annotations

import json
from hashlib import md5
from pathlib import Path
from typing import Any

from kharcha_pipeline.records import SettledRecord
from kharcha_pipeline.sources.kimi import kimi
from kharcha_pipeline_tests.sources.reading import settled_tree

START_MS = 1_772_700_000_250
SHOP = "/home/sam/shop"


def line(said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"


def write(path: Path, *said: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(one if isinstance(one, bytes) else line(one) for one in said))
    return path


def event(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "payload": payload}


def usage(
    output: int, message_id: str | None = None, other: int = 10, read: int = 20, written: int = 0
) -> dict[str, Any]:
    counts = {"input_other": other, "output": output, "input_cache_read": read, "input_cache_creation": written}
    return event("StatusUpdate", {"context_usage": 0.1, "token_usage": counts, "message_id": message_id})


def forwarded(inner: dict[str, Any], agent: str | None = "a1") -> dict[str, Any]:
    agent_id = {} if agent is None else {"agent_id": agent}
    return event("SubagentEvent", {"parent_tool_call_id": "tool_1", **agent_id, "event": inner})


def at(milliseconds: int, message: dict[str, Any]) -> dict[str, Any]:
    return {"timestamp": (START_MS + milliseconds) / 1000, "message": message}


HEADER = {"type": "metadata", "protocol_version": "1.10"}


def cli(home: Path, *said: Any, session: str = "s1", agent: str = "", project: str = SHOP) -> Path:
    place = home / ".kimi" / "sessions" / md5(project.encode()).hexdigest() / session
    return write((place / "subagents" / agent if agent else place) / "wire.jsonl", *said)


CODE_HEADER = {"type": "metadata", "protocol_version": "1.5", "created_at": START_MS}


def used(
    output: int,
    milliseconds: int | None = 0,
    scope: str | None = "turn",
    model: str | None = "kimi-code/k3",
    **counts: int,
) -> dict[str, Any]:
    tokens = {"inputOther": 10, "output": output, "inputCacheRead": 20, "inputCacheCreation": 0, **counts}
    said: dict[str, Any] = {"type": "usage.record", "model": model, "usage": tokens, "usageScope": scope}
    if milliseconds is not None:
        said["time"] = START_MS + milliseconds
    return {name: value for name, value in said.items() if value is not None}


def code(home: Path, *said: Any, session: str = "session_1", agent: str = "main") -> Path:
    place = home / ".kimi-code" / "sessions" / "wd_shop_0123456789ab" / session / "agents" / agent
    return write(place / "wire.jsonl", *said)


def found(home: Path) -> list[SettledRecord]:
    settled, rejects = settled_tree(kimi, home)
    assert rejects == []
    return settled


def outputs(settled: list[SettledRecord]) -> list[int]:
    return [response.output_tokens for response in settled]


def models(home: Path) -> list[tuple[str, str, str]]:
    return [(one.model_raw, one.model_quality, one.provider_raw) for one in found(home)]
