"""A tree of agent logs with known content, for tests and benchmarks: the same arguments always write the same bytes.

    python -m kharcha_pipeline_tests.corpus OUT --seed 1 --sessions 40

writes `OUT/home` in the layouts the agents themselves use and `OUT/truth.json`: per UTC day, source and model as
logged, the responses a right reader finds and their tokens. The logs hold what makes real ones hard: responses spread
over several lines, histories copied by resuming and forking, subagents whose events stand in two files, counters
emitted again, compressed and archived copies, broken lines. It uses the standard library only and none of the
product's code, so that an error there cannot hide itself here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

DAY_MS = 86_400_000
FILLER = (
    "the list shows",
    "each order once",
    "and the page",
    "keeps its place",
    "while new rows",
    "arrive from below",
)
PROJECTS = {"/home/sam/shop": "main", "/home/sam/api": "feature/limits", "/home/sam/infra": "main"}
MODELS = {
    "claude-code": ("claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-4-5-20251001"),
    "codex": ("gpt-5.3-codex", "gpt-5.4"),
    "opencode": ("openai/gpt-5.4", "anthropic/claude-sonnet-4-6", "google/gemini-3-pro-preview"),
    "kimi-cli": ("kimi-k2.6",),
    "kimi-code": ("kimi-code/k3", "kimi-code/kimi-for-coding"),
}
AGENTS = ("claude-code", "codex", "claude-code", "opencode", "claude-code", "kimi-cli", "codex", "kimi-code")
"""Whose session comes next, over and over."""
GATEWAY_MODEL = "glm-5.1"


@dataclass
class Tokens:
    """Responses and their tokens; the counts are disjoint and `output` includes `reasoning`."""

    events: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    def add(self, other: Tokens) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


TextKind = Literal["said", "heard", "title"]
"""Text that the model wrote; that it was given, by a person or a tool; or that names a session."""

Truth = dict[tuple[date, str, str], Tokens]
"""By UTC day, source and model as logged."""


def merged(*truths: Truth) -> Truth:
    """The sum of several truths."""
    total: Truth = defaultdict(Tokens)
    for truth in truths:
        for key, tokens in truth.items():
            total[key].add(tokens)
    return dict(total)


class Session(NamedTuple):
    """One session to write. `start` is in milliseconds; `scale` multiplies token counts."""

    number: int
    agent: str
    start: int
    project: str
    branch: str
    models: Sequence[str]
    responses: int
    scale: float = 1.0


def write_corpus(
    home: Path, seed: int, sessions: int, days: int, last_day: date, *, filler: int = 30, binary: bool = True
) -> Truth:
    """Writes `sessions` sessions of all agents, spread over `days` days up to `last_day`, and says what is in them.

    Args:
        home: the home directory to write below.
        seed: another seed is another corpus.
        sessions: how many sessions.
        days: how many days they are spread over, UTC.
        last_day: the last of these days; it should not lie in the future.
        filler: words of text in a line, on average; benchmarks want more.
        binary: whether to write what is not plain text: a database and compressed rollouts.
    """
    corpus = Corpus(home, seed, filler=filler, binary=binary)
    rng = random.Random(f"{seed}:sessions")
    planned = []
    for number in range(sessions):
        agent = AGENTS[number % len(AGENTS)]
        day = last_day - timedelta(days=rng.randrange(days))
        project, branch = rng.choice(list(PROJECTS.items()))
        start = _milliseconds(day) + rng.randrange(6 * 3_600_000, 20 * 3_600_000)
        planned.append(Session(number, agent, start, project, branch, MODELS[agent], 1 + rng.randrange(12)))
    for session in sorted(planned, key=lambda session: session.start):  # what is copied is older than its copy
        corpus.write(session)
    return corpus.finish()


class Corpus:
    """Writes sessions below a home directory and keeps the truth about them.

    `trouble` scales how often what is hard to read occurs: 0 for never.
    """

    def __init__(
        self, home: Path, seed: int | str, *, filler: int = 30, binary: bool = True, trouble: float = 1.0
    ) -> None:
        self.home, self.seed, self.filler, self.binary, self.trouble = home, seed, filler, binary, trouble
        self.truth: Truth = defaultdict(Tokens)
        self.projects = set(PROJECTS)
        self.transcripts: dict[
            str, tuple[int, str, bool, list[bytes]]
        ] = {}  # by project: end, session, gateway, lines
        self.rollouts: list[tuple[int, str, list[tuple[str, Any]]]] = []  # end, thread and history
        self.rows: dict[str, list[tuple[Any, ...]]] = {"project": [], "session": [], "message": [], "part": []}

    def write(self, session: Session) -> None:
        """Writes one session; what it copies from was written before it."""
        self.projects.add(session.project)
        writers: dict[str, Callable[[_Scribe], None]] = {
            "claude-code": self._claude,
            "codex": self._codex,
            "opencode": self._opencode,
            "kimi-cli": self._kimi_cli,
            "kimi-code": self._kimi_code,
        }
        writers[session.agent](_Scribe(self, session))

    def text(self, rng: random.Random, kind: TextKind) -> str:
        """Text to fill a line with. Benchmarks override it: real lines are of very different lengths."""
        return " ".join(rng.choices(FILLER, k=1 + rng.randrange(2 * self.filler)))

    def finish(self) -> Truth:
        """Writes what several sessions share, and returns the truth."""
        if any(self.rows.values()):
            _write_database(self.home / ".local/share/opencode/opencode.db", self.rows)
        return dict(self.truth)

    # ---- Claude Code

    def _claude(self, scribe: _Scribe) -> None:
        session, chance, rng = scribe.session, scribe.chance, scribe.rng
        own, gateway = scribe.uuid(), chance(0.15)
        slug = "".join(letter if letter.isalnum() else "-" for letter in session.project)
        directory = self.home / ".claude/projects" / slug
        wire = Journal(spaced=chance(0.2))
        earlier = self.transcripts.get(session.project)
        if earlier and earlier[0] < session.start and chance(0.4):  # resumed: begins with a copy of an earlier one
            _, origin, from_gateway, history = earlier
            for data in history:
                copied = json.loads(data)
                if not from_gateway and chance(0.5):
                    copied |= {"sessionId": own, "forkedFrom": {"sessionId": origin, "messageUuid": copied["uuid"]}}
                wire.add(copied)
        first = len(wire.lines)

        def said(journal: Journal, kind: str, message: dict[str, Any], **more: Any) -> None:
            journal.add(
                {"parentUuid": None, "isSidechain": False, "cwd": session.project}
                | {
                    "sessionId": own,
                    "version": "2.4.11",
                    "gitBranch": session.branch,
                    "type": kind,
                    "message": message,
                }
                | {"uuid": scribe.uuid(), "timestamp": scribe.iso()}
                | more
            )

        def respond(journal: Journal, **more: Any) -> dict[str, Any]:
            """One response: a line for every content block, the output growing up to the last one."""
            model = GATEWAY_MODEL if gateway else rng.choice(session.models)
            written = scribe.tokens(14_000)
            one_hour = written // 3 if chance(0.3) else 0
            tokens = Tokens(
                1, scribe.tokens(30), scribe.tokens(2_000), scribe.tokens(55_000), written - one_hour, one_hour
            )
            split = {"ephemeral_5m_input_tokens": tokens.cache_write_5m, "ephemeral_1h_input_tokens": one_hour}
            if not one_hour and chance(0.2):
                split = {} if chance(0.5) else dict.fromkeys(split, 0)
            counts: dict[str, Any] = {
                "input_tokens": tokens.input,
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": tokens.cache_read,
                "cache_creation": split,
                "service_tier": None if gateway else "standard",
            }
            message: dict[str, Any] = {"id": scribe.id("msg_01"), "role": "assistant", "model": model}
            request = {} if gateway else {"requestId": scribe.id("req_011")}
            blocks = rng.randrange(1, 4)
            for block in range(1, blocks + 1):
                scribe.wait(1)
                output = tokens.output if block == blocks else min(block, tokens.output - 1)
                content = [{"type": "text", "text": scribe.text("said")}]
                stop = "end_turn" if block == blocks else None
                usage = counts | {"output_tokens": output}
                if block == blocks and not gateway and chance(0.05):  # a compaction is billed beside its response
                    extra = Tokens(1, scribe.tokens(50_000), scribe.tokens(2_000))
                    compaction = {"type": "compaction", "input_tokens": extra.input, "output_tokens": extra.output}
                    usage["iterations"] = [compaction, {"type": "message"}]
                    scribe.count("claude-code", model, extra)
                message = message | {"content": content, "stop_reason": stop, "usage": usage}
                said(journal, "assistant", message, **request, **more)
            scribe.count("claude-code", model, tokens)
            return message

        for _ in range(session.responses):
            scribe.wait(60)
            said(wire, "user", {"role": "user", "content": scribe.text("heard")})
            message = respond(wire)
            if chance(0.05):  # an error bubble, made locally
                usage = {"input_tokens": 0, "output_tokens": 0}
                error = {"id": scribe.uuid(), "model": "<synthetic>", "role": "assistant", "usage": usage}
                said(wire, "assistant", error, isApiErrorMessage=True)
            if chance(0.15):  # a subagent; its file may begin with its parent's message, asked for once more
                agent = scribe.id("a", 8)
                side = Journal()
                if not gateway and chance(0.5):
                    usage = message["usage"] | {"cache_read_input_tokens": scribe.tokens(70_000), "iterations": []}
                    replay = {"requestId": scribe.id("req_011"), "isSidechain": True, "agentId": agent}
                    said(side, "assistant", message | {"usage": usage}, **replay)
                respond(side, isSidechain=True, agentId=agent)
                side.write(directory / own / "subagents" / f"agent-{agent}.jsonl", scribe.now)
                result = {"totalTokens": 99_999, "usage": {"input_tokens": 9, "output_tokens": 99}}
                said(wire, "user", {"role": "user", "content": scribe.text("heard")}, toolUseResult=result)
            if chance(0.05):
                wire.lines.append(b'{"parentUuid":"\\u0000\\u0000')
        self.transcripts[session.project] = (scribe.now, own, gateway, _whole(wire.lines[first:])[:6])
        wire.write(directory / f"{own}.jsonl", scribe.now, torn=chance(0.15))

    # ---- Codex

    def _codex(self, scribe: _Scribe) -> None:
        session, chance, rng = scribe.session, scribe.chance, scribe.rng
        thread, start = scribe.uuid(), scribe.iso()
        wire = Journal(spaced=chance(0.2))
        history: list[tuple[str, Any]] = []
        keeps_records = chance(0.4)  # newer versions write a record for every response beside the counter

        def add(kind: str, payload: Any, *, remember: bool = True) -> None:
            wire.add({"timestamp": scribe.iso(), "type": kind, "payload": payload})
            if remember:
                history.append((kind, payload))

        parents = [rollout for rollout in self.rollouts if rollout[0] < session.start]
        _, parent, inherited = rng.choice(parents) if parents and chance(0.3) else (0, "", [])
        meta: dict[str, Any] = {
            "id": thread,
            "timestamp": start,
            "cwd": session.project,
            "originator": "codex_cli_rs",
        }
        meta |= {
            "cli_version": "0.153.0",
            "source": "cli",
            "model_provider": "openai",
            "git": {"branch": session.branch},
        }
        add("session_meta", meta | ({"forked_from_id": parent} if inherited else {}))
        total = dict.fromkeys(_CODEX_COUNTS, 0)
        for kind, payload in inherited:  # a fork begins with its parent's history, dated to the fork
            scribe.now += 5
            add(kind, payload)
            if kind == "event_msg":
                total = payload["info"]["total_token_usage"]
        scribe.wait(30)
        own = dict.fromkeys(_CODEX_COUNTS, 0)

        def record(response: str, last: dict[str, int]) -> None:
            nonlocal own
            own = {name: own[name] + last[name] for name in own}
            ids = {"thread_id": thread, "session_id": thread, "turn_id": scribe.uuid(), "response_id": response}
            add("token_usage_record", ids | {"usage": last, "turn_token_usage": last, "thread_token_usage": own})

        for number in range(session.responses):
            if number % 4 == 0:
                model = rng.choice(session.models)
                add("turn_context", {"cwd": session.project, "model": model, "effort": "high"})
                add(
                    "response_item",
                    {"type": "message", "role": "user", "content": scribe.text("heard")},
                    remember=False,
                )
            scribe.wait(40)
            last = scribe.codex_counts(session.models, model)
            total = {name: total[name] + last[name] for name in total}
            if keeps_records:
                record(scribe.id("resp_"), last)
            info = {"total_token_usage": total, "last_token_usage": last, "model_context_window": 1_000_000}
            counter = {"type": "token_count", "info": info, "rate_limits": {"plan_type": "plus"}}
            add("event_msg", counter)
            while chance(0.4):  # the counter is emitted again whenever the rate limits change
                scribe.wait(1)
                add("event_msg", counter)
            if chance(0.1):
                add("event_msg", {"type": "token_count", "info": None, "rate_limits": None}, remember=False)
            if keeps_records and chance(0.1):  # a remote compaction is only in its record
                scribe.wait(20)
                response = scribe.id("resp_")
                record(response, scribe.codex_counts(session.models, model))
                add("compacted", {"message": "", "compaction_response_id": response}, remember=False)
            add("response_item", {"type": "function_call_output", "output": scribe.text("heard")}, remember=False)
        if not keeps_records:
            self.rollouts.append((scribe.now, thread, history))
        when = datetime.fromisoformat(start)
        name = f"rollout-{when:%Y-%m-%dT%H-%M-%S}-{thread}.jsonl"
        active, archived = self.home / f".codex/sessions/{when:%Y/%m/%d}", self.home / ".codex/archived_sessions"
        compress = self.binary and chance(0.3)
        place = archived if chance(0.2) else active
        if not compress or chance(0.3):
            wire.write(place / name, scribe.now, torn=chance(0.1))
        if compress:
            wire.write(place / f"{name}.zst", scribe.now)
        if place == active and chance(0.15):
            wire.write(archived / name, scribe.now)

    # ---- OpenCode

    def _opencode(self, scribe: _Scribe) -> None:
        session, chance, rng = scribe.session, scribe.chance, scribe.rng
        in_database = self.binary and chance(0.6)
        storage = self.home / ".local/share/opencode/storage"
        project = "p" + hashlib.sha256(session.project.encode()).hexdigest()[:12]
        own = scribe.id("ses_", 24)
        copies = [(own, session.start)]
        if chance(0.3):  # a fork gives its copied messages new ids
            copies.append((scribe.id("ses_", 24), session.start + DAY_MS // 24))
        version = "1.3.20" if in_database else "1.1.10"
        for name, created in copies:
            described: dict[str, Any] = {
                "id": name,
                "projectID": project,
                "directory": session.project,
                "version": version,
            }
            described |= {"title": scribe.text("title"), "time": {"created": created, "updated": created}}
            if in_database:
                row = (name, project, None, "", session.project, described["title"], version, created, created)
                self.rows["session"].append(row)
            else:
                _write_json(storage / "session" / project / f"{name}.json", described, created)
        if in_database and all(row[0] != project for row in self.rows["project"]):
            self.rows["project"].append((project, session.project, "git"))
        user = scribe.id("msg_", 24)
        self._opencode_message(user, own, {"role": "user", "time": {"created": scribe.now}}, [], in_database, storage)
        for _ in range(session.responses):
            scribe.wait(60)
            provider, model = rng.choice(session.models).split("/")
            steps = [scribe.opencode_step(reasons=provider != "anthropic") for _ in range(2 if chance(0.2) else 1)]
            visible = [dict(step) for step in steps]
            for step in visible:
                # From 1.3.16 on `output` leaves reasoning out; `total` tells both meanings apart.
                step["total"] = step["input"] + step["output"] + sum(step["cache"].values())
                step["output"] -= step["reasoning"] if in_database else 0
            completed = scribe.now + rng.randrange(2_000, 30_000)
            body: dict[str, Any] = {"role": "assistant", "parentID": user, "providerID": provider, "modelID": model}
            body |= {"mode": "build", "path": {"cwd": session.project, "root": session.project}, "cost": 0}
            # A message shows its last step only; its parts show them all.
            body |= {"tokens": visible[-1], "time": {"created": scribe.now, "completed": completed}, "finish": "stop"}
            if chance(0.05):
                body |= {"tokens": {"input": 0, "output": 0, "reasoning": 0}, "error": {"name": "Aborted"}}
                visible, steps = [], []
            for name, _ in copies:
                message = scribe.id("msg_", 24)
                parts = visible if len(visible) > 1 or in_database else []
                self._opencode_message(message, name, body, parts, in_database, storage)
                if in_database and chance(0.1):  # left over from before the database
                    self._opencode_message(message, name, body, [], False, storage)
            if steps:
                reasoning = sum(step["reasoning"] for step in steps)
                tokens = Tokens(1, *(sum(step[key] for step in steps) for key in ("input", "output")))
                tokens.cache_read, tokens.cache_write_5m = (
                    sum(step["cache"][key] for step in steps) for key in ("read", "write")
                )
                tokens.reasoning = reasoning
                scribe.count("opencode", model, tokens)

    def _opencode_message(
        self, message: str, session: str, body: dict[str, Any], steps: list[Any], in_database: bool, storage: Path
    ) -> None:
        created = body["time"]["created"]
        parts = [
            (f"prt_{message[4:]}{number}", {"type": "step-finish", "reason": "stop", "cost": 0, "tokens": step})
            for number, step in enumerate(steps)
        ]
        if in_database:
            self.rows["message"].append((message, session, created, created, json.dumps(body)))
            self.rows["part"] += [
                (part, message, session, created, created, json.dumps(data)) for part, data in parts
            ]
            return
        ids = {"id": message, "sessionID": session}
        _write_json(storage / "message" / session / f"{message}.json", ids | body, created)
        for part, data in parts:
            _write_json(
                storage / "part" / message / f"{part}.json",
                {"id": part, "sessionID": session, "messageID": message} | data,
                created,
            )

    # ---- Kimi

    def _kimi_cli(self, scribe: _Scribe) -> None:
        session, chance = scribe.session, scribe.chance
        root = self.home / ".kimi"
        model = session.models[0]
        configuration = f'default_model = "work"\n\n[models.work]\nprovider = "moonshot"\nmodel = "{model}"\n'
        _write(root / "config.toml", configuration.encode(), session.start)
        work_dirs = [{"path": path, "kaos": "local"} for path in sorted(self.projects)]
        _write_json(root / "kimi.json", {"work_dirs": work_dirs}, session.start)
        group = root / "sessions" / hashlib.md5(session.project.encode()).hexdigest()
        own, copied, wire = scribe.uuid(), scribe.uuid(), Journal(spaced=chance(0.3))
        wire.add({"type": "metadata", "protocol_version": "1.10"})

        def said(journal: Journal, message: dict[str, Any], delay: int = 0) -> None:
            journal.add({"timestamp": (scribe.now + delay) / 1000, "message": message})

        def status(tokens: Tokens, message_id: str | None) -> dict[str, Any]:
            counts = {"input_other": tokens.input, "output": tokens.output}
            counts |= {"input_cache_read": tokens.cache_read, "input_cache_creation": tokens.cache_write_5m}
            payload = {"context_usage": 0.2, "token_usage": counts, "message_id": message_id}
            return {"type": "StatusUpdate", "payload": payload}

        for _ in range(session.responses):
            scribe.wait(50)
            said(wire, {"type": "TurnBegin", "payload": {"user_input": scribe.text("heard")}})
            tokens, message_id = scribe.kimi_tokens(), None if chance(0.2) else scribe.id("chatcmpl-")
            if message_id and chance(0.1):  # stated before it was complete
                said(wire, status(Tokens(1, tokens.input, tokens.output // 2), message_id))
                scribe.wait(1)
            said(wire, status(tokens, message_id))
            scribe.count("kimi", model, tokens)
            said(wire, {"type": "StatusUpdate", "payload": {"context_usage": 0.3, "token_usage": None}})
            if chance(0.2):  # a subagent: in the foreground its events are forwarded to the session's wire
                agent, side, background = scribe.id("a", 8), Journal(), chance(0.3)
                scribe.wait(20)
                tokens, message_id = scribe.kimi_tokens(), None if chance(0.3) else scribe.id("chatcmpl-")
                said(side, status(tokens, message_id))
                forwarded = {"agent_id": agent, "event": status(tokens, message_id)}
                if not background:
                    said(wire, {"type": "SubagentEvent", "payload": forwarded}, delay=7)
                if background or chance(0.7):  # early versions gave a subagent no wire of its own
                    side.write(group / own / "subagents" / agent / "wire.jsonl", scribe.now)
                scribe.count("kimi", model, tokens)
        if chance(0.3):  # a fork copies the wire, not the subagents' ones
            wire.write(group / copied / "wire.jsonl", scribe.now)
        if chance(0.1):
            wire.lines.append(b'{"timestamp": 17, "message": {"type": "StatusUpdate", "payload": {"token_usage"')
        wire.write(group / own / "wire.jsonl", scribe.now, torn=chance(0.2))

    def _kimi_code(self, scribe: _Scribe) -> None:
        session, chance, rng = scribe.session, scribe.chance, scribe.rng
        slug = Path(session.project).name
        digest = hashlib.sha256(session.project.encode()).hexdigest()[:12]
        group = self.home / ".kimi-code/sessions" / f"wd_{slug}_{digest}"
        own, copied = f"session_{scribe.uuid()}", f"session_{scribe.uuid()}"
        agents = ["main", *(["agent-0"] if chance(0.3) else [])]
        forked = chance(0.3)
        for agent in agents:
            wire = Journal(spaced=chance(0.3))
            wire.add({"type": "metadata", "protocol_version": "1.5", "created_at": scribe.now})
            for _ in range(session.responses if agent == "main" else 2):
                scribe.wait(50)
                alias = "__kimi_env_model__" if chance(0.1) else rng.choice(session.models)
                resolved = alias if not alias.startswith("__") else "k2p6"
                name = resolved.rpartition("/")[2]
                request = {"type": "llm.request", "kind": "turn", "provider": "kimi", "model": name}
                wire.add(request | {"modelAlias": alias, "time": scribe.now})
                wire.add({"type": "context.append_message", "text": scribe.text("heard"), "time": scribe.now})
                scribe.wait(9)
                tokens = scribe.kimi_tokens()
                counts = {"inputOther": tokens.input, "output": tokens.output}
                counts |= {"inputCacheRead": tokens.cache_read, "inputCacheCreation": tokens.cache_write_5m}
                wire.add({"type": "context.append_loop_event", "event": {"type": "step.end", "usage": counts}})
                scope = "session" if chance(0.1) else "turn"
                record: dict[str, Any] = {
                    "type": "usage.record",
                    "model": alias,
                    "usage": counts,
                    "usageScope": scope,
                }
                for _ in range(2 if chance(0.05) else 1):  # equal requests at the same instant are two requests
                    wire.add(record | {"time": scribe.now})
                    scribe.count("kimi", resolved, tokens)
                if chance(0.1):
                    wire.add(record | {"usage": dict.fromkeys(counts, 0), "time": scribe.now})
            wire.write(group / own / "agents" / agent / "wire.jsonl", scribe.now, torn=not forked and chance(0.2))
            if forked:
                wire.add({"type": "forked", "time": scribe.now + 1_000})
                wire.write(group / copied / "agents" / agent / "wire.jsonl", scribe.now)
        state = {"workDir": session.project, "title": scribe.text("title")}
        _write_json(group / own / "state.json", state, scribe.now)
        if forked:
            _write_json(group / copied / "state.json", state | {"forkedFrom": own}, scribe.now)


_CODEX_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "total_tokens",
)


class _Scribe:
    """One session's clock, chances and inventions."""

    def __init__(self, corpus: Corpus, session: Session) -> None:
        self.session, self.now = session, session.start
        self.rng = random.Random(f"{corpus.seed}:{session.agent}:{session.number}")
        self._corpus = corpus

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability * self._corpus.trouble

    def wait(self, seconds: int) -> None:
        """Lets up to twice so many seconds pass, and never none."""
        self.now += 1 + self.rng.randrange(seconds * 2_000)

    def iso(self) -> str:
        return datetime.fromtimestamp(self.now / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def uuid(self) -> str:
        digits = f"{self.rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def id(self, prefix: str, length: int = 20) -> str:
        return prefix + "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))

    def text(self, kind: TextKind) -> str:
        return self._corpus.text(self.rng, kind)

    def tokens(self, typical: int) -> int:
        return 2 + int(typical * self.session.scale * (0.3 + 1.4 * self.rng.random()))

    def count(self, source: str, model: str, tokens: Tokens) -> None:
        """Notes a response that was completed now."""
        tokens.events = 1
        self._corpus.truth[date(1970, 1, 1) + timedelta(days=self.now // DAY_MS), source, model].add(tokens)

    def kimi_tokens(self) -> Tokens:
        return Tokens(1, self.tokens(1_500), self.tokens(500), self.tokens(40_000), self.tokens(300))

    def opencode_step(self, *, reasons: bool) -> dict[str, Any]:
        output = self.tokens(600)
        cache = {"read": self.tokens(30_000), "write": self.tokens(2_000)}
        reasoning = self.rng.randrange(output // 2) if reasons else 0
        return {"input": self.tokens(1_200), "output": output, "reasoning": reasoning, "cache": cache}

    def codex_counts(self, models: Sequence[str], model: str) -> dict[str, int]:
        """The counts of one response, as Codex writes them: cache inside input, reasoning inside output."""
        tokens = Tokens(1, self.tokens(4_000), self.tokens(900), self.tokens(50_000))
        tokens.cache_write_5m = self.tokens(1_500) if model == models[-1] else 0
        tokens.reasoning = self.rng.randrange(tokens.output)
        self.count("codex", model, tokens)
        prompt = tokens.input + tokens.cache_read + tokens.cache_write_5m
        counts = (
            prompt,
            tokens.cache_read,
            tokens.cache_write_5m,
            tokens.output,
            tokens.reasoning,
            prompt + tokens.output,
        )
        return dict(zip(_CODEX_COUNTS, counts, strict=True))


class Journal:
    """The lines of one file; some versions write JSON with spaces."""

    def __init__(self, *, spaced: bool = False) -> None:
        self.lines: list[bytes] = []
        self._separators = (", ", ": ") if spaced else (",", ":")

    def add(self, said: dict[str, Any]) -> None:
        self.lines.append(json.dumps(said, separators=self._separators).encode())

    def write(self, path: Path, modified: int, *, torn: bool = False) -> None:
        """Writes the file; a `.zst` one as a frame of stored blocks. A torn file ends within a line."""
        data = b"".join(line + b"\n" for line in self.lines)
        if torn:
            data += self.lines[0][: len(self.lines[0]) // 2]
        _write(path, _stored(data) if path.suffix == ".zst" else data, modified)


def _whole(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if line.endswith(b"}")]


def _stored(data: bytes) -> bytes:
    """A Zstandard frame that stores its content uncompressed (RFC 8878), the same with every library version."""
    frame = [b"\x28\xb5\x2f\xfd", b"\xa0", struct.pack("<I", len(data))]
    blocks = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    for number, block in enumerate(blocks, start=1):
        header = len(block) << 3 | (number == len(blocks))
        frame += [struct.pack("<I", header)[:3], block]
    return b"".join(frame)


def _write(path: Path, data: bytes, modified: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    _touch(path, modified)


def _touch(path: Path, modified: int) -> None:
    os.utime(path, ns=(modified * 1_000_000, modified * 1_000_000))


def _write_json(path: Path, content: Any, modified: int) -> None:
    _write(path, json.dumps(content, indent=2).encode() + b"\n", modified)


_TABLES = {
    "project": "id TEXT PRIMARY KEY, worktree TEXT, vcs TEXT",
    "session": "id TEXT PRIMARY KEY, project_id TEXT, parent_id TEXT, slug TEXT, directory TEXT, title TEXT, "
    "version TEXT, time_created INTEGER, time_updated INTEGER",
    "message": "id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, time_updated INTEGER, data TEXT",
    "part": "id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INTEGER, time_updated INTEGER, "
    "data TEXT",
}


def _write_database(path: Path, rows: dict[str, list[tuple[Any, ...]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    with database:
        for table, columns in _TABLES.items():
            database.execute(f"CREATE TABLE {table} ({columns})")
            marks = ", ".join("?" * (columns.count(",") + 1))
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows[table])
    database.close()
    _touch(path, max(row[-2] for row in rows["message"]))


def _milliseconds(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_MS


# ---- growing


def append_corpus(
    home: Path, seed: int, files: int, day: date, turn: int = 1, agents: Collection[str] | None = None
) -> Truth:
    """Lets up to `files` transcripts of an agent grow by one response each, and says what was added.

    The responses are dated to the evening of `day`; each call on the same tree needs another `turn`. All agents but
    OpenCode take part, or those that are named.
    """
    corpus = Corpus(home, f"{seed}:append:{turn}")
    start = _milliseconds(day) + 22 * 3_600_000 + turn * 1_000
    for agent, (pattern, kind) in _GROWING.items():
        if agents is not None and agent not in agents:
            continue
        grown = 0
        for path in sorted(home.glob(pattern)):
            if grown == files:
                break
            data = path.read_bytes()
            if not data.endswith(b"\n"):
                continue
            last = [said for said in map(json.loads, _whole(data.splitlines())) if kind(said)]
            if not last or b'"forked"' in data or b"token_usage_record" in data:
                continue
            session = Session(grown, agent, start + grown, "", "", _model_of(home, agent, data, last[-1]), 1)
            more = _another(_Scribe(corpus, session), last[-1])
            with path.open("ab") as file:
                file.write(json.dumps(more).encode() + b"\n")
            grown += 1
    return dict(corpus.truth)


_GROWING: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "claude-code": (
        ".claude/projects/*/*.jsonl",
        lambda said: bool(said.get("requestId")) and "forkedFrom" not in said,
    ),
    "codex": (".codex/sessions/*/*/*/*.jsonl", lambda said: bool(_at(said, "payload", "info"))),
    "kimi-cli": (".kimi/sessions/*/*/wire.jsonl", lambda said: bool(_at(said, "message", "payload", "message_id"))),
    "kimi-code": (".kimi-code/sessions/*/*/agents/main/wire.jsonl", lambda said: said["type"] == "usage.record"),
}


def _at(said: Any, *path: str) -> Any:
    for name in path:
        said = said.get(name) if isinstance(said, dict) else None
    return said


def _model_of(home: Path, agent: str, data: bytes, said: dict[str, Any]) -> tuple[str, ...]:
    if agent == "claude-code":
        return (said["message"]["model"],)
    if agent == "codex":
        contexts = [one for one in map(json.loads, _whole(data.splitlines())) if one["type"] == "turn_context"]
        return ("", contexts[-1]["payload"]["model"], "")
    if agent == "kimi-cli":
        return MODELS["kimi-cli"]
    return ("k2p6" if said["model"].startswith("__") else said["model"],)


def _another(scribe: _Scribe, said: dict[str, Any]) -> dict[str, Any]:
    """The next line after `said` of the same kind, with new ids, time and counts."""
    agent, models = scribe.session.agent, scribe.session.models
    if agent == "codex":
        last = scribe.codex_counts(models, models[1])
        total = said["payload"]["info"]["total_token_usage"]
        said["payload"]["info"] = {
            "total_token_usage": {name: total[name] + last[name] for name in total},
            "last_token_usage": last,
        }
        return said | {"timestamp": scribe.iso()}
    tokens = scribe.kimi_tokens()
    scribe.count("claude-code" if agent == "claude-code" else "kimi", models[0], tokens)
    if agent == "claude-code":
        said["message"] |= {"id": scribe.id("msg_01"), "stop_reason": "end_turn"}
        said["message"]["usage"] = {
            "input_tokens": tokens.input,
            "output_tokens": tokens.output,
            "cache_read_input_tokens": tokens.cache_read,
            "cache_creation_input_tokens": tokens.cache_write_5m,
        }
        return said | {"requestId": scribe.id("req_011"), "uuid": scribe.uuid(), "timestamp": scribe.iso()}
    values = (tokens.input, tokens.output, tokens.cache_read, tokens.cache_write_5m)
    if agent == "kimi-code":
        names = ("inputOther", "output", "inputCacheRead", "inputCacheCreation")
        return said | {"usage": dict(zip(names, values, strict=True)), "time": scribe.now}
    names = ("input_other", "output", "input_cache_read", "input_cache_creation")
    payload = {"token_usage": dict(zip(names, values, strict=True)), "message_id": scribe.id("chatcmpl-")}
    return {"timestamp": scribe.now / 1000, "message": {"type": "StatusUpdate", "payload": payload}}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kharcha_pipeline_tests.corpus", description="Write a log corpus."
    )
    parser.add_argument("out", type=Path, help="directory for `home` and `truth.json`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--last-day", type=date.fromisoformat, default=date(2026, 10, 31))
    parser.add_argument("--filler", type=int, default=30, help="words of text in a line, on average")
    chosen = parser.parse_args(arguments)
    truth = write_corpus(
        chosen.out / "home", chosen.seed, chosen.sessions, chosen.days, chosen.last_day, filler=chosen.filler
    )
    rows = [
        {"day": day.isoformat(), "source": source, "model": model, **asdict(tokens)}
        for (day, source, model), tokens in sorted(truth.items())
    ]
    _write(chosen.out / "truth.json", json.dumps(rows, indent=1).encode() + b"\n", _milliseconds(chosen.last_day))


if __name__ == "__main__":
    main()
