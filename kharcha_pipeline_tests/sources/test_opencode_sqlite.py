"""Opening a database that belongs to somebody who is using it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kharcha_pipeline.sources.sqlite import ATTEMPTS, read_snapshot
from kharcha_pipeline_tests.sources.opencode_logs import beside

Names = list[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a database #1?%20.db"


@pytest.fixture
def owner(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE things (name text)")
    yield connection
    connection.close()


def names(connection: sqlite3.Connection) -> Names:
    return [row[0].decode() for row in connection.execute("SELECT name FROM things ORDER BY name")]


def add(owner: sqlite3.Connection, name: str) -> None:
    owner.execute("INSERT INTO things VALUES (?)", (name,))


def checkpoint(owner: sqlite3.Connection) -> None:
    owner.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_what_is_only_in_the_write_ahead_log_is_seen(path: Path, owner: sqlite3.Connection) -> None:
    checkpoint(owner)
    add(owner, "new")
    before = beside(path)
    assert read_snapshot(str(path), names) == ["new"]
    assert beside(path) == before


def test_what_is_not_committed_is_not_seen(path: Path, owner: sqlite3.Connection) -> None:
    add(owner, "old")
    owner.execute("BEGIN IMMEDIATE")
    add(owner, "new")
    assert read_snapshot(str(path), names) == ["old"]
    owner.execute("COMMIT")
    assert read_snapshot(str(path), names) == ["new", "old"]


def test_an_empty_write_ahead_log_needs_no_copy(path: Path, owner: sqlite3.Connection) -> None:
    add(owner, "old")
    checkpoint(owner)
    before = beside(path)
    assert read_snapshot(str(path), names) == ["old"]
    assert beside(path) == before


def test_a_reader_that_may_not_write_beside_the_database_can_read_it(path: Path, owner: sqlite3.Connection) -> None:
    add(owner, "old")
    owner.close()
    os.chmod(path, 0o444)
    os.chmod(path.parent, 0o555)
    try:
        assert read_snapshot(str(path), names) == ["old"]
    finally:
        os.chmod(path.parent, 0o755)


def test_a_hot_rollback_journal_is_rolled_back_in_our_copy_alone(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("CREATE TABLE things (name text)")
    add(connection, "old")
    connection.execute("BEGIN")
    for number in range(500):
        add(connection, f"new {number} " + "x" * 1000)
    before = beside(path)
    assert f"{path.name}-journal" in before
    assert read_snapshot(str(path), names) == ["old"]
    assert beside(path) == before
    connection.close()


def test_a_reading_that_the_owner_disturbed_is_done_again(path: Path, owner: sqlite3.Connection) -> None:
    add(owner, "old")
    checkpoint(owner)
    calls = []

    def disturbed(connection: sqlite3.Connection) -> Names:
        calls.append(1)
        if len(calls) == 1:
            add(owner, "new")
            checkpoint(owner)
        return names(connection)

    assert read_snapshot(str(path), disturbed) == ["new", "old"]
    assert len(calls) == 2


def test_an_owner_who_never_rests_is_left_for_the_next_time(path: Path, owner: sqlite3.Connection) -> None:
    checkpoint(owner)
    calls = []

    def disturbed(connection: sqlite3.Connection) -> Names:
        calls.append(1)
        add(owner, "x" * 5000)
        checkpoint(owner)
        return names(connection)

    with pytest.raises(OSError, match="busy"):
        read_snapshot(str(path), disturbed)
    assert len(calls) == ATTEMPTS


def test_no_copy_is_left_behind(
    path: Path, owner: sqlite3.Connection, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path_factory.mktemp("ours")
    monkeypatch.setattr(tempfile, "tempdir", str(ours))
    add(owner, "new")

    def looking(connection: sqlite3.Connection) -> Names:
        assert os.listdir(ours)
        return names(connection)

    assert read_snapshot(str(path), looking) == ["new"]
    assert not os.listdir(ours)


READ_FOR_EVER = """
import sys, time
from kharcha_pipeline.sources.sqlite import read_snapshot
read_snapshot(sys.argv[1], lambda connection: print("reading", flush=True) or time.sleep(60))
"""


def test_the_copy_of_a_killed_reader_is_removed_by_the_next_and_that_of_a_living_one_stays(
    path: Path, owner: sqlite3.Connection, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy holds conversations."""
    ours = tmp_path_factory.mktemp("ours")
    monkeypatch.setattr(tempfile, "tempdir", str(ours))
    add(owner, "new")
    program = [sys.executable, "-c", READ_FOR_EVER, str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(ours)}) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        assert read_snapshot(str(path), names) == ["new"]
        (copy,) = ours.iterdir()
        assert (copy.stat().st_mode & 0o777, (copy / "copy.db").exists()) == (0o700, True)
        reader.kill()
    assert read_snapshot(str(path), names) == ["new"]
    assert not os.listdir(ours)


def test_a_missing_file_is_not_made(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_snapshot(str(path), names)
    assert not path.exists()


def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    path.write_bytes(b"no database" * 500)
    with pytest.raises(sqlite3.DatabaseError):
        read_snapshot(str(path), names)
