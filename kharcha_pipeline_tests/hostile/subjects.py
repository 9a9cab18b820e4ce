"""What is fuzzed: each source's readers with real lines of its agent, and what must hold whatever they are given."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kharcha_pipeline.records import LogFile, Reading, SettledRecord, UsageRecord
from kharcha_pipeline.sources.claude_code import claude_code
from kharcha_pipeline.sources.codex import codex
from kharcha_pipeline.sources.kimi import kimi
from kharcha_pipeline.sources.opencode import opencode
from kharcha_pipeline.sources.source import Source
from kharcha_pipeline_tests.corpus import write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY

LONGEST_SECONDS = 20.0
"""For one damaged file of some kilobytes. It takes milliseconds; the rest is for a busy machine."""

LARGEST = 2**63 - 1
_REASON = re.compile(r"[a-zA-Z0-9 -]{4,60}\Z")
_LAST_INSTANT = 253_402_387_200_000


class Lines(NamedTuple):
    """A kind of file that grows line by line: the same bytes damaged in the middle must not cost what is around.

    `guards` are lines of a real file at `path`; `pool` holds lines of other files of the same kind.
    """

    source: Source
    path: Path
    guards: Sequence[bytes]
    pool: Sequence[bytes]


class Document(NamedTuple):
    """A file that is read as a whole."""

    source: Source
    path: Path
    content: bytes


class Subjects(NamedTuple):
    """Everything there is to damage in one home directory."""

    home: Path
    lines: dict[str, Lines]
    documents: dict[str, Document]
    database: Path


def write_subjects(home: Path) -> Subjects:
    """Lets all agents work for a few days, and picks files of each kind."""
    write_corpus(home, "hostile", 40, 10, LAST_DAY)
    transcripts = _largest(home, ".claude/projects/*/*.jsonl")
    plain = _largest(home, ".codex/sessions/*/*/*/*.jsonl")
    recording = [path for path in plain if b"token_usage_record" in path.read_bytes()]
    counting = [path for path in plain if path not in recording]
    cli = _largest(home, ".kimi/sessions/*/*/wire.jsonl")
    code = _largest(home, ".kimi-code/sessions/*/*/agents/main/wire.jsonl")
    lines = {
        "claude-code": _lines(claude_code, transcripts, _OTHER_CLAUDE_LINES),
        "codex": _lines(codex, counting, _lines_of(recording)),
        "codex-records": _lines(codex, recording, _lines_of(counting)),
        "codex-headless": _headless(home),
        "kimi-cli": _lines(kimi, cli, ()),
        "kimi-code": _lines(kimi, code, ()),
    }
    _write_context(home, code[0])
    patterns = {
        "kimi-config": (kimi, ".kimi/config.toml"),
        "kimi-config-json": (kimi, ".kimi/config.json"),
        "kimi-directories": (kimi, ".kimi/kimi.json"),
        "kimi-launch": (kimi, ".kimi/sessions/*/*/subagents/*/meta.json"),
        "kimi-session": (kimi, ".kimi-code/sessions/*/*/state.json"),
        "kimi-index": (kimi, ".kimi-code/session_index.jsonl"),
        "kimi-workspaces": (kimi, ".kimi-code/workspaces.json"),
        "codex-compressed": (codex, ".codex/**/*.jsonl.zst"),
        "opencode-message": (opencode, ".local/share/opencode/storage/message/*/*.json"),
        "opencode-session": (opencode, ".local/share/opencode/storage/session/*/*.json"),
        "opencode-part": (opencode, ".local/share/opencode/storage/part/*/*.json"),
    }
    documents = {}
    for name, (source, pattern) in patterns.items():
        path = _largest(home, pattern)[0]
        documents[name] = Document(source, path, path.read_bytes())
    return Subjects(home, lines, documents, home / ".local/share/opencode/opencode.db")


def read(source: Source, path: Path, previous: Reading | None = None) -> Reading:
    """Reads a file as the landing does: from where it was left, with the state as it was stored."""
    start = previous or Reading()
    state = msgspec.json.decode(msgspec.json.encode(start.state))
    modified_ms = path.stat().st_mtime_ns // 1_000_000
    began = time.monotonic()
    reading = source.read(LogFile(str(path), "1.0", "", start.offset, start.line, modified_ms, state=state))
    assert time.monotonic() - began < LONGEST_SECONDS
    return reading


def check_reading(source: Source, reading: Reading, size: int) -> None:
    """What every reading must be, so that it can be stored and read again for ever."""
    for record in reading.records:
        encoded = msgspec.json.encode(record.said)
        assert msgspec.json.decode(encoded, type=source.record_type) == record.said
        assert record.family.encode()
        assert 0 <= record.position <= LARGEST
    for reject in reading.rejects:
        assert _REASON.match(reject.reason), "a reason is a fixed phrase"
    assert 0 <= reading.offset <= size
    assert reading.pending >= 0
    assert msgspec.json.encode(reading.state)


def check_settlement(source: Source, records: Iterable[UsageRecord]) -> list[SettledRecord]:
    """Settles all records, and checks that every column of a table can hold what comes out."""
    families: dict[str, list[Any]] = defaultdict(list)
    for record in records:
        families[record.family].append(record.said)
    settled = []
    for family, said in families.items():
        related = {name: families.get(name, []) for name in source.related(said)}
        settled += source.settle(family, said, related)
    identities = [response.identity for response in settled]
    assert len(identities) == len(set(identities))
    for response in settled:
        for field in msgspec.structs.fields(response):
            value = getattr(response, field.name)
            if isinstance(value, str):
                assert value.encode() is not None
            elif isinstance(value, int) and field.name != "occurred_at":
                assert 0 <= value <= LARGEST
        assert 0 < response.occurred_at < _LAST_INSTANT
        cost = response.reported_cost_usd
        assert cost is None or (0 < cost <= 10**16 and cost.as_tuple().exponent >= -12)  # type: ignore[operator]
    return settled


def check_lines(subject: Lines, path: Path, hostile: bytes, place: int, *, growing: bool = False) -> None:
    """Reads the guards with hostile lines at a place among them; whatever these are, the guards are still there.

    Args:
        subject: what is read.
        path: where to write the file.
        hostile: whole lines.
        place: how many guards come before them.
        growing: whether the file is read once more after each of its three parts.
    """
    parts = [b"".join(subject.guards[:place]), hostile, b"".join(subject.guards[place:])]
    records: list[UsageRecord] = []
    reading: Reading | None = None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    for part in parts if growing else [b"".join(parts)]:
        with path.open("ab") as stream:
            stream.write(part)
        reading = read(subject.source, path, reading)
        check_reading(subject.source, reading, path.stat().st_size)
        records += reading.records
    missing = guarded(subject, path) - set(map(content, records))
    assert not missing, f"{len(missing)} records outside the damaged lines are lost"
    check_settlement(subject.source, records)


def guarded(subject: Lines, path: Path) -> set[bytes]:
    """What the guards say when nothing is among them."""
    key = (subject.path, str(path))
    if key not in _guarded:
        before = path.read_bytes()
        path.write_bytes(b"".join(subject.guards))
        _guarded[key] = set(map(content, read(subject.source, path).records))
        path.write_bytes(before)
        assert len(_guarded[key]) > 2
    return _guarded[key]


_guarded: dict[tuple[Path, str], set[bytes]] = {}


def content(record: UsageRecord) -> bytes:
    """What a record says, without where it stands and what other lines say about it."""
    said = msgspec.to_builtins(record.said)
    for name in ("position", "request_model", "provider", "occurrence"):
        said.pop(name, None)
    return msgspec.json.encode(said)


def check_document(subject: Document, damaged: bytes) -> None:
    """Reads a whole tree in which one document is damaged; the other files say what they said."""
    subject.path.write_bytes(damaged)
    try:
        reading = read(subject.source, subject.path)
    finally:
        subject.path.write_bytes(subject.content)
    check_reading(subject.source, reading, max(len(damaged), 1 << 30))
    check_settlement(subject.source, reading.records)


# ---- what to damage


def _largest(home: Path, pattern: str) -> list[Path]:
    return sorted(home.glob(pattern), key=lambda path: (-path.stat().st_size, str(path)))


def _lines_of(paths: Iterable[Path]) -> list[bytes]:
    return [line for path in paths for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"}\n")]


def _lines(source: Source, paths: Sequence[Path], more: Iterable[bytes]) -> Lines:
    """The guards are a file of moderate size; the other files' lines are there to be damaged."""
    usual = [path for path in paths if len(_lines_of([path])) <= 60]
    chosen = (usual or list(paths))[0]
    guards = _lines_of([chosen])
    known = set(guards)
    own = {match for line in guards for match in re.findall(rb"(?:msg_01|chatcmpl-|resp_)[a-z0-9]+", line)}
    others = [line for line in _lines_of(path for path in paths if path != chosen) if line not in known]
    pool = [line for line in others if not any(one in line for one in own)]
    return Lines(source, chosen, guards, [*pool[:400], *more])


_OTHER_CLAUDE_LINES = [
    msgspec.json.encode(said) + b"\n"
    for said in (
        {
            "type": "progress",
            "sessionId": "s",
            "timestamp": "2026-11-01T10:00:00.000Z",
            "data": {
                "message": {
                    "type": "assistant",
                    "timestamp": "2026-11-01T10:00:00.000Z",
                    "message": {"id": "msg_w", "model": "claude-opus-4-6", "usage": {"output_tokens": 5}},
                }
            },
        },
        {
            "type": "stream_event",
            "session_id": "s",
            "timestamp": "2026-11-01T10:00:01.000Z",
            "event": {
                "type": "message_start",
                "message": {"id": "msg_t", "model": "claude-opus-4-6", "usage": {"input_tokens": 3}},
            },
        },
        {"type": "message_delta", "timestamp": "2026-11-01T10:00:02.000Z", "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
]


def _headless(home: Path) -> Lines:
    """A saved headless run of Codex: counts that grow from turn to turn."""
    thread = "019f0000-aaaa-7000-8000-000000000009"
    said: list[Any] = [{"type": "thread.started", "thread_id": thread, "timestamp": "2026-11-01T10:00:00.000Z"}]
    for turn in range(1, 12):
        counts = {"input_tokens": 900 * turn, "cached_input_tokens": 100 * turn, "output_tokens": 70 * turn}
        said += [
            {"type": "turn.started"},
            {"type": "item.completed", "item": {"type": "agent_message", "text": "done"}},
            {"type": "turn.completed", "timestamp": f"2026-11-01T10:{turn:02}:00.000Z", "usage": counts},
        ]
    lines = [msgspec.json.encode(one) + b"\n" for one in said]
    path = home / ".codex-saved/run.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(lines))
    shifted = [line.replace(b"2026-11-01", b"2026-11-02") for line in lines]
    return Lines(codex, path, lines, shifted)


def _write_context(home: Path, wire: Path) -> None:
    """The documents of Kimi that the corpus has no need of."""
    write: Callable[[str, Any], None] = lambda path, said: _write(home / path, msgspec.json.encode(said))  # noqa: E731
    write(".kimi/config.json", {"default_model": "a", "models": {"a": {"model": "kimi-k2", "provider": "p"}}})
    agent = next(iter(home.glob(".kimi/sessions/*/*/subagents/*")))
    write(f"{agent.relative_to(home)}/meta.json", {"launch_spec": {"effective_model": "work"}})
    session = wire.parents[2]
    write(".kimi-code/session_index.jsonl", {"sessionId": session.name, "workDir": "/home/sam/shop"})
    write(".kimi-code/workspaces.json", {"workspaces": {session.parent.name: {"root": "/home/sam/shop"}}})


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def scratch(subject: Lines, directory: Path) -> Path:
    """Where to write a damaged file of a kind, so that its path says the same as the real one's."""
    return directory / os.path.relpath(subject.path, "/")


# ---- databases


class Rows(NamedTuple):
    """What a database said before anything happened to it: the records of every row, by table and row number."""

    content: bytes
    records: dict[int, set[bytes]]


def database_rows(path: Path) -> Rows:
    """Reads an undamaged database. Message rows are the only ones in the corpus that say something."""
    records: dict[int, set[bytes]] = defaultdict(set)
    for record in read(opencode, path).records:
        records[record.position].add(_row_content(record))
    return Rows(path.read_bytes(), dict(records))


def check_damaged_pages(rows: Rows, path: Path, damaged: bytes) -> None:
    """Reads a database with damaged pages: every message SQLite itself can still read is there, and as it was."""
    path.write_bytes(damaged)
    reading = read(opencode, path)
    check_reading(opencode, reading, 1 << 62)
    check_settlement(opencode, reading.records)
    found = {_row_content(record) for record in reading.records}
    lost = [number for number in _readable(path, rows) if not rows.records[number] <= found]
    assert not lost, f"{len(lost)} of {len(rows.records)} readable rows are lost"


def check_damaged_rows(path: Path, rows: Rows, change: Callable[[sqlite3.Connection], set[int]]) -> None:
    """Reads a database in which some message rows are damaged; the others say what they said."""
    path.write_bytes(rows.content)
    database = sqlite3.connect(path)
    with database:
        touched = change(database)
    database.close()
    reading = read(opencode, path)
    check_reading(opencode, reading, 1 << 62)
    check_settlement(opencode, reading.records)
    found = {_row_content(record) for record in reading.records}
    lost = [number for number, said in rows.records.items() if number not in touched and not said <= found]
    assert not lost, f"{len(lost)} undamaged rows are lost"
    again = read(opencode, path, reading)
    check_reading(opencode, again, 1 << 62)


def _row_content(record: UsageRecord) -> bytes:
    """What a message row says by itself: neither its session nor its parts."""
    said = msgspec.to_builtins(record.said)
    return msgspec.json.encode(
        {name: said.get(name) for name in ("message_id", "created", "kind", "tokens", "model")}
    )


def _readable(path: Path, rows: Rows) -> list[int]:
    """The rows that SQLite reads from the damaged file one by one, and that are as they were."""
    before = sqlite3.connect(":memory:")
    before.deserialize(rows.content)
    after = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    after.text_factory = before.text_factory = bytes
    query = "SELECT * FROM message WHERE rowid = ?"
    readable = []
    for number in rows.records:
        try:
            same = after.execute(query, (number,)).fetchall() == before.execute(query, (number,)).fetchall()
        except (sqlite3.Error, MemoryError, UnicodeDecodeError):
            continue
        if same:
            readable.append(number)
    after.close()
    before.close()
    return readable


def check_some_state(path: Path, content: bytes, log: bytes) -> None:
    """Reads a database whose schema or write-ahead log is damaged: it is read as far as it can be, and left alone."""
    path.write_bytes(content)
    beside = path.with_name(f"{path.name}-wal")
    beside.write_bytes(log)
    try:
        reading = read(opencode, path)
        assert (path.read_bytes(), beside.read_bytes()) == (content, log)
    finally:
        beside.unlink()
    check_reading(opencode, reading, 1 << 62)
    check_settlement(opencode, reading.records)
