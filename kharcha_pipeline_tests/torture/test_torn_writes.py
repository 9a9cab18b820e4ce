"""A write that ended half way: DuckDB overwrites metadata in place, so the journal must bring it back."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from kharcha_pipeline.warehouse.journal import BLOCK, HEADERS, journal_path
from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError, fact, set_fact
from kharcha_pipeline_tests.machine import all_rows

PAGE = 4096
"""Bytes: less than this is written as a whole, or not at all."""

INTERRUPTED = """
import os, subprocess, sys, duckdb
path, change, abort = sys.argv[1:]
database = duckdb.connect(path, config={"storage_compatibility_version": "v1.5.0"})
database.execute("SET wal_autocheckpoint = '1TB'")
database.execute(change)
subprocess.run(["cp", path, path + ".before"], check=True)
database.execute(f"SET debug_checkpoint_abort = '{abort}'")
try:
    database.execute("CHECKPOINT")
except duckdb.Error:
    os._exit(0)
"""
"""Leaves the files as a process does that is killed within a checkpoint, and the database as it was before it."""


def change(number: int) -> str:
    """A transaction like any other: rows come, rows go, a fact changes."""
    return f"""
    BEGIN;
    DELETE FROM rejects WHERE line % 3 = {number % 3};
    INSERT INTO rejects SELECT 's', 'p' || i, i, {number}, 'r', TIMESTAMPTZ '2026-01-01', NULL FROM range(500) t(i);
    INSERT OR REPLACE INTO operations.facts VALUES ('number', '{number}');
    COMMIT;
    """


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path / "data")
    for number in range(4):
        with warehouse.write() as connection:
            connection.execute(
                "INSERT INTO rejects SELECT 's', 'p', i, ?, 'r', now(), NULL FROM range(300) t(i)", [number]
            )
            set_fact(connection, "timezone", "UTC")
    return warehouse


class Interrupted(NamedTuple):
    """A database file before and after a checkpoint, and the write-ahead log that the checkpoint takes in."""

    before: bytes
    after: bytes
    log: bytes


def interrupted(warehouse: Warehouse, number: int, where: str = "after_free_list_write") -> Interrupted:
    """Changes something in a process that ends within the checkpoint of that change."""
    subprocess.run([sys.executable, "-c", INTERRUPTED, str(warehouse.path), change(number), where], check=True)
    before = Path(f"{warehouse.path}.before")
    found = Interrupted(before.read_bytes(), warehouse.path.read_bytes(), log_of(warehouse).read_bytes())
    before.unlink()
    return found


def log_of(warehouse: Warehouse) -> Path:
    return Path(f"{warehouse.path}.wal")


def torn(before: bytes, after: bytes, rng: random.Random) -> bytes:
    """The file when the machine stopped before the new header was written, within the write of every block."""
    content = bytearray(before.ljust(len(after), b"\0"))
    for start in range(HEADERS, len(after), BLOCK):
        pages = range(start, start + BLOCK, PAGE)
        changed = [page for page in pages if content[page : page + PAGE] != after[page : page + PAGE]]
        if len(changed) > 1:
            end = rng.choice(changed[1:])
            content[start:end] = after[start:end]
    return bytes(content)


def test_a_torn_checkpoint_is_taken_back_and_done_again(warehouse: Warehouse, tmp_path: Path) -> None:
    rng = random.Random(1)
    for number in range(5):
        before, after, log = interrupted(warehouse, number)
        whole = Warehouse(tmp_path / f"whole-{number}")
        whole.prepare()
        whole.path.write_bytes(before)
        log_of(whole).write_bytes(log)
        with whole.read() as connection:
            expected = all_rows(connection)
        journal = journal_path(warehouse.path).read_bytes()
        for _ in range(3):
            warehouse.path.write_bytes(torn(before, after, rng))
            log_of(warehouse).write_bytes(log)
            journal_path(warehouse.path).write_bytes(journal)
            with warehouse.read() as connection:
                assert all_rows(connection) == expected
                assert fact(connection, "number") == str(number)


def test_without_the_journal_a_torn_checkpoint_would_be_the_end(warehouse: Warehouse) -> None:
    """The fault is real: should a later DuckDB be free of it, the journal can go."""
    before, after, _ = interrupted(warehouse, 1)
    warehouse.path.write_bytes(torn(before, after, random.Random(2)))
    journal_path(warehouse.path).unlink()
    with pytest.raises(WarehouseError, match="Corrupt database file"), warehouse.read():
        pass


def test_a_checkpoint_that_was_completed_is_never_taken_back(warehouse: Warehouse) -> None:
    interrupted(warehouse, 1, "before_truncate")  # the new header is there, and the log as well
    with warehouse.read() as connection:
        assert fact(connection, "number") == "1"
        assert connection.execute("SELECT count(*) FROM rejects WHERE position = 1").fetchall() == [(700,)]


@pytest.mark.parametrize("size", [0, PAGE, 2 * PAGE])
def test_a_file_whose_creation_was_interrupted_is_created_again(
    warehouse: Warehouse, tmp_path: Path, size: int
) -> None:
    unfinished = Warehouse(tmp_path / "unfinished")
    unfinished.prepare()
    unfinished.path.write_bytes(warehouse.path.read_bytes()[:size])
    with unfinished.write() as connection:
        set_fact(connection, "timezone", "UTC")
    with unfinished.read() as connection:
        assert fact(connection, "timezone") == "UTC"


def test_a_small_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    other = Warehouse(tmp_path)
    other.path.write_text("somebody's notes")
    with pytest.raises(WarehouseError, match="could not be used"), other.write():
        pass
    assert other.path.read_text() == "somebody's notes"


def test_a_damaged_journal_puts_nothing_back(warehouse: Warehouse) -> None:
    interrupted(warehouse, 1)
    journal = bytearray(journal_path(warehouse.path).read_bytes())
    journal[HEADERS + BLOCK // 2] ^= 1
    journal_path(warehouse.path).write_bytes(bytes(journal))
    with warehouse.read() as connection:
        assert fact(connection, "number") == "1"
