"""The archive: what was stored stays where it is, and what is missing or damaged is told in a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kharcha_pipeline.warehouse.archive import Archive, ArchiveError, Span
from kharcha_pipeline.warehouse.warehouse import WarehouseError
from kharcha_pipeline_tests.corpus import append_corpus, write_corpus
from kharcha_pipeline_tests.machine import LAST_DAY, Machine

BATCHES = [b"one", b"", b"three" * 10_000]

KILLED_BEFORE_IT_IS_COMMITTED = """
import os, signal
from kharcha_pipeline.cli.main import main
from kharcha_pipeline.sources.families import Families
store = Families.store
def killed(self, new):
    store(self, new)
    os.kill(os.getpid(), signal.SIGKILL)
Families.store = killed
main(["sync", "--quiet"])
"""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine.below(tmp_path)
    write_corpus(machine.home, 5, 8, 6, LAST_DAY)
    machine.sync()
    return machine


def test_batches_are_read_as_they_were_stored_in_any_order(archive: Archive) -> None:
    spans = archive.append(BATCHES, 0)
    more = archive.append([b"four"], sum(spans[-1]))
    assert list(archive.read([*more, *reversed(spans)])) == [b"four", *reversed(BATCHES)]
    assert archive.path.stat().st_mode & 0o777 == 0o600


def test_what_was_stored_is_never_changed(archive: Archive) -> None:
    archive.append(BATCHES, 0)
    before = archive.path.read_bytes()
    spans = archive.append([b"of another warehouse"], 0)
    assert archive.path.read_bytes()[: len(before)] == before
    assert list(archive.read(spans)) == [b"of another warehouse"]


@pytest.mark.parametrize("left", [0, 10])
def test_an_archive_that_is_too_short_is_refused(archive: Archive, left: int) -> None:
    spans = archive.append(BATCHES, 0)
    os.truncate(archive.path, left)
    for attempt in (lambda: archive.append([b"more"], sum(spans[-1])), lambda: list(archive.read(spans))):
        with pytest.raises(ArchiveError, match=r"the warehouse knows of .* restore both from the same backup"):
            attempt()
    assert archive.path.stat().st_size == left


def test_a_missing_archive_is_refused(archive: Archive) -> None:
    with pytest.raises(ArchiveError, match="has 0 bytes"):
        list(archive.read([Span(0, 10)]))


@pytest.mark.parametrize("place", [0, 5, 12, -1])
def test_a_damaged_batch_is_noticed(archive: Archive, place: int) -> None:
    (span,) = archive.append([BATCHES[2]], 0)
    content = bytearray(archive.path.read_bytes())
    content[place] ^= 0x40
    archive.path.write_bytes(content)
    with pytest.raises(ArchiveError, match="is damaged at byte 0"):
        list(archive.read([span]))


def test_a_landing_killed_before_its_commit_leaves_bytes_that_count_for_nothing(tmp_path: Path) -> None:
    undisturbed = Machine.below(tmp_path, "undisturbed")
    write_corpus(undisturbed.home, 5, 8, 6, LAST_DAY)
    undisturbed.sync()
    victim = Machine(undisturbed.home, tmp_path / "victim")
    program = [sys.executable, "-c", KILLED_BEFORE_IT_IS_COMMITTED]
    for _ in range(2):
        ended = subprocess.run(program, env={**os.environ, **victim.environment}, check=False)
        assert ended.returncode == -signal.SIGKILL
    left = victim.warehouse.archive.path.stat().st_size
    assert left > 0
    victim.sync()
    assert victim.contents() == undisturbed.contents()
    assert victim.archived() == undisturbed.archived()
    assert victim.warehouse.archive.path.stat().st_size > left


def test_without_its_archive_a_warehouse_takes_nothing_in_and_loses_nothing(machine: Machine) -> None:
    archive = machine.warehouse.archive.path
    kept, before = archive.read_bytes(), machine.contents()
    archive.unlink()
    append_corpus(machine.home, 5, 2, LAST_DAY)
    with pytest.raises(WarehouseError, match="restore both from the same backup"):
        machine.sync()
    assert machine.contents() == before
    archive.write_bytes(kept)
    machine.sync()
    alone = Machine(machine.home, machine.data.parent / "alone")
    alone.sync()
    assert machine.contents() == alone.contents()


def test_a_warehouse_that_was_set_back_reads_its_part_of_the_archive(machine: Machine) -> None:
    backup = machine.warehouse.path.read_bytes()
    append_corpus(machine.home, 5, 2, LAST_DAY)
    machine.sync()
    after = machine.contents()
    machine.warehouse.path.write_bytes(backup)
    machine.sync(full=True)
    assert machine.contents() == after
