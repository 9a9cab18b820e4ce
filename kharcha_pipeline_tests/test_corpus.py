"""The corpus is the same every time, and every source reads out of it what was put in."""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from kharcha_pipeline.sources.source import Source
from kharcha_pipeline_tests.corpus import Tokens, Truth, append_corpus, main, merged, write_corpus
from kharcha_pipeline_tests.make_sample import LAST_DAY as SAMPLE_DAY
from kharcha_pipeline_tests.make_sample import SAMPLE, write_sample
from kharcha_pipeline_tests.sources.reading import settled_tree

LAST_DAY = date(2026, 10, 31)
SOURCES = {"claude-code": "claude_code", "codex": "codex", "opencode": "opencode", "kimi": "kimi"}


def contents(top: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(top)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in top.rglob("*")
        if path.is_file()
    }


def told(name: str, home: Path) -> Truth:
    """What a source reads below a home directory, by UTC day and model."""
    source: Source = getattr(importlib.import_module(f"kharcha_pipeline.sources.{SOURCES[name]}"), SOURCES[name])
    settled, _ = settled_tree(source, home)
    found: Truth = defaultdict(Tokens)
    for one in settled:
        day = datetime.fromtimestamp(one.occurred_at / 1000, UTC).date()
        found[day, name, one.model_raw].add(
            Tokens(
                1,
                one.input_tokens,
                one.output_tokens,
                one.cache_read_tokens,
                one.cache_write_5m_tokens,
                one.cache_write_1h_tokens,
                one.reasoning_tokens,
            )
        )
    return dict(found)


def of(truth: Truth, name: str) -> Truth:
    return {key: tokens for key, tokens in truth.items() if key[1] == name}


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    truths = [write_corpus(tmp_path / name, 5, 24, 10, LAST_DAY) for name in ("one", "two")]
    assert truths[0] == truths[1]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_is_another_corpus(tmp_path: Path) -> None:
    assert write_corpus(tmp_path / "one", 1, 8, 10, LAST_DAY) != write_corpus(tmp_path / "two", 2, 8, 10, LAST_DAY)


def test_without_binary_files_everything_is_text(tmp_path: Path) -> None:
    write_corpus(tmp_path, 5, 40, 10, LAST_DAY, binary=False)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".jsonl", ".json", ".toml"}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_source_reads_what_was_written(tmp_path: Path, name: str, seed: int) -> None:
    truth = write_corpus(tmp_path, seed, 160, 30, LAST_DAY)
    assert told(name, tmp_path) == of(truth, name)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_reads_what_was_appended(tmp_path: Path, name: str) -> None:
    truth = write_corpus(tmp_path, 1, 40, 10, LAST_DAY)
    appended = [append_corpus(tmp_path, 1, 3, LAST_DAY, turn) for turn in (1, 2)]
    assert sum(tokens.events for tokens in appended[0].values()) > 6
    assert told(name, tmp_path) == of(merged(truth, *appended), name)


def test_the_command_writes_the_truth_beside_the_home_directory(tmp_path: Path) -> None:
    main([str(tmp_path), "--seed", "7", "--sessions", "8", "--days", "3", "--last-day", "2026-10-31"])
    rows = json.loads((tmp_path / "truth.json").read_text())
    assert {row["source"] for row in rows} == set(SOURCES)
    assert (tmp_path / "home" / ".claude" / "projects").is_dir()


def test_the_bundled_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    write_sample(tmp_path)
    bundled = {path: data for path, (data, _) in contents(SAMPLE / "home").items()}
    assert bundled == {path: data for path, (data, _) in contents(tmp_path).items()}


def test_the_bundled_sample_is_small_plain_text() -> None:
    files = [data for data, _ in contents(SAMPLE / "home").values()]
    assert len(files) <= 60
    assert sum(map(len, files)) <= 300_000
    assert all(data.isascii() for data in files)


def test_the_bundled_sample_has_every_source_up_to_its_last_day(tmp_path: Path) -> None:
    truth = write_sample(tmp_path)
    days = {day for day, _, _ in truth}
    assert max(days) == SAMPLE_DAY.date()
    assert (max(days) - min(days)).days == 21
    assert {source for _, source, _ in truth} == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_reads_the_bundled_sample(tmp_path: Path, name: str) -> None:
    truth = write_sample(tmp_path)
    assert told(name, SAMPLE / "home") == of(truth, name)
