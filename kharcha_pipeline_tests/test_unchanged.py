"""The memory of a complete sync: it says "nothing changed" only when nothing did, also while the sync ran."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import time_machine

from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.sync import sync
from kharcha_pipeline.unchanged import unchanged_files
from kharcha_pipeline_tests.corpus import write_corpus
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


def test_a_change_that_is_met_early_ends_the_walk(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.sync()
    looked_through = []
    scandir = os.scandir

    def counted(place: int) -> Any:
        looked_through.append(place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", counted)
    assert unchanged_files(machine.environment) is not None
    everything = len(looked_through)
    looked_through.clear()
    for path in (machine.home / ".claude").rglob("*.jsonl"):
        path.write_bytes(path.read_bytes() + b"\n")
    looked_through.clear()
    assert unchanged_files(machine.environment) is None
    assert len(looked_through) < everything / 2


@pytest.mark.parametrize(
    "content",
    [b"n1\0\0\0\0", b"e.jsonl\0\0[]\0\0", b"n1\0n2\0\0\0\0", b"x\0\0\0\0", b"nine\0\0\0\0", b"\xff\0\0\0\0"],
)
def test_a_memory_that_is_something_else_is_no_memory(machine: Machine, content: bytes) -> None:
    machine.sync()
    (machine.data / "unchanged").write_bytes(content)
    assert unchanged_files(machine.environment) is None
