"""A power cut takes what was written but not yet synchronized: what publishing and the journal leave behind then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kharcha_pipeline.unchanged import unchanged_files
from kharcha_pipeline.warehouse.journal import journal_path
from kharcha_pipeline.warehouse.warehouse import connect_published
from kharcha_pipeline_tests.corpus import append_corpus, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.torture.agreement import disagreements, totals


class Disk:
    """What would be left of a directory if the power failed: files as they were when last synchronized.

    A renamed file may or may not be there under its new name until the directory is synchronized as well. The model
    is the worst that POSIX allows: without `fsync`, nothing of a file's content survives.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.durable: dict[int, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.lost: list[str] = []

    def fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self.calls.append(("synchronize", "directory"))
        else:
            self.durable[status.st_ino] = path.read_bytes()
            self.calls.append(("synchronize", path.name))

    def replace(self, source: str | Path, target: str | Path) -> None:
        if self.durable.get(os.stat(source).st_ino) != Path(source).read_bytes():
            self.lost.append(Path(target).name)
        self.calls.append(("rename", Path(target).name))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Watches the operating system's calls; they are made all the same."""
    disk = Disk(tmp_path)
    monkeypatch.setattr(os, "fsync", _watched(os.fsync, disk.fsync))
    monkeypatch.setattr(os, "replace", _watched(os.replace, disk.replace))
    return disk


def _watched(call: Callable[..., Any], watch: Callable[..., None]) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        watch(*arguments)
        return call(*arguments)

    return watched


def test_what_is_renamed_was_synchronized_before_and_its_directory_is_after(tmp_path: Path, disk: Disk) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 12, 12, 6, LAST_DAY)
    machine.sync()
    for name in ("kharcha.duckdb", journal_path(machine.warehouse.path).name):
        written = disk.calls.index(("rename", name))
        assert disk.calls[written - 1] == ("synchronize", f"{name}.new")
        assert disk.calls[written + 1] == ("synchronize", "directory")
        assert name not in disk.lost


def test_nothing_of_a_published_copy_is_left_in_a_log_beside_it(tmp_path: Path) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 12, 12, 6, LAST_DAY)
    machine.sync()
    assert not list(machine.data.glob("kharcha.duckdb.*"))


def test_readers_find_the_old_copy_or_the_new_one_wherever_the_power_fails(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 12, 12, 6, LAST_DAY)
    machine.sync()
    published = machine.data / "kharcha.duckdb"
    old = published.read_bytes()
    states: list[bytes] = []

    def cut(source: Path, target: Path) -> None:
        if Path(target) == published:
            states.extend((old, disk.durable[Path(source).stat().st_ino]))

    monkeypatch.setattr(os, "replace", _watched(os.replace, cut))
    append_corpus(machine.home, 12, 2, LAST_DAY)
    machine.sync()
    found = []
    for number, content in enumerate(states):
        path = tmp_path / f"after-cut-{number}.duckdb"
        path.write_bytes(content)
        connection = connect_published(path)
        assert not disagreements(connection)
        found.append(totals(connection))
        connection.close()
    connection = connect_published(published)
    assert found[0][0] < found[1][0]
    assert found[1] == totals(connection)
    connection.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b"{}\n", b"[1]\n", b'{"circumstances": 3}\n'])
def test_a_memory_that_was_lost_makes_the_next_sync_look_properly(tmp_path: Path, content: bytes) -> None:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 12, 4, 6, LAST_DAY)
    machine.sync()
    assert unchanged_files(machine.environment) is not None
    (machine.data / "unchanged").write_bytes(content)
    assert unchanged_files(machine.environment) is None
