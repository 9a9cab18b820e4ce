"""Little text that would need much memory or time: each is read within bounds, in a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard

from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline_tests.sources.reading import read
from kharcha_pipeline_tests.sources.test_claude_code import line

MIB = 1 << 20
MOST_MEMORY = 320
"""MiB that reading may add to what the process had: the longest line that is read, and what it is read into."""
MOST_SECONDS = 30

READ = """
import resource, sys
from kharcha_pipeline.records import LogFile
from kharcha_pipeline.sources.registry import SOURCES
source = next(source for source in SOURCES if source.name == sys.argv[1])
memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = memory()
reading = source.read(LogFile(sys.argv[2], "1.0", modified_ms=1_790_000_000_000))
print(len(reading.records), len(reading.rejects), memory() - before)
"""

ROLLOUT = ".codex/sessions/rollout-2026-04-02T10-00-00-019f0000-aaaa-7000-8000-000000000001.jsonl"
CONTEXT = b'{"timestamp":"2026-04-02T10:00:00.000Z","type":"turn_context","payload":{"model":"x","metadata":'
STATUS = b'{"timestamp": 1772700000.25, "message": {"type": "StatusUpdate", "payload": {"token_usage": {}, "x": '
ANSWER = b'{"type":"assistant","timestamp":"2026-03-04T09:15:22.481Z","message":{"id":"m","usage":{"output_tokens":5,'


class Bomb(NamedTuple):
    """A file: its source, its name, what it begins with, what is repeated up to which size in MiB, how it ends."""

    source: str
    name: str
    head: bytes
    filling: bytes
    size: int
    tail: bytes


def responses(*numbers: int) -> bytes:
    return b"".join(json.dumps(line(f"msg_{number}", f"req_{number}")).encode() + b"\n" for number in numbers)


BOMBS = {
    "line of 200 MB": Bomb("claude-code", "s.jsonl", responses(1) + b'{"x":"', b"x", 200, b'"}\n' + responses(2)),
    "NULs": Bomb("claude-code", "s.jsonl", responses(1), b"\0", 200, b"\n" + responses(2)),
    "passes": Bomb(
        "claude-code", "s.jsonl", responses(1) + ANSWER + b'"iterations":[', b"{},", 60, b"{}]}}}\n" + responses(2)
    ),
    "lists": Bomb("claude-code", "s.jsonl", responses(1) + b'{"x":[NaN,', b"[],", 60, b"1]}\n" + responses(2)),
    "nesting": Bomb("claude-code", "s.jsonl", responses(1) + b'{"x":', b"[", 40, b"\n" + responses(2)),
    "rollout line": Bomb("codex", ROLLOUT, CONTEXT + b'"', b"x", 200, b'"}}\n'),
    "rollout lists": Bomb("codex", ROLLOUT, CONTEXT + b"[", b"[],", 60, b"1]}}\n"),
    "rollout objects": Bomb("codex", ROLLOUT, CONTEXT + b"[", b'{"a":0},', 60, b"1]}}\n"),
    "wire lists": Bomb("kimi", "sessions/a/b/wire.jsonl", STATUS + b"[", b"[],", 60, b"1]}}}\n"),
    "wire line": Bomb("kimi", "sessions/a/b/wire.jsonl", STATUS + b'"', b"x", 200, b'"}}}\n'),
    "document": Bomb("kimi", "kimi.json", b'{"work_dirs":[', b"[],", 200, b"1]}"),
    "dotted key": Bomb("kimi", "config.toml", b"", b"a.", 1, b"a = 1"),
    "dots": Bomb("kimi", "config.toml", b"", b"a.", 0, b".".join([b"a"] * 100_000) + b" = 1"),
    "brackets": Bomb("kimi", "config.toml", b"a = ", b"[", 100, b""),
    "message": Bomb("opencode", "storage/message/s/m.json", b'{"role":"assistant","path":[', b"[],", 60, b"1]}"),
    "long message": Bomb("opencode", "storage/message/s/m.json", b'{"role":"assistant","x":"', b"x", 200, b'"}'),
}


def content(bomb: Bomb) -> Iterator[bytes]:
    yield bomb.head
    if bomb.size:
        yield from itertools.repeat(bomb.filling * (MIB // len(bomb.filling)), bomb.size)
    yield bomb.tail


def write(path: Path, chunks: Iterable[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
    return path


def read_apart(source: str, path: Path) -> tuple[int, int]:
    """Records and rejects; fails when reading takes too much memory or time."""
    command = [sys.executable, "-c", READ, source, str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=True)
    records, rejects, memory = map(int, finished.stdout.split())
    assert memory <= MOST_MEMORY
    return records, rejects


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_reject_and_costs_neither_memory_nor_what_is_around_it(tmp_path: Path, name: str) -> None:
    bomb = BOMBS[name]
    path = write(tmp_path / bomb.name, content(bomb))
    assert read_apart(bomb.source, path) == ((bomb.head + bomb.tail).count(b"requestId"), 1)
    os.truncate(path, 0)  # pytest keeps the last directories


def test_a_hundred_thousand_levels_and_a_million_keys_are_a_line_like_any_other(tmp_path: Path) -> None:
    nested = ANSWER[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}}}\n"
    keys = b'{"type":"system",' + b",".join(b'"k%d":%d' % (number, number) for number in range(10**6)) + b"}\n"
    path = write(tmp_path / "s.jsonl", [responses(1), nested, responses(2), keys, responses(3)])
    assert read_apart("claude-code", path) == (3, 1)


def test_a_compressed_line_without_end_takes_little_memory(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    chunks = [CONTEXT, b'"', *itertools.repeat(b"x" * MIB, 1500), b'"}}\n']
    path = write(tmp_path / f"{ROLLOUT}.zst", [*map(packer.compress, chunks), packer.flush()])
    assert path.stat().st_size < MIB
    assert read_apart("codex", path) == (0, 1)


def test_a_row_of_a_hundred_megabytes_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE message (id TEXT PRIMARY KEY, session_id, time_created, time_updated, data)")
    time = {"created": 1_775_124_000_123, "completed": 1_775_124_000_124}
    said = json.dumps({"role": "assistant", "tokens": {"output": 5}, "time": time})
    rows = [("a", said), ("large", said[:-1] + ', "x": "' + "x" * 100 * MIB + '"}'), ("z", said)]
    with database:
        database.executemany("INSERT INTO message VALUES (?, 's', 1, 1, ?)", rows)
    database.close()
    assert read_apart("opencode", path) == (2, 1)
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("source", "name"), [("claude-code", "s.jsonl"), ("codex", ROLLOUT), ("kimi", "sessions/a/b/wire.jsonl")]
)
def test_of_very_many_rejects_the_first_are_listed_and_the_rest_are_told(
    tmp_path: Path, source: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kharcha_pipeline.sources.lines.MOST_REJECTS", 10)
    path = write(tmp_path / name, [b"{\n" * 1000, responses(1)])
    reading = read(next(one for one in SOURCES if one.name == source), path)
    assert [reject.line for reject in reading.rejects] == list(range(1, 12))
    assert reading.rejects[-1].reason == "no further lines are listed"
    assert len(reading.records) == (source == "claude-code")
