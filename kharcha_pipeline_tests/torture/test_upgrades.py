"""Warehouses of older versions: brought up to date in one transaction, with a copy kept; and every released one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from kharcha_pipeline.warehouse import migrations
from kharcha_pipeline.warehouse.migrations import Migration, newest_version
from kharcha_pipeline.warehouse.warehouse import Warehouse, WarehouseError, fact, set_fact
from kharcha_pipeline_tests.corpus import append_corpus, merged
from kharcha_pipeline_tests.machine import LAST_DAY, Machine, all_rows
from kharcha_pipeline_tests.torture.agreement import assert_consistent
from kharcha_pipeline_tests.torture.make_warehouse import SEED, archive_of, warehouse_of, write_logs

NEXT = newest_version() + 1
VIEW_TEXT = "translate(sql, '\" ', '')"
"""A view's text without quotes and blanks: DuckDB 1.5 and 2.0 set them differently."""
GOOD = Migration(NEXT, "ALTER TABLE rejects ADD COLUMN severity VARCHAR; UPDATE rejects SET severity = 'low';")
BAD = Migration(NEXT, "ALTER TABLE rejects ADD COLUMN severity VARCHAR; INSERT INTO no_such_table VALUES (1);")

KILLED_HALF_WAY = """
import sys, time
from pathlib import Path
from kharcha_pipeline.warehouse import migrations
from kharcha_pipeline.warehouse.warehouse import Warehouse
migrations.MIGRATIONS.append(migrations.Migration(int(sys.argv[2]), sys.argv[3]))
with Warehouse(Path(sys.argv[1])).write() as connection:
    connection.execute("SELECT severity FROM rejects")
    print("migrated", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path / "data")
    with warehouse.write() as connection:
        set_fact(connection, "timezone", "UTC")
        connection.execute("INSERT INTO rejects SELECT 's', 'p', i, i, 'r', now(), NULL FROM range(100) t(i)")
    return warehouse


@pytest.fixture
def next_version(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version is installed after the warehouse was made."""
    monkeypatch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, GOOD])


def copy_of(warehouse: Warehouse) -> Path:
    return Path(f"{warehouse.path}.v{NEXT - 1}.bak")


def severities(warehouse: Warehouse) -> list[tuple[str, int]]:
    with warehouse.read() as connection:
        assert fact(connection, "schema_version") == str(NEXT)
        return connection.execute("SELECT severity, count(*) FROM rejects GROUP BY ALL").fetchall()


@pytest.mark.usefixtures("next_version")
def test_the_first_write_brings_an_older_warehouse_up_to_date_and_keeps_a_copy(warehouse: Warehouse) -> None:
    before = warehouse.path.read_bytes()
    with warehouse.write() as connection:
        connection.execute("UPDATE rejects SET severity = 'high' WHERE line = 1")
    assert sorted(severities(warehouse)) == [("high", 1), ("low", 99)]
    assert copy_of(warehouse).read_bytes() == before
    assert copy_of(warehouse).stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("next_version")
def test_reading_an_older_warehouse_brings_it_up_to_date_first(warehouse: Warehouse) -> None:
    assert severities(warehouse) == [("low", 100)]
    copied = copy_of(warehouse).stat().st_mtime_ns
    assert severities(warehouse) == [("low", 100)]
    assert copy_of(warehouse).stat().st_mtime_ns == copied


def test_a_migration_that_fails_leaves_the_warehouse_usable_for_the_version_before(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.read() as connection:
        before = all_rows(connection)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, BAD])
        with (
            pytest.raises(WarehouseError, match=rf"schema version {NEXT - 1} to {NEXT}: .*no_such_table.* report it"),
            warehouse.write(),
        ):
            pass
    with warehouse.write() as connection:
        assert all_rows(connection) == before
        assert fact(connection, "schema_version") == str(NEXT - 1)


def test_a_migration_that_is_killed_half_way_is_done_by_the_next_run(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse.read() as connection:
        before = all_rows(connection)
    program = [sys.executable, "-c", KILLED_HALF_WAY, str(warehouse.directory), str(NEXT), GOOD.sql]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"migrated\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with warehouse.read() as connection:
        assert all_rows(connection) == before
    monkeypatch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, GOOD])
    assert severities(warehouse) == [("low", 100)]


@pytest.mark.usefixtures("next_version")
def test_without_space_for_the_copy_nothing_is_changed(warehouse: Warehouse) -> None:
    before = warehouse.path.read_bytes()
    Path(f"{copy_of(warehouse)}.new").mkdir()  # so that the copy cannot be written
    with pytest.raises(WarehouseError, match="could not be written"), warehouse.write():
        pass
    assert warehouse.path.read_bytes() == before


@pytest.fixture(params=range(1, newest_version() + 1))
def old_machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine whose warehouse was made by the version that had this schema."""
    machine = Machine.below(tmp_path)
    machine.warehouse.prepare()
    machine.warehouse.path.write_bytes(zstandard.decompress(warehouse_of(request.param).read_bytes()))
    if archive_of(request.param).exists():
        shutil.copyfile(archive_of(request.param), machine.warehouse.archive.path)
    return machine


def test_every_released_warehouse_is_read_and_added_to(old_machine: Machine) -> None:
    truth = write_logs(old_machine.home)
    old_machine.sync()
    assert old_machine.cells() == truth  # the same logs in another place: all of it was known
    truth = merged(truth, append_corpus(old_machine.home, SEED, 2, LAST_DAY))
    old_machine.sync()
    assert old_machine.cells() == truth
    assert_consistent(old_machine)


def test_history_of_every_released_warehouse_outlives_its_logs(old_machine: Machine, tmp_path: Path) -> None:
    truth = write_logs(tmp_path / "elsewhere")
    old_machine.sync(full=True)
    assert old_machine.cells() == truth


def test_a_released_warehouse_brought_up_to_date_has_the_schema_of_a_new_one(
    old_machine: Machine, tmp_path: Path
) -> None:
    new = Machine.below(tmp_path, "new")
    shutil.rmtree(new.home)
    new.sync()
    columns = """
    SELECT schema_name, table_name, column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns()
    WHERE NOT internal ORDER BY ALL
    """
    views = f"SELECT schema_name, view_name, {VIEW_TEXT}, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    for query in (columns, views):
        assert old_machine.raw(query) == new.raw(query), "make_warehouse.py, or a migration, is wanted"


def test_the_warehouses_that_are_kept_are_small() -> None:
    for version in range(1, newest_version() + 1):
        assert warehouse_of(version).stat().st_size < 1_000_000
