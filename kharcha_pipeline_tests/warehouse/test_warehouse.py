"""The warehouse: one writer at a time, whole transactions, readers that are never disturbed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path

import duckdb
import pytest

from kharcha_pipeline.warehouse import ledger
from kharcha_pipeline.warehouse.lock import LockTimeoutError, exclusive
from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError, connect_published, set_fact


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "data")


def replace_day(connection: duckdb.DuckDBPyConnection, day: date, rows: int) -> None:
    """Replaces a day's rejects, a table like any other, by so many rows."""
    connection.execute("DELETE FROM rejects WHERE first_seen_at::DATE = ?", [day])
    connection.execute(
        "INSERT INTO rejects SELECT 's', 'p', i, i, 'r', ?::DATE, NULL FROM range(?) t(i)", [day, rows]
    )


def replace_days(directory: Path, worker: int, days: int) -> None:
    warehouse = Warehouse(directory)
    for number in range(days):
        with warehouse.write() as connection:
            replace_day(connection, date(2026, 1, 1 + number), 100 + worker)
        if number % 5 == 0:
            warehouse.publish()


def count_by_day(connection: duckdb.DuckDBPyConnection) -> dict[date, int]:
    return dict(connection.execute("SELECT first_seen_at::DATE, count(*) FROM rejects GROUP BY ALL").fetchall())


def test_processes_and_readers_at_once_lose_nothing_and_see_no_half(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        for number in range(25):
            replace_day(connection, date(2026, 1, 1 + number), 100)
    warehouse.publish()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=replace_days, args=(warehouse.directory, worker, 12)) for worker in range(4)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        connection = connect_published(warehouse.published_path)
        counts = count_by_day(connection)
        connection.close()
        assert len(counts) == 25
        assert set(counts.values()) <= {100, 101, 102, 103}
        reads += 1
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert reads > 10
    with warehouse.read() as connection:
        assert set(count_by_day(connection).values()) <= {100, 101, 102, 103}


def test_threads_of_one_process_do_not_double_a_new_day(warehouse: Warehouse) -> None:
    def write() -> None:
        with warehouse.write() as connection:
            replace_day(connection, date(2026, 1, 1), 100)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with warehouse.read() as connection:
        assert count_by_day(connection) == {date(2026, 1, 1): 100}


def test_an_exception_rolls_back_and_frees_the_file(warehouse: Warehouse) -> None:
    with pytest.raises(ZeroDivisionError), warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 1), 5)
        _ = 1 / 0
    with warehouse.write() as connection:
        assert count_by_day(connection) == {}


KILLED = """
import sys, time
from datetime import date
from pathlib import Path
from kharcha_pipeline.warehouse.warehouse import Warehouse
with Warehouse(Path(sys.argv[1])).write() as connection:
    connection.execute("DELETE FROM rejects")
    print("deleted", flush=True)
    time.sleep(60)
"""


def test_a_writer_killed_between_delete_and_insert_leaves_the_old_day(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 1), 7)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(warehouse.directory)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with warehouse.write() as connection:
        assert count_by_day(connection) == {date(2026, 1, 1): 7}


def test_no_call_opens_the_file_by_other_means_while_it_is_written(warehouse: Warehouse) -> None:
    """Closing any descriptor of a file frees DuckDB's lock on it, and a second process's rows would be lost."""
    with warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 1), 3)
    with warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 2), 3)
        thread = threading.Thread(target=warehouse.publish)
        thread.start()
        time.sleep(0.2)
        other = f"import duckdb; duckdb.connect({str(warehouse.path)!r})"
        outcome = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
        assert "lock" in outcome.stderr
    thread.join()
    with warehouse.read() as connection:
        assert count_by_day(connection) == {date(2026, 1, 1): 3, date(2026, 1, 2): 3}


def test_waiting_for_a_lock_is_bounded_and_says_on_what(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    with (
        exclusive(path, "write"),
        pytest.raises(LockTimeoutError, match=f"to write the warehouse, but another process holds {path}"),
        exclusive(path, "write the warehouse", longest_wait=0.05),
    ):
        pass


def test_a_published_copy_holds_no_raw_layer_and_opens_in_older_clients(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        set_fact(connection, "timezone", "UTC")
    assert warehouse.publish()
    connection = connect_published(warehouse.published_path)
    schemas = connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall()
    assert sorted(schemas) == [("core",), ("main",)]
    ((tags,),) = connection.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'kharcha'").fetchall()
    assert tags["storage_version"].startswith("v1.5.0")
    assert dict(connection.execute("FROM about").fetchall())["timezone"] == "UTC"


def test_publishing_without_a_change_does_nothing(warehouse: Warehouse) -> None:
    with warehouse.write():
        pass
    assert warehouse.publish()
    before = os.stat(warehouse.published_path).st_ino
    assert not warehouse.publish()
    assert os.stat(warehouse.published_path).st_ino == before
    warehouse.published_path.write_bytes(b"damaged")
    assert warehouse.publish()


def test_an_open_reader_keeps_its_copy_while_a_new_one_is_published(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 1), 3)
    warehouse.publish()
    reader = connect_published(warehouse.published_path)
    with warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 1), 9)
    warehouse.publish()
    assert count_by_day(reader) == {date(2026, 1, 1): 3}
    reader.close()  # DuckDB shares an open database within a process, so this reader must go first
    assert count_by_day(connect_published(warehouse.published_path)) == {date(2026, 1, 1): 9}


def test_a_copy_that_cannot_be_opened_never_takes_the_place_of_one_that_can(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 1), 3)
    warehouse.publish()
    with warehouse.write() as connection:
        replace_day(connection, date(2026, 1, 1), 9)
    damages = 2
    make_copy = Warehouse._make_copy

    def damaged(warehouse: Warehouse, fresh: Path) -> bool:
        nonlocal damages
        is_made = make_copy(warehouse, fresh)
        if damages:
            damages -= 1
            os.truncate(fresh, 12 * 1024)
        return is_made

    monkeypatch.setattr(Warehouse, "_make_copy", damaged)
    with pytest.raises(WarehouseError, match="the one before stays"):
        warehouse.publish()
    with connect_published(warehouse.published_path) as reader:
        assert count_by_day(reader) == {date(2026, 1, 1): 3}
    damages = 1  # one copy that went wrong is made again
    assert warehouse.publish()
    with connect_published(warehouse.published_path) as reader:
        assert count_by_day(reader) == {date(2026, 1, 1): 9}


def test_everything_written_is_readable_by_its_owner_alone(warehouse: Warehouse) -> None:
    with warehouse.write():
        pass
    warehouse.publish()
    modes = {path.name: path.stat().st_mode & 0o077 for path in (warehouse.directory, *warehouse.directory.iterdir())}
    assert set(modes.values()) == {0}, modes


def test_what_does_not_fit_into_memory_is_written_into_the_data_directory_for_its_owner_alone(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with warehouse.write() as connection:
        connection.execute("SET memory_limit = '60MB'")
        connection.execute(
            "CREATE TEMP TABLE large AS SELECT md5(range::VARCHAR) || repeat('x', 50) FROM range(2_000_000)"
        )
        spilled = [path for path in warehouse.directory.rglob("*") if ".tmp" in str(path)]
        assert spilled
        assert [path for path in spilled if path.stat().st_mode & 0o077] == []
        connection.execute("RESET memory_limit")
    assert list(Path.cwd().iterdir()) == []


def test_no_other_user_can_open_anything_even_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(tmp_path / "made" / "on the way" / "data")
    copied: list[int] = []
    copyfile = shutil.copyfile

    def watched(source: Path, target: Path) -> None:
        copyfile(source, target)
        copied.append(target.stat().st_mode & 0o777)

    monkeypatch.setattr(shutil, "copyfile", watched)
    before = os.umask(0)
    try:
        with warehouse.write():
            pass
        warehouse.publish()
    finally:
        os.umask(before)
    assert copied == [0o600]
    assert [path for path in (tmp_path / "made").rglob("*") if path.stat().st_mode & 0o077] == []
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


def test_a_newer_warehouse_is_refused_with_a_sentence(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        set_fact(connection, "schema_version", "99")
    with (
        pytest.raises(WarehouseError, match="Install the newer version again; nothing was changed"),
        warehouse.write(),
    ):
        pass


def test_a_damaged_warehouse_is_a_sentence(warehouse: Warehouse) -> None:
    warehouse.prepare()
    warehouse.path.write_bytes(b"this is no database at all" * 500)
    with pytest.raises(WarehouseError, match=r"operations\.md"), warehouse.write():
        pass


def test_reading_without_a_warehouse_names_the_next_step(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="Run `kharcha sync` first"), warehouse.read():
        pass
    with pytest.raises(WarehouseError, match="Run `kharcha sync` first"):
        connect_published(warehouse.published_path)


def test_every_table_view_and_column_is_described(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        set_fact(connection, "timezone", "UTC")
    warehouse.publish()
    connection = connect_published(warehouse.published_path)
    bare = connection.execute(
        """
        SELECT table_name FROM duckdb_tables() WHERE comment IS NULL
        UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL
        UNION ALL SELECT table_name || '.' || column_name FROM duckdb_columns()
        WHERE NOT internal AND comment IS NULL AND table_name IN (SELECT table_name FROM duckdb_tables())
        """
    ).fetchall()
    assert bare == []


# ------------------------------------------------------------------------------------------------- ledger

DAY = date(2026, 3, 4)


def test_a_day_is_stale_until_every_stage_has_built_its_version(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        ledger.want(connection, [DAY, DAY])
        for stage in ledger.STAGES:
            assert ledger.stale_days(connection) == [DAY]
            ledger.mark_built(connection, [stage], [DAY])
        assert ledger.stale_days(connection) == []
        ledger.want(connection, [DAY])
        assert ledger.stale_days(connection) == [DAY]
        assert ledger.wanted_versions(connection, [DAY, date(2020, 1, 1)]) == {DAY: 2}


def test_a_stage_built_from_an_old_input_stays_stale(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        ledger.want(connection, [DAY])
        ledger.mark_built(connection, ledger.STAGES, [DAY])
        ledger.want(connection, [DAY])
        ledger.mark_built(connection, ["daily_usage"], [DAY])  # its input still has the first version
        assert ledger.stale_days(connection, ["daily_usage"]) == [DAY]
        ledger.mark_built(connection, ledger.STAGES, [DAY])
        assert ledger.stale_days(connection) == []


def test_what_dagster_was_told_is_not_told_again(warehouse: Warehouse) -> None:
    with warehouse.write() as connection:
        ledger.want(connection, [DAY])
        ledger.mark_built(connection, ledger.STAGES, [DAY])
        told = ledger.unreported(connection, 3)
        assert [stage for stage, _, _ in told] == list(ledger.STAGES[:3])
        ledger.mark_reported(connection, told)
        assert len(ledger.unreported(connection, 10)) == 2
