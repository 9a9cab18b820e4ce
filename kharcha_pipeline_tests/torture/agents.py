"""Agents at work: a process that writes, rewrites, moves and deletes logs of all agents, and knows what it wrote.

    python -m kharcha_pipeline_tests.torture.agents HOME SECONDS SEED CONFIRMED

Lines come in pieces, files are rewritten in place and by renaming, transcripts move, are archived, compressed and
deleted, a database is written in WAL mode. What was never read may be lost with its file, so something is only taken
away when it had been there before the beginning of a sync that has ended: `CONFIRMED` is a file with that instant on
the machine's monotonic clock. In the end the process prints the responses it wrote completely, as rows of the truth.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import zstandard

from kharcha_pipeline_tests.corpus import Tokens, Truth
from kharcha_pipeline_tests.machine import LAST_DAY

PAUSE = 0.002
"""Seconds between two actions, so that the syncs get something done as well."""

TRANSCRIPTS_OF_AN_AGENT = 4


class Pen:
    """One transcript's chances, clock and inventions, and the truth to which it adds."""

    def __init__(self, seed: str, truth: Truth) -> None:
        self.rng, self.truth = random.Random(seed), truth
        first = datetime.combine(LAST_DAY, datetime.min.time(), UTC) - timedelta(days=self.rng.randrange(10))
        self.now = int(first.timestamp() * 1000) + self.rng.randrange(3_600_000)

    def later(self) -> int:
        """An instant after all that this pen has named, in milliseconds."""
        self.now += 1_500 + self.rng.randrange(60_000)
        return self.now

    def stamp(self) -> str:
        moment = datetime.fromtimestamp(self.now / 1000, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def name(self, prefix: str = "") -> str:
        digits = f"{self.rng.getrandbits(128):032x}"
        return prefix + (
            digits if prefix else f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
        )

    def tokens(self) -> Tokens:
        counts = (self.rng.randrange(1, 90_000) for _ in range(4))
        return Tokens(1, *counts)

    def text(self) -> str:
        return "the list shows each order once " * self.rng.choice((1, 20, 900))

    def count(self, source: str, model: str, tokens: Tokens) -> None:
        day = date(1970, 1, 1) + timedelta(days=self.now // 86_400_000)
        self.truth[day, source, model].add(tokens)


class Transcript:
    """A file of lines that one agent writes."""

    def __init__(self, home: Path, pen: Pen) -> None:
        self.home, self.pen, self.rng = home, pen, pen.rng
        self.lines: list[bytes] = []
        self.torn = b""
        self.begin()

    def begin(self) -> None:
        """Starts a new session, in a file of its own."""
        self.lines, self.torn = [], b""
        self.path = self.place()
        self.waiting = self.opening()
        self.changed = time.monotonic()

    def place(self) -> Path:
        raise NotImplementedError

    def opening(self) -> list[bytes]:
        """The lines a session begins with."""
        return []

    def response(self) -> list[bytes]:
        """The lines of one more response, which is counted."""
        raise NotImplementedError

    def act(self, confirmed: float) -> None:
        """One thing that happens to the file; what may take something away only if all of it was read."""
        self.step()
        if self.waiting or self.torn:
            return
        chance = self.rng.random()
        was_read = self.changed < confirmed
        if chance < 0.06:
            self.rewrite()
        elif chance < 0.10:
            self.move()
        elif was_read and chance < 0.16:
            self.shorten()
        elif was_read and chance < 0.20:
            self.path.unlink()
            self.begin()

    def step(self) -> None:
        """Writes the next line or a piece of it."""
        if not self.waiting and not self.torn:
            self.waiting = self.response()
        line = self.waiting[0] + b"\n"
        if self.torn:
            self.append(line[len(self.torn) :])
        elif self.rng.random() < 0.3 and len(line) > 8:
            self.torn = line[: self.rng.randrange(1, len(line) - 2)]
            self.append(self.torn)
            return
        else:
            self.append(line)
        self.lines.append(self.waiting.pop(0))
        self.torn = b""

    def finish(self) -> None:
        """Completes what was begun."""
        while self.waiting or self.torn:
            self.step()

    def append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(data)
        self.changed = time.monotonic()

    def rewrite(self) -> None:
        """The same lines once more: in place, piece by piece, or as another file under the same name."""
        if self.rng.random() < 0.5:
            with self.path.open("wb", buffering=0) as stream:
                for line in self.lines:
                    stream.write(line + b"\n")
        else:
            fresh = self.path.with_suffix(".new")
            fresh.write_bytes(b"".join(line + b"\n" for line in self.lines))
            fresh.rename(self.path)
        self.changed = time.monotonic()

    def shorten(self) -> None:
        """Leaves some lines out, and writes the next response where they were."""
        keep = self.rng.randrange(len(self.lines))
        self.lines = self.lines[:keep] if self.rng.random() < 0.5 else self.lines[keep:]
        self.waiting = self.response()
        if self.rng.random() < 0.5:
            self.lines += self.waiting
            self.waiting = []
        self.rewrite()

    def move(self) -> None:
        """Most agents never move a transcript."""


class ClaudeCode(Transcript):
    def place(self) -> Path:
        self.session = self.pen.name()
        return self.home / f".claude/projects/-home-sam-{self.rng.randrange(3)}" / f"{self.session}.jsonl"

    def response(self) -> list[bytes]:
        self.pen.later()
        model, tokens = self.rng.choice(("claude-opus-4-6", "claude-sonnet-4-6")), self.pen.tokens()
        message: dict[str, Any] = {"id": self.pen.name("msg_"), "role": "assistant", "model": model}
        usage = {
            "input_tokens": tokens.input,
            "cache_read_input_tokens": tokens.cache_read,
            "cache_creation_input_tokens": tokens.cache_write_5m,
        }
        request, lines = self.pen.name("req_"), [self.said("user", {"role": "user", "content": self.pen.text()})]
        blocks = self.rng.randrange(1, 4)
        for block in range(1, blocks + 1):
            output = tokens.output if block == blocks else min(block, tokens.output)
            stop = "end_turn" if block == blocks else None
            usage = usage | {"output_tokens": output}
            lines.append(self.said("assistant", message | {"stop_reason": stop, "usage": usage}, requestId=request))
        self.pen.count("claude-code", model, tokens)
        return lines

    def said(self, kind: str, message: dict[str, Any], **more: Any) -> bytes:
        envelope = {"type": kind, "message": message, "uuid": self.pen.name(), "sessionId": self.session}
        return json.dumps(envelope | {"timestamp": self.pen.stamp(), "cwd": "/home/sam"} | more).encode()

    def move(self) -> None:
        target = self.home / f".claude/projects/-home-sam-{self.rng.randrange(3)}" / self.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.rename(target)
        self.path, self.changed = target, time.monotonic()


class Codex(Transcript):
    """Codex never takes lines out of a rollout; it archives, compresses and deletes it."""

    def place(self) -> Path:
        self.thread, self.total = self.pen.name(), dict.fromkeys(_CODEX_COUNTS, 0)
        when = datetime.fromtimestamp(self.pen.later() / 1000, UTC)
        name = f"rollout-{when:%Y-%m-%dT%H-%M-%S}-{self.thread}.jsonl"
        return self.home / f".codex/sessions/{when:%Y/%m/%d}" / name

    def opening(self) -> list[bytes]:
        meta = {"id": self.thread, "timestamp": self.pen.stamp(), "cwd": "/home/sam", "model_provider": "openai"}
        return [
            self.said("session_meta", meta | {"originator": "codex_cli_rs", "source": "cli"}),
            self.said("turn_context", {"cwd": "/home/sam", "model": "gpt-5.4"}),
        ]

    def response(self) -> list[bytes]:
        self.pen.later()
        tokens = self.pen.tokens()
        tokens.cache_write_5m = 0
        prompt = tokens.input + tokens.cache_read
        counts = (prompt, tokens.cache_read, tokens.output, 0, prompt + tokens.output)
        last = dict(zip(_CODEX_COUNTS, counts, strict=True))
        self.total = {name: self.total[name] + last[name] for name in last}
        self.pen.count("codex", "gpt-5.4", tokens)
        info = {"total_token_usage": self.total, "last_token_usage": last}
        counter = self.said("event_msg", {"type": "token_count", "info": info, "rate_limits": None})
        talk = self.said("response_item", {"type": "message", "role": "user", "content": self.pen.text()})
        return [talk, counter, *([counter] if self.rng.random() < 0.3 else [])]

    def said(self, kind: str, payload: dict[str, Any]) -> bytes:
        return json.dumps({"timestamp": self.pen.stamp(), "type": kind, "payload": payload}).encode()

    def shorten(self) -> None:
        """Compresses the rollout and begins another one."""
        compressed = self.path.with_name(f"{self.path.name}.zst")
        fresh = compressed.with_suffix(".tmp")
        fresh.write_bytes(zstandard.compress(self.path.read_bytes()))
        fresh.rename(compressed)
        self.path.unlink()
        self.begin()

    def move(self) -> None:
        target = self.home / ".codex/archived_sessions" / self.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.rename(target)
        self.path, self.changed = target, time.monotonic()


class KimiCli(Transcript):
    def place(self) -> Path:
        root = self.home / ".kimi"
        root.mkdir(parents=True, exist_ok=True)
        models = 'default_model = "work"\n\n[models.work]\nprovider = "moonshot"\nmodel = "kimi-k2.6"\n'
        if not (root / "config.toml").exists():
            (root / "config.toml").write_text(models)
        return root / "sessions" / self.pen.name("")[:8].replace("-", "0") / self.pen.name() / "wire.jsonl"

    def opening(self) -> list[bytes]:
        return [json.dumps({"type": "metadata", "protocol_version": "1.10"}).encode()]

    def response(self) -> list[bytes]:
        self.pen.later()
        tokens = self.pen.tokens()
        counts = {"input_other": tokens.input, "output": tokens.output}
        counts |= {"input_cache_read": tokens.cache_read, "input_cache_creation": tokens.cache_write_5m}
        payload = {"token_usage": counts, "message_id": self.pen.name("chatcmpl-")}
        self.pen.count("kimi", "kimi-k2.6", tokens)
        return [
            self.said({"type": "TurnBegin", "payload": {"user_input": self.pen.text()}}),
            self.said({"type": "StatusUpdate", "payload": payload}),
        ]

    def said(self, message: dict[str, Any]) -> bytes:
        return json.dumps({"timestamp": self.pen.now / 1000, "message": message}).encode()


class KimiCode(Transcript):
    def place(self) -> Path:
        group = self.home / ".kimi-code/sessions/wd_shop_0123456789ab"
        return group / f"session_{self.pen.name()}" / "agents/main/wire.jsonl"

    def opening(self) -> list[bytes]:
        return [json.dumps({"type": "metadata", "protocol_version": "1.5", "created_at": self.pen.now}).encode()]

    def response(self) -> list[bytes]:
        self.pen.later()
        tokens, model = self.pen.tokens(), self.rng.choice(("kimi-code/k3", "kimi-code/kimi-for-coding"))
        counts = {"inputOther": tokens.input, "output": tokens.output}
        counts |= {"inputCacheRead": tokens.cache_read, "inputCacheCreation": tokens.cache_write_5m}
        record = {"type": "usage.record", "model": model, "usage": counts, "usageScope": "turn", "time": self.pen.now}
        self.pen.count("kimi", model, tokens)
        text = {"type": "context.append_message", "text": self.pen.text(), "time": self.pen.now}
        return [json.dumps(text).encode(), json.dumps(record).encode()]


class OpenCodeFiles:
    """Messages as files, each rewritten as a whole while it is going on."""

    def __init__(self, home: Path, pen: Pen) -> None:
        self.storage, self.pen, self.rng = home / ".local/share/opencode/storage", pen, pen.rng
        self.session = pen.name("ses_")
        self.open: list[tuple[Path, dict[str, Any], Tokens, str]] = []
        self.done: dict[Path, float] = {}

    def act(self, confirmed: float) -> None:
        """Begins a message, completes one, or deletes one that was read."""
        chance = self.rng.random()
        read = [path for path, changed in self.done.items() if changed < confirmed]
        if self.open and chance < 0.5:
            self.complete()
        elif read and chance < 0.6:
            path = self.rng.choice(read)
            path.unlink()
            del self.done[path]
        else:
            self.begin()

    def begin(self) -> None:
        created = self.pen.later()
        tokens, model = self.pen.tokens(), self.rng.choice(("gpt-5.4", "gpt-5.3-codex"))
        name = self.pen.name("msg_")
        body: dict[str, Any] = {"id": name, "sessionID": self.session, "role": "assistant", "providerID": "openai"}
        body |= {"modelID": model, "time": {"created": created}, "path": {"cwd": "/home/sam"}, "cost": 0}
        body["tokens"] = {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}
        path = self.storage / "message" / self.session / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body, indent=2))
        self.pen.count("opencode", model, tokens)
        self.open.append((path, body, tokens, model))

    def complete(self) -> None:
        path, body, tokens, _ = self.open.pop(self.rng.randrange(len(self.open)))
        cache = {"read": tokens.cache_read, "write": tokens.cache_write_5m}
        body["tokens"] = {"input": tokens.input, "output": tokens.output, "reasoning": 0, "cache": cache}
        body["time"]["completed"] = body["time"]["created"] + 900
        data = json.dumps(body, indent=2).encode()
        with path.open("wb", buffering=0) as stream:
            half = self.rng.randrange(len(data))
            stream.write(data[:half])
            time.sleep(PAUSE)
            stream.write(data[half:])
        self.done[path] = time.monotonic()

    def finish(self) -> None:
        while self.open:
            self.complete()


class OpenCodeDatabase:
    """Messages as rows of a database in WAL mode, which its owner keeps open, checkpoints and tidies up."""

    def __init__(self, home: Path, pen: Pen) -> None:
        self.pen, self.rng = pen, pen.rng
        path = home / ".local/share/opencode/opencode.db"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA wal_autocheckpoint = 20")
        for statement in _OPENCODE_TABLES:
            self.database.execute(statement)
        self.session = pen.name("ses_")
        self.written: dict[str, float] = {}
        row = (self.session, "p", "/home/sam", "1.3.20", pen.now, pen.now)
        self.database.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?)", row)

    def act(self, confirmed: float) -> None:
        """Adds messages, sometimes several in one transaction; deletes what was read; tidies up."""
        chance = self.rng.random()
        read = [name for name, written in self.written.items() if written < confirmed]
        if chance < 0.05:
            self.database.execute("VACUUM")
        elif read and chance < 0.15:
            name = self.rng.choice(read)
            self.database.execute("DELETE FROM message WHERE id = ?", [name])
            self.database.execute("DELETE FROM part WHERE message_id = ?", [name])
            del self.written[name]
        else:
            self.database.execute("BEGIN")
            names = [self.insert() for _ in range(self.rng.randrange(1, 4))]
            self.database.execute("COMMIT")
            self.written |= dict.fromkeys(names, time.monotonic())

    def insert(self) -> str:
        created, name = self.pen.later(), self.pen.name("msg_")
        tokens, model = self.pen.tokens(), self.rng.choice(("claude-sonnet-4-6", "gpt-5.4"))
        cache = {"read": tokens.cache_read, "write": tokens.cache_write_5m}
        counts = {"input": tokens.input, "output": tokens.output, "reasoning": 0, "cache": cache}
        provider = "anthropic" if model.startswith("claude") else "openai"
        body = {"role": "assistant", "providerID": provider, "modelID": model, "tokens": counts, "cost": 0}
        body |= {"time": {"created": created, "completed": created + 900}, "path": {"cwd": "/home/sam"}}
        row = (name, self.session, created, created, json.dumps(body))
        self.database.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", row)
        self.pen.count("opencode", model, tokens)
        return name

    def finish(self) -> None:
        self.database.close()


_CODEX_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "total_tokens",
)
_OPENCODE_TABLES = (
    "CREATE TABLE session (id TEXT PRIMARY KEY, project_id TEXT, directory TEXT, version TEXT, "
    "time_created INTEGER, time_updated INTEGER)",
    "CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, time_updated INTEGER, "
    "data TEXT)",
    "CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INTEGER, "
    "time_updated INTEGER, data TEXT)",
)


def work(home: Path, seconds: float, seed: str, confirmed: Path) -> Iterator[tuple[Any, ...]]:
    """Lets all agents work for so long, and yields the rows of the truth."""
    truth: Truth = defaultdict(Tokens)
    rng = random.Random(seed)
    kinds = (ClaudeCode, Codex, KimiCli, KimiCode) * TRANSCRIPTS_OF_AN_AGENT
    agents: list[Any] = [kind(home, Pen(f"{seed}:{number}", truth)) for number, kind in enumerate(kinds)]
    agents += [kind(home, Pen(f"{seed}:{kind}", truth)) for kind in (OpenCodeFiles, OpenCodeDatabase)]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rng.choice(agents).act(_instant(confirmed))
        time.sleep(PAUSE)
    for agent in agents:
        agent.finish()
    for (day, source, model), tokens in truth.items():
        yield (day.isoformat(), source, model, *astuple(tokens))


def _instant(confirmed: Path) -> float:
    with closing(os.fdopen(os.open(confirmed, os.O_RDONLY))) as stream:
        return float(stream.read())


if __name__ == "__main__":
    print(json.dumps(list(work(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))))
