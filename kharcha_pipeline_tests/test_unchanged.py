"""The memory of a complete sync: it says "nothing changed" only when nothing did, also while the sync ran."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import time_machine

from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.sync import sync
from kharcha_pipeline.unchanged import look, unchanged_files
from kharcha_pipeline_tests.corpus import append_corpus, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine

PRICES = "schema = 1\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 12, 4, 6, LAST_DAY)
    return machine


def sync_while(happens: Callable[[], object], environment: dict[str, str]) -> None:
    """A sync during which something happens once."""
    pending = [happens]

    def progress(done: int, total: int) -> None:
        while pending:
            pending.pop()()

    sync(load_settings(environment), progress=progress)
    assert not pending


def test_the_number_of_files_is_that_of_the_sync(machine: Machine) -> None:
    database = machine.home / ".local/share/opencode/opencode.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    odd = machine.home / ".claude/projects/-home-sam-odd\nname"
    odd.mkdir(parents=True)
    (odd / "log\n.jsonl").touch()
    result = machine.sync()
    assert unchanged_files(machine.environment) == result.landing.files_found


def test_a_path_with_any_character_is_remembered(machine: Machine, tmp_path: Path) -> None:
    environment = machine.environment | {"CODEX_PATH": str(tmp_path / "süß\n\t'\" \\0"), "KHARCHA_MACHINE": "é\n"}
    sync(load_settings(environment))
    assert unchanged_files(environment) is not None
    assert unchanged_files(environment | {"CODEX_PATH": "/elsewhere"}) is None
    assert unchanged_files(environment | {"KHARCHA_MACHINE": "é"}) is None


def test_prices_edited_while_a_sync_runs_are_noticed_by_the_next(machine: Machine, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    environment = machine.environment | {"KHARCHA_PRICES": str(prices)}
    sync_while(lambda: prices.write_text(PRICES + "# edited\n"), environment)
    assert unchanged_files(environment) is None
    sync(load_settings(environment))
    assert unchanged_files(environment) is not None


def test_settings_edited_while_a_sync_runs_are_noticed_by_the_next(machine: Machine, tmp_path: Path) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text('timezone = "UTC"\n')
    environment = machine.environment | {"KHARCHA_CONFIG": str(settings)}
    sync_while(lambda: settings.write_text('timezone = "UTC"\nmachine = "m"\n'), environment)
    assert unchanged_files(environment) is None


def test_a_place_that_appears_while_a_sync_runs_is_noticed_by_the_next(machine: Machine) -> None:
    directory = machine.home / ".local/share/opencode"
    directory.mkdir(parents=True, exist_ok=True)
    sync_while((directory / "opencode-next.db").touch, machine.environment)
    assert unchanged_files(machine.environment) is None


def test_a_day_that_begins_while_a_sync_runs_is_noticed_by_the_next(machine: Machine) -> None:
    with time_machine.travel(f"{LAST_DAY}T23:59:59Z", tick=False) as clock:
        sync_while(lambda: clock.shift(2), machine.environment)
        assert unchanged_files(machine.environment) is None


def test_a_file_that_is_written_while_a_sync_runs_is_noticed_by_the_next(machine: Machine) -> None:
    path = next((machine.home / ".claude").rglob("*.jsonl"))
    status = path.stat()
    sync_while(lambda: os.utime(path, ns=(1, status.st_mtime_ns + 1)), machine.environment)
    assert unchanged_files(machine.environment) is None


@pytest.mark.parametrize(
    "content",
    [b"n1\0\0\0\0", b"e.jsonl\0\0[]\0\0", b"n1\0n2\0\0\0\0", b"x\0\0\0\0", b"nine\0\0\0\0", b"\xff\0\0\0\0"],
)
def test_a_memory_that_is_something_else_is_no_memory(machine: Machine, content: bytes) -> None:
    machine.sync()
    (machine.data / "unchanged").write_bytes(content)
    assert unchanged_files(machine.environment) is None


def everything_known(machine: Machine) -> list[list[tuple[object, ...]]]:
    """All events, and what is known about all log files."""
    queries = (
        "SELECT * EXCLUDE (recorded_at) FROM priced_events ORDER BY event_id",
        "SELECT source, path, size, read_to, lines, pending, status FROM log_files ORDER BY path, status",
        "SELECT source, path, line, position, reason FROM rejects ORDER BY ALL",
    )
    return [machine.query(query) for query in queries]


def append(home: Path, turn: int) -> None:
    append_corpus(home, 12, 2, LAST_DAY, turn)


def move(home: Path, turn: int) -> None:
    path = sorted((home / ".claude").rglob("*.jsonl"))[turn]
    target = home / f".claude/projects/-moved-{turn}/{path.name}"
    target.parent.mkdir(parents=True)
    path.rename(target)


def remove(home: Path, turn: int) -> None:
    sorted((home / ".codex").rglob("*.jsonl"))[0].unlink(missing_ok=True)


def replace(home: Path, turn: int) -> None:
    path = sorted((home / ".claude").rglob("*.jsonl"))[0]
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    path.write_bytes(b"".join(lines[::2]) + b"no JSON\n")


def leave(home: Path, turn: int) -> None:
    """Nothing happens."""


CHANGES = (append, move, remove, replace, leave)


@pytest.mark.parametrize("seed", range(4))
def test_looking_at_what_changed_comes_to_the_same_as_looking_at_everything(tmp_path: Path, seed: int) -> None:
    some = Machine.below(tmp_path, "some")
    write_corpus(some.home, 12, 10, 6, LAST_DAY)
    every = Machine(some.home, tmp_path / "every")
    rng = random.Random(seed)
    for turn in range(5):
        seen = look(some.environment)
        assert (seen is None) == (turn == 0)
        result = sync(some.settings, seen=seen)
        (every.data / "unchanged").unlink(missing_ok=True)
        assert result.landing.files_found == every.sync().landing.files_found
        assert everything_known(some) == everything_known(every)
        for change in rng.sample(CHANGES, 2):
            change(some.home, turn)


def test_files_that_go_or_grow_after_a_look_are_read_as_they_are(machine: Machine) -> None:
    machine.sync()
    append(machine.home, 1)
    seen = look(machine.environment)
    assert seen is not None
    assert seen.changed
    append(machine.home, 2)
    remove(machine.home, 0)
    sync(machine.settings, seen=seen)
    machine.sync()
    every = Machine(machine.home, machine.data.parent / "every")
    every.sync()
    assert machine.cells().keys() >= every.cells().keys()
    assert look(machine.environment) is not None


def test_after_a_look_the_next_sync_is_remembered_as_well(machine: Machine) -> None:
    machine.sync()
    append(machine.home, 1)
    sync(machine.settings, seen=look(machine.environment))
    assert unchanged_files(machine.environment) == machine.sync().landing.files_found
