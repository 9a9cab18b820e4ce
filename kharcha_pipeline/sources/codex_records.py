"""What Codex's lines said about usage, as it is stored: the raw material of settlement.

Numbers, ids, names, the working directory and the branch; never instructions, prompts or tool output.
"""

from __future__ import annotations

from operator import ge
from typing import Literal

import msgspec
from msgspec.structs import astuple

Kind = Literal[
    "session",
    "foreign_session",
    "context",
    "task",
    "trigger",
    "tier",
    "tokens",
    "response",
    "compaction",
    "thread",
    "turn",
]
"""Which line a record is of: the file's own `session_meta`; a copied one of another thread; `turn_context`;
`task_started`; an inter-agent message that starts a turn; `thread_settings_applied`; `token_count`;
`token_usage_record`; `compacted`; and of a headless run `thread.started` and `turn.completed`."""


class Tokens(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Token counts as OpenAI states them: `cached` and `cache_write` are part of `input`, `reasoning` of `output`.

    `total` is the field of that name; in a snapshot written after the context overflowed it is the only one set.
    """

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    total: int = 0

    def plus(self, other: Tokens) -> Tokens:
        """The sum, field by field."""
        return Tokens(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def minus(self, other: Tokens) -> Tokens:
        """The difference, field by field, never below 0."""
        return Tokens(*(max(0, mine - theirs) for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def covers(self, other: Tokens) -> bool:
        """Whether no field is lower than the other's."""
        return all(map(ge, astuple(self), astuple(other)))

    @property
    def name(self) -> str:
        """The counts as part of an identity."""
        return f"{self.input}.{self.cached}.{self.cache_write}.{self.output}.{self.reasoning}.{self.total}"

    @property
    def parts(self) -> tuple[int, ...]:
        """Everything but `total`."""
        return astuple(self)[:5]


class CodexRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one line of a rollout, or of a saved headless run, said.

    `sequence` is the incarnation of the file and `position` the byte offset of the line in it, counted in the
    decompressed file. `occurred_at` is the line's own instant in milliseconds; `refused` when that cannot be true.
    `file_time` is the file's modification time, kept only where a line with usage has no instant.

    `total` holds cumulative counts (`total_token_usage`, `thread_token_usage`, a headless `usage`), `last` those of
    one response (`last_token_usage`, the `usage` of a `token_usage_record`).
    """

    kind: Kind
    sequence: str
    position: int
    occurred_at: int | None = None
    refused: bool = False
    file_time: int | None = None
    ordinal: int | None = None
    archived: bool = False
    compressed: bool = False
    account: str = ""

    total: Tokens | None = None
    last: Tokens | None = None
    response_id: str = ""
    """Of a response; of a compaction, the response that made it."""
    thread_id: str = ""
    """Of a session or thread, its own; of a response, the thread it was written for."""
    model: str = ""
    project: str = ""
    service_tier: str | None = None
    """As written; `None` when the line does not speak of it."""
    imported: bool | None = None
    """Whether the turn was imported from another agent's logs; `None` when the line names no turn."""
    started_at: int | None = None
    """When a task says it was started, in milliseconds; a copied task keeps it."""

    created_at: int | None = None
    """When a session says its thread was created, in milliseconds."""
    parents: tuple[str, ...] = ()
    forked: bool = False
    is_subagent: bool = False
    history_start: int | None = None
    """The ordinal of the first line that is the thread's own."""
    history_referenced: bool = False
    """Whether the parent's lines are referred to and not copied."""
    git_branch: str = ""
    provider: str = ""
