"""A person at a terminal: a home directory with a few logs, and the `kharcha` command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kharcha_pipeline.cli.main import main

KHARCHA = Path(sys.executable).with_name("kharcha")
"""The installed program."""


@dataclass
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed, as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """What was printed, line by line."""
        return self.out.splitlines()


@dataclass
class Terminal:
    """Runs commands for one home directory and one data directory."""

    home: Path
    data: Path
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def below(cls, directory: Path) -> Terminal:
        """A home directory without logs, and a data directory that is not there yet."""
        home = directory / "home"
        home.mkdir(parents=True)
        return cls(home, directory / "data")

    @property
    def environment(self) -> dict[str, str]:
        """The variables that commands run under."""
        return {
            "HOME": str(self.home),
            "KHARCHA_DATA_DIR": str(self.data),
            "KHARCHA_TIMEZONE": "UTC",
            "PATH": os.environ["PATH"],
            **self.variables,
        }

    def kharcha(self, *arguments: str, **variables: str) -> Outcome:
        """Runs one command in this process."""
        out, err = io.StringIO(), io.StringIO()
        environment = patch.dict(os.environ, {**self.environment, **variables}, clear=True)
        with environment, redirect_stdout(out), redirect_stderr(err):
            code = main(arguments)
        return Outcome(code, out.getvalue(), err.getvalue())

    def run(
        self, *arguments: str, before: Callable[[], None] | None = None, stdin: str = "", **variables: str
    ) -> Outcome:
        """Runs one command as a program of its own.

        Args:
            arguments: the command.
            before: what its process does first, such as giving up rights.
            stdin: its standard input.
            variables: further environment variables.
        """
        finished = subprocess.run(
            [str(KHARCHA), *arguments],
            env={**self.environment, **variables},
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            preexec_fn=before,
            check=False,
        )
        return Outcome(finished.returncode, finished.stdout, finished.stderr)

    def transcript(self, name: str, *lines: str | dict[str, Any], project: str = "/home/sam/shop") -> Path:
        """Appends lines to a Claude Code transcript."""
        directory = self.home / ".claude/projects" / project.replace("/", "-")
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}.jsonl"
        with path.open("a") as stream:
            for line in lines:
                stream.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        return path


def response(
    number: int, at: str, model: str, input: int, output: int, *, project: str = "/home/sam/shop", **usage: int
) -> dict[str, Any]:
    """One response as Claude Code writes it; `number` makes it another one."""
    return {
        "type": "assistant",
        "timestamp": at,
        "uuid": f"00000000-0000-4000-8000-{number:012}",
        "sessionId": "session-1" if number < 100 else "session-2",
        "requestId": f"req_{number}",
        "cwd": project,
        "gitBranch": "main",
        "isSidechain": False,
        "message": {
            "id": f"msg_{number}",
            "role": "assistant",
            "model": model,
            "usage": {"input_tokens": input, "output_tokens": output, **usage},
        },
    }


SONNET = "claude-sonnet-4-5"
"""3 USD per million input tokens and 15 per million output tokens, up to prompts of 200,000 tokens."""
UNKNOWN = "quiet-heron"
"""No price list has it."""


def write_three_days(terminal: Terminal) -> None:
    """Two sessions in two projects on three days; the third day's model has no price, one line is broken."""
    terminal.transcript(
        "session-1",
        response(1, "2026-10-30T09:00:00.000Z", SONNET, 100_000, 10_000),  # 0.45 USD
        response(2, "2026-11-02T09:00:00.000Z", SONNET, 1_000, 333),  # 0.007995 USD
        "{broken",
        response(3, "2026-11-03T23:30:00.000Z", UNKNOWN, 5_000, 700),
    )
    terminal.transcript(
        "session-2",
        response(101, "2026-11-02T10:00:00.000Z", "claude-haiku-4-5", 20_000, 1_000, project="/home/sam/api"),
        project="/home/sam/api",
    )
