"""What agents write besides usage: conversations, thinking, tools, files, settings and secrets. `~` is text."""

from __future__ import annotations

from typing import Any

TEXT = "~"

FURTHER_FIELDS = ("text", "prompt", "thinking", "stdout", "stderr", "description", "api_key", "authorization", "note")
"""Fields that every object of a log gets, if it has none of that name."""

NEVER_READ = (
    ".claude.json",
    ".claude/.credentials.json",
    ".claude/history.jsonl",
    ".claude/todos/1.json",
    ".claude/file-history/a/b@v1",
    ".claude/settings.json",
    ".codex/auth.json",
    ".codex/history.jsonl",
    ".codex/config.toml",
    ".kimi/credentials/kimi.json",
    ".kimi/imported_sessions/a/b/wire.jsonl",
    ".kimi-code/auth.json",
    ".local/share/opencode/auth.json",
    ".local/share/opencode/log/dev.log",
    ".local/share/opencode/snapshot/a",
)
"""Files beside the logs that hold secrets and conversations."""

_CLAUDE_STAMP = {"uuid": "u", "sessionId": "s", "timestamp": "2026-11-01T10:00:00.000Z", "cwd": "/home/sam/shop"}
_TOOL_RESULT = {"tool_use_id": "toolu_1", "type": "tool_result", "content": [{"type": "text", "text": "~"}]}
_CLAUDE: list[dict[str, Any]] = [
    {"type": "summary", "summary": "~", "leafUuid": "u"},
    {"type": "custom-title", "customTitle": "~", "sessionId": "s"},
    {"type": "ai-title", "aiTitle": "~"},
    {"type": "last-prompt", "lastPrompt": "~", "sessionId": "s"},
    {"type": "queue-operation", "operation": "enqueue", "content": "~", **_CLAUDE_STAMP},
    {"type": "system", "subtype": "informational", "content": "~", "toolUseID": "t", **_CLAUDE_STAMP},
    {
        "type": "attachment",
        "attachment": {"type": "file", "filename": "~", "content": {"file": "~"}},
        **_CLAUDE_STAMP,
    },
    {"type": "file-history-snapshot", "snapshot": {"trackedFileBackups": {"notes.txt": {"backupFileName": "~"}}}},
    {"type": "user", "message": {"role": "user", "content": "~"}, "thinkingMetadata": {"triggers": ["~"]}},
    {
        "type": "user",
        "message": {"role": "user", "content": [_TOOL_RESULT, {"type": "image", "source": {"data": "~"}}]},
        "toolUseResult": {
            "stdout": "~",
            "stderr": "~",
            "originalFile": "~",
            "file": {"filePath": "~", "content": "~"},
            "structuredPatch": [{"lines": ["-~", "+~"]}],
            "usage": {"input_tokens": 5, "output_tokens": 5, "note": "~"},
            "content": [{"type": "text", "text": "~"}],
        },
        **_CLAUDE_STAMP,
    },
    {
        "type": "assistant",
        "message": {
            "role": "assistant",
            "model": "<synthetic>",
            "id": "msg_said",
            "stop_sequence": "~",
            "container": {"id": "~"},
            "context_management": {"applied_edits": ["~"]},
            "usage": {"input_tokens": 0, "output_tokens": 0, "inference_geo": "~"},
            "content": [
                {"type": "thinking", "thinking": "~", "signature": "~"},
                {"type": "redacted_thinking", "data": "~"},
                {"type": "text", "text": "~", "citations": [{"cited_text": "~"}]},
                {
                    "type": "tool_use",
                    "id": "t",
                    "name": "Bash",
                    "input": {"command": "TOKEN=~ make", "env": {"K": "~"}},
                },
                {"type": "server_tool_use", "input": {"query": "~"}},
            ],
        },
        "isApiErrorMessage": True,
        "error": "~",
        **_CLAUDE_STAMP,
    },
    {"type": "progress", "data": {"type": "hook", "command": "~", "message": {"type": "user", "message": "~"}}},
    {"type": "stream_event", "event": {"type": "content_block_delta", "delta": {"text": "~"}}},
    {"type": "result", "result": "~", "permission_denials": [{"tool_input": {"command": "~"}}]},
]

_AT = {"timestamp": "2026-11-01T10:00:00.000Z"}


def _codex(kind: str, **payload: Any) -> dict[str, Any]:
    return {**_AT, "type": kind, "payload": payload}


_CODEX: list[dict[str, Any]] = [
    _codex("response_item", type="message", role="user", content=[{"type": "input_text", "text": "~"}]),
    _codex("response_item", type="message", role="developer", content=[{"type": "input_text", "text": "~"}]),
    _codex("response_item", type="reasoning", summary=[{"text": "~"}], content=["~"], encrypted_content="~"),
    _codex("response_item", type="function_call", name="shell", arguments='{"command":["export","KEY=~"]}'),
    _codex("response_item", type="function_call_output", output="~"),
    _codex("response_item", type="function_call_output", output={"content": "~", "success": True}),
    _codex("response_item", type="custom_tool_call", input="~", status="completed"),
    _codex("response_item", type="local_shell_call", action={"command": ["~"], "env": {"KEY": "~"}}),
    _codex("response_item", type="web_search_call", action={"query": "~"}),
    _codex("response_item", type="ghost_snapshot", ghost_commit={"id": "~"}),
    _codex("event_msg", type="user_message", message="~", images=["~"]),
    _codex("event_msg", type="agent_message", message="~"),
    _codex("event_msg", type="agent_reasoning", text="~"),
    _codex("event_msg", type="exec_command_end", stdout="~", stderr="~", aggregated_output="~", command=["~"]),
    _codex("event_msg", type="mcp_tool_call_end", invocation={"arguments": {"q": "~"}}, result={"Ok": "~"}),
    _codex("event_msg", type="turn_aborted", reason="~"),
    _codex("event_msg", type="error", message="~", codex_error_info="~"),
    _codex("event_msg", type="thread_settings_applied", thread_settings={"developer_instructions": "~"}),
    _codex("event_msg", type="token_count", info=None, rate_limits={"plan_type": "~", "credits": {"balance": "~"}}),
    _codex("compacted", message="~", replacement_history=[{"content": "~"}]),
    _codex("world_state", state={"files": {"main.py": "~"}}),
]

_KIMI: list[dict[str, Any]] = [
    {"timestamp": 1_793_000_000.5, "message": {"type": kind, "payload": payload}}
    for kind, payload in (
        ("TurnBegin", {"user_input": [{"type": "text", "text": "~"}]}),
        ("ContentPart", {"type": "text", "text": "~"}),
        ("ContentPart", {"type": "think", "think": "~", "encrypted": "~"}),
        ("ToolCall", {"function": {"name": "Shell", "arguments": '{"command":"KEY=~ make"}'}, "extras": {"k": "~"}}),
        ("ToolResult", {"return_value": {"output": "~", "message": "~", "display": [{"text": "~"}]}}),
        ("ApprovalRequest", {"description": "~", "action": "~", "display": [{"old_text": "~", "new_text": "~"}]}),
        ("SubagentEvent", {"agent_id": "a", "event": {"type": "ContentPart", "payload": {"text": "~"}}}),
        ("StatusUpdate", {"context_usage": 0.5, "token_usage": None, "plan": "~"}),
        ("CompactionBegin", {"instruction": "~"}),
        ("TurnEnd", {"error": "~"}),
    )
]

_KIMI_CODE: list[dict[str, Any]] = [
    {"type": "turn.prompt", "input": [{"type": "text", "text": "~"}], "time": 1_793_000_000_500},
    {"type": "context.append_message", "message": {"content": [{"think": "~"}]}, "time": 1_793_000_000_500},
    {"type": "context.append_loop_event", "event": {"type": "tool.call", "args": {"command": "KEY=~ make"}}},
    {"type": "context.append_loop_event", "event": {"type": "tool.result", "result": {"output": "~"}}},
    {"type": "tools.set_active_tools", "names": ["~"]},
    {"type": "config.update", "systemPrompt": "~", "cwd": "/home/sam/shop"},
    {"type": "llm.request", "kind": "title", "systemPrompt": "~", "messages": ["~"]},
    {"type": "context.apply_compaction", "summary": "~"},
    {"type": "permission.record_approval_result", "action": "~", "result": {"feedback": "~"}},
]

LINES: dict[str, list[dict[str, Any]]] = {
    "claude-code": _CLAUDE,
    "codex": _CODEX,
    "kimi": _KIMI,
    "kimi-code": _KIMI_CODE,
}
"""Lines without usage, by agent."""

PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "~", "metadata": {"k": "~"}},
    {"type": "reasoning", "text": "~", "metadata": {"anthropic": {"signature": "~"}}},
    {
        "type": "tool",
        "tool": "bash",
        "state": {"input": {"command": "KEY=~"}, "output": "~", "title": "~", "error": "~"},
    },
    {"type": "file", "mime": "text/plain", "filename": "~", "url": "data:~", "source": {"text": {"value": "~"}}},
    {"type": "patch", "hash": "~", "files": ["~"]},
    {"type": "snapshot", "snapshot": "~"},
    {"type": "retry", "error": {"data": {"message": "~", "responseBody": "~", "responseHeaders": {"cookie": "~"}}}},
    {"type": "step-start", "snapshot": "~"},
]
"""Rows of OpenCode's parts that hold no usage."""

_CLAUDE_USAGE = {"input_tokens": 3, "output_tokens": 4}
MISPLACED: dict[str, list[Any]] = {
    "claude-code": [
        "~",
        ["~"],
        {"type": "~", "message": {"usage": _CLAUDE_USAGE}},
        {"type": "assistant", "message": "~"},
        {"type": "assistant", "message": {"id": "msg_a", "model": "claude-opus-4-6", "usage": "~"}},
        *(
            {"type": "assistant", "timestamp": "2026-11-01T10:00:00.000Z"}
            | {"message": {"id": "msg_b", "model": "claude-opus-4-6", "usage": _CLAUDE_USAGE | fields}}
            for fields in (
                {"input_tokens": "~"},
                {"service_tier": "~", "speed": "~", "inference_geo": "~"},
                {"cache_creation": "~", "server_tool_use": "~", "iterations": "~"},
                {"iterations": [{"type": "~", "input_tokens": 5}]},
                {"iterations": [{"type": "advisor_message", "input_tokens": "~"}]},
            )
        ),
        *(
            {"type": "assistant", "message": {"id": "msg_c", "model": "claude-opus-4-6", "usage": _CLAUDE_USAGE}}
            | {"timestamp": "2026-11-01T10:00:00.000Z"}
            | fields
            for fields in (
                {"timestamp": "~"},
                {"timestamp": {"at": "~"}},
                {"costUSD": "~"},
                {"isSidechain": "~", "isApiErrorMessage": "~", "forkedFrom": "~"},
            )
        ),
    ],
    "codex": [
        "~",
        {"timestamp": "~", "type": "event_msg", "payload": {"type": "token_count", "info": "~"}},
        {**_AT, "type": "~", "payload": "~"},
        _codex("event_msg", type="token_count", info={"total_token_usage": "~", "last_token_usage": ["~"]}),
        _codex("event_msg", type="token_count", info={"last_token_usage": {"input_tokens": "~", "output_tokens": 7}}),
        _codex("token_usage_record", response_id="resp_m", usage="~", thread_token_usage={"input_tokens": "~"}),
        _codex("event_msg", type="task_started", started_at="~"),
        _codex("event_msg", type="thread_settings_applied", thread_settings={"service_tier": ["~"]}),
        _codex("turn_context", cwd=["~"], model={"slug": "~"}, model_info="~"),
        _codex("inter_agent_communication", trigger_turn="~", message="~"),
        {"type": "turn.completed", "timestamp": "~", "usage": {"input_tokens": "~"}},
        {"type": "turn.failed", "error": {"message": "~"}},
    ],
    "kimi": [
        {"timestamp": "~", "message": {"type": "StatusUpdate", "payload": {"token_usage": {"output": 3}}}},
        {"timestamp": 1_793_000_000.5, "message": {"type": "StatusUpdate", "payload": {"token_usage": "~"}}},
        {
            "timestamp": 1_793_000_000.5,
            "message": {"type": "StatusUpdate", "payload": {"token_usage": {"output": "~"}}},
        },
        {"timestamp": 1_793_000_000.5, "message": "~"},
        {"timestamp": 1_793_000_000.5, "message": {"type": "~", "payload": "~"}},
    ],
    "kimi-code": [
        {
            "type": "usage.record",
            "model": "kimi-code/k3",
            "usage": "~",
            "usageScope": "turn",
            "time": 1_793_000_000_500,
        },
        {"type": "usage.record", "model": "kimi-code/k3", "usage": {"output": "~"}, "time": "~"},
        {
            "type": "usage.record",
            "model": "kimi-code/k3",
            "usage": {"output": 2},
            "usageScope": {"~": 1},
            "time": "~",
        },
        {"type": "~", "usage": {"output": 2}},
    ],
}
"""Lines with text where a count, an instant, an object, a flag or a name belongs, by agent."""

_OPENCODE = {
    "role": "assistant",
    "providerID": "openai",
    "modelID": "gpt-5.4",
    "time": {"created": 1_793_000_000_500},
}
MISPLACED_MESSAGES: list[dict[str, Any]] = [
    _OPENCODE | fields
    for fields in (
        {"tokens": "~"},
        {"tokens": {"input": "~", "output": 5, "cache": "~"}},
        {"tokens": {"output": 5}, "time": "~"},
        {"tokens": {"output": 5}, "time": {"created": "~", "completed": "~"}},
        {"tokens": {"output": 5}, "cost": "~", "finish": "~", "mode": ["~"], "agent": {"~": 1}},
        {"tokens": {"output": 5}, "error": {"name": "~", "data": {"message": "~"}}, "system": ["~"]},
        {"tokens": {"output": 5}, "summary": {"title": "~", "body": "~", "diffs": [{"before": "~", "after": "~"}]}},
    )
]
"""The same for OpenCode's messages."""
