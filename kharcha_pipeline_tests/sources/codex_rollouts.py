"""Writes Codex rollouts line by line, the way Codex does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard

PARENT = "019f0000-aaaa-7000-8000-000000000001"
CHILD = "019f0000-bbbb-7000-8000-000000000002"
GRANDCHILD = "019f0000-cccc-7000-8000-000000000003"
START_MS = 1_775_124_000_000  # 2026-04-02T10:00:00Z


def instant(milliseconds: int) -> str:
    """The way Codex writes an instant."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


def usage(given: int, cached: int, output: int, reasoning: int = 0, **more: Any) -> dict[str, Any]:
    """Token counts; `input_tokens` includes the cached ones and `output_tokens` the reasoning."""
    return {
        "input_tokens": given,
        "cached_input_tokens": cached,
        "output_tokens": output,
        "reasoning_output_tokens": reasoning,
        "total_tokens": given + output,
        **more,
    }


def added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two token counts together."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


class Rollout:
    """One rollout; every line is written `seconds` after the thread's start."""

    def __init__(self, thread: str = PARENT, start: int = START_MS) -> None:
        self.thread = thread
        self.start = start
        self.lines: list[bytes] = []
        self.total: dict[str, Any] = usage(0, 0, 0)

    def raw(self, line: str | bytes) -> Rollout:
        """Any line."""
        self.lines.append(line.encode() if isinstance(line, str) else line)
        return self

    def line(self, kind: str, payload: Any, seconds: float = 0, **envelope: Any) -> Rollout:
        """A line in Codex's own order and spacing."""
        stamp = instant(self.start + round(seconds * 1000))
        return self.raw(
            json.dumps({"timestamp": stamp, **envelope, "type": kind, "payload": payload}, separators=(",", ":"))
        )

    def session(self, seconds: float = 0, ordinal: int | None = None, **payload: Any) -> Rollout:
        """The `session_meta` that begins a file."""
        fields = {
            "id": self.thread,
            "timestamp": instant(self.start),
            "cwd": "/home/dev/api",
            "originator": "codex_cli_rs",
            "cli_version": "0.146.0",
            "source": "cli",
            "model_provider": "openai",
            "git": {"branch": "main"},
        }
        return self.line(
            "session_meta", fields | payload, seconds, **({} if ordinal is None else {"ordinal": ordinal})
        )

    def subagent(self, parent: str = PARENT, seconds: float = 0, **payload: Any) -> Rollout:
        """The `session_meta` of a spawned subagent."""
        return self.session(seconds, source={"subagent": {"thread_spawn": {"parent_thread_id": parent}}}, **payload)

    def context(self, model: str = "gpt-5.4", seconds: float = 0, **payload: Any) -> Rollout:
        """The `turn_context` that begins a turn."""
        return self.line("turn_context", {"cwd": "/home/dev/api", "model": model, **payload}, seconds)

    def event(self, kind: str, payload: dict[str, Any], seconds: float = 0, **envelope: Any) -> Rollout:
        """An `event_msg`."""
        return self.line("event_msg", {"type": kind, **payload}, seconds, **envelope)

    def task(self, seconds: float = 0, **payload: Any) -> Rollout:
        """The `task_started` that begins a turn."""
        return self.event("task_started", payload, seconds)

    def trigger(self, seconds: float = 0, *, turn: bool = True, kind: str = "") -> Rollout:
        """A message of another agent."""
        return self.line(kind or "inter_agent_communication_metadata", {"trigger_turn": turn}, seconds)

    def tier(self, seconds: float = 0, **settings: Any) -> Rollout:
        """A `thread_settings_applied`."""
        return self.event("thread_settings_applied", {"thread_settings": settings}, seconds)

    def counts(self, total: Any, last: Any, seconds: float = 0, **more: Any) -> Rollout:
        """A `token_count` with the given counts; `...` leaves a field out."""
        info = {"total_token_usage": total, "last_token_usage": last, "model_context_window": 272000}
        info = {name: value for name, value in info.items() if value is not ...}
        envelope = {name: more.pop(name) for name in ("ordinal",) if name in more}
        return self.event(
            "token_count", {"info": info | more, "rate_limits": {"plan_type": "plus"}}, seconds, **envelope
        )

    def response(self, last: dict[str, Any], seconds: float = 0, **more: Any) -> Rollout:
        """The `token_count` of one more response."""
        self.total = added(self.total, last)
        return self.counts(self.total, last, seconds, **more)

    def refresh(self, last: dict[str, Any], seconds: float = 0) -> Rollout:
        """The latest `token_count` again, because rate limits changed."""
        return self.counts(self.total, last, seconds)

    def record(self, response: str, counts: dict[str, Any], seconds: float = 0, **payload: Any) -> Rollout:
        """A `token_usage_record`."""
        fields = {"thread_id": self.thread, "turn_id": "turn-1", "response_id": response, "usage": counts}
        return self.line("token_usage_record", fields | payload, seconds)

    def compacted(self, response: str, seconds: float = 0) -> Rollout:
        """The marker of a compaction."""
        return self.line("compacted", {"message": "", "compaction_response_id": response}, seconds)

    def text(self) -> bytes:
        """The file's content."""
        return b"".join(line + b"\n" for line in self.lines)

    @property
    def name(self) -> str:
        """The file name Codex gives it."""
        return f"rollout-2026-04-02T10-00-00-{self.thread}.jsonl"

    def write(self, home: Path, *, archived: bool = False, compressed: bool = False, name: str = "") -> Path:
        """Writes the file below `home/.codex`."""
        below = "archived_sessions" if archived else "sessions/2026/04/02"
        path = home / ".codex" / below / ((name or self.name) + (".zst" if compressed else ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zstandard.compress(self.text()) if compressed else self.text())
        return path
