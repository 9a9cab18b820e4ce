"""What Kimi's files said about usage, as it is stored: the raw material of settlement.

Two kinds of files speak. *Wires* state requests with their tokens. The agents' own documents beside them state the
*context* of requests: the configured model, the directory a session works in, what it was forked from. They arrive
in any order, so nothing is looked up while reading: every statement is stored by itself, and settling puts them
together. Stored are numbers, ids, names and directories; never titles, prompts or tool output.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import msgspec

from kharcha_pipeline.records import TimeQuality

VENDOR = "moonshotai"

NO_JSON = "line is not a JSON object"
TOO_LONG = "line is too long"

Kind = Literal["usage", "configuration", "directory", "launch", "session", "index", "workspace"]
"""What a record states: one request; what a model alias of `config.toml` or `config.json` stands for; a working
directory in `kimi.json`; what a subagent was launched with, in its `meta.json`; and of kimi-code a session's
`state.json`, a line of `session_index.jsonl`, an entry of `workspaces.json`."""


class KimiRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One request to a model as a `StatusUpdate` (`cli`) or a `usage.record` (`code`) told it, or a piece of context.

    `root` is a digest of the directory that holds `sessions`, so that the contexts of two roots stay apart.
    `directory` is what the agent named a session's parent directory after its working directory: for `cli` the MD5 of
    its path, for `code` `wd_<slug>_<12 hex digits>`; of a `workspace` the name it is listed by, which is the same or
    the slug. `time` is in milliseconds.

    Of usage: `input_tokens` holds neither cache reads nor cache writes, `output_tokens` includes thinking.
    `occurrence` counts equal records at the same instant of one wire from 0; `untimed` numbers, from 1, the records
    of a wire for which no line up to them has a time, and is 0 for all others. `forwarded` records were written into
    the wire of another agent than `agent`. `model` is as logged, so `cli` has none; `request_model` and `provider`
    tell what a `code` request was sent to.

    Of a configuration: from the moment `time`, when the file was written, `alias` meant `model` of `provider`; the
    alias `''` is the default. Of a launch: `agent` was started with the model `alias`.
    """

    kind: Kind = "usage"
    product: Literal["cli", "code"]
    root: str = ""
    directory: str = ""
    session_id: str = ""
    agent: str = ""
    account: str = ""

    time: int = 0
    time_quality: TimeQuality = "exact"
    occurrence: int = 0
    untimed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    message_id: str = ""
    forwarded: bool = False
    scope: str = ""
    model: str = ""
    request_model: str = ""
    provider: str = ""

    alias: str = ""
    older_format: bool = False
    """Of a configuration: whether it is from `config.json`, which `config.toml` has replaced."""
    project: str = ""
    """Of context: the full path of a working directory."""
    forked_from: str = ""
    """Of a session: the id of the session it is a copy of."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """The four token counts: input, output, cache read, cache write."""
        return self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens

    @property
    def family(self) -> str:
        """The name of all records that may be copies of this one, or of one piece of context.

        A fork keeps the response id, a forwarded event keeps the id but not the time, so an id alone names a family.
        Without an id the counts do: whatever is copied, they stay.
        """
        match self.kind:
            case "configuration":
                return self.configuration_family
            case "directory" | "workspace":
                return self.directory_family
            case "launch" | "session" | "index":
                return self.session_family
        if self.message_id:
            return f"{self.product}:{self.message_id}"
        return f"{self.product}::{self.agent}:{self.model}:{joined(self.counts)}"

    @property
    def configuration_family(self) -> str:
        """The name of everything that was configured in the same root."""
        return f"configuration {self.root}"

    @property
    def directory_family(self) -> str:
        """The name of everything that is known about the working directory."""
        if self.product == "cli":
            return f"directory {self.directory}"  # an MD5 means the same path everywhere
        return f"workspace {self.root} {slug(self.directory)}"

    @property
    def session_family(self) -> str:
        """The name of everything that is known about the session beside its wires."""
        return f"session {self.root} {self.session_id}"

    @property
    def related(self) -> tuple[str, ...]:
        """The families that hold the context of a request; a piece of context needs nothing else."""
        if self.kind != "usage":
            return ()
        if self.product == "code":
            return self.session_family, self.directory_family
        families = (self.configuration_family, self.directory_family)
        return (*families, self.session_family) if self.agent else families


def joined(counts: tuple[int, ...]) -> str:
    """Counts as one text."""
    return "-".join(map(str, counts))


def slug(directory: str) -> str:
    """The readable part of kimi-code's `wd_<slug>_<12 hex digits>`; any other name is itself one."""
    if directory.startswith("wd_") and directory[-13:-12] == "_":
        return directory[3:-13]
    return directory


def is_symbol(model: str) -> bool:
    """Whether a logged name stands for a model that is named elsewhere, as `__kimi_env_model__` does."""
    return not model or (model.startswith("__") and model.endswith("__"))


def as_object(value: object) -> dict[str, Any]:
    """A JSON object; empty when the value is something else."""
    return value if isinstance(value, dict) else {}


def root_digest(root: Path) -> str:
    """A short name for a root that tells nothing about the machine, the same whatever links lead there."""
    return blake2b(os.fsencode(os.path.realpath(root)), digest_size=6).hexdigest()
